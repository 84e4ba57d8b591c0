"""The base class of galleries, which hold items and embeddings on disk, in memory or elsewhere."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections import Counter
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
from imgret.support.items import check_item, check_items
from imgret.support.locks import RLock
from imgret.support.rounding import as_kept, refusals
from imgret.support.spelling import alike, respelled, shown
from imgret.types import Embeddings, Item, Json, is_text

if TYPE_CHECKING:
    from collections.abc import Hashable

    from imgret.abc.index import VectorIndex
    from imgret.filters import Filter
    from imgret.galleries.report import CheckReport
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
    """Holds items and their embeddings. All changes to them go through this class.

    Items are identified by their keys. Code that only reads takes a `View` of the gallery. A
    subclass implements the hooks, whose arguments have been checked: keys exist, embeddings have
    the right shape and can be stored and searched, and items are valid. An engine declares with
    flags what it does not support, and the methods for that raise `UnsupportedError`.

    Attributes
    ----------
    shared : bool
        Whether several processes may change the gallery at once.
    consistent_views : bool
        Whether a view from `viewed` is a snapshot that changes by other processes do not affect.
    supports_projection : bool
        Whether items can be searched by a linear projection of their embeddings.
    supports_index : bool
        Whether imgret can choose, measure and tune the index.
    checks_items : bool
        Whether `_add` calls ``imgret.support.items.check_items`` itself, and stores nothing if it
        raises; so an engine with transactions can check some items while others are on their way.
    """

    shared: ClassVar[bool] = False
    consistent_views: ClassVar[bool] = False
    supports_projection: ClassVar[bool] = False
    supports_index: ClassVar[bool] = False
    checks_items: ClassVar[bool] = False

    def __init__(self) -> None:
        self._lock = RLock()
        self._unresolved: weakref.WeakSet[_Unresolved] = weakref.WeakSet()

    # -- hooks -----------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def create(cls, uri: str, spec: GallerySpec, prepared: VectorIndex | None = None) -> Self:
        """Create an empty gallery.

        Parameters
        ----------
        uri : str
            Path, or URI with the scheme under which the class is registered.
        spec : GallerySpec
        prepared : VectorIndex, optional
            Empty index made by the caller; by default one is made from the spec.

        Raises
        ------
        StoreExistsError
            The path or URI is already in use.
        """

    @classmethod
    @abstractmethod
    def open(cls, uri: str, *, writable: bool) -> Self:
        """Open an existing gallery.

        Raises
        ------
        StoreNotFoundError, StoreVersionError, StoreCorruptError
            There is no gallery, it has a newer format, or it is damaged.
        StoreLockedError, StoreReadOnlyError
            Write access was requested but is not possible.
        """

    @classmethod
    @abstractmethod
    def is_taken(cls, uri: str) -> bool:
        """Whether a path or URI is in use, so that no gallery can be created there."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the gallery in messages: its path, or its URI without a password."""

    @property
    @abstractmethod
    def spec(self) -> GallerySpec:
        """The current description of the gallery."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether the gallery is closed."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether this process can change the gallery."""

    @property
    @abstractmethod
    def version(self) -> Hashable:
        """A value that differs after every change to search results, by any process."""

    @property
    def path(self) -> Path | None:
        """Directory of the gallery; None if it is not in one."""
        return None

    def _where(self) -> str:
        """Return the location of the gallery as a short phrase, such as "in memory"."""
        return f"at {self.name!r}"

    def _shown_index(self) -> str:
        """Return the name of the index for `repr`."""
        return repr(self.spec.index.name)

    @abstractmethod
    def _count(self) -> int:
        """Return the number of items."""

    def _is_empty(self) -> bool:
        """Whether there are no items; an override may answer from what was seen a moment ago."""
        return not self._count()

    @abstractmethod
    def _keys(self) -> Iterator[str]:
        """Yield the keys of all items, in the order they were added."""

    @abstractmethod
    def _find(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of those keys that exist."""

    @abstractmethod
    def _embeddings(self, keys: Sequence[str] | None) -> Embeddings:
        """Return the embeddings of existing keys, in their order; of all items if None."""

    @abstractmethod
    def copy_of(self, sha256: bytes) -> Stored | None:
        """Return the oldest item made from a file with this digest; called from several threads.

        Raises
        ------
        StoreCorruptError
            The embedding of the item is damaged, if the engine can detect that.
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
            A key is taken and not among the replaced ones; nothing is changed.
        """

    @abstractmethod
    def _remove(self, keys: Sequence[str]) -> None:
        """Commit the removal of items in one transaction."""

    @abstractmethod
    def _change(self, items: Mapping[str, Item]) -> None:
        """Commit new contents of items, given by key, in one transaction; keys may change."""

    @abstractmethod
    def _change_spec(self, changes: Mapping[str, Any]) -> None:
        """Commit new values for fields of the spec."""

    @abstractmethod
    def unused_keys(self, count: int) -> list[str]:
        """Return keys for images without one: unused now, and never given out to an item before."""

    @abstractmethod
    def _create_filter_index(self, field: str) -> None:
        """Speed up filters on a field; may do nothing if they are fast already."""

    def check_where(self, where: Filter) -> None:  # noqa: B027  # an engine may not know
        """Raise the errors that a search with the filter would, as far as known in advance."""

    @abstractmethod
    def view(self, where: Filter | None = None) -> View:
        """Return a view of the gallery as it is now: the items that match a filter, or all."""

    def _viewed(self) -> AbstractContextManager[View]:
        """Return a view of all items that does not change for the duration of a block."""
        return nullcontext(self.view())

    def catch_up(self) -> None:  # noqa: B027  # an engine may do it by itself
        """Add new items to the index, or warn if it needs more items first.

        A search does that as well; this method is for the end of a series of additions.
        """

    def discard_if_unused(self) -> bool:
        """Delete a gallery that this object created, if it is empty and nobody else uses it.

        Returns
        -------
        bool
            Whether it was deleted; it can only be closed then. An engine that does not know who
            uses a gallery deletes none.
        """
        return False

    @abstractmethod
    def _close(self) -> None:
        """Close files and connections; may be called twice."""

    # Hooks that are needed only if a flag is set.

    @property
    def projection(self) -> LinearProjection | None:
        """The projection from embeddings to searched vectors; None without one."""
        return None

    def _project(self, projection: LinearProjection | None) -> None:  # noqa: ARG002  # a hook
        raise self._missing("_project", "supports_projection")

    @property
    def index(self) -> VectorIndex:
        """The index, brought up to date with the gallery."""
        self.need("index")
        raise self._missing("index", "supports_index")

    @property
    def index_reason(self) -> str | None:
        """Reason for the choice of ``index="auto"``; None for an index chosen by name."""
        return None

    def _reindex(
        self,
        index: str | VectorIndex | None,  # noqa: ARG002  # a hook
        options: Mapping[str, Any],  # noqa: ARG002
    ) -> None:
        raise self._missing("_reindex", "supports_index")

    def _configure(self, tuned: Json) -> None:
        """Store search options; used by galleries whose views have an ``index``."""
        self._change_spec({"tuned": tuned})

    def _explain(
        self,
        k: int,  # noqa: ARG002  # a hook
        where: Filter | None,  # noqa: ARG002
        n_queries: int,  # noqa: ARG002
    ) -> SearchPlan:
        raise self._missing("_explain", "supports_index")

    def _check(self, *, repair: bool) -> CheckReport:  # noqa: ARG002  # local galleries do
        raise UnsupportedError(
            f"{self.name}: expected a gallery in a directory, found a {type(self).__name__}; "
            f"nothing was checked"
        )

    def _compact(self) -> int:
        raise UnsupportedError(
            f"{self.name}: expected a gallery in memory or in a directory, found a "
            f"{type(self).__name__}; nothing was deleted"
        )

    def _missing(self, hook: str, flag: str) -> NotImplementedError:
        """Return the error for a hook that a subclass must implement because of its flag."""
        return NotImplementedError(
            f"{type(self).__name__}: expected {hook} to be implemented, as {flag} is True"
        )

    def _save(self, path: Path) -> None:  # noqa: ARG002  # local galleries do
        raise UnsupportedError(
            f"{self.name}: expected a gallery in memory or in a directory, found one stored by a "
            f"server; there is nothing to save"
        )

    # -- who may do what, and when -----------------------------------------------------------

    @final
    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads from changing the gallery for the duration of the block."""
        with self._lock:
            yield

    @final
    @contextmanager
    def changing(self) -> Iterator[None]:
        """Lock the gallery for changes in the block; it must be open for writing."""
        with self._lock:
            self.check_writable()
            yield

    @final
    @contextmanager
    def viewed(self) -> Iterator[View]:
        """Provide a view of all items that does not change for the duration of the block.

        Raises
        ------
        EmptyGalleryError
            There are no items.
        """
        with self._lock:
            self.require_items()
            with self._viewed() as view:
                yield view

    @final
    def check_open(self) -> None:
        """Raise if the gallery is closed."""
        if self.closed:
            raise StoreClosedError(f"{self.name}: closed; open it again with Retriever.open()")

    def check_writable(self) -> None:
        """Raise if the gallery is closed, or this process cannot change it."""
        self.check_open()
        if not self.writable:
            raise StoreReadOnlyError(
                f"{self.name}: opened for reading; open it with mode='r+' to change it"
            )

    @final
    def require_items(self) -> None:
        """Raise if the gallery is closed or empty."""
        self.check_open()
        if self._is_empty():
            raise EmptyGalleryError(
                "search: expected a gallery with items, found an empty one; add images first"
            )

    @final
    def remember(self, batch: _Unresolved) -> None:
        """Register a result, to look up its items before they change; if shared, do so at once."""
        if self.shared:
            batch.resolve()
        else:
            self._unresolved.add(batch)

    @final
    def settle(self) -> None:
        """Look up the items of earlier search results."""
        while self._unresolved:
            try:
                self._unresolved.pop().resolve()
            except KeyError:  # another thread took the last one, or it was garbage-collected
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
        """Iterate over the keys, in the order they were added."""
        self.check_open()
        return self._keys()

    @final
    def find(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of those keys that exist."""
        self.check_open()
        return self._find([key for key in keys if is_text(key)])

    @final
    def match(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of those keys that exist, by the keys as they were given.

        A key may have another Unicode form than in the gallery, if the match is unambiguous: see
        ``imgret.support.spelling``.
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
        """Return the items of keys that must exist, in their order; keys are matched as in `match`.

        Raises
        ------
        KeyNotFoundError
            A key does not exist; the message names the first one.
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
        """Return stored embeddings: float32, shape (n, dim).

        Parameters
        ----------
        keys : sequence of str, optional
            Keys of the items; by default all items, in the order they were added.

        Raises
        ------
        KeyNotFoundError
            A key does not exist; the message names the first one.
        """
        self.check_open()
        return self._embeddings(None if keys is None else [item.key for item in self.get(keys)])

    @final
    def refusals(self, embeddings: Embeddings) -> list[str | None]:
        """Return why each embedding cannot be stored and searched; None for those that can.

        Embeddings are checked after rounding to the gallery's dtype.
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
        """Commit items and their embeddings: on return all are durable, on an error none is added.

        Parameters
        ----------
        items : sequence of Item
            Items whose keys are not in the gallery, except for replaced ones.
        embeddings : float32 array of shape (n, dim)
        replacing : iterable of str
            Keys of items that are removed in the same transaction.

        Raises
        ------
        DuplicateKeyError
            A key is given twice or is in the gallery already.
        InvalidInputError
            The number of embeddings differs from the number of items, an embedding has the wrong
            shape or cannot be stored, or an item is invalid.
        StoreError
            The gallery cannot be written.
        """
        with self.changing():
            spec = self.spec
            if len(embeddings) != len(items):
                raise InvalidInputError(
                    f"embeddings: expected one for each of {len(items)} items, found "
                    f"{len(embeddings)}"
                )
            kept = as_kept(embeddings, metric=spec.metric, dtype=spec.dtype)
            for item, reason in zip(items, self.refusals(kept), strict=True):
                if reason is not None:
                    raise InvalidInputError(f"{item.key}: {reason}")
            keys = [item.key for item in items]
            if not (self.checks_items and set(map(type, keys)) <= {str}):
                check_items(items)
            if len(set(keys)) < len(keys):
                twice = Counter(keys).most_common(1)[0][0]
                raise DuplicateKeyError(f"key: expected new keys, each once, found {twice!r} twice")
            self.settle()
            if items:
                self._add(items, np.asarray(kept, dtype=np.float32), list(replacing))

    @final
    def remove(self, keys: Sequence[str]) -> int:
        """Commit the removal of items, all or none; return the number of removed items.

        Raises
        ------
        KeyNotFoundError
            A key does not exist; the message names the first one.
        """
        with self.changing():
            going = list(dict.fromkeys(item.key for item in self.get(keys)))
            if going:
                self.settle()
                self._remove(going)
            return len(going)

    @final
    def change(self, items: Mapping[str, Item]) -> None:
        """Commit new contents of items, all or none; their embeddings stay.

        Parameters
        ----------
        items : mapping of str to Item
            New items by their current keys.

        Raises
        ------
        KeyNotFoundError
            A key does not exist; the message names the first one.
        DuplicateKeyError
            A new key is taken.
        InvalidInputError
            An item is invalid.
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
        """Commit new values for fields of the spec."""
        with self.changing():
            self._change_spec(changes)

    @final
    def create_filter_index(self, field: str) -> None:
        """Speed up filters on a field that match few of many items."""
        with self.changing():
            self._create_filter_index(field)

    # -- how it is searched --------------------------------------------------------------------

    @final
    def project(self, projection: LinearProjection | None) -> None:
        """Use another projection for searches from now on."""
        with self.changing():
            self.need("projection")
            self._project(projection)

    @final
    def reindex(self, index: str | VectorIndex | None, options: Mapping[str, Any]) -> None:
        """Rebuild the index from the stored embeddings; see `imgret.Retriever.reindex`."""
        with self.changing():
            self.need("index")
            self._reindex(index, options)

    @final
    def configure(self, tuned: Json) -> None:
        """Use other search options of the index from now on, and store them.

        Parameters
        ----------
        tuned : dict
            ``index``, the name of the index they are for, and ``settings``. Other entries are
            stored unchanged.
        """
        with self.changing():
            self._configure(tuned)

    @final
    def explain(self, k: int, where: Filter | None, n_queries: int) -> SearchPlan:
        """Explain how a search would be answered, and why."""
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
    def check(self, *, repair: bool = False) -> CheckReport:
        """Check the gallery for damage; see `imgret.Retriever.check`."""
        with self._lock:
            self.check_open()
            if repair:
                self.check_writable()
                self.settle()
            return self._check(repair=repair)

    @final
    def compact(self) -> int:
        """Delete what is left of removed items; see `imgret.Retriever.compact`."""
        with self.changing():
            self.settle()
            return self._compact()

    @final
    def close(self) -> None:
        """Close files and connections; closing twice is fine. Earlier hits stay valid."""
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
            f"{self._shown_index()}, metric {spec.metric!r}"
        )

    @final
    def need(self, what: Literal["projection", "index"]) -> None:
        """Raise if the gallery does not support a projection, or a choice of index."""
        if self.supports_projection if what == "projection" else self.supports_index:
            return
        if what == "projection":
            found = "which searches the embeddings themselves"
            remedy = "FOLDER` makes one in a directory"
        else:
            found = "whose index is chosen when it is created"
            remedy = "TARGET --index NAME` makes one with another index"
        raise UnsupportedError(
            f"{self.name}: expected a gallery whose {what} imgret makes, in memory or in a "
            f"directory, found one on a server, {found}; `imgret copy {self.name} {remedy}"
        )
