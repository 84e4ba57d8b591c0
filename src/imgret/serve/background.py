"""Work on a gallery that may take longer than a request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, Literal, TypeAlias, TypeVar, final

from imgret.errors import ImgretError
from imgret.retriever import Retriever

__all__ = ["Background", "Tell"]

_log = logging.getLogger(__name__)
_Found = TypeVar("_Found")

Tell: TypeAlias = Callable[[int, int], None]
"""Function that takes the number of steps done and of all."""


class _Stopped(Exception):  # noqa: N818  # a request, not a fault
    """Nobody waits any more."""


@final
class Background(Generic[_Found]):
    """Works on a gallery in a thread, which starts at once.

    Parameters
    ----------
    name : str
        Name of the work, for the thread and the log.
    use : callable
        Lends the gallery, as `Site.use` does.
    find : callable
        Function of the gallery and of a `Tell`; returns what it finds.

    Attributes
    ----------
    done, total : int
        How far the present step is.
    state : {"running", "done", "failed"}
    error : Exception or None
        What went wrong.
    found : object or None
        What was found, once it is done.
    reported : bool
        Whether a failure was reported to a request; the next one then starts the work again.
    """

    def __init__(
        self,
        name: str,
        use: Callable[[], AbstractContextManager[Retriever]],
        find: Callable[[Retriever, Tell], _Found],
    ) -> None:
        self._name, self._use, self._find = name, use, find
        self._stop = False
        self.done = self.total = 0
        self.state: Literal["running", "done", "failed"] = "running"
        self.error: Exception | None = None
        self.reported = False
        self.found: _Found | None = None
        self._thread = threading.Thread(target=self._run, name=f"imgret-{name}", daemon=True)
        self._thread.start()

    @property
    def message(self) -> str:
        """What went wrong, in words; empty if nothing did."""
        error = self.error
        if isinstance(error, ImgretError) and error.args:
            return str(error.args[0])
        return "" if error is None else str(error)

    def wait(self, seconds: float) -> None:
        """Wait for the end of the work, but not longer than this."""
        self._thread.join(timeout=seconds)

    def stop(self) -> None:
        """End the work soon, as nobody waits for it."""
        self._stop = True

    def close(self) -> None:
        """Stop the work, and wait for its end."""
        self.stop()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        try:
            with self._use() as retriever:
                self.found = self._find(retriever, self._tell)
        except _Stopped:
            pass  # whoever still asks is referred to the work that takes its place
        except Exception as error:  # noqa: BLE001  # shown on the page
            if not isinstance(error, ImgretError):
                _log.exception("%s: failed", self._name)
            self.error, self.state = error, "failed"
        else:
            self.state = "done"

    def _tell(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self._stop:
            raise _Stopped
