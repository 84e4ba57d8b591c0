"""Progress bars: as a widget in a notebook, else on a stderr that may be closed or missing.

A program without a console (``pythonw``, a service, ``2>&-``) has None for `sys.stderr`, and a
stream that was closed or whose reader has left raises. None of that stops the work.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TypeAlias

__all__ = ["Progress", "in_notebook", "progress_bar", "say"]

# Whether to draw a bar, or a function of the number of images done and of all.
Progress: TypeAlias = bool | Callable[[int, int], None] | None


def progress_bar(
    progress: Progress,
    *,
    total: int,
    unit: str,
    desc: str,
    initial: int = 0,
) -> Any:
    """Return a tqdm bar, disabled if nothing can show it.

    In a notebook it is a widget, or text if ipywidgets is not installed.

    Parameters
    ----------
    progress : bool, callable or None
        Whether to draw the bar; None draws it in a notebook, and if stderr is a terminal. A
        callable is called with the number of steps done and of all instead.
    total, unit, desc, initial
        As for `tqdm.tqdm`.
    """
    if callable(progress):
        return _Calling(progress, total, initial)
    file = _Stderr(sys.stderr)
    wanted = file.isatty() or in_notebook() if progress is None else progress
    return _bar_type()(
        total=total,
        unit=unit,
        desc=desc,
        initial=initial,
        file=file,
        disable=not (wanted and file.is_open()),
        dynamic_ncols=True,
    )


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, as Jupyter starts it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


def _bar_type() -> Any:
    from tqdm import tqdm  # noqa: PLC0415  # a search shows no progress

    if not in_notebook():
        return tqdm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns if ipywidgets is missing, and draws text
        from tqdm.auto import tqdm as widget  # noqa: PLC0415  # only notebooks need it

    return widget


def say(bar: Any, text: str) -> None:
    """Write a line on stderr above a bar, if possible."""
    bar.write(text, file=_Stderr(sys.stderr))


class _Calling:
    """A bar that calls a function instead of drawing."""

    def __init__(self, tell: Callable[[int, int], None], total: int, done: int) -> None:
        self._tell, self._total, self._done = tell, total, done
        tell(done, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, n: int) -> None:
        self._done += n
        self._tell(self._done, self._total)

    def write(self, text: str, file: Any) -> None:
        file.write(f"{text}\n")


class _Stderr:
    """A stream that accepts any text and never raises."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def is_open(self) -> bool:
        return self._stream is not None and not getattr(self._stream, "closed", False)

    def isatty(self) -> bool:
        with suppress(AttributeError, OSError, ValueError):
            return bool(self._stream.isatty())
        return False

    def write(self, text: str) -> int:
        with suppress(AttributeError, OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(AttributeError, OSError, ValueError):
            self._stream.flush()

    @property
    def encoding(self) -> str | None:
        """Name of the encoding, by which tqdm chooses the characters of a bar."""
        return getattr(self._stream, "encoding", None)

    def fileno(self) -> int:
        """Return the file descriptor, which tqdm uses to get the width of the terminal."""
        with suppress(AttributeError):
            return int(self._stream.fileno())
        raise OSError("there is no stderr")
