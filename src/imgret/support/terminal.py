r"""Names and labels on a terminal, which takes some characters for commands.

A key, a label or the name of a file may hold any character. ESC starts sequences that clear the
screen, set the title or write into the input; CR and line breaks forge lines; others turn the
direction of writing. On a terminal they are shown as Python writes them, such as ``\x1b``. Into
files and pipes text goes as it is, so that other programs get exact names.
"""

from __future__ import annotations

import re
import sys
from typing import Any

__all__ = ["Terminal", "plain", "shown"]

# C0, DEL, C1, marks of direction, separators of lines, halves of pairs.
_COMMANDS = (
    r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
)
_IN_A_TEXT = re.compile(f"[{_COMMANDS}\r]")
_IN_A_NAME = re.compile(f"[{_COMMANDS}\r\n\t]")
_IN_A_BAR = re.compile(f"[{_COMMANDS}]")


def plain(name: str) -> str:
    r"""Return a name in one line, with what a terminal takes for a command escaped.

    >>> plain("rose\x1b[2J.jpg")
    'rose\\x1b[2J.jpg'
    """
    return name if name.isprintable() else _IN_A_NAME.sub(_escaped, name)


def shown(name: str) -> str:
    """Return a name as standard output is to get it: on a terminal `plain`, else exact."""
    return plain(name) if sys.stdout.isatty() else name


class Terminal:
    """A stream to a terminal that shows commands to it, whatever is written.

    Parameters
    ----------
    stream : text stream
    bar : bool
        Whether carriage returns pass, with which a progress bar goes back to the start of its line.
    """

    def __init__(self, stream: Any, *, bar: bool) -> None:
        self._stream = stream
        self._pattern = _IN_A_BAR if bar else _IN_A_TEXT

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        self._stream.write(self._pattern.sub(_escaped, text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _escaped(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]
