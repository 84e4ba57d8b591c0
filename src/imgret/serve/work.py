"""Work that takes time, in threads: a limited number of requests, for a limited time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar, final

import anyio

from imgret.pipeline.embed import worker_count
from imgret.serve.guard import Limits
from imgret.support.locks import RLock

__all__ = ["Batcher", "Busy", "Executor", "TooSlow"]

_Asked = TypeVar("_Asked")
_Found = TypeVar("_Found")


class Busy(Exception):  # noqa: N818  # an answer, not a fault
    """More requests wait than the limits allow."""


class TooSlow(Exception):  # noqa: N818  # the same
    """A request took longer than the limits allow."""


@final
class Executor:
    """Runs what takes time in threads, a limited number at once, for a limited time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._limiter: anyio.CapacityLimiter | None = None
        self._count = 0

    async def __call__(self, task: Callable[[], _Found]) -> _Found:
        """Run a function, and return what it returns."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.limits.concurrency)
        async with self.place():
            return await anyio.to_thread.run_sync(
                task, limiter=self._limiter, abandon_on_cancel=True
            )

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Take one of the places of requests for the length of a ``with`` block.

        Raises
        ------
        Busy
            All are taken.
        TooSlow
            The block has taken longer than the limits allow.
        """
        if self._count >= self.limits.concurrency + self.limits.waiting:
            raise Busy
        self._count += 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                yield
        except TimeoutError as error:
            raise TooSlow from error
        finally:
            self._count -= 1


@final
class Batcher(Generic[_Asked, _Found]):
    """Answers requests of one kind in a thread for each core, several together if several wait.

    A request that comes while a thread is free is answered at once, alone. Those that come while
    all are busy wait, and each thread takes its share of them as its next run.

    Parameters
    ----------
    answer : callable
        Function that answers a run. If it raises an exception, each request of the run is answered
        alone, so that one that is wrong does not harm the others.
    most : int
        Maximum number of requests that are worked on at once.
    """

    def __init__(self, answer: Callable[[Sequence[_Asked]], Sequence[_Found]], most: int) -> None:
        self._answer = answer
        self._threads = min(worker_count(), most)
        self._most = most // self._threads
        self._lock = RLock()
        self._waiting: deque[tuple[_Asked, asyncio.Future[_Found]]] = deque()
        self._busy = 0
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="imgret-run")

    async def __call__(self, asked: _Asked) -> _Found:
        """Return the answer to a request, or raise the exception."""
        future: asyncio.Future[_Found] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append((asked, future))
            is_free = self._busy < self._threads
            self._busy += is_free
        if is_free:
            self._pool.submit(self._work)
        return await future

    def close(self) -> None:
        """End the threads; what waits is still answered."""
        self._pool.shutdown()

    def _work(self) -> None:
        while run := self._take():
            found = self._answers([asked for asked, _ in run])
            waiting = [future for _, future in run]
            # Once per run and event loop: each call wakes the loop's thread, which wants the lock
            # of Python that this thread holds.
            for loop in {future.get_loop() for future in waiting}:
                with suppress(RuntimeError):  # closed, so that nobody waits
                    loop.call_soon_threadsafe(_deliver, loop, waiting, found)

    def _take(self) -> list[tuple[_Asked, asyncio.Future[_Found]]]:
        """Return this thread's share of what waits; if nothing does, the thread is free."""
        run: list[tuple[_Asked, asyncio.Future[_Found]]] = []
        with self._lock:
            share = min(-(-len(self._waiting) // self._threads), self._most)
            while self._waiting and len(run) < share:
                asked, future = self._waiting.popleft()
                if not future.done():  # else it was given up
                    run.append((asked, future))
            self._busy -= not run
        return run

    def _answers(self, asked: Sequence[_Asked]) -> Sequence[_Found | BaseException]:
        try:
            return self._answer(asked)
        except BaseException as error:  # noqa: BLE001  # the request raises it
            if len(asked) == 1:
                return [error]
            return [found for each in asked for found in self._answers([each])]


def _deliver(
    loop: asyncio.AbstractEventLoop,
    waiting: Sequence[asyncio.Future[_Found]],
    found: Sequence[_Found | BaseException],
) -> None:
    for future, each in zip(waiting, found, strict=True):
        if future.get_loop() is not loop or future.done():
            continue
        if isinstance(each, BaseException):
            future.set_exception(each)
        else:
            future.set_result(each)
