"""The gallery that is served: opened again when replaced, or built from a folder meanwhile."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, final

from imgret.croppers import NoCrop
from imgret.curation import Map2D
from imgret.errors import (
    ImageNotFoundError,
    ImgretError,
    InvalidInputError,
    StoreMismatchError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from imgret.explain import Explanation, explain_match
from imgret.files import ItemFile
from imgret.galleries.local.manifest import is_gallery
from imgret.images import MAX_PIXELS
from imgret.ingest.contents import is_image
from imgret.ingest.folder import find_images
from imgret.pipeline.pipeline import Late, Pipeline
from imgret.retriever import Retriever
from imgret.search.facets import Facet, count_facets
from imgret.search.query import check_box
from imgret.serve.background import Background, Tell
from imgret.serve.batching import BatchingEmbedder
from imgret.serve.duplicates import FoundDuplicates, groups_of
from imgret.serve.thumbnails import Thumbnails, thumbnails_of
from imgret.support.locks import RLock
from imgret.types import Embeddings, Image, ImageLike, Json

__all__ = ["Folder", "Indexing", "Site"]

_log = logging.getLogger(__name__)
_Found = TypeVar("_Found")
# A changed gallery is opened again after so many seconds, or so many times what that takes.
_LEAST_SECONDS, _SHARE = 1.0, 10
_MOST_CHOICES = 50
_MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that may be indexed.

    Attributes
    ----------
    id : str
        What a request names it by.
    path : Path
    images : int
        Number of files that look like images, counted up to 10,000.
    """

    id: str
    path: Path
    images: int


@dataclass(slots=True)
class Indexing:
    """The state of a run that indexes a folder.

    Attributes
    ----------
    folder, gallery : Path
    done, total, failed : int
        Numbers of images.
    state : {"running", "done", "failed"}
    message : str
        What went wrong, or what was done.
    """

    folder: Path
    gallery: Path
    done: int = 0
    total: int = 0
    failed: int = 0
    state: Literal["running", "done", "failed"] = "running"
    message: str = ""

    def to_dict(self) -> Json:
        """Return the attributes as JSON values."""
        return {
            "folder": self.folder.name,
            "done": self.done,
            "total": self.total,
            "failed": self.failed,
            "state": self.state,
            "message": self.message,
        }


class _Opened:
    """An opened gallery, closed once it is neither current nor in use."""

    def __init__(self, retriever: Retriever, seen: object) -> None:
        self.retriever = retriever
        self.seen = seen
        self.users = 0
        self.retired = False


