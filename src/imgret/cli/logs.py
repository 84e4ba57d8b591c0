"""The library's log on the command line: ``-v`` shows it, ``-vv`` in detail."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["log_shown"]

_LEVELS = {"-v": logging.INFO, "--verbose": logging.INFO, "-vv": logging.DEBUG}


@contextmanager
def log_shown(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Write the library's log to stderr if ``-v`` is among the arguments, and take it out.

    A command that has such an option of its own gets it, too.
    """
    level = min((_LEVELS[word] for word in arguments if word in _LEVELS), default=None)
    left = [word for word in arguments if word not in _LEVELS]
    if level is None:
        yield list(arguments)
        return
    logger = logging.getLogger("imgret")
    before = logger.level
    logger.setLevel(level)
    handler = logging.NullHandler() if left[:1] == ["serve"] else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logger.addHandler(handler)  # serve has one of its own
    try:
        yield list(arguments) if _has_its_own(left) else left
    finally:  # of a program that runs several commands
        logger.removeHandler(handler)
        logger.setLevel(before)


def _has_its_own(arguments: Sequence[str]) -> bool:
    """Whether the command among the arguments has an option ``--verbose``."""
    import click  # noqa: PLC0415  # only where it is asked for

    from imgret.cli.app import app  # noqa: PLC0415  # the same

    name = next((word for word in arguments if not word.startswith("-")), "")
    command = app.get_command(click.Context(app), name)
    return command is not None and any("--verbose" in option.opts for option in command.params)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        where = record.name.removeprefix("imgret.")
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        text = f"{record.relativeCreated / 1000:8.2f} s  {where}: {level}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
