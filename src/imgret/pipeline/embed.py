"""Images to embeddings, with one worker thread per core and results in the order of the input.

A worker takes a run of sources through all stages: read, hash, decode, crop, embed. The
decoder and the model both release Python's lock, so parallel workers keep every core busy
without a queue between stages.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias

from imgret import images
from imgret.abc import Cropper, Embedder, Stored
from imgret.errors import (
    ImageError,
    ImageTooLargeError,
    InvalidInputError,
    MissingExtraError,
    StoreError,
)
from imgret.files import Place, State, Url, place_of, read_bytes, state_of
from imgret.images.loading import encoded
from imgret.support.interrupts import wait_for
from imgret.support.locks import RLock
from imgret.types import Box, Embeddings, Image, ImageLike, Item

__all__ = [
    "Existing",
    "Outcome",
    "Seen",
    "Source",
    "embed_sources",
    "path_of",
    "see",
    "worker_count",
]

Status: TypeAlias = Literal["ok", "skipped", "renamed", "duplicate", "vanished", "failed"]

# Sources a worker takes at a time, unless a batch is longer, and decoded bytes it may hold before
# it embeds them. Decoding some and then embedding them in a row keeps the network's weights in the
# cache: 8 % faster than in turns of 4.
_RUN = 32
_HELD_BYTES = 48 * 2**20
# A run that takes longer makes the next ones shorter, so that a slow model loses little work.
_RUN_SECONDS = 2.0
# Time for which an interrupt waits for the image or the batch that each worker is at.
_LEAVING_SECONDS = 0.8
# Addresses that each worker reads at a time.
_FETCHED = 8
# Embeddings kept in memory for copies of their files. Older ones are in the store, where
# `find_twin` finds them: a writer commits before this many are waiting.
_AT_HAND = 2048
# More than the rounding errors of a coordinate in pixels, and less than a pixel.
_ROUNDING = 1e-6
# Lock around parts that are not thread-safe. There is one per process, not per call, as the same
# part may serve several galleries and searches at once.
_ALONE = RLock()


@dataclass(frozen=True, slots=True)
class Existing:
    """The item that a source is to replace, unless its file is unchanged.

    Attributes
    ----------
    item : Item
    rival : str or None
        Another existing file that has the key; only a file of the same bytes may replace it.
    """

    item: Item
    rival: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """An image to be embedded.

    Attributes
    ----------
    key : str
    image : ImageLike
        Image, or where to read it.
    path : Path, Url or None
        File of the image, if it has one; a member of an archive, or an address.
    label : str or None
    metadata : mapping
    known : Existing or None
        Item of the gallery with this key, if there is one.
    state : State or None
        Size and time of the file, where a listing has given them.
    """

    key: str
    image: ImageLike
    path: Place | None = None
    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    known: Existing | None = None
    state: State | None = None


@dataclass(slots=True)
class Outcome:
    """Outcome of a source.

    Attributes
    ----------
    source : Source
    status : {"ok", "skipped", "renamed", "duplicate", "failed"}
    reason : str
        Reason it was skipped or failed.
    error : Exception or None
        Cause of a failure.
    twin : str or None
        Key of an item made from a file of the same bytes: nothing was decoded or embedded.
    lender : Outcome or None
        Outcome of a file of the same bytes in this run, until its result is known.
    embedding : float32 array of shape (dim,) or None
    box : Box or None
        Box that was embedded, in pixels of the full-size image.
    subject : bool
        Whether the cropper found the box.
    missed : bool
        Whether the cropper ran and found no box.
    is_done : bool
        Whether the work on the source is finished.
    phash : bytes or None
        Perceptual hash of the whole image.
    sha256, size, mtime_ns
        Hash, size in bytes and modification time of the file.
    """

    source: Source
    status: Status = "ok"
    reason: str = ""
    error: Exception | None = None
    twin: str | None = None
    lender: Outcome | None = None
    is_done: bool = False
    embedding: Embeddings | None = None
    box: Box | None = None
    subject: bool = False
    missed: bool = False
    phash: bytes | None = None
    sha256: bytes | None = None
    size: int | None = None
    mtime_ns: int | None = None


class Seen(NamedTuple):
    """An image, and the part of it that is embedded.

    Attributes
    ----------
    image : uint8 array of shape (H, W, 3)
        The whole image; a large JPEG at reduced scale.
    size : (int, int)
        Width and height of the full-size image.
    box : Box
        The part, in pixels of the full-size image.
    part : uint8 array of shape (h, w, 3)
        The pixels that are embedded.
    """

    image: Image
    size: tuple[int, int]
    box: Box
    part: Image


def see(
    image: ImageLike,
    embedder: Embedder,
    cropper: Cropper,
    *,
    box: Box | None = None,
    max_pixels: int = images.MAX_PIXELS,
) -> Seen:
    """Read one image and cut out what `embed_sources` embeds.

    Parameters
    ----------
    image : ImageLike
    embedder, cropper
        Parts that decide about the scale and the box.
    box : Box, optional
        Box to cut out instead of the cropper's.
    max_pixels : int

    Raises
    ------
    ImageError
        The image cannot be read.
    InvalidInputError
        The box is not inside the image.
    """
    worker = _Worker(
        embedder,
        cropper,
        _Copies(None),
        None,
        exif=False,
        is_query=True,
        max_pixels=max_pixels,
    )
    return worker.see(Source("", image, path_of(image)), box)


def path_of(image: ImageLike) -> Place | None:
    """Return the place of an image given by its path or address; None for other images."""
    return place_of(image)


def worker_count(threads: int | None = None) -> int:
    """Return the number of threads: by default one for each core this process may use."""
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
    find_twin: Callable[[bytes], Stored | None] | None = None,
    refuse: Callable[[Embeddings], list[str | None]] | None = None,
    exif: bool = False,
    is_query: bool = False,
    threads: int | None = None,
    max_pixels: int = images.MAX_PIXELS,
    on_stage: Callable[[str, float], None] | None = None,
) -> Iterator[list[Outcome]]:
    """Read, crop and embed images; one that cannot be read does not stop the others.

    Parameters
    ----------
    sources : sequence of Source
    embedder, cropper
        Parts to use; called from several threads at once if they are thread-safe.
    find_twin : callable, optional
        Function from the sha256 of a file to an item made from the same bytes, or None. If it
        is given, files of the same bytes are embedded once, otherwise each separately.
    refuse : callable, optional
        Function from embeddings to the reason each cannot be stored, or None.
    exif : bool
        Whether the facts of `images.exif_facts` become the metadata ``exif`` of an image.
    is_query : bool
        Whether only embeddings are wanted: files are then not examined, nor anything hashed.
    threads : int, optional
        Number of threads; by default one for each core.
    max_pixels : int
        As for `images.decode`, which gets the embedder's ``min_side``.
    on_stage : callable, optional
        Function called with a stage and the seconds spent in it, in the calling thread.

    Yields
    ------
    list of Outcome
        Outcomes of one run of sources, in the order of the sources.
    """
    batch = embedder.batch_size
    workers = min(worker_count(threads), -(-len(sources) // batch))
    copies = _Copies(find_twin)
    worker = _Worker(
        embedder,
        cropper,
        copies,
        refuse,
        exif=exif,
        is_query=is_query,
        max_pixels=max_pixels,
    )
    runs = _Runs(sources, workers, batch, embedder.min_batch, is_query=is_query)
    if len(sources) <= 1 or (is_query and workers <= 1):  # no thread is worth its start
        passed = _alone(runs, worker, copies)
    else:
        passed = _in_threads(runs, worker, copies, workers)
    for run in passed:
        if on_stage is not None:
            for stage, seconds in run.stages.items():
                on_stage(stage, seconds)
        yield run.outcomes


def _alone(runs: _Runs, worker: _Worker, copies: _Copies) -> Iterator[_Run]:
    """Yield finished runs, one after the other."""
    while (run := runs.next()) is not None:
        worker(run)
        copies.settle(run.outcomes, ())
        runs.see(run)
        yield run
        copies.release(run.outcomes)


def _in_threads(runs: _Runs, worker: _Worker, copies: _Copies, workers: int) -> Iterator[_Run]:
    """Yield finished runs in order, while threads are at the next ones."""
    pending: deque[tuple[_Run, Future[None]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="imgret")
    try:
        while True:
            while len(pending) < workers + 2 * runs.is_measured and (run := runs.next()):
                pending.append((run, pool.submit(worker, run)))
            if not pending:
                break
            run, future = pending[0]
            wait_for(future)
            copies.settle(run.outcomes, [each for _, each in pending])
            pending.popleft()
            runs.see(run)
            yield run
            copies.release(run.outcomes)
    except KeyboardInterrupt:  # what is finished is kept
        worker.stop()
        pool.shutdown(wait=False, cancel_futures=True)
        running = [future for _, future in pending if not future.cancelled()]
        wait(running, timeout=_LEAVING_SECONDS)
        rest = _Run(())
        rest.outcomes = _Copies.finished(each for run, _ in pending for each in run.outcomes)
        if rest.outcomes:
            yield rest
        raise
    except BaseException:
        worker.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    else:
        pool.shutdown(wait=True)


class _Run:
    """Some sources in a row: their outcomes, seconds in each stage, and from start to end."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.outcomes = [Outcome(source) for source in sources]
        self.stages: dict[str, float] = {}
        self.seconds = 0.0


