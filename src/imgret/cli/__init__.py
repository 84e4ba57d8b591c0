"""The ``imgret`` command.

Data goes to stdout; progress, reports and errors go to stderr. Exit codes:

=== ====================================================================================
0   done; pictures of a folder that could not be read are told on stderr
1   an error, told in one line (``--debug`` shows where it came from)
2   wrong usage
3   done in part: a query could not be read, a model failed its check
130 interrupted; what was committed stays
=== ====================================================================================
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.
    """
    from imgret.cli.app import app  # noqa: PLC0415  # so that the package stays cheap to import
    from imgret.errors import ImgretError  # noqa: PLC0415

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments  # wherever it stands
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # it looks at the first alone
    try:
        app([word for word in arguments if word != "--debug"], prog_name="imgret")
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
    except (ImgretError, OSError) as error:
        if debug:
            raise
        _say(f"error: {error}")
        sys.exit(1)
    sys.exit(0)


def _say(message: str) -> None:
    print(f"imgret: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201  # it is a command


def _show_warning(message: Warning | str, *_: object) -> None:
    _say(f"warning: {message}")