@final
class Site:
    """What a server shows.

    Parameters
    ----------
    gallery : path, URI or None
        Gallery to serve; None to let a folder be chosen and indexed first.
    folder : path, optional
        Folder to index into the gallery while it is served.
    write : bool
        Whether items may be relabelled and removed.
    embedder : str or path, optional
        New path of the gallery's model, or the model for a folder.
    max_pixels : int
        Pixel limit of images, as for `Retriever`.
    among : path, optional
        Folder whose folders are offered if there is no gallery; by default the current one.
    observe : callable, optional
        Function that is told the size of each batch that is embedded.

    Raises
    ------
    StoreError
        The gallery cannot be opened.
    """

    def __init__(
        self,
        gallery: str | os.PathLike[str] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        write: bool = False,
        embedder: Any = None,
        max_pixels: int = MAX_PIXELS,
        among: str | os.PathLike[str] | None = None,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        given = None if gallery is None else os.fspath(gallery)
        on_server = given is not None and "://" in given
        # Directory of the gallery, or its URI.
        self.place: Path | str | None = (
            given if given is None or on_server else Path(given).absolute()
        )
        self.write = write
        self.max_pixels = max_pixels
        self.observe = observe
        self._embedder = embedder
        self._batching: BatchingEmbedder | None = None
        self._lock = RLock()
        self._writing = RLock()
        self._opened: _Opened | None = None
        self._look_again = 0.0
        self._facets: tuple[Retriever, list[Facet]] | None = None
        self._background: dict[str, tuple[Retriever, Background[Any]]] = {}
        self.thumbnails = Thumbnails(None, max_pixels=max_pixels)
        self.indexing: Indexing | None = None
        self._thread: threading.Thread | None = None
        self._stop = False
        self.choices: dict[str, Folder] = {}
        if folder is not None:
            self.index(Path(folder))
        elif self.place is not None:
            self._attach(self.place)
        else:
            self.choices = _choices(Path.cwd() if among is None else Path(among).absolute())

    # -- the gallery -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the gallery as pages show it; an empty string without a gallery."""
        return self.place.name if isinstance(self.place, Path) else self.shown

    @property
    def shown(self) -> str:
        """Path of the gallery, or its URI without passwords; an empty string without a gallery."""
        if self._opened is None or isinstance(self.place, Path):
            return "" if self.place is None else str(self.place)
        return self._opened.retriever.name

    @property
    def is_open(self) -> bool:
        """Whether there is a gallery to search."""
        return self._opened is not None

    @contextmanager
    def use(self) -> Iterator[Retriever]:
        """Lend the gallery, opened for reading, for the length of a ``with`` block.

        Raises
        ------
        StoreNotFoundError
            No folder has been indexed yet.
        """
        self._look()
        with self._lock:
            opened = self._opened
            if opened is None:
                raise StoreNotFoundError(
                    "expected a gallery, found none yet; choose a folder to index first"
                )
            opened.users += 1
        try:
            yield opened.retriever
        finally:
            with self._lock:
                opened.users -= 1
                unused = opened.retired and not opened.users
            if unused:
                opened.retriever.close()

    @contextmanager
    def change(self) -> Iterator[Retriever]:
        """Lend the gallery, opened for writing.

        Raises
        ------
        StoreReadOnlyError
            The server was not started with ``write``.
        StoreLockedError
            Another process is writing.
        """
        if not self.write:
            raise StoreReadOnlyError(
                "expected a server that may change the gallery, found one for reading; start it "
                "as `imgret serve --write`"
            )
        if self.indexing is not None and self.indexing.state == "running":
            raise StoreReadOnlyError("expected a gallery at rest, found one that is being indexed")
        with self._writing:
            with (
                self.use(),
                Retriever.open(str(self.place), "r+", embedder=self._batching) as retriever,
            ):
                yield retriever
            self._look(at_once=True)

    def file_of(self, key: str) -> ItemFile:
        """Return the file of an item's image, which only the gallery knows.

        Raises
        ------
        ImageNotFoundError
            The item has no file.
        """
        with self.use() as retriever:
            file = ItemFile.of(retriever[key])
        if file is None:
            raise ImageNotFoundError(f"{key!r}: expected an item with a file, found one without")
        return file

    def embed_parts(self, retriever: Retriever, parts: list[Image]) -> Embeddings:
        """Embed parts of images as they are, whatever the cropper of the gallery."""
        pipeline = Pipeline(Late(retriever.embedder), Late(NoCrop()), max_pixels=self.max_pixels)
        return pipeline.embed(parts, threads=1)

    def explain(
        self,
        retriever: Retriever,
        query: ImageLike | None,
        key: str,
        *,
        text: str | None = None,
        box: tuple[int, int, int, int] | None = None,
    ) -> Explanation:
        """Explain a hit: as `Retriever.explain_match`, with the embedder that does not batch."""
        embedder = retriever.embedder
        if isinstance(embedder, BatchingEmbedder):
            embedder = embedder.inner
        pipeline = Pipeline(Late(embedder), Late(retriever.cropper), max_pixels=self.max_pixels)
        region = None if box is None else check_box(box)
        return explain_match(retriever.view(), pipeline, query, key, text=text, box=region)

    def facets(self) -> list[Facet]:
        """Return the fields of the items with their values, counted once per change."""
        with self.use() as retriever:
            with self._lock:
                if self._facets is not None and self._facets[0] is retriever:
                    return self._facets[1]
            found = count_facets(retriever.view()) if len(retriever) else []
            with self._lock:
                self._facets = retriever, found
            return found

    def duplicates(self) -> Background[FoundDuplicates | None]:
        """Return the search for duplicates of the gallery as it is now; started if need be."""
        return self._in_background("duplicates", groups_of)

    def map(self) -> Background[Map2D]:
        """Return the layout of the gallery as it is now; started if need be."""
        return self._in_background("map", lambda retriever, tell: retriever.map2d(progress=tell))

    def _in_background(
        self, name: str, find: Callable[[Retriever, Tell], _Found]
    ) -> Background[_Found]:
        """Start work on the gallery, once per change, and again if its failure was reported."""
        with self.use() as retriever, self._lock:
            before = self._background.get(name)
            if before is None or before[0] is not retriever or before[1].reported:
                if before is not None:
                    before[1].stop()
                self._background[name] = before = retriever, Background(name, self.use, find)
            return before[1]

    def _attach(self, place: Path | str) -> None:
        """Open a gallery for reading, with an embedder that batches."""
        seen, started = _state(place), time.perf_counter()
        retriever = self._open(place)
        if isinstance(place, str):
            seen = retriever.version
        elif len(retriever):
            retriever.index  # noqa: B018  # read now, not by the first search
        seconds = time.perf_counter() - started
        with self._lock:
            before, self._opened = self._opened, _Opened(retriever, seen)
            self._look_again = time.monotonic() + max(_LEAST_SECONDS, _SHARE * seconds)
            self.place = place
            _log.debug("%s: opened for requests in %.2f s", retriever.name, seconds)
            if before is not None:
                before.retired = True
                if not before.users:
                    before.retriever.close()
            if before is None:
                beside = thumbnails_of(place) if isinstance(place, Path) else None
                self.thumbnails = Thumbnails(beside, max_pixels=self.max_pixels)

    def _open(self, place: Path | str) -> Retriever:
        if self._batching is not None:
            with suppress(StoreMismatchError):  # another model by now
                return Retriever.open(place, embedder=self._batching, max_pixels=self.max_pixels)
        with Retriever.open(place, embedder=self._embedder) as first:
            self._batching = BatchingEmbedder(first.embedder, observe=self._tell)
        return Retriever.open(place, embedder=self._batching, max_pixels=self.max_pixels)

    def _look(self, *, at_once: bool = False) -> None:
        """Open the gallery again if it has changed, or if another one was put in its place."""
        with self._lock:
            opened = self._opened
            if opened is None or self.place is None:
                return
            if time.monotonic() < self._look_again and not at_once:
                return
            self._look_again = time.monotonic() + _LEAST_SECONDS
            try:
                now = _state(self.place)
                if isinstance(self.place, str):
                    now = opened.retriever.version
                if now not in {None, opened.seen}:  # None: on its way
                    self._attach(self.place)
            except ImgretError as error:
                _log.warning("%s has changed, and cannot be opened: %s", self.name, error)

    def _tell(self, size: int) -> None:
        if self.observe is not None:
            self.observe(size)

    # -- indexing ----------------------------------------------------------------------------------

    def choose(self, id_: str) -> None:
        """Index one of the folders that are offered.

        Raises
        ------
        InvalidInputError
            There is no such choice, or a folder was chosen before.
        """
        with self._lock:
            if self.indexing is not None or self._opened is not None:
                raise InvalidInputError("expected a server without a gallery, found one with it")
            if id_ not in self.choices:
                raise InvalidInputError(f"expected one of the offered folders, found {id_!r}")
            self.index(self.choices[id_].path)

    def index(self, folder: Path) -> None:
        """Index a folder in the background; it can be searched meanwhile.

        Raises
        ------
        InvalidInputError
            There is no such folder, or no image in it and no gallery of it yet.
        """
        folder = folder.absolute()
        if not folder.is_dir():
            raise InvalidInputError(f"{folder}: expected a folder of images, found none there")
        gallery = self.place
        if not isinstance(gallery, Path):
            gallery = folder.with_name(f"{folder.name}.imgret")
        # The second look takes longer, as it follows links.
        if not is_gallery(gallery) and not (_count(folder, 1) or find_images(folder)[0]):
            raise InvalidInputError(f"{folder}: expected a folder of images, found no image in it")
        self.indexing = Indexing(folder, gallery)
        self._thread = threading.Thread(target=self._index, name="imgret-index", daemon=True)
        self._thread.start()

    def _index(self) -> None:
        state = self.indexing
        assert state is not None  # noqa: S101  # set before the thread starts

        def tell(done: int, total: int) -> None:
            state.done, state.total = done, total
            if self._stop:
                raise KeyboardInterrupt  # what is embedded is kept

        try:
            with Retriever.open(
                state.gallery, "a", embedder=self._embedder, max_pixels=self.max_pixels
            ) as writer:
                self._batching = BatchingEmbedder(writer.embedder, observe=self._tell)
                self._attach(state.gallery)
                report = writer.add_folder(
                    state.folder, labels=_labels(state.folder), progress=tell
                )
                state.failed = len(report.failed)
                state.message = str(report).splitlines()[0]
        except KeyboardInterrupt:
            state.state, state.message = "failed", "stopped; it goes on at the next start"
        except Exception as error:  # noqa: BLE001  # shown on the page, and logged
            _log.exception("indexing %s failed", state.folder)
            state.state, state.message = "failed", str(error)
        else:
            self._look(at_once=True)  # who sees that it is done finds every image
            state.state = "done"
            _log.info("%s: %s", state.folder, state.message)

    def close(self) -> None:
        """Stop indexing, and close the gallery."""
        self._stop = True
        if self._thread is not None:
            self._thread.join(timeout=30)
        for _, work in list(self._background.values()):
            work.close()
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.retriever.close()


def _state(path: Path | str) -> Hashable:
    """Return what changes with every commit, and with the directory; None if there is none."""
    found: list[int] = []
    if isinstance(path, str):
        return None
    try:
        for name in ("", "manifest.json", "catalog.sqlite"):
            state = (path / name).stat()
            found += [state.st_dev, state.st_ino]
            found += [state.st_mtime_ns, state.st_size] if name else []
    except OSError:
        return None
    return tuple(found)


def _labels(folder: Path) -> Literal["parent"] | None:
    """Take the names of folders as labels if all images are in folders below."""
    has_own = any(entry.is_file() and is_image(entry.name) for entry in _entries(folder))
    return None if has_own else "parent"


def _choices(root: Path) -> dict[str, Folder]:
    """Return the folders with images in a folder, and that folder itself."""
    found: dict[str, Folder] = {}
    for folder in [root, *(Path(entry) for entry in _entries(root) if entry.is_dir())]:
        if folder.name.startswith(".") or folder.suffix == ".imgret":
            continue
        if (count := _count(folder, _MOST_COUNTED)) and len(found) < _MOST_CHOICES:
            found[str(len(found))] = Folder(str(len(found)), folder, count)
    return found


def _count(folder: Path, most: int) -> int:
    """Count the files below a folder that look like images, up to a number."""
    count = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(map(is_image, files))
        if count >= most:
            break
    return count


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