class _Runs:
    """The runs that sources are taken in: long ones, but short enough that a kill costs little."""

    def __init__(
        self, sources: Sequence[Source], workers: int, batch: int, least: int, *, is_query: bool
    ) -> None:
        self._sources = sources
        self._workers, self._batch, self._least = workers, batch, least
        self._full = max(_RUN, batch)
        self._start = 0
        # The first run of each worker tells how long an image takes, as a model may be slow.
        self.is_measured = is_query and len(sources) <= self._full
        self._length = self._full if self.is_measured else least

    def next(self) -> _Run | None:
        """Return the next run; None after the last one."""
        start, n = self._start, self._length
        if start >= len(self._sources):
            return None
        if self._workers > 1:  # shorter runs at the end, so that all workers finish together
            fair = -(-(len(self._sources) - start) // (2 * self._workers))
            n = min(n, max(fair, self._batch))
        self._start += n
        return _Run(self._sources[start : start + n])

    def see(self, run: _Run) -> None:
        """Choose the length of the next runs by the time that one took."""
        seconds = run.seconds / len(run.outcomes) * self._full
        self._length, self.is_measured = self._full, True
        if seconds > _RUN_SECONDS:
            self._length = max(self._least, int(self._full * _RUN_SECONDS / seconds))


class _Copies:
    """Files of the same bytes, each of which is decoded and embedded once.

    No worker waits for another: a copy records whose embedding it will get, and gets it when
    its run is handed on.

    Parameters
    ----------
    find_twin : callable, optional
        As for `embed_sources`.
    """

    def __init__(self, find_twin: Callable[[bytes], Stored | None] | None) -> None:
        self._find_twin = find_twin
        self._first: dict[bytes, Outcome] = {}
        self._handed_on: deque[bytes] = deque()

    def look(self, outcome: Outcome) -> None:
        """Record where the embedding of an outcome's file is, or will come from."""
        if outcome.sha256 is None or self._find_twin is None:
            return
        first = self._first.setdefault(outcome.sha256, outcome)  # atomic, as threads share it
        if first is not outcome:
            outcome.lender = first
        # After the line above: what is no longer in memory is committed and found here.
        elif (twin := self._find_twin(outcome.sha256)) is not None:
            outcome.twin, outcome.embedding = twin.item.key, twin.embedding
            outcome.box, outcome.subject = twin.item.box, twin.item.subject
            outcome.phash = twin.item.phash

    @staticmethod
    def settle(outcomes: Sequence[Outcome], pending: Iterable[Future[None]]) -> None:
        """Give copies the results they wait for, which may come from a later run."""
        for outcome in outcomes:
            if outcome.lender is None:
                continue
            for future in pending:
                if outcome.lender.is_done:
                    break
                wait_for(future)
            _borrow(outcome, outcome.lender)

    @staticmethod
    def finished(outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Return those of some outcomes that are finished, copies among them."""
        found = []
        for outcome in outcomes:
            if not outcome.is_done or not (outcome.lender is None or outcome.lender.is_done):
                continue
            if outcome.lender is not None:
                _borrow(outcome, outcome.lender)
            found.append(outcome)
        return found

    def release(self, outcomes: Sequence[Outcome]) -> None:
        """Forget the embeddings that the store has, or will have soon."""
        for outcome in outcomes:
            digest = outcome.sha256
            if digest is None or self._first.get(digest) is not outcome:
                continue
            if outcome.twin is not None or outcome.embedding is None or outcome.error:
                del self._first[digest]
            else:
                self._handed_on.append(digest)
        while len(self._handed_on) > _AT_HAND:
            del self._first[self._handed_on.popleft()]


def _borrow(outcome: Outcome, lender: Outcome) -> None:
    """Give a copy the result of the file it is a copy of."""
    outcome.lender = None
    for name in ("twin", "embedding", "box", "subject", "missed", "phash"):
        setattr(outcome, name, getattr(lender, name))
    if lender.status == "failed":
        outcome.status, outcome.reason = "failed", lender.reason
        outcome.error = lender.error


class _Worker:
    """Takes a run of sources through all the stages."""

    def __init__(
        self,
        embedder: Embedder,
        cropper: Cropper,
        copies: _Copies,
        refuse: Callable[[Embeddings], list[str | None]] | None,
        *,
        exif: bool,
        is_query: bool,
        max_pixels: int,
    ) -> None:
        self._embedder = embedder
        self._cropper = cropper
        self._copies = copies
        self._stopped = False
        self._refuse = refuse
        self._exif = exif
        self._is_query = is_query
        self._max_pixels = max_pixels
        self._embed_lock: AbstractContextManager[Any] = (
            nullcontext() if embedder.thread_safe else _ALONE
        )
        self._crop_lock: AbstractContextManager[Any] = (
            nullcontext() if cropper.thread_safe else _ALONE
        )
        side = embedder.min_side
        # A subject is seldom smaller than half of the image; if it is, `_crop` decodes again.
        self._min_side = side if side is None or not cropper.crops else 2 * side

    def __call__(self, run: _Run) -> None:
        started = time.perf_counter()
        held: list[tuple[Outcome, Image]] = []
        held_bytes = 0
        with self._fetching(run.outcomes) as fetched:
            for outcome in run.outcomes:
                if self._stopped:
                    break
                image = self._read(outcome, run.stages, fetched.pop(outcome.source.key, None))
                if image is None:
                    outcome.is_done = True
                    continue
                held.append((outcome, image))
                held_bytes += image.nbytes
                if held_bytes > _HELD_BYTES:
                    self._embed(held, run.stages)
                    held, held_bytes = [], 0
        if held and not self._stopped:
            self._embed(held, run.stages)
        run.seconds = time.perf_counter() - started

    @contextmanager
    def _fetching(self, outcomes: Sequence[Outcome]) -> Iterator[dict[str, Future[bytes | None]]]:
        """Read what is at addresses side by side: most of that time is waiting for answers."""
        remote = [outcome for outcome in outcomes if isinstance(outcome.source.path, Url)]
        if not remote:
            yield {}
            return
        with ThreadPoolExecutor(_FETCHED, thread_name_prefix="imgret-fetch") as pool:
            try:
                yield {one.source.key: pool.submit(self._data, one) for one in remote}
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Finish only what has begun, as nobody will ask for the rest."""
        self._stopped = True

    def _read(
        self,
        outcome: Outcome,
        stages: dict[str, float],
        fetched: Future[bytes | None] | None,
    ) -> Image | None:
        """Return the part of the image to embed; None if there is nothing to embed."""
        source = outcome.source
        try:
            with _timed(stages, "read"):
                data = self._data(outcome) if fetched is None else fetched.result()
                if self._exif:
                    _take_exif(outcome, data)
            if outcome.status == "ok":
                self._copies.look(outcome)
            if outcome.status != "ok" or outcome.twin is not None or outcome.lender is not None:
                return None
            with _timed(stages, "decode"):
                if data is None:
                    data = encoded(source.image)
                image, size = self._decode(source, data)
                if not self._is_query:
                    outcome.phash = images.perceptual_hash(image)
            with _timed(stages, "crop"):
                return self._crop(outcome, image, size, data)
        except StoreError:  # damage to the gallery affects all images
            raise
        except Exception as error:  # noqa: BLE001  # whatever a file does, it costs only itself
            outcome.status = "failed"
            outcome.reason = _reason(error, source)
            outcome.error = error
            return None

    def see(self, source: Source, box: Box | None) -> Seen:
        """Read a source and cut out the box, by default the cropper's; see `see`."""
        data = encoded(source.image) if source.path is None else read_bytes(source.path)
        image, size = self._decode(source, data)
        outcome = Outcome(source)
        if box is None:
            part = self._crop(outcome, image, size, data)
        else:
            if box.x0 < 0 or box.y0 < 0 or box.x1 > size[0] or box.y1 > size[1]:
                raise InvalidInputError(
                    f"box: expected one inside the image, which is {size[0]} pixels wide and "
                    f"{size[1]} high, found {tuple(box)}"
                )
            outcome.box, part = box, self._crop_at(source, data, image, size, box)
        return Seen(image, size, outcome.box or Box(0, 0, *size), part)

    def _decode(self, source: Source, data: bytes | None) -> tuple[Image, tuple[int, int]]:
        """Return the pixels of a source, a large JPEG at reduced scale, and the full size."""
        if data is None:
            image = images.load(source.image, max_pixels=self._max_pixels)
            return image, (image.shape[1], image.shape[0])
        return images.decode(
            data, path=source.path, max_pixels=self._max_pixels, min_side=self._min_side
        )

    def _data(self, outcome: Outcome) -> bytes | None:
        """Read the bytes of the file, unless they are known; None for an image in memory."""
        source = outcome.source
        if self._is_query:
            return None if source.path is None else read_bytes(source.path)
        known = None if source.known is None else source.known.item
        rival = None if source.known is None else source.known.rival
        if source.path is not None:
            with suppress(OSError, ValueError):  # read_bytes reports it better
                # Taken before reading, so that a write in between shows as a change next time.
                outcome.size, outcome.mtime_ns = source.state or state_of(source.path)
            if (
                known is not None
                and rival is None
                and known.size is not None
                and known.mtime_ns is not None
                and ((outcome.size, outcome.mtime_ns) == (known.size, known.mtime_ns))
            ):
                outcome.status, outcome.reason = "skipped", "unchanged"
                outcome.sha256 = known.sha256
                return None
            data = read_bytes(source.path)
        elif isinstance(source.image, bytes):
            data = source.image
        else:
            return None
        outcome.sha256 = hashlib.sha256(data).digest()
        if known is not None and known.sha256 == outcome.sha256:
            outcome.status, outcome.reason = "skipped", "unchanged"
        elif rival is not None:
            outcome.status = "failed"
            outcome.reason = refusal(source.key, rival)
            outcome.error = InvalidInputError(f"{source.path}: {outcome.reason}")
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
        full = outcome.box = box.scale(size[0] / width, size[1] / height).clip(*size)
        if size != (width, height) and self._is_small(box):
            image, box = self._enlarged(outcome.source, data, image, box, full)
        return image[box.y0 : box.y1, box.x0 : box.x1]

    def _is_small(self, box: Box) -> bool:
        """Whether more resolution would change the embedding of a box."""
        side = self._embedder.min_side
        return side is not None and min(box.width, box.height) < side

    def _enlarged(
        self, source: Source, data: bytes | None, image: Image, box: Box, full: Box
    ) -> tuple[Image, Box]:
        """Return an image at full size with the box in it; what was given if it is too large."""
        if data is not None:
            with suppress(ImageTooLargeError):  # a small crop of it is better than none
                whole = images.decode(data, path=source.path, max_pixels=self._max_pixels).image
                return whole, full
        return image, box

    def _crop_at(
        self, source: Source, data: bytes | None, image: Image, size: tuple[int, int], full: Box
    ) -> Image:
        """Cut out a box of the full size, as `_crop` did where it found it."""
        height, width = image.shape[:2]
        x, y = width / size[0], height / size[1]
        # `_crop` has rounded it outwards.
        box = Box(
            math.ceil(full.x0 * x - _ROUNDING),
            math.ceil(full.y0 * y - _ROUNDING),
            math.floor(full.x1 * x + _ROUNDING),
            math.floor(full.y1 * y + _ROUNDING),
        ).clip(width, height)
        if size != (width, height) and full != (0, 0, *size) and self._is_small(box):
            image, box = self._enlarged(source, data, image, box, full)
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
            outcome.is_done = True


def refusal(key: str, rival: str) -> str:
    """Return the reason why a file cannot have a key."""
    return f"the key {key!r} belongs to {rival}; add this folder with a prefix"


def _take_exif(outcome: Outcome, data: bytes | None) -> None:
    """Add the EXIF facts of a file to its metadata, unless they were given."""
    source = outcome.source
    before = {} if source.known is None else source.known.item.metadata
    facts: Mapping[str, Any] = {}
    with suppress(ImageError):  # decoding reports what is wrong
        if data is None:
            if outcome.status != "skipped" or "exif" in before or source.path is None:
                return
            data = read_bytes(source.path)  # indexed earlier without exif
        facts = images.exif_facts(images.header(data).exif)
    if facts or "exif" in before:  # of an image that was replaced
        outcome.source = replace(source, metadata={"exif": facts, **source.metadata})


def _reason(error: Exception, source: Source) -> str:
    if isinstance(error, ImageError):
        return error.reason
    if isinstance(error, MissingExtraError):
        return str(error).removeprefix(f"{source.path}: ")
    return f"{type(error).__name__}: {error}"


class _timed:  # noqa: N801  # reads as a word of the with statement; a class, as it runs per image
    __slots__ = ("_stage", "_stages", "_start")

    def __init__(self, stages: dict[str, float], stage: str) -> None:
        self._stages, self._stage = stages, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        spent = time.perf_counter() - self._start
        self._stages[self._stage] = self._stages.get(self._stage, 0.0) + spent
