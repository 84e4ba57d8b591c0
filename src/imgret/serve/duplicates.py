"""A search for duplicates in the background, as it may take longer than a request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, final

from imgret.curation import Duplicates, find_duplicates
from imgret.errors import ImgretError
from imgret.pages.review import ReviewGroup
from imgret.retriever import Retriever

__all__ = ["SHOWN", "DuplicateSearch"]

_log = logging.getLogger(__name__)

SHOWN = 200
"""Most groups that are shown."""


class _Stopped(Exception):  # noqa: N818  # a request, not a fault
    """Nobody waits any more."""


@final
class DuplicateSearch:
    """Finds the duplicates of a gallery in a thread, which starts at once.

    Parameters
    ----------
    use : callable
        Lends the gallery, as `Site.use` does.

    Attributes
    ----------
    done, total : int
        How far the present step is.
    state : {"running", "done", "failed"}
    message : str
        What went wrong.
    groups : list of ReviewGroup
        The first 200 groups, once they are found.
    found : Duplicates or None
        All groups, once they are found.
    reported : bool
        Whether a failure was reported to a request; the next one then starts another search.
    """

    def __init__(self, use: Callable[[], AbstractContextManager[Retriever]]) -> None:
        self._use = use
        self._stop = False
        self.done = self.total = 0
        self.state: Literal["running", "done", "failed"] = "running"
        self.message = ""
        self.reported = False
        self.groups: list[ReviewGroup] = []
        self.found: Duplicates | None = None
        self._thread = threading.Thread(target=self._run, name="imgret-duplicates", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the search, but not longer than this."""
        self._thread.join(timeout=seconds)

    def stop(self) -> None:
        """End the search soon, as nobody waits for it."""
        self._stop = True

    def close(self) -> None:
        """Stop the search, and wait for it."""
        self.stop()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        try:
            with self._use() as retriever:
                if len(retriever):
                    self.found = find_duplicates(retriever.view(), progress=self._tell)
                    shown = self.found[:SHOWN]
                    for done, group in enumerate(self.found.review(shown), 1):
                        # The page asks for thumbnails; these images would stay in memory.
                        files = [file._replace(image=None) for file in group.files]
                        self.groups.append(group._replace(files=files))
                        self._tell(done, len(shown))
        except _Stopped:
            self.state, self.message = "failed", "stopped"
        except ImgretError as error:
            self.state, self.message = "failed", str(error.args[0] if error.args else error)
        except Exception as error:  # noqa: BLE001  # shown on the page, and logged
            _log.exception("the search for duplicates failed")
            self.state, self.message = "failed", str(error)
        else:
            self.state = "done"

    def _tell(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self._stop:
            raise _Stopped
