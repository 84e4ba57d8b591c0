"""Locks that are free in a forked child: a reentrant lock, and one for readers and writers.

``fork`` copies all of memory, but only the thread that calls it. A lock that another thread held
at that moment would stay locked in the child forever. So every lock of imgret is of a class in this
module, and is renewed in a child. If a thread was in the middle of a change, the child gets an
error. See ``docs/decisions/0024-what-may-cross-a-fork.md``.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Condition, get_ident
from types import TracebackType
from typing import Any, Protocol, TypeAlias, final

from imgret.errors import ImgretError

__all__ = ["RLock", "ReadWriteLock", "renew_in_child"]


@final
class RLock:
    """A reentrant lock; in a forked child it is free, unless the thread that forked holds it.

    Parameters
    ----------
    brief : bool
        Whether the lock is held only for a moment, in which no lock is waited for except brief
        ones that were made later. A fork waits for brief locks in the order they were made, so
        that a child never finds what they guard half changed.
    """

    __slots__ = ("__weakref__", "_lock", "brief")

    def __init__(self, *, brief: bool = False) -> None:
        self._lock = threading.RLock()
        self.brief = brief
        _remember(_locks, self)

    def acquire(self, *, blocking: bool = True) -> bool:
        """Acquire the lock; return False if another thread holds it and ``blocking`` is false."""
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Free the lock from a thread that is not in this process."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


@final
class ReadWriteLock:
    """Many readers at once, or one writer alone.

    A waiting writer goes before readers that come later, and readers that waited while it wrote go
    before the next writer, so that neither starves the other (Brandenburg and Anderson, "Reader-
    Writer Synchronization for Shared-Memory Multiprocessor Real-Time Systems", 2009). Without a
    writer, readers touch no mutex: each adds its thread to a set, which is atomic, and then checks
    whether a writer has shut the lock. A writer shuts the lock first, and then checks the set.

    The lock is not reentrant: a thread that holds it must not acquire it again, not even to read
    twice, as the set holds each thread once.

    Parameters
    ----------
    brief : bool
        As for `RLock`: a fork waits for readers and writers, and lets no new ones in meanwhile.

    Attributes
    ----------
    abandoned : bool
        Whether this process was forked while another thread was writing, so that what the lock
        guards may be half changed. The lock can no longer be acquired.
    """

    def __init__(self, *, brief: bool = False) -> None:
        self.brief = brief
        self._condition = Condition()
        self._readers: set[int] = set()
        self._waiting: set[int] = set()  # readers that came while it was shut
        self.shut = False  # a writer writes or waits
        self.abandoned = False
        self._writer: int | None = None  # the thread that writes
        self._writers_waiting = 0
        self._sharing = _Sharing(self, self._readers)
        _remember(_locks, self)

    def wait_to_read(self, me: int) -> None:
        """Wait for the writers, if a reader found the lock shut."""
        with self._condition:
            self._readers.discard(me)
            self._condition.notify_all()  # a writer may have seen this thread in the set
            self._check()
            if not self.shut:
                self._readers.add(me)
                return
            self._waiting.add(me)
            try:
                while me in self._waiting:  # the writer takes it out
                    self._condition.wait()
            except BaseException:  # an interrupt
                self._waiting.discard(me)
                self._readers.discard(me)
                self._condition.notify_all()
                raise

    def tell_writer(self) -> None:
        """Wake a writer that waits for readers to leave."""
        with self._condition:
            self._condition.notify_all()

    @property
    def is_read(self) -> bool:
        """Whether there are readers, including waiting ones."""
        return bool(self._readers or self._waiting)

    def read(self) -> _Sharing:
        """Share the lock for the length of a ``with`` block."""
        return self._sharing

    @contextmanager
    def write(self, *, while_reading: bool = False) -> Iterator[None]:
        """Hold the lock exclusively for the length of a ``with`` block.

        Parameters
        ----------
        while_reading : bool
            Whether this thread may be reading, as when a signal handler forks.
        """
        own = {get_ident()} if while_reading else set()
        with self._condition:
            self._check()
            self._writers_waiting += 1
            self.shut = True
            try:
                while self._writer is not None or self._readers - own:
                    self._condition.wait()
            except BaseException:  # an interrupt: readers may have waited for this writer
                self._writers_waiting -= 1
                self._open()
                raise
            self._writers_waiting -= 1
            self._writer = get_ident()
        try:
            yield
        finally:
            with self._condition:
                self._writer = None
                self._open()

    def renew(self) -> None:
        """Free the lock from threads that are not in this process."""
        me = get_ident()
        self._condition = Condition()
        self._readers.intersection_update({me})
        self._waiting.clear()
        self._writers_waiting = 0
        self.abandoned = self.abandoned or self._writer not in {None, me}
        self.shut = self._writer is not None

    def _check(self) -> None:
        if self.abandoned:
            raise ImgretError(
                f"expected an index that was at rest when process {os.getpid()} was forked, found "
                f"one that another thread was changing; make or load it in this process"
            )

    def _open(self) -> None:
        """Let in the readers that waited, and new ones only if no writer waits."""
        if self._writer is None:
            self._readers.update(self._waiting)
            self._waiting.clear()
            self.shut = self._writers_waiting > 0
        self._condition.notify_all()


class _Sharing:
    """The ``with`` block of a reader."""

    __slots__ = ("_lock", "_readers")

    def __init__(self, lock: ReadWriteLock, readers: set[int]) -> None:
        self._lock = lock
        self._readers = readers

    def __enter__(self) -> None:
        me = get_ident()
        self._readers.add(me)
        if self._lock.shut:
            self._lock.wait_to_read(me)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._readers.discard(get_ident())
        if self._lock.shut:
            self._lock.tell_writer()


# -- forks -----------------------------------------------------------------------------------------


class Renewed(Protocol):
    """An object that has to be renewed in a forked child."""

    def renew(self) -> None:
        """Let go of what belongs to the parent: threads, files and connections."""


# By id, in the order they were made, so that two threads that fork wait in the same order.
_Table: TypeAlias = dict[int, "weakref.ref[Any]"]
_locks: _Table = {}
_others: _Table = {}
_forking = threading.RLock()
_held: list[ExitStack] = []  # brief locks, by the forks that hold them


def renew_in_child(thing: Renewed) -> None:
    """Call ``renew`` in every forked child, once all locks are free; keeps no reference."""
    _remember(_others, thing)


def _remember(table: _Table, thing: Renewed) -> None:
    key = id(thing)
    table[key] = weakref.ref(thing, lambda _: table.pop(key, None))


def _alive(table: _Table) -> Iterator[Any]:
    for reference in tuple(table.values()):
        if (thing := reference()) is not None:
            yield thing


def _before_fork() -> None:
    if "numpy" in sys.modules:
        # np.unique imports it on first use. A child forked meanwhile would wait for the import for
        # ever; here, the fork waits for it.
        import numpy.ma  # noqa: F401, PLC0415
    _forking.acquire()
    _held.append(ExitStack())
    for lock in _alive(_locks):
        if lock.brief:
            _held[-1].enter_context(
                lock if isinstance(lock, RLock) else lock.write(while_reading=True)
            )


def _after_fork() -> None:
    _held.pop().close()
    _forking.release()


def _after_fork_in_child() -> None:
    for lock in _alive(_locks):
        lock.renew()
    _after_fork()
    for thing in _alive(_others):
        thing.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )
