"""The view of a gallery, through which all code that only reads sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np

from imgret.abc import Tunable
from imgret.errors import KeyNotFoundError
from imgret.projections import Discriminant, IdentityProjection, LinearProjection
from imgret.support.checks import check_count, check_scorable, check_vectors
from imgret.support.exact import exact_search, first_of
from imgret.support.lazy import cached_property
from imgret.support.metric import DistanceMetric
from imgret.support.rounding import as_kept, refusals
from imgret.support.spelling import alike, shown
from imgret.support.statistics import fold_of
from imgret.types import Dtype, Embeddings, Ids, Item, Json, Metric, Neighbors

__all__ = ["Labels", "Origin", "StaleViewError", "View"]

# Neighbours held in memory at once while items are queries.
_NEIGHBORS = 2**20
# Items looked up at once.
_ITEMS = 1024
# Number of folds of the labelled items; a projection is refitted without each of them.
_FOLDS = 3


class Labels(NamedTuple):
    """The items that have a label.

    Attributes
    ----------
    ids : int64 array of shape (n,)
        Ids of the items, increasing.
    codes : int64 array of shape (n,)
        Label of each item, as its position in ``names``.
    names : list of str
        Distinct labels, in the order in which they first occur.
    """

    ids: Ids
    codes: Ids
    names: list[str]

    def of(self, ids: Ids) -> Ids:
        """Return the codes of an array of ids of any shape; -1 for items without a label."""
        if not len(self.ids):
            return np.full(ids.shape, -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[places] == ids, self.codes[places], -1)


class Origin(NamedTuple):
    """Where an item comes from.

    Attributes
    ----------
    id : int
    path : str or None
        File the item was read from.
    sha256 : bytes or None
        Digest of that file.
    label : str or None
    """

    id: int
    path: str | None
    sha256: bytes | None
    label: str | None


class StaleViewError(Exception):
    """The projection of the gallery, or the ids of its items, have changed since the view was made.

    Vectors of the view's projection cannot be compared with those in the index now, or are known
    there by other ids, as when what was left of removed items is deleted. Take a new view, and
    project the queries with it.
    """


class View(ABC):
    """A gallery as one call sees it: frozen, filtered and projected.

    An item is known by its id, an int64 that stays the same as long as the gallery holds the item.
    Ids increase in the order in which items were added. Vectors are what the index holds:
    embeddings after the projection (`project`), scaled to length 1 for metric ``"cosine"``.

    A gallery implements the hooks, which receive only checked arguments. `search` and everything
    built on it then work for that gallery.

    Parameters
    ----------
    metric : {"cosine", "ip", "l2"}
    projection : IdentityProjection or LinearProjection
    dtype : {"float16", "float32"}
        Type in which embeddings are stored.
    """

    def __init__(
        self,
        metric: Metric,
        projection: IdentityProjection | LinearProjection,
        dtype: Dtype = "float32",
    ) -> None:
        self.metric = DistanceMetric(metric)
        self.projection = projection
        self.dtype = dtype

    # -- hooks -----------------------------------------------------------------------------

    @abstractmethod
    def _ids(self) -> Ids:
        """Return the ids of all items: int64, increasing."""

    def _most(self) -> int:
        """Return an upper bound of the number of items, where counting them is slow."""
        return len(self)

    @abstractmethod
    def _search(self, vectors: Embeddings, k: int) -> Neighbors:
        """Return the ``k`` nearest items of each vector, or all if there are fewer.

        Vectors are as `project` returns them.
        """

    @abstractmethod
    def _embeddings(self, ids: Ids) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield increasing ids and their embeddings in pieces that fit memory."""

    def _scan(self) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield all ids and vectors; an override may read them in another order."""
        yield from self.blocks()

    @abstractmethod
    def _read(self, ids: Ids) -> Embeddings:
        """Return the embeddings of some ids, in their order."""

    @abstractmethod
    def _items(self, ids: Sequence[int]) -> dict[int, Item]:
        """Return items by id."""

    def _origins(self) -> Iterator[Origin]:
        """Yield the origin of every item, by id; an override may read less of each item."""
        for id_, item in zip(self.ids.tolist(), self.items(), strict=True):
            yield Origin(id_, item.path, item.sha256, item.label)

    def _facts(self) -> Json:
        """Return the parts and settings of the gallery as JSON values."""
        return {}

    def _require(self, keys: Sequence[str]) -> list[int]:
        """Return the ids of keys that must exist, in their order; an override may read less."""
        ids = dict(zip(self._keys(), self.ids.tolist(), strict=True))
        if lost := [key for key in keys if key not in ids]:
            raise KeyNotFoundError(
                f"key: expected one of the {len(self)} in the gallery, found {shown(lost[0])}"
                f"{alike(lost[0], ids)}"
            )
        return [ids[key] for key in keys]

    def _keys(self) -> Iterable[str]:
        """Return the keys of all items, by id; an override may read less."""
        return (item.key for item in self.items())

    def _labels(self) -> Labels:
        """Return the items that have a label; an override may read less."""
        places: dict[str, int] = {}
        pairs = [
            (id_, places.setdefault(item.label, len(places)))
            for id_, item in zip(self.ids.tolist(), self.items(), strict=True)
            if item.label is not None
        ]
        ids, codes = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2).T.copy()
        return Labels(ids, codes, list(places))

    @abstractmethod
    def _without(self, ids: Ids) -> View:
        """Return the view without some items; ids are increasing."""

    @abstractmethod
    def _labelled(self) -> View:
        """Return the view of the items that have a label."""

    # -- what is in it -----------------------------------------------------------------------

    @property
    def index(self) -> Tunable | None:
        """The index that answers searches, if it can be measured and tuned; else None."""
        return None

    def prepare(self) -> None:
        """Do what the first search does before it looks at its query, such as read the index.

        By default, that is nothing.
        """
        return

    @property
    def is_exact(self) -> bool:
        """Whether searches find the true nearest items."""
        index = self.index
        return index is not None and index.is_exact

    @final
    def facts(self) -> Json:
        """Return the parts and settings of the gallery as JSON values, such as the embedder."""
        return self._facts()

    @final
    def origins(self) -> Iterator[Origin]:
        """Yield the origin of every item, by id."""
        return self._origins()

    @final
    def refusals(self, embeddings: Embeddings) -> list[str | None]:
        """Return for each embedding why it cannot be a query, or None if it can."""
        return refusals(
            embeddings, dim=self.projection.dim_in, metric=self.metric, dtype=self.dtype
        )

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self.projection.dim_out

    @final
    @cached_property
    def ids(self) -> Ids:
        """The ids of all items: int64, shape (n,), increasing."""
        return self._ids()

    def __len__(self) -> int:
        return len(self.ids)

    @final
    def keys(self) -> tuple[str, ...]:
        """Return the keys of all items, by id."""
        return tuple(self._keys())

    @final
    def require(self, keys: Sequence[str]) -> Ids:
        """Return the ids of some keys, in the order of the keys.

        Raises
        ------
        KeyNotFoundError
            A key is not in the view; the message names the first one.
        """
        return np.array(self._require(keys), dtype=np.int64)

    @final
    def items(self, ids: Ids | None = None) -> Iterator[Item]:
        """Yield items in the order of ``ids``, by default all items."""
        ids = self.ids if ids is None else ids
        for start in range(0, len(ids), _ITEMS):
            some = ids[start : start + _ITEMS].tolist()
            found = self._items(some)
            yield from (found[id_] for id_ in some)

    @final
    @cached_property
    def labels(self) -> Labels:
        """The items that have a label."""
        return self._labels()

    @final
    def without(self, ids: Ids) -> View:
        """Return the view without some items; ids may be in any order."""
        return self._without(np.unique(ids))

    @final
    def labelled(self) -> View:
        """Return the view of the items that have a label."""
        return self._labelled()

    @final
    def sample(self, n: int, seed: int, *, among: Ids | None = None) -> Ids:
        """Draw ids at random, without replacement.

        Parameters
        ----------
        n : int
            Number of ids; all are returned if there are fewer.
        seed : int
        among : int64 array, optional
            Ids to draw from; by default all.

        Returns
        -------
        int64 array
            Sampled ids, increasing.
        """
        ids = self.ids if among is None else among
        return np.sort(np.random.default_rng(seed).permutation(ids)[:n])

    # -- vectors -----------------------------------------------------------------------------

    @final
    def project(self, embeddings: Any, name: str = "embeddings") -> Embeddings:
        """Return the vectors of embeddings, as they are searched.

        Raises
        ------
        InvalidInputError
            The shape is wrong, a value is not finite, or a vector has no direction. The message
            calls the embeddings ``name``.
        """
        if self.projection.kind != "identity":
            given = check_vectors(embeddings, self.projection.dim_in, name)
            kept = as_kept(given, metric=self.metric, dtype=self.dtype)
            embeddings = self.projection.apply(kept)
        return check_scorable(embeddings, self.dim, self.metric, name)

    @final
    def embeddings(self, ids: Ids) -> Embeddings:
        """Return the stored embeddings of some ids, in their order: float32."""
        return self._read(ids)

    @final
    def read(self, ids: Ids) -> Embeddings:
        """Return the vectors of some ids, in their order: float32, shape (n, dim)."""
        return self.project(self._read(ids), "items")

    @final
    def blocks(self, ids: Ids | None = None) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield ids and their vectors in pieces that fit memory.

        Parameters
        ----------
        ids : int64 array, optional
            Ids, increasing; by default all.
        """
        for block, embeddings in self._embeddings(self.ids if ids is None else ids):
            yield block, self.scorable(self.projection.apply(embeddings))

    @final
    def scan(self) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield all ids and vectors in pieces, in whatever order they are read fastest."""
        yield from self._scan()

    @final
    def embedding_blocks(self, ids: Ids | None = None) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield ids and their stored embeddings in pieces, with the parameters of `blocks`."""
        yield from self._embeddings(self.ids if ids is None else ids)

    @final
    def scorable(self, vectors: Embeddings) -> Embeddings:
        """Return vectors scaled to length 1 for metric ``"cosine"``, otherwise unchanged."""
        return self.metric.prepare(vectors)

    # -- searching -----------------------------------------------------------------------------

    @final
    def search(self, vectors: Embeddings, k: int) -> Neighbors:
        """Find the items nearest to vectors.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            Vectors in the space of the view: see `project`.
        k : int
            Number of neighbours, at least 1.

        Returns
        -------
        Neighbors
            Best first: at least ``min(k, len(view))`` for each vector, padded with -1 and -inf.
            There are ``k`` columns, or as many as the gallery has items if there are fewer.

        Raises
        ------
        DimensionError, InvalidInputError
            The vectors have another shape, are not finite, or have no direction.
        StaleViewError
            The projection of the gallery has changed.
        """
        vectors = check_scorable(vectors, self.dim, self.metric, "queries")
        return self.find(vectors, check_count(k, "k"))

    @final
    def find(self, vectors: Embeddings, k: int) -> Neighbors:
        """Search with vectors that `project` returned, without checking them again."""
        k = max(1, min(k, self._most()))
        return padded(self._search(vectors, k), k)

    @final
    def nearest(self, ids: Ids, k: int) -> Iterator[tuple[slice, Neighbors]]:
        """Search with items as queries; an item may find itself.

        Parameters
        ----------
        ids : int64 array of shape (n,)
            Ids of the items, increasing.
        k : int

        Yields
        ------
        (slice, Neighbors)
            Part of ``ids``, and its neighbours.
        """
        step = max(1, _NEIGHBORS // k)
        done = 0
        for block, embeddings in self._embeddings(ids):
            for start in range(0, len(block), step):
                part = self.projection.apply(embeddings[start : start + step])
                yield slice(done, done + len(part)), self.search(part, k)
                done += len(part)

    @final
    def nearest_others(self, ids: Ids, k: int) -> Iterator[tuple[slice, Neighbors]]:
        """Search with items as queries, and leave each item out of its own neighbours.

        Parameters
        ----------
        ids : int64 array of shape (n,)
            Ids of the items, increasing.
        k : int

        Yields
        ------
        (slice, Neighbors)
            Part of ``ids``, and its neighbours: shape (m, k), best first.
        """
        for part, found in self.nearest(ids, k + 1):
            # With many equal scores, or an approximate index, the item itself may not be found;
            # then the farthest neighbour is dropped.
            yield part, first_of(found, found.ids != ids[part, None], k)

    @final
    def nearest_unseen(self, ids: Ids, k: int) -> Iterator[tuple[Ids, Neighbors]]:
        """Search with labelled items as queries, as if they were new images of their class.

        A projection that was fitted to labels works better for the items it was fitted to than for
        new images. With such a projection, the labelled items are split into three folds, and each
        fold searches the rest with a projection that is fitted without it. Items that are alone in
        their class are then left out.

        Parameters
        ----------
        ids : int64 array of shape (n,)
            Ids of labelled items, increasing.
        k : int

        Yields
        ------
        (int64 array of shape (m,), Neighbors)
            Ids of one part, and their neighbours.
        """
        if not self.projection.from_labels:
            for part, found in self.nearest_others(ids, k):
                yield ids[part], padded(found, k)
            return
        folds = fold_of(self.labels.codes, _FOLDS)
        for fold in range(_FOLDS):
            held_out = self.labels.ids[folds == fold]
            asked = np.intersect1d(ids, held_out)
            if not len(asked):
                continue
            rest = self.held_out(held_out)
            for block, embeddings in self._embeddings(asked):
                yield block, padded(rest.find(rest.project(embeddings), k), k)

    @final
    def held_out(self, ids: Ids) -> View:
        """Return the view without some items, as if they had never been added; ids are increasing.

        A projection that was fitted to labels is refitted without these items. A search then
        compares with all items that are left.
        """
        rest = self._without(ids)
        return _Projected(rest, _refitted(rest)) if self.projection.from_labels else rest


def _refitted(view: View) -> LinearProjection:
    """Return the projection of a view, refitted to the labels that are in it."""
    ids, codes, _ = view.labels
    present, renumbered = np.unique(codes, return_inverse=True)

    def labelled() -> Iterator[tuple[Embeddings, Ids]]:
        for block, embeddings in view.embedding_blocks(ids):
            yield embeddings, renumbered[np.searchsorted(ids, block)]

    before = view.projection
    fit = Discriminant(labelled(), len(present))
    return fit.projection(float(before.info["shrinkage"]), min(before.dim_out, fit.max_dim))


class _Projected(View):
    """A view by another projection, which compares with all items."""

    def __init__(self, base: View, projection: IdentityProjection | LinearProjection) -> None:
        self._base = base
        super().__init__(base.metric, projection, base.dtype)

    def _ids(self) -> Ids:
        return self._base.ids

    def _search(self, vectors: Embeddings, k: int) -> Neighbors:
        return exact_search(vectors, self.scan(), k, self.metric)

    def _embeddings(self, ids: Ids) -> Iterator[tuple[Ids, Embeddings]]:
        return self._base.embedding_blocks(ids)

    def _read(self, ids: Ids) -> Embeddings:
        return self._base.embeddings(ids)

    def _items(self, ids: Sequence[int]) -> dict[int, Item]:
        return dict(zip(ids, self._base.items(np.array(ids, dtype=np.int64)), strict=True))

    def _require(self, keys: Sequence[str]) -> list[int]:
        ids: list[int] = self._base.require(keys).tolist()
        return ids

    def _keys(self) -> Iterable[str]:
        return self._base.keys()

    def _labels(self) -> Labels:
        return self._base.labels

    def _without(self, ids: Ids) -> View:
        return _Projected(self._base.without(ids), self.projection)

    def _labelled(self) -> View:
        return _Projected(self._base.labelled(), self.projection)


def padded(found: Neighbors, k: int) -> Neighbors:
    """Return neighbours padded to ``k`` columns with -1 and -inf."""
    n, m = found.ids.shape
    if m >= k:
        return found
    ids: Ids = np.full((n, k), -1, dtype=np.int64)
    scores: Embeddings = np.full((n, k), -np.inf, dtype=np.float32)
    ids[:, :m], scores[:, :m] = found
    return Neighbors(ids, scores)
