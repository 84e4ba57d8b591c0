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
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from imgret.cli.ctrl_c import CtrlC

__all__ = ["main", "run"]


def run() -> NoReturn:
    """Run the command as a process of its own, and end it: what ``imgret`` in a shell does.

    Python would take every module apart first. That takes 80 ms, a sixth of a search.
    """
    try:
        main()
    except SystemExit as ended:
        from imgret.cli.ctrl_c import leave  # noqa: PLC0415  # as in main

        leave(ended)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line arguments; by default those of the process.
    """
    from imgret.cli.ctrl_c import INTERRUPTED, CtrlC  # noqa: PLC0415  # before what takes long

    with CtrlC() as ctrl_c:
        code = _run(list(sys.argv[1:] if arguments is None else arguments), ctrl_c)
        if code == INTERRUPTED:
            ctrl_c.say()
    sys.exit(code)


def _run(arguments: list[str], ctrl_c: CtrlC) -> int:
    """Run the command and return its exit code."""
    import click  # noqa: PLC0415  # so that the package stays cheap to import

    from imgret.cli.app import ASKED_BY, app  # noqa: PLC0415  # the same
    from imgret.cli.ctrl_c import INTERRUPTED  # noqa: PLC0415  # the same
    from imgret.cli.logs import log_shown  # noqa: PLC0415  # the same
    from imgret.errors import ImgretError  # noqa: PLC0415

    _open_streams()
    debug = "--debug" in arguments  # in any position
    arguments = [word for word in arguments if word != "--debug"]
    # An option with an optional value would take the next word for it.
    arguments = ["--prune-all" if word == "--prune=all" else word for word in arguments]
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # it looks at the first alone
    _guard_streams()
    code = 0
    try:
        if asked := os.environ.get(ASKED_BY):
            from imgret.cli.shells import complete  # noqa: PLC0415  # needed here only

            return complete(asked)
        with log_shown(arguments) as left:
            ctrl_c.begin(cut_off=left[:1] != ["serve"])  # which finishes requests first
            # `app()` would write an empty line when it is interrupted.
            with app.make_context("imgret", left or ["--help"]) as context:
                app.invoke(context)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # Python would report it again as it ends
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # kept open
    except click.UsageError as error:
        if debug:
            raise
        command = error.ctx.command_path if error.ctx else "imgret"
        _say(f"error: {error.format_message().rstrip('.')}; see `{command} -h`")
        code = 2
    except Exception as error:
        if ctrl_c.came():  # some libraries make another error of it
            return INTERRUPTED
        if debug or not isinstance(error, (ImgretError, OSError)):
            raise
        _say(f"error: {_text(error)}")
        code = 1
    return code


def _open_streams() -> None:
    """Replace closed streams, as in a service or after ``2>&-``, by the null device.

    They are opened in order of their file descriptors. Otherwise a file of a gallery could get
    the descriptor of a stream, and libraries would write into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # kept open


def _guard_streams() -> None:
    """Let standard output take any file name, and no terminal a command from one."""
    from imgret.support.terminal import Terminal  # noqa: PLC0415  # so that the package stays cheap

    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may not be valid text
        sys.stdout.reconfigure(errors="backslashreplace")
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)).isatty():
            setattr(sys, name, Terminal(stream, bar=name == "stderr"))


def _text(error: Exception) -> str:
    if type(error).__module__ == "builtins" and isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"  # without the errno
    return str(error)


def _say(message: str) -> None:
    from imgret.support.terminal import plain  # noqa: PLC0415  # so that the package stays cheap

    print(f"imgret: {plain(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201  # it is a command


def _show_warning(message: Warning | str, *_: object) -> None:
    _say(f"warning: {message}")
