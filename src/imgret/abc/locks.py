"""A lock for many readers or one writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, get_ident
from types import TracebackType

__all__ = ["ReadWriteLock"]


class ReadWriteLock:
    """Many readers at once, or one writer alone.

    A waiting writer goes before readers that come later, and those that waited while it wrote go
    before the next writer, so that neither starves the other (Brandenburg and Anderson, "Reader-
    Writer Synchronization for Shared-Memory Multiprocessor Real-Time Systems", 2009). Where no
    writer is about, readers touch no mutex: each puts its thread into a set, which is one step,
    and then looks whether a writer has shut the door, who in turn looks into the set after that.

    Not reentrant: a thread that holds it must not ask for it again, not even to read twice, as it
    stands in the set once.
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self._readers: set[int] = set()
        self._waiting: set[int] = set()  # readers that came while the door was shut
        self.shut = False  # a writer writes or waits
        self._writing = False
        self._writers_waiting = 0
        self._sharing = _Sharing(self, self._readers)

    def wait_to_read(self, me: int) -> None:
        """Wait until no writer holds it or waits for it, where a reader found the door shut."""
        with self._condition:
            self._readers.discard(me)
            self._condition.notify_all()  # a writer may have seen this thread in the set
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
        """Whether there are readers, be it that they wait."""
        return bool(self._readers or self._waiting)

    def read(self) -> _Sharing:
        """Share the lock for the length of a ``with`` block."""
        return self._sharing

    @contextmanager
    def write(self) -> Iterator[None]:
        """Hold the lock alone for the length of the block."""
        with self._condition:
            self._writers_waiting += 1
            self.shut = True
            try:
                while self._writing or self._readers:
                    self._condition.wait()
            except BaseException:  # an interrupt: readers may have waited for this writer
                self._writers_waiting -= 1
                self._open()
                raise
            self._writers_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._open()

    def _open(self) -> None:
        """Let in the readers that waited; others only where no writer waits."""
        if not self._writing:
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
