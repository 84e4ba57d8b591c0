"""Warnings that point into the user's own program."""

from __future__ import annotations

import inspect
import warnings

__all__ = ["warn"]

_PASSED_OVER = ("imgret", "contextlib", "importlib")


def warn(message: str) -> None:
    """Warn with the line of the user's program that called imgret, however far up it is.

    A line of imgret tells the reader nothing, and Python shows the same warning once a line.

    Parameters
    ----------
    message : str
        What was found, and what follows from it.

    Warns
    -----
    UserWarning
        With `message`.
    """
    frame = inspect.currentframe()
    assert frame is not None  # noqa: S101  # CPython has one
    while _is_passed_over(frame.f_globals.get("__name__", "")) and frame.f_back is not None:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        UserWarning,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _is_passed_over(module: str) -> bool:
    return module.partition(".")[0] in _PASSED_OVER
