"""Pictures to embeddings, one worker thread a core, results in the order asked.

A worker takes a run of sources through everything: read, hash, decode, crop, embed. The
decoder and the model both let go of Python's lock, so workers side by side keep every
core busy without a queue between stages.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imgret import images
from imgret.abc import Cropper, Embedder
from imgret.abc.locks import RLock
from imgret.errors import ImageError, ImageTooLargeError, InvalidInputError
from imgret.images.load import encoded
from imgret.ingest.report import Status
from imgret.storage import Item
from imgret.types import Box, Embeddings, Image, ImageLike

__all__ = ["Known", "Outcome", "Source", "embed_sources", "worker_count"]

# Sources a worker takes at a time, and decoded bytes it may hold before it embeds them. Decoding
# some and then embedding them in a row keeps the network's weights in the cache: 8 % faster than
# in turns of 4.
_RUN = 32
_HELD_BYTES = 48 * 2**20
# Held around parts that are not thread-safe. Of the process, not of a call: the same part may
# serve several galleries and searches at once.
_EMBED_ALONE, _CROP_ALONE = RLock(), RLock()


@dataclass(frozen=True, slots=True)
class Known:
    """The item that a source is to replace, unless its file is unchanged."""

    id: int
    item: Item


@dataclass(frozen=True, slots=True)
class Source:
    """A picture to be embedded.

    Attributes
    ----------
    key : str
    image : ImageLike
        Where to get it.
    path : Path or None
        The file, where it is one.
    label : str or None
    metadata : mapping
    known : Known or None
        Set where the gallery holds this key.
    """

    key: str
    image: ImageLike
    path: Path | None = None
    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    known: Known | None = None


@dataclass(slots=True)
class Outcome:
    """What became of a source.

    Attributes
    ----------
    source : Source
    status : {"ok", "skipped", "renamed", "duplicate", "failed"}
    reason : str
        Why it was skipped or failed.
    error : Exception or None
        Behind a failure.
    twin : int or None
        Id of an item made from a file of the same bytes: nothing was decoded or embedded.
    embedding : float32 array of shape (dim,) or None
    box : Box or None
        In pixels of the full-size picture.
    subject : bool
        Whether the cropper found the box.
    missed : bool
        Whether it was asked and did not.
    sha256, size, mtime_ns
        Of the file.
    """

    source: Source
    status: Status = "ok"
    reason: str = ""
    error: Exception | None = None
    twin: int | None = None
    embedding: Embeddings | None = None
    box: Box | None = None
    subject: bool = False
    missed: bool = False
    sha256: bytes | None = None
    size: int | None = None
    mtime_ns: int | None = None


def worker_count(threads: int | None = None) -> int:
    """Threads to use: as many as asked, by default one for each core this process may use."""
    if threads is not None:
        return max(1, threads)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def embed_sources(
    sources: Sequence[Source],
    embedder: Embedder,
    cropper: Cropper,
    *,
    find_twin: Callable[[bytes], int | None] | None = None,
    refuse: Callable[[Embeddings], list[str | None]] | None = None,
    exif: bool = False,
    threads: int | None = None,
    max_pixels: int = images.MAX_PIXELS,
    on_stage: Callable[[str, float], None] | None = None,
) -> Iterator[list[Outcome]]:
    """Read, crop and embed; a picture that cannot be read costs only itself.

    Parameters
    ----------
    sources : sequence of Source
    embedder, cropper
        Called from several threads at once where they allow it.
    find_twin : callable, optional
        Sha256 of a file -> id of an item made from the same bytes, or None.
    refuse : callable, optional
        Embeddings -> why each cannot be kept, or None.
    exif : bool
        Whether what `images.exif_facts` tells of a file becomes its metadata ``exif``.
    threads : int, optional
        By default one for each core.
    max_pixels : int
        As for `images.decode`, which gets the embedder's ``min_side``.
    on_stage : callable, optional
        Told the name of a stage and seconds spent in it, from the calling thread.

    Yields
    ------
    list of Outcome
        For each run of sources, in their order.
    """
    worker = _Worker(embedder, cropper, find_twin, refuse, exif=exif, max_pixels=max_pixels)
    runs = deque(sources[start : start + _RUN] for start in range(0, len(sources), _RUN))
    workers = min(worker_count(threads), len(runs))
    if workers <= 1:
        for run in runs:
            yield _told(worker(run), on_stage)
        return
    pending: deque[Future[tuple[list[Outcome], dict[str, float]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="imgret")
    try:
        while runs or pending:
            while runs and len(pending) < workers + 2:
                pending.append(pool.submit(worker, runs.popleft()))
            yield _told(pending.popleft().result(), on_stage)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _told(
    result: tuple[list[Outcome], dict[str, float]], on_stage: Callable[[str, float], None] | None
) -> list[Outcome]:
    outcomes, stages = result
    if on_stage is not None:
        for stage, seconds in stages.items():
            on_stage(stage, seconds)
    return outcomes


class _Worker:
    """Takes a run of sources through all the stages."""

    def __init__(
        self,
        embedder: Embedder,
        cropper: Cropper,
        find_twin: Callable[[bytes], int | None] | None,
        refuse: Callable[[Embeddings], list[str | None]] | None,
        *,
        exif: bool,
        max_pixels: int,
    ) -> None:
        self._embedder = embedder
        self._cropper = cropper
        self._find_twin = find_twin
        self._refuse = refuse
        self._exif = exif
        self._max_pixels = max_pixels
        self._embed_lock: AbstractContextManager[Any] = (
            nullcontext() if embedder.thread_safe else _EMBED_ALONE
        )
        self._crop_lock: AbstractContextManager[Any] = (
            nullcontext() if cropper.thread_safe else _CROP_ALONE
        )
        side = embedder.min_side
        # A subject is seldom smaller than half of the picture; where it is, `_crop` reads again.
        self._min_side = side if side is None or not cropper.crops else 2 * side

    def __call__(self, run: Sequence[Source]) -> tuple[list[Outcome], dict[str, float]]:
        stages: dict[str, float] = {}
        outcomes = [Outcome(source) for source in run]
        held: list[tuple[Outcome, Image]] = []
        held_bytes = 0
        for outcome in outcomes:
            image = self._read(outcome, stages)
            if image is None:
                continue
            held.append((outcome, image))
            held_bytes += image.nbytes
            if held_bytes > _HELD_BYTES:
                self._embed(held, stages)
                held, held_bytes = [], 0
        if held:
            self._embed(held, stages)
        return outcomes, stages

    def _read(self, outcome: Outcome, stages: dict[str, float]) -> Image | None:
        """Return the part of the picture that is to be embedded; None where nothing is."""
        source = outcome.source
        try:
            with _timed(stages, "read"):
                data = self._data(outcome)
                if self._exif:
                    _take_exif(outcome, data)
            if outcome.status != "ok" or outcome.twin is not None:
                return None
            with _timed(stages, "decode"):
                if data is None:
                    data = encoded(source.image)
                if data is None:
                    image = images.load(source.image, max_pixels=self._max_pixels)
                    size = image.shape[1], image.shape[0]
                else:
                    image, size = images.decode(
                        data,
                        path=source.path,
                        max_pixels=self._max_pixels,
                        min_side=self._min_side,
                    )
            with _timed(stages, "crop"):
                return self._crop(outcome, image, size, data)
        except Exception as error:  # noqa: BLE001  # whatever a file does, it costs only itself
            outcome.status = "failed"
            outcome.reason = error.reason if isinstance(error, ImageError) else _text(error)
            outcome.error = error
            return None

    def _data(self, outcome: Outcome) -> bytes | None:
        """Read the bytes of the file, unless they are known; None for a picture in memory."""
        source = outcome.source
        known = None if source.known is None else source.known.item
        if source.path is not None:
            with suppress(OSError, ValueError):  # images.read says better what is wrong
                status = source.path.stat()
                # Taken before reading: what is written meanwhile will show as a change next time.
                outcome.size, outcome.mtime_ns = status.st_size, status.st_mtime_ns
            if (
                known is not None
                and known.size is not None
                and ((outcome.size, outcome.mtime_ns) == (known.size, known.mtime_ns))
            ):
                outcome.status, outcome.reason = "skipped", "unchanged"
                outcome.sha256 = known.sha256
                return None
            data = images.read(source.path)
        elif isinstance(source.image, bytes):
            data = source.image
        else:
            return None
        outcome.sha256 = hashlib.sha256(data).digest()
        if known is not None and known.sha256 == outcome.sha256:
            outcome.status, outcome.reason = "skipped", "unchanged"
        elif self._find_twin is not None:
            outcome.twin = self._find_twin(outcome.sha256)
        return data

    def _crop(
        self, outcome: Outcome, image: Image, size: tuple[int, int], data: bytes | None
    ) -> Image:
        if not self._cropper.crops:
            outcome.box = Box(0, 0, *size)
            return image
        with self._crop_lock:
            box = self._cropper.detect([image])[0]
        outcome.subject, outcome.missed = box is not None, box is None
        if box is None:
            outcome.box = Box(0, 0, *size)
            return image
        height, width = image.shape[:2]
        outcome.box = box.scale(size[0] / width, size[1] / height).clip(*size)
        side = self._embedder.min_side
        if (
            data is not None
            and size != (width, height)
            and side
            and min(box.width, box.height) < side
        ):
            with suppress(ImageTooLargeError):  # a small crop of it is better than none
                image = images.decode(
                    data, path=outcome.source.path, max_pixels=self._max_pixels
                ).image
                box = outcome.box
        return image[box.y0 : box.y1, box.x0 : box.x1]

    def _embed(self, held: list[tuple[Outcome, Image]], stages: dict[str, float]) -> None:
        with _timed(stages, "embed"), self._embed_lock:
            embeddings = self._embedder.embed([image for _, image in held])
        reasons = [None] * len(held) if self._refuse is None else self._refuse(embeddings)
        for (outcome, _), embedding, reason in zip(held, embeddings, reasons, strict=True):
            outcome.embedding = embedding
            if reason is not None:
                outcome.status, outcome.reason = "failed", reason
                outcome.error = InvalidInputError(f"{outcome.source.key}: {reason}")


def _take_exif(outcome: Outcome, data: bytes | None) -> None:
    """Add what the EXIF block of a file tells to its metadata, unless that was given."""
    source = outcome.source
    before = {} if source.known is None else source.known.item.metadata
    facts: Mapping[str, Any] = {}
    with suppress(ImageError):  # decoding tells what is wrong
        if data is None:
            if outcome.status != "skipped" or "exif" in before or source.path is None:
                return
            data = images.read(source.path)  # indexed before anybody asked for this
        facts = images.exif_facts(images.header(data).exif)
    if facts or "exif" in before:  # of a picture that was replaced
        outcome.source = replace(source, metadata={"exif": facts, **source.metadata})


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class _timed:  # noqa: N801  # reads as a word of the with statement; a class, as it runs per picture
    __slots__ = ("_stage", "_stages", "_start")

    def __init__(self, stages: dict[str, float], stage: str) -> None:
        self._stages, self._stage = stages, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        spent = time.perf_counter() - self._start
        self._stages[self._stage] = self._stages.get(self._stage, 0.0) + spent
