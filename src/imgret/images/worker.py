"""The process in which `imgret.images.isolation` decodes images."""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import cv2

from imgret.errors import ImageError, ImageTooLargeError, MissingExtraError
from imgret.images.decoding import decode
from imgret.images.headers import header
from imgret.images.isolation import HEADER_NUMBERS, READY
from imgret.types import Json

__all__ = ["main"]


def main(memory: int, answers: int) -> None:
    """Answer questions until their end.

    Parameters
    ----------
    memory : int
        Limit in bytes, beyond what the process takes at rest.
    answers : int
        Descriptor to write to; on Windows, a handle.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415

        answers = msvcrt.open_osfhandle(answers, os.O_WRONLY)
    cv2.setNumThreads(1)
    limit(memory)
    questions = sys.stdin.buffer
    with open(answers, "wb", buffering=0) as out:  # noqa: PTH123  # a descriptor
        out.write(READY)
        while head := questions.read(16):
            length, size = struct.unpack(">QQ", head)
            asked = json.loads(questions.read(length))
            facts, pixels = _answer(asked, questions.read(size), memory)
            _send(out, facts, pixels)


def limit(memory: int) -> None:
    """Limit memory, and forbid to write files; systems without such limits do without."""
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for name in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        with suppress(OSError, ValueError):
            resource.setrlimit(name, (0, 0))


def _answer(asked: Json, data: bytes, memory: int) -> tuple[Json, Any]:
    try:
        if asked["task"] == "header":
            head = header(data)
            facts = {name: getattr(head, name) for name in HEADER_NUMBERS}
            # All of a TIFF counts as its EXIF block, and the parent has it.
            return {**facts, "exif": "" if head.exif is data else head.exif.hex()}, None
        found = decode(data, max_pixels=asked["max_pixels"], min_side=asked["min_side"])
    except (Exception, MemoryError) as error:  # noqa: BLE001  # the parent raises it
        if _is_of_memory(error):
            error = ImageTooLargeError(
                f"expected an image that is decoded with {memory >> 20:,} MB of memory, found one "
                f"that takes more; make it smaller"
            )
        if isinstance(error, ImageError):
            return {"error": type(error).__name__, "reason": error.reason}, None
        kind = "MissingExtraError" if isinstance(error, MissingExtraError) else "ImageCorruptError"
        return {"error": kind, "reason": str(error) or type(error).__name__}, None
    return {"shape": found.image.shape[:2], "size": found.size}, found.image


def _is_of_memory(error: BaseException | None) -> bool:
    """Whether memory was the reason of an error, or of one that led to it."""
    while error is not None:
        if isinstance(error, MemoryError) or "nsufficient memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _send(out: BinaryIO, facts: Json, pixels: Any) -> None:
    text = json.dumps(facts).encode()
    data = memoryview(b"") if pixels is None else memoryview(pixels.reshape(-1))
    out.write(struct.pack(">QQ", len(text), len(data)) + text)
    while data:
        data = data[out.write(data) :]
