"""What galleries on servers have in common: the gallery, its views, and the index that is tuned."""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Protocol, Self, final

import numpy as np

from imgret.abc import Gallery, GallerySpec, Tunable
from imgret.errors import InvalidInputError, KeyNotFoundError, StoreError, UnsupportedError
from imgret.filters import Filter
from imgret.filters.tree import COLUMNS, AllOf, Exists, Field, leaves
from imgret.projections import IdentityProjection
from imgret.search import Labels, View
from imgret.support.spelling import alike, shown
from imgret.types import Embeddings, Ids, Item, Json, Neighbors, Part

if TYPE_CHECKING:
    from imgret.galleries.report import CheckReport

__all__ = ["ServerGallery", "ServerView", "plain_fields", "spec_of"]

_LABELLED = Exists(Field("label"))
# Bytes of embeddings read at once.
_BLOCK = 2**24
# Fields that are named when a filter has one that does not exist.
_SHOWN = 20


class _Backend(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...


class _Layout(Protocol):
    """How a server searches: its index, and the option that trades recall for speed."""

    @property
    def name(self) -> str: ...
    @property
    def option(self) -> str | None: ...
    @property
    def value(self) -> int: ...
    @property
    def sweep(self) -> list[int]: ...


class ServerGallery(Gallery):
    """A gallery on a server, which others may change meanwhile.

    Parameters
    ----------
    server : object
        Connection with ``name``, ``closed`` and ``close()``.
    writable : bool
    """

    shared = True

    def __init__(self, server: _Backend, *, writable: bool) -> None:
        super().__init__()
        self._server = server
        self._writable = writable
        self._spec: GallerySpec  # set by the subclass
        self._seen: set[str] = set()  # fields that some item had

    # -- hooks -------------------------------------------------------------------------------

    @abstractmethod
    def _new_names(self, count: int) -> list[str]:
        """Return names that were never returned before."""

    @abstractmethod
    def _vectors(self, keys: Sequence[str]) -> dict[str, Embeddings]:
        """Return the embeddings of those keys that exist."""

    @abstractmethod
    def _has_field(self, field: Field) -> bool:
        """Whether some item has a field in its metadata."""

    @abstractmethod
    def _field_names(self) -> Iterable[str]:
        """Return fields of the metadata of some thousand items."""

    @abstractmethod
    def _how_to_check(self) -> str:
        """Return what the administrator of the server can do instead of `check`: one sentence."""

    @abstractmethod
    def _how_to_compact(self) -> str:
        """Return what the administrator of the server can do instead of `compact`."""

    @abstractmethod
    def most(self) -> int:
        """Return a number of items that is not exceeded, as far as is known."""

    def check_most(self, k: int) -> None:
        """Check that ``k`` was not cut to a number of items that is no longer right.

        Raises
        ------
        StaleViewError
            There are more items now.
        """

    # -- what follows from them --------------------------------------------------------------

    @property
    def name(self) -> str:
        """URI without what is secret."""
        return self._server.name

    @property
    def spec(self) -> GallerySpec:
        """What the gallery is made of, as it was when that was read last."""
        return self._spec

    @property
    def closed(self) -> bool:
        """Whether the gallery was closed."""
        return self._server.closed

    @property
    def writable(self) -> bool:
        """Whether the gallery was opened for writing."""
        return self._writable

    def _close(self) -> None:
        self._server.close()

    def _embeddings(self, keys: Sequence[str] | None) -> Embeddings:
        if keys is None:
            blocks = [rows for _, rows in self.view().embedding_blocks()]
            return np.concatenate([np.empty((0, self._spec.dim), np.float32), *blocks])
        found = self._vectors(keys)
        if lost := [key for key in keys if key not in found]:
            raise InvalidInputError(f"key: {lost[0]!r} was removed by another process meanwhile")
        return np.array([found[key] for key in keys], np.float32).reshape(-1, self._spec.dim)

    def unused_keys(self, count: int) -> list[str]:
        """Return names that are given out once, without those already in use."""
        keys: list[str] = []
        while len(keys) < count:
            names = self._new_names(count - len(keys))
            taken = self._find(names)
            keys += [name for name in names if name not in taken]
        return keys

    def _check(self, *, repair: bool) -> CheckReport:  # noqa: ARG002  # nothing to repair
        raise UnsupportedError(
            f"{self.name}: expected a gallery in a directory, found one on a server; nothing was "
            f"checked. {self._how_to_check()}"
        )

    def _compact(self) -> int:
        raise UnsupportedError(
            f"{self.name}: expected a gallery in memory or in a directory, found one on a server; "
            f"nothing was done. {self._how_to_compact()}"
        )

    def check_where(self, where: Filter) -> None:
        """Raise for a field that no item has."""
        for field in dict.fromkeys(leaf.field for leaf in leaves(where)):
            if not (field.is_column or field.name in self._seen):
                if not self._has_field(field):
                    raise self._unknown(field)
                self._seen.add(field.name)

    def _unknown(self, field: Field) -> InvalidInputError:
        names = [*COLUMNS, *sorted(self._field_names())]
        near = difflib.get_close_matches(field.name, names, n=1)
        known = f"did you mean {near[0]!r}? Known fields" if near else "known fields"
        listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        return InvalidInputError(
            f"where: expected a field that some item has, found {field.name!r}; {known}: {listed}"
        )


class ServerView(View):
    """The items of a gallery on a server that pass a filter, except for some.

    Parameters
    ----------
    gallery : ServerGallery
    spec : GallerySpec
    layout : object
        How the server searches: ``name``, ``option``, ``value`` and ``sweep``.
    where : Filter or None
    without : sequence of int
        Ids of items that are left out, increasing.

    Attributes
    ----------
    value : int
        Value of the option that trades recall for speed.
    """

    def __init__(
        self,
        gallery: ServerGallery,
        spec: GallerySpec,
        layout: _Layout,
        where: Filter | None,
        without: Sequence[int],
    ) -> None:
        super().__init__(spec.metric, IdentityProjection(spec.dim), spec.dtype)
        self._server_gallery, self._spec, self._searched = gallery, spec, layout
        self._filter, self._removed = where, list(without)
        self.value = layout.value
        self._fetched: dict[int, Item] = {}  # that came with an answer

    # -- hooks -------------------------------------------------------------------------------

    @abstractmethod
    def _like(self, where: Filter | None, without: Sequence[int]) -> Self:
        """Return a view of the same gallery with another filter, and without other items."""

    @abstractmethod
    def _ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the ids of those keys that are in the view."""

    @abstractmethod
    def _look_up(self, ids: Sequence[int]) -> dict[int, Item]:
        """Return those items that exist, by id."""

    @abstractmethod
    def _label_of(self) -> Iterable[tuple[int, str]]:
        """Return id and label of every item, by id; all have one."""

    @abstractmethod
    def _vectors(self, ids: Ids) -> tuple[list[int], Embeddings]:
        """Return those of some ids that exist, in any order, and their embeddings."""

    @abstractmethod
    def _answer(self, vectors: Embeddings, k: int, *, exact: bool) -> Neighbors:
        """Search for at least one vector."""

    # -- what follows from them --------------------------------------------------------------

    def _most(self) -> int:
        return self._server_gallery.most()

    def _search(self, vectors: Embeddings, k: int) -> Neighbors:
        self._server_gallery.check_most(k)
        return self.answer(vectors, k, exact=self.is_exact)

    @final
    def answer(self, vectors: Embeddings, k: int, *, exact: bool) -> Neighbors:
        """Search with the index, or by comparing all items; see `View.search`."""
        if not len(vectors):
            return Neighbors(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
        return self._answer(vectors, k, exact=exact)

    @property
    def index(self) -> Tunable:
        """The index of the server, as far as it can be measured and tuned."""
        return _ServerIndex(self, self._searched)

    @property
    def is_exact(self) -> bool:
        """Whether all items are compared."""
        return self._searched.name == "flat"

    def _require(self, keys: Sequence[str]) -> list[int]:
        ids = self._ids_of(keys)
        if lost := [key for key in keys if key not in ids]:
            raise KeyNotFoundError(
                f"key: expected one of the {len(self)} in the gallery, found {shown(lost[0])}"
                f"{alike(lost[0], self._keys())}"
            )
        return [ids[key] for key in keys]

    def _items(self, ids: Sequence[int]) -> dict[int, Item]:
        found = {id_: self._fetched[id_] for id_ in ids if id_ in self._fetched}
        if missing := [id_ for id_ in ids if id_ not in found]:
            found |= self._look_up(missing)
        if len(found) < len(set(ids)):
            raise self._gone()
        return found

    def _labels(self) -> Labels:
        places: dict[str, int] = {}
        labelled = self if self._filter == _LABELLED else self._labelled()
        pairs = [
            (id_, places.setdefault(label, len(places)))
            for id_, label in labelled._label_of()  # noqa: SLF001  # of this class
        ]
        ids, codes = np.array(pairs, dtype=np.int64).reshape(-1, 2).T.copy()
        return Labels(ids, codes, list(places))

    def _facts(self) -> Json:
        spec = self._spec
        return {
            "gallery": self._server_gallery.name,
            "embedder": asdict(spec.embedder),
            "fingerprint": spec.fingerprint,
            "cropper": asdict(spec.cropper),
            "index": {"name": spec.index.name, "config": spec.index.config},
            "metric": str(spec.metric),
            "dtype": spec.dtype,
            "projection": None,
        }

    def _without(self, ids: Ids) -> Self:
        removed = np.union1d(np.array(self._removed, dtype=np.int64), ids)
        return self._like(self._filter, removed.tolist())

    def _labelled(self) -> Self:
        where = _LABELLED if self._filter is None else AllOf((self._filter, _LABELLED))
        return self._like(where, self._removed)

    def _embeddings(self, ids: Ids) -> Iterator[tuple[Ids, Embeddings]]:
        step = max(1, _BLOCK // (4 * self.dim))
        for start in range(0, len(ids), step):
            block = ids[start : start + step]
            yield block, self._read(block)

    def _read(self, ids: Ids) -> Embeddings:
        held, vectors = self._vectors(ids)
        wanted = ids.tolist()
        if held == wanted:
            return vectors
        places = {id_: place for place, id_ in enumerate(held)}
        if len(places) < len(set(wanted)):
            raise self._gone()
        return vectors[[places[id_] for id_ in wanted]]

    def _gone(self) -> StoreError:
        return StoreError(
            f"{self._server_gallery.name}: an item was removed by another process meanwhile; ask "
            f"again"
        )


class _ServerIndex:
    """The index of a server, as `recall` and `tune` see it."""

    def __init__(self, view: ServerView, layout: _Layout) -> None:
        self._view, self._layout = view, layout
        self.name = layout.name
        self.is_exact = view.is_exact
        self.finds_itself = layout.name == "hnsw"

    def sweep(self) -> dict[str, list[int]]:
        option = self._layout.option
        return {} if option is None else {option: self._layout.sweep}

    def settings(self) -> dict[str, int]:
        option = self._layout.option
        return {} if option is None else {option: self._view.value}

    def configure(self, **settings: int) -> None:
        (self._view.value,) = settings.values()

    def search(self, queries: Any, k: int, *, exact: bool = False) -> Neighbors:
        vectors = self._view.project(queries, "queries")
        return self._view.answer(vectors, k, exact=exact or self.is_exact)


def spec_of(content: Mapping[str, Any]) -> GallerySpec:
    """Return the spec that was stored as JSON; fields of a newer imgret are left out.

    Raises
    ------
    KeyError, TypeError, AttributeError, InvalidInputError
        It is damaged.
    """
    parts = {each: Part(**content[each]) for each in ("embedder", "cropper", "index")}
    known = {each.name for each in fields(GallerySpec)}
    return GallerySpec(**{name: content[name] for name in content if name in known} | parts)


def plain_fields(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a spec as JSON values."""
    return {
        name: asdict(value) if isinstance(value, Part) else value for name, value in changes.items()
    }
