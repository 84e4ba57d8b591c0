"""Ctrl-C where it does no harm: held back while work is put away, let through while it is done.

`KeyboardInterrupt` may be raised between any two steps of the main thread, so also between the end
of an embedding and the line that keeps it. What must not be cut there is done under `held`; what
takes long is waited for under `let_through` or by `wait_for`, or runs `aside`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import FrameType
from typing import ParamSpec, TypeVar

__all__ = ["aside", "held", "let_through", "wait_for"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
# Whoever presses Ctrl-C again after this long is not made to wait for what is held.
_PATIENCE_SECONDS = 1.0
# A wait is cut into pieces of this length, as Windows interrupts none.
_LOOK_SECONDS = 0.1


class _Hold:
    """What has happened since `held` began, in the main thread."""

    def __init__(self) -> None:
        self.first: float | None = None  # when an interrupt came that was not let through yet
        self.is_open = False

    def take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a handler's
        now = time.monotonic()
        if self.is_open or (self.first is not None and now - self.first > _PATIENCE_SECONDS):
            self.first = now
            raise KeyboardInterrupt
        if self.first is None:
            self.first = now


_holds: list[_Hold] = []  # of the main thread, which alone gets signals


@contextmanager
def held() -> Iterator[None]:
    """Hold Ctrl-C back during the block, except where `let_through` lets it through.

    An interrupt that came meanwhile is raised at the end of the block, unless it ends with an error
    of its own. A second one, more than a second later, is not held back. Only the main thread is
    interrupted, so that in others, and where the program has a handler of its own, this does
    nothing.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    hold = _Hold()
    _holds.append(hold)
    signal.signal(signal.SIGINT, hold.take)
    raised = False
    try:
        yield
    except BaseException:
        raised = True
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _holds.remove(hold)
        if hold.first is not None and not raised:
            raise KeyboardInterrupt


@contextmanager
def let_through() -> Iterator[None]:
    """Let Ctrl-C through during a block within `held`; one that was held back comes at once."""
    hold = _holds[-1] if _holds else None
    if hold is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        hold.is_open = True
        if hold.first is not None:
            raise KeyboardInterrupt
        yield
    finally:
        hold.is_open = False


def wait_for(future: Future[_T]) -> _T:
    """Return the result of a future; Ctrl-C ends the wait, though not the work."""
    with let_through():
        while True:
            if future.done():
                return future.result()
            with suppress(TimeoutError):  # which may also be the error of the work: seen above
                return future.result(_LOOK_SECONDS)


def aside(call: Callable[_P, _T], /, *args: _P.args, **options: _P.kwargs) -> _T:
    """Call native code that looks for no signal, so that Ctrl-C does not have to wait for it.

    It runs in a thread, which is left alone with it by an interrupt. So whatever it changes must be
    of no use to anybody else by then, such as an index that is being made.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        return call(*args, **options)
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **options))
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, name="imgret-aside", daemon=True).start()
    return wait_for(future)
