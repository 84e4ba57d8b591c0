"""The contract of what holds items and their embeddings: a directory, memory, a server."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self, final

import numpy as np

from imgret.abc.spec import GallerySpec
from imgret.errors import (
    DuplicateKeyError,
    EmptyGalleryError,
    InvalidInputError,
    KeyNotFoundError,
    StoreClosedError,
    StoreReadOnlyError,
    UnsupportedError,
)
from imgret.support.items import check_item
from imgret.support.locks import RLock
from imgret.support.rounding import as_kept, refusals
from imgret.support.spelling import alike, respelled, shown
from imgret.types import Embeddings, Item, Json, is_text

if TYPE_CHECKING:
    from collections.abc import Hashable

    from imgret.abc.index import VectorIndex
    from imgret.filters import Filter
    from imgret.projections import LinearProjection
    from imgret.search import SearchPlan, View

__all__ = ["Gallery", "Stored"]


class Stored(NamedTuple):
    """An item and its embedding, float32 of shape (dim,)."""

    item: Item
    embedding: Embeddings


class _Unresolved(Protocol):
    def resolve(self) -> Any: ...


class Gallery(ABC):
    """Holds items and their embeddings; the only thing that changes them.

    Items are known by their keys. What only reads takes a `View` of the gallery. A subclass fills
    in the hooks, which get nothing that is not checked: keys that exist, embeddings of the right
    shape that can be kept and searched, items that `Item` allows. What an engine cannot do it says
    by a flag, and the methods for that raise `UnsupportedError`.

    Attributes
    ----------
    shared : bool
        Whether several processes may change the gallery at once.
    consistent_views : bool
        Whether all that a view from `viewed` answers is of one moment, whatever others change.
    supports_projection : bool
        Whether items can be searched by a linear map of their embeddings.
    supports_index : bool
        Whether the index that searches is ours to choose, measure and tune.
    """

    shared: ClassVar[bool] = False
    consistent_views: ClassVar[bool] = False
    supports_projection: ClassVar[bool] = False
    supports_index: ClassVar[bool] = False

    def __init__(self) -> None:
        self._lock = RLock()
        self._unresolved: weakref.WeakSet[_Unresolved] = weakref.WeakSet()

    # -- hooks -----------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def create(cls, uri: str, spec: GallerySpec, prepared: VectorIndex | None = None) -> Self:
        """Make an empty gallery where there is none.

        Parameters
        ----------
        uri : str
            Where: a path, or what starts with the scheme under which the class is registered.
        spec : GallerySpec
        prepared : VectorIndex, optional
            An empty index the user made; by default one is made from the spec.

        Raises
        ------
        StoreExistsError
            Something is there.
        """

    @classmethod
    @abstractmethod
    def open(cls, uri: str, *, writable: bool) -> Self:
        """Open the gallery that is there.

        Raises
        ------
        StoreNotFoundError, StoreVersionError, StoreCorruptError
            There is none, it is of a newer format, or damaged.
        StoreLockedError, StoreReadOnlyError
            It cannot be written, and was to be.
        """

    @classmethod
    @abstractmethod
    def is_taken(cls, uri: str) -> bool:
        """Whether there is something at a place, so that no gallery can be made there."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it: its path, or its URI without a password."""

    @property
    @abstractmethod
    def spec(self) -> GallerySpec:
        """What the gallery is made of, as of now."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it was closed."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether it can be changed by this process."""

    @property
    @abstractmethod
    def version(self) -> Hashable:
        """What is another after every change of what searches find, by whomever."""

    @property
    def path(self) -> Path | None:
        """Directory of the gallery; None where it lies in none."""
        return None

    def _where(self) -> str:
        """Say in two words where it is."""
        return f"at {self.name!r}"

    def _told_index(self) -> str:
        """Name the index."""
        return repr(self.spec.index.name)

    @abstractmethod
    def _count(self) -> int:
        """Return the number of items."""

    @abstractmethod
    def _keys(self) -> Iterator[str]:
        """Yield the keys of all items, in the order in which they were added."""

    @abstractmethod
    def _find(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of those keys that exist."""

    @abstractmethod
    def _embeddings(self, keys: Sequence[str] | None) -> Embeddings:
        """Return the embeddings of keys that exist, in their order; of all where None."""

    @abstractmethod
    def copy_of(self, sha256: bytes) -> Stored | None:
        """Return the oldest item made from a file of this digest; called from several threads.

        Raises
        ------
        StoreCorruptError
            Its embedding is damaged, where the engine can tell.
        """

    @abstractmethod
    def files(self) -> Iterator[tuple[str, str | None]]:
        """Yield key and path of every item."""

    @abstractmethod
    def _add(self, items: Sequence[Item], embeddings: Embeddings, replacing: Sequence[str]) -> None:
        """Commit items, and the removal of those they replace, in one transaction.

        Raises
        ------
        DuplicateKeyError
            A key is taken, and not among those that are replaced: nothing is done.
        """

    @abstractmethod
    def _remove(self, keys: Sequence[str]) -> None:
        """Commit the removal of items, all in one transaction."""

    @abstractmethod
    def _change(self, items: Mapping[str, Item]) -> None:
        """Commit new facts about items by their keys, which may get others, in one transaction."""

    @abstractmethod
    def _change_spec(self, changes: Mapping[str, Any]) -> None:
        """Commit new values of fields of the spec."""

    @abstractmethod
    def unused_keys(self, count: int) -> list[str]:
        """Return names for images that have none: no item has them, nor had one that they named."""

    @abstractmethod
    def _create_filter_index(self, field: str) -> None:
        """Make filters on a field quick; may do nothing where they are."""

    def check_where(self, where: Filter) -> None:  # noqa: B027  # an engine may not know
        """Raise what a search with the filter would, where that can be known early."""

    @abstractmethod
    def view(self, where: Filter | None = None) -> View:
        """Return what a search sees now: the items that pass a filter, by default all."""

    def _viewed(self) -> AbstractContextManager[View]:
        """Return a view of all items that stays as it is for the length of a block."""
        return nullcontext(self.view())

    def catch_up(self) -> None:  # noqa: B027  # an engine may do it by itself
        """Take what was added into the index, or warn where it needs more items first.

        A search sees to that as well; this is for the end of a run of additions.
        """

    @abstractmethod
    def _close(self) -> None:
        """Let files and connections go; may be called twice."""

    # Those that a flag announces.

    @property
    def projection(self) -> LinearProjection | None:
        """The map from embedding to searched vector; None where they are the same."""
        return None

    def _project(self, projection: LinearProjection | None) -> None:
        raise NotImplementedError  # the flag says so

    @property
    def index(self) -> VectorIndex:
        """The index that searches, brought up to date."""
        self.need("index")
        raise NotImplementedError  # the flag says so

    @property
    def index_reason(self) -> str | None:
        """Why ``index="auto"`` chose what it did; None for an index that was named."""
        return None

    def _reindex(self, index: str | VectorIndex | None, options: Mapping[str, Any]) -> None:
        raise NotImplementedError  # the flag says so

    def _configure(self, tuned: Json) -> None:
        """Keep options of search, for galleries whose views have an ``index``."""
        self._change_spec({"tuned": tuned})

    def _explain(self, k: int, where: Filter | None, n_queries: int) -> SearchPlan:
        raise NotImplementedError  # the flag says so

    def _save(self, path: Path) -> None:  # noqa: ARG002  # local galleries do
        raise UnsupportedError(
            f"{self.name}: expected a gallery in memory or in a directory, found one that its "
            f"server keeps; there is nothing to save"
        )

    # -- who may do what, and when -----------------------------------------------------------

    @final
    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads from changing the gallery for the length of the block."""
        with self._lock:
            yield

    @final
    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let the block change the gallery, which must be open for writing."""
        with self._lock:
            self.check_writable()
            yield

    @final
    @contextmanager
    def viewed(self) -> Iterator[View]:
        """Hold all items still for the length of the block.

        Raises
        ------
        EmptyGalleryError
            There are none.
        """
        with self._lock:
            self.require_items()
            with self._viewed() as view:
                yield view

    @final
    def check_open(self) -> None:
        """Raise where it was closed."""
        if self.closed:
            raise StoreClosedError(f"{self.name}: closed; open it again with Retriever.open()")

    def check_writable(self) -> None:
        """Raise where it was closed, or cannot be changed by this process."""
        self.check_open()
        if not self.writable:
            raise StoreReadOnlyError(
                f"{self.name}: opened for reading; open it with mode='r+' to change it"
            )

    @final
    def require_items(self) -> None:
        """Raise where the gallery is closed or empty."""
        if not len(self):
            raise EmptyGalleryError(
                "search: expected a gallery with items, found an empty one; add images first"
            )

    @final
    def remember(self, batch: _Unresolved) -> None:
        """Look up what a search found before it changes; where others may change it, now."""
        if self.shared:
            batch.resolve()
        else:
            self._unresolved.add(batch)

    @final
    def settle(self) -> None:
        """Look up what earlier searches found."""
        while self._unresolved:
            try:
                self._unresolved.pop().resolve()
            except KeyError:  # another thread has taken the last one, or nobody wants it any more
                return

    # -- items -------------------------------------------------------------------------------

    @final
    def __len__(self) -> int:
        self.check_open()
        return self._count()

    @final
    def __contains__(self, key: object) -> bool:
        self.check_open()
        return isinstance(key, str) and bool(self.match([key]))

    @final
    def __iter__(self) -> Iterator[str]:
        """Keys, in the order in which they were added."""
        self.check_open()
        return self._keys()

    @final
    def find(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of those keys that exist."""
        self.check_open()
        return self._find([key for key in keys if is_text(key)])

    @final
    def match(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of those keys that exist, by the keys that were asked for.

        A key may be spelled in another Unicode form than in the gallery, where that leaves no
        doubt which is meant: see `imgret.support.spelling`.
        """
        found = self.find(keys)
        named = [key for key in keys if is_text(key)]
        if not all(key in found or key.isascii() for key in named):
            names = respelled(named, set(self))
            others = self._find(list(names.values()))
            found.update({key: others[name] for key, name in names.items()})
        return found

    @final
    def get(self, keys: Sequence[str]) -> list[Item]:
        """Return the items of keys that must exist, in their order; spelled as for `match`.

        Raises
        ------
        KeyNotFoundError
            Naming the first that does not.
        """
        found = self.match(keys)
        for key in keys:
            if key not in found:
                raise KeyNotFoundError(
                    f"key: expected one of the {len(self)} in the gallery, found {shown(key)}"
                    f"{alike(key, self)}"
                )
        return [found[key] for key in keys]

    @final
    def embeddings(self, keys: Sequence[str] | None = None) -> Embeddings:
        """Return embeddings as they are kept: float32, shape (n, dim).

        Parameters
        ----------
        keys : sequence of str, optional
            By default of all items, in the order in which they were added.

        Raises
        ------
        KeyNotFoundError
            Naming the first key that does not exist.
        """
        self.check_open()
        return self._embeddings(None if keys is None else [item.key for item in self.get(keys)])

    @final
    def refusals(self, embeddings: Embeddings) -> list[str | None]:
        """Say of each embedding why it cannot be kept and searched; None where it can.

        What counts is what remains of it when rounded to the gallery's dtype.
        """
        spec = self.spec
        return refusals(embeddings, dim=spec.dim, metric=spec.metric, dtype=spec.dtype)

    @final
    def add(
        self,
        items: Sequence[Item],
        embeddings: Embeddings,
        *,
        replacing: Iterable[str] = (),
    ) -> None:
        """Commit items and their embeddings: on return they are durable, on an error none is.

        Parameters
        ----------
        items : sequence of Item
            Of keys that are not in the gallery, but for those that are replaced.
        embeddings : float32 array of shape (n, dim)
        replacing : iterable of str
            Keys of items that are removed in the same transaction.

        Raises
        ------
        DuplicateKeyError
            A key is given twice or is in the gallery.
        InvalidInputError
            There is another number of embeddings, one has another shape or cannot be kept, or an
            item is not what `Item` says.
        StoreError
            It cannot be written.
        """
        with self.changing():
            spec = self.spec
            if len(embeddings) != len(items):
                raise InvalidInputError(
                    f"embeddings: expected one for each of {len(items)} items, found "
                    f"{len(embeddings)}"
                )
            kept = as_kept(embeddings, metric=spec.metric, dtype=spec.dtype)
            seen: set[str] = set()
            for item, reason in zip(items, self.refusals(kept), strict=True):
                if reason is not None:
                    raise InvalidInputError(f"{item.key}: {reason}")
                check_item(item)
                if item.key in seen:
                    raise DuplicateKeyError(
                        f"key: expected new ones, each once, found {item.key!r}"
                    )
                seen.add(item.key)
            self.settle()
            if items:
                self._add(items, np.asarray(kept, dtype=np.float32), list(replacing))

    @final
    def remove(self, keys: Sequence[str]) -> int:
        """Commit the removal of items, all or none; return how many there were.

        Raises
        ------
        KeyNotFoundError
            Naming the first key that does not exist.
        """
        with self.changing():
            going = list(dict.fromkeys(item.key for item in self.get(keys)))
            if going:
                self.settle()
                self._remove(going)
            return len(going)

    @final
    def change(self, items: Mapping[str, Item]) -> None:
        """Commit new facts about items, all or none; their embeddings stay.

        Parameters
        ----------
        items : mapping of str to Item
            By the key that each has now.

        Raises
        ------
        KeyNotFoundError
            Naming the first key that does not exist.
        DuplicateKeyError
            A new key is taken.
        InvalidInputError
            An item is not what `Item` says.
        """
        with self.changing():
            before = self.get(list(items))
            for item in items.values():
                check_item(item)
            self.settle()
            if items:
                self._change(
                    {old.key: new for old, new in zip(before, items.values(), strict=True)}
                )

    @final
    def change_spec(self, **changes: Any) -> None:
        """Commit new values of fields of the spec."""
        with self.changing():
            self._change_spec(changes)

    @final
    def create_filter_index(self, field: str) -> None:
        """Make filters on a field quick that let few of many items pass."""
        with self.changing():
            self._create_filter_index(field)

    # -- how it is searched --------------------------------------------------------------------

    @final
    def project(self, projection: LinearProjection | None) -> None:
        """Search by another projection from now on."""
        with self.changing():
            self.need("projection")
            self._project(projection)

    @final
    def reindex(self, index: str | VectorIndex | None, options: Mapping[str, Any]) -> None:
        """Build the index again from the kept embeddings; see `imgret.Retriever.reindex`."""
        with self.changing():
            self.need("index")
            self._reindex(index, options)

    @final
    def configure(self, tuned: Json) -> None:
        """Search by other options of the index from now on, and keep them.

        Parameters
        ----------
        tuned : dict
            ``index``, the name of the index they are for, and ``settings``; more is kept as it is.
        """
        with self.changing():
            self._configure(tuned)

    @final
    def explain(self, k: int, where: Filter | None, n_queries: int) -> SearchPlan:
        """Say which way a search goes, and why."""
        self.require_items()
        self.need("index")
        return self._explain(k, where, n_queries)

    # -- the whole of it -----------------------------------------------------------------------

    @final
    def save(self, path: Path | None) -> None:
        """Write the gallery; see `imgret.Retriever.save`."""
        with self._lock:
            self.check_open()
            if path is None and self.path is None:
                raise InvalidInputError("path: expected one for a gallery in memory, found None")
            self._save(self.path if path is None else path)  # type: ignore[arg-type]  # one is there

    @final
    def close(self) -> None:
        """Let files and connections go; twice is fine. Hits found before stay valid."""
        with self._lock:
            try:
                self.settle()
            finally:
                self._close()

    def __repr__(self) -> str:
        if self.closed:
            return f"closed, {self._where()}"
        spec, projection = self.spec, self.projection
        mapped = "" if projection is None else f"{projection.kind} to {projection.dim_out}-d, "
        return (
            f"of {len(self)} items {self._where()}: embedder {spec.embedder.name!r} "
            f"({spec.dim}-d), cropper {spec.cropper.name!r}, {mapped}index "
            f"{self._told_index()}, metric {spec.metric!r}"
        )

    @final
    def need(self, what: Literal["projection", "index"]) -> None:
        """Raise where the gallery says by its flag that it has no such thing."""
        if not (self.supports_projection if what == "projection" else self.supports_index):
            raise UnsupportedError(
                f"{self.name}: expected a gallery whose {what} is ours to choose, found one that "
                f"its server searches; keep it in a directory for that"
            )
