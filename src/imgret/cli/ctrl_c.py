"""Ctrl-C ends a command within two seconds, wherever it falls: exit code 130 and one sentence.

While the command is imported it ends at once, as nothing has begun. From then on an interrupt is
raised as `KeyboardInterrupt`, so that what was embedded is committed. Python raises that only once
a native call returns, though, and building a large index takes minutes. So a thread looks on: what
has not ended after a second and a half is cut off, as by a kill, which a gallery survives at any
moment.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

__all__ = ["INTERRUPTED", "CtrlC", "last_words", "leave", "to_resume"]

INTERRUPTED = 130
SENTENCE = "interrupted; committed work is kept"
# From the interrupt to the end of a command that does not end by itself.
_SECONDS = 1.5
# Until the thread that looks on has seen what was raised in the main one.
_NOTICED_SECONDS = 0.01
# From an interrupt that Python could not raise until it is raised again.
_AGAIN_SECONDS = 0.02

# What the command has to say when it is interrupted, such as how to continue.
last_words: list[Callable[[], str | None]] = []


class CtrlC:
    """What interrupts do to a command: a context manager around all of it.

    If interrupts are ignored, as in the background, or the program has a handler of its own, it
    does nothing.
    """

    def __init__(self) -> None:
        self._wanted = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._came = self._is_said = self._is_over = False

    def __enter__(self) -> Self:
        last_words.clear()
        if self._wanted:
            signal.signal(signal.SIGINT, _leave_at_once)
        return self

    def begin(self, *, cut_off: bool) -> None:
        """Begin with the command itself; what ends in order by its own means is not cut off."""
        if not self._wanted:
            return
        if cut_off:
            near, far = self._ends = socket.socketpair()
            far.setblocking(False)
            signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
            if hasattr(os, "register_at_fork"):  # an interrupt of a child is its own
                os.register_at_fork(after_in_child=self._forget)
            threading.Thread(target=self._look_on, args=(near,), daemon=True).start()
        if not isinstance(sys.unraisablehook, _RaisedAgain):
            sys.unraisablehook = _RaisedAgain(sys.unraisablehook)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def came(self) -> bool:
        """Return whether there was one: a library may turn it into another error."""
        if self._ends is not None and not self._came:
            time.sleep(_NOTICED_SECONDS)
        return self._came

    def _was_signal(self) -> bool:
        """Return whether there was one: surely, as there was a `KeyboardInterrupt`."""
        deadline = time.monotonic() + 20 * _NOTICED_SECONDS
        while not self.came() and self._ends is not None and time.monotonic() < deadline:
            pass
        return self._came

    def say(self) -> None:
        """Say that the command was interrupted; from now on interrupts are ignored."""
        if self._wanted and self._was_signal():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._is_said = True
        print(_text(), end="", file=sys.stderr)  # noqa: T201  # it is a command

    def __exit__(self, *error: object) -> None:
        if not self._wanted:
            return
        if self._is_said and self._came:
            # By hand: threads that embed are not waited for, and Python ends by the signal itself
            # if a library had caught the interrupt in code that it runs as a text.
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            atexit._run_exitfuncs()  # noqa: SLF001  # such as that of temporary directories
            _end()
        if self._came:  # what is left of the process is cut off
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._is_over = True
        self._forget()

    def _forget(self) -> None:
        if self._ends is not None:
            signal.set_wakeup_fd(-1)
            self._ends[1].close()  # which ends the thread
            self._ends = None

    def _look_on(self, near: socket.socket) -> None:
        with near:  # until the end: Python complains if it cannot pass on another interrupt
            while received := near.recv(64):
                if signal.SIGINT in received:
                    break
            else:
                return
            self._came = True
            time.sleep(_SECONDS)
            if self._is_over:
                return
            if not self._is_said:
                _write("\n" if sys.stderr.isatty() else "")  # below a progress bar
                _write(_text())
            _end()


class _RaisedAgain:
    """Raise interrupts again that Python cannot raise, as in a callback of a weak reference."""

    def __init__(self, hook: Callable[[sys.UnraisableHookArgs], object]) -> None:
        self._hook = hook

    def __call__(self, unraisable: sys.UnraisableHookArgs, /) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            again = threading.Timer(_AGAIN_SECONDS, _interrupt)  # not in here again
            again.daemon = True
            again.start()
        else:
            self._hook(unraisable)


def _interrupt() -> None:
    """Interrupt the main thread, also where it waits in a native call, except on Windows."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def leave(ended: SystemExit) -> NoReturn:
    """End the process as `SystemExit` would, without taking its modules apart.

    Raises
    ------
    SystemExit
        What was printed cannot be written: Python says so.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # as multiprocessing does
    atexit._run_exitfuncs()  # noqa: SLF001  # such as that of temporary directories
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        raise ended from None
    os._exit(ended.code if isinstance(ended.code, int) else 1)


def to_resume(model: Path) -> str | None:
    """Say how to go on with the training of a model; None before its first checkpoint."""
    last = model.with_suffix(".training") / "last.pt"
    return f"run the same command with --resume {last} to continue" if last.is_file() else None


def _text() -> str:
    words = [word for say in last_words if (word := say())]
    return "".join(f"{line}\n" for line in [*words, f"imgret: {SENTENCE}"])


def _leave_at_once(number: int, frame: FrameType | None) -> NoReturn:
    _write(f"imgret: {SENTENCE}\n")
    _end()


def _write(text: str) -> None:
    """Write to stderr past its lock, which the main thread may hold."""
    with suppress(OSError, ValueError):
        os.write(2, text.encode(errors="backslashreplace"))


def _end() -> NoReturn:
    os._exit(INTERRUPTED)
