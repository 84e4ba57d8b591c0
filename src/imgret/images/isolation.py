"""Decoding in worker processes with limits of memory and time.

What a decoder can be made to do by a crafted image then ends with its process: a crash, gigabytes
of memory, minutes of work. A worker is limited, but not a sandbox: it runs as the same user.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition
from typing import Any, final

import numpy as np

from imgret import errors
from imgret.errors import (
    ImageCorruptError,
    ImageError,
    ImageTooLargeError,
    ImgretError,
    InvalidInputError,
)
from imgret.images.headers import Header, header
from imgret.support.checks import check_count
from imgret.support.locks import renew_in_child
from imgret.types import Image, Json

__all__ = ["HEADER_NUMBERS", "READY", "Workers", "active", "isolated"]

# The size up to which a plain JPEG or PNG is decoded here if `plain` is false: about 0.2 seconds
# and 100 MB.
_PLAIN_PIXELS = 16_000_000
_PLAIN = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_MOST_JSON = 1 << 28  # of the facts in an answer; a RAW photograph returns its EXIF block in it
_PIPE_BYTES = 1 << 20  # fewer wake-ups for an answer
_CALL = """
import sys
sys.path[:] = {path!r}
from imgret.images.worker import main
main({memory}, {fd})
"""
# One thread each: there is a worker per core.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

READY = b"\1"
"""What a worker sends once it has started."""
_START_SECONDS = 60.0
HEADER_NUMBERS = ("width", "height", "orientation", "bits")
"""Fields of the header of a RAW photograph that are numbers."""

_active: list[Workers] = []


def active() -> Workers | None:
    """Return the workers of the innermost `isolated` block, of any thread; None outside."""
    return _active[-1] if _active else None


@contextmanager
def isolated(
    *,
    memory: int = 2 << 30,
    seconds: float = 20.0,
    workers: int | None = None,
    plain: bool = True,
) -> Iterator[None]:
    """Decode images in worker processes with limits, for the length of a ``with`` block.

    It applies to whatever decodes encoded images in this process meanwhile, in any thread:
    `decode`, `load`, `Retriever.add_folder`, searches. ``imgret serve`` does so by default.

    Parameters
    ----------
    memory : int
        Maximum memory in bytes that a worker may use to decode an image. Not limited on Windows and
        macOS.
    seconds : float
        Maximum time for an image.
    workers : int, optional
        Maximum number of processes; by default one for each core. Each takes about 80 MB.
    plain : bool
        Whether plain JPEGs and PNGs are decoded in workers, too. If false, those that have 8 bits
        per channel, no colour profile and at most 16 megapixels, and are not progressive or CMYK,
        are decoded in this process. What their decoders allocate and do is then known from the
        header, and no decoders are tested more. This saves about a millisecond per image.

    Raises
    ------
    InvalidInputError
        An argument is not a positive number.

    Notes
    -----
    An image over a limit raises `ImageTooLargeError`, and one that makes its decoder crash raises
    `ImageCorruptError`; its worker is replaced.

    Examples
    --------
    >>> with images.isolated(memory=1 << 30, seconds=5):  # doctest: +SKIP
    ...     retriever.add_folder("from-strangers/")
    """
    if not seconds > 0:
        raise InvalidInputError(f"seconds: expected a number above 0, found {seconds!r}")
    own = Workers(
        memory=check_count(memory, "memory"),
        seconds=seconds,
        most=_cores() if workers is None else check_count(workers, "workers"),
        plain=plain,
    )
    _active.append(own)
    try:
        yield
    finally:
        _active.remove(own)
        own.close()


@final
class Workers:
    """Processes that decode images, started when they are needed: see `isolated`."""

    def __init__(self, *, memory: int, seconds: float, most: int, plain: bool) -> None:
        self.memory, self.seconds, self.most, self.plain = memory, seconds, most, plain
        self._idle: list[_DecoderProcess] = []
        self._busy = 0
        self._closed = False
        self._condition = Condition()
        renew_in_child(self)

    def plain_header(self, data: bytes, path: Path | str | None) -> Header | None:
        """Return the header of an image that may be decoded in this process; None for others."""
        if self.plain or not data.startswith(_PLAIN):
            return None
        head = header(data, path=path)
        is_plain = (
            head.bits <= 8
            and head.channels in {1, 3}
            and not (head.profile or head.buffered or head.unsupported)
            and head.width * head.height <= _PLAIN_PIXELS
        )
        return head if is_plain else None

    def decode(
        self, data: bytes, *, path: Path | str | None, max_pixels: int, min_side: int | None
    ) -> tuple[Image, tuple[int, int]]:
        """Decode an image in a worker: see `imgret.images.decode`."""
        asked = {"task": "decode", "max_pixels": max_pixels, "min_side": min_side}
        facts, pixels = self._ask(asked, data, path)
        return pixels, facts["size"]

    def header(self, data: bytes, *, path: Path | str | None) -> Header:
        """Read the header of a RAW photograph in a worker, which needs LibRaw."""
        facts, _ = self._ask({"task": "header"}, data, path)
        return Header("RAW", end=len(data), **facts)

    def close(self) -> None:
        """End the processes; those at work end when they are done."""
        with self._condition:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def renew(self) -> None:
        """In a forked child, leave the workers to the parent."""
        for worker in self._idle:
            worker.leave()
        self._condition, self._idle, self._busy = Condition(), [], 0

    def _ask(self, asked: Json, data: bytes, path: Path | str | None) -> tuple[Json, Any]:
        with self._condition:
            while self._busy >= self.most:
                self._condition.wait()
            self._busy += 1
            worker = self._idle.pop() if self._idle else None
        is_usable = False
        try:
            if worker is None:
                worker = _DecoderProcess(self.memory)
            facts, pixels = worker.ask(asked, data, self.seconds, path)
            is_usable = not worker.was_late
        finally:
            with self._condition:
                self._busy -= 1
                if is_usable and not self._closed and worker is not None:
                    self._idle.append(worker)
                    worker = None
                self._condition.notify()
            if worker is not None:
                worker.end()
        if "error" in facts:
            raise _error(facts, path)
        return facts, pixels


@final
class _DecoderProcess:
    """A process that decodes one image at a time.

    A question is the length of its facts, of its data, the facts as JSON, and the data; so is an
    answer. Nothing of it is unpickled: a worker may have been taken over by an image.
    """

    def __init__(self, memory: int) -> None:
        path = [os.path.abspath(each) for each in sys.path if each]  # noqa: PTH100  # text, as it is there
        ours, theirs = os.pipe()  # its own descriptor: stdout may be written to by libraries
        given: dict[str, Any]
        try:
            if sys.platform == "win32":
                import msvcrt  # noqa: PLC0415

                os.set_inheritable(theirs, True)
                given = {"close_fds": False}
                number = msvcrt.get_osfhandle(theirs)
            else:
                given, number = {"pass_fds": (theirs,)}, theirs
            self._process = subprocess.Popen(  # noqa: S603  # this Python
                [sys.executable, "-P", "-c", _CALL.format(path=path, memory=memory, fd=number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **dict.fromkeys(_THREADS, "1")},
                **given,
            )
        except (OSError, TypeError) as error:  # TypeError: Python is part of another program
            os.close(ours)
            raise ImgretError(
                f"a process that decodes images cannot be started: {error}; use no "
                f"images.isolated() (--no-isolate) here"
            ) from error
        finally:
            os.close(theirs)
        if sys.platform == "linux":
            import fcntl  # noqa: PLC0415

            with suppress(OSError):  # over the limit of the user
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.was_late = False  # it was killed, maybe just after its answer
        self._is_ready = False
        self._answers = io.BufferedReader(io.FileIO(ours, "rb"), 1 << 16)

    def ask(
        self, asked: Json, data: bytes, seconds: float, path: Path | str | None
    ) -> tuple[Json, Any]:
        """Send a question and return the answer; after an error the worker must be ended."""
        if not self._is_ready:
            with self._limited(_START_SECONDS):
                self._is_ready = self._answers.read(1) == READY
            if not self._is_ready:
                raise ImgretError(
                    f"a process that decodes images cannot be started: {sys.executable} ended with "
                    f"code {self._process.wait(10)}; use no images.isolated() (--no-isolate) here"
                )
        with self._limited(seconds):
            return self._asked(asked, data, seconds, path)

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        """Kill the process if the block takes longer."""

        def kill() -> None:
            self.was_late = True
            self._process.kill()

        watch = threading.Timer(seconds, kill)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _asked(
        self, asked: Json, data: bytes, seconds: float, path: Path | str | None
    ) -> tuple[Json, Any]:
        try:
            facts = json.dumps(asked).encode()
            assert self._process.stdin is not None  # noqa: S101  # a pipe, as asked
            self._process.stdin.write(struct.pack(">QQ", len(facts), len(data)) + facts)
            self._process.stdin.write(data)
            self._process.stdin.flush()
            return self._answer(asked)
        except (OSError, EOFError, ValueError, LookupError, TypeError, struct.error) as error:
            if self.was_late:
                raise ImageTooLargeError(
                    f"expected an image that is decoded within {seconds:g} seconds, found one that "
                    f"takes longer; save it again, as PNG or baseline JPEG",
                    path,
                ) from None
            code = self._process.wait(10)
            raise ImageCorruptError(
                f"damaged or crafted: the process that decoded it ended with code {code}", path
            ) from error

    def _answer(self, asked: Json) -> tuple[Json, Any]:
        """Read an answer; whatever is wrong with it is an error of a builtin class."""
        length, size = struct.unpack(">QQ", self._read(16))
        if length > _MOST_JSON:
            raise ValueError
        facts = json.loads(self._read(length))
        if "error" in facts:
            return {name: str(facts[name]) for name in ("error", "reason")}, None
        if asked["task"] == "header":
            numbers = {name: int(facts[name]) for name in HEADER_NUMBERS}
            return {**numbers, "exif": bytes.fromhex(facts["exif"])}, None
        height, width = map(int, facts["shape"])
        full = tuple(map(int, facts["size"]))
        if min(height, width, *full) < 1 or len(full) != 2 or size != 3 * width * height:
            raise ValueError
        if width * height > asked["max_pixels"]:
            raise ValueError
        pixels = np.empty((height, width, 3), np.uint8)
        if self._answers.readinto(pixels.reshape(-1).data) != size:
            raise EOFError
        return {"size": full}, pixels

    def _read(self, size: int) -> bytes:
        data = self._answers.read(size)
        if len(data) != size:
            raise EOFError
        return data

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        with suppress(OSError):
            self._answers.close()
        with suppress(OSError):  # what was not sent
            self._process.communicate(timeout=10)

    def leave(self) -> None:
        """In a forked child, close the pipes, and let the process go on for the parent."""
        self._process.returncode = 0  # or Python would warn that it still runs
        for pipe in (self._process.stdin, self._answers):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _error(facts: Json, path: Path | str | None) -> Exception:
    kind = getattr(errors, facts["error"], ImageCorruptError)
    reason = facts["reason"]
    if isinstance(kind, type) and issubclass(kind, ImageError):
        return kind(reason, path)
    if kind is errors.MissingExtraError:
        return errors.MissingExtraError(reason if path is None else f"{path}: {reason}")
    return ImageCorruptError(reason, path)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
