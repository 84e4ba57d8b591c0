"""The ``imgret`` command.

Data goes to stdout; progress, reports and errors go to stderr. Exit codes:

=== ====================================================================================
0   success
1   an error, reported in one line (``--debug`` shows the traceback)
2   usage error
3   partly done: a query, or a file or folder to be indexed, could not be read, --prune was
    held back, a duplicate could not be moved, a model failed its check, or a gallery is damaged
130 interrupted; committed work is kept
=== ====================================================================================

If the reader of a pipe stops early, as ``head`` does, that is not an error.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line arguments; by default those of the process.
    """
    import typer  # noqa: PLC0415  # so that the package stays cheap to import

    from imgret.cli.app import app  # noqa: PLC0415  # the same
    from imgret.cli.complete import complete_on_first_tab  # noqa: PLC0415  # the same
    from imgret.cli.logs import log_shown  # noqa: PLC0415  # the same
    from imgret.errors import ImgretError  # noqa: PLC0415

    _open_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments  # in any position
    arguments = [word for word in arguments if word != "--debug"]
    # typer has no options with an optional value.
    arguments = ["--prune-all" if word == "--prune=all" else word for word in arguments]
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # it looks at the first alone
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may not be valid text
        sys.stdout.reconfigure(errors="backslashreplace")
    complete_on_first_tab()
    usage_error: Any = typer.BadParameter.__base__  # typer does not export it
    try:
        with log_shown(arguments) as left:
            code = app(left or ["--help"], prog_name="imgret", standalone_mode=False)
    except SystemExit as ended:  # typer raises it for a closed pipe and after a completion
        sys.exit(ended.code if "_IMGRET_COMPLETE" in os.environ else 0)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except usage_error as error:
        if debug:
            raise
        command = error.ctx.command_path if error.ctx else "imgret"
        _say(f"error: {error.format_message().rstrip('.')}; see `{command} -h`")
        sys.exit(2)
    except (ImgretError, OSError) as error:
        if debug:
            raise
        _say(f"error: {_text(error)}")
        sys.exit(1)
    if code == 130:
        _say("interrupted; committed work is kept")
    sys.exit(code or 0)


def _open_streams() -> None:
    """Replace closed streams, as in a service or after ``2>&-``, by the null device.

    They are opened in order of their file descriptors. Otherwise a file of a gallery could get
    the descriptor of a stream, and libraries would write into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # kept open


def _text(error: Exception) -> str:
    if type(error).__module__ == "builtins" and isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"  # without the errno
    return str(error)


def _say(message: str) -> None:
    print(f"imgret: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201  # it is a command


def _show_warning(message: Warning | str, *_: object) -> None:
    _say(f"warning: {message}")
