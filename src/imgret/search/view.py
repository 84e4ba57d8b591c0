"""The view of a gallery: the one thing that everything which only reads takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import numpy.ma  # np.unique does when first called: a fork must not come amid that

from imgret.abc import Tunable
from imgret.errors import KeyNotFoundError
from imgret.projections import Discriminant, IdentityProjection, LinearProjection
from imgret.support.checks import check_count, check_scorable
from imgret.support.exact import exact_search, first_of
from imgret.support.lazy import cached_property
from imgret.support.metric import DistanceMetric
from imgret.support.rounding import as_kept, refusals
from imgret.support.spelling import alike, shown
from imgret.support.statistics import fold_of
from imgret.types import Dtype, Embeddings, Ids, Item, Json, Metric, Neighbors

__all__ = ["Labels", "Origin", "StaleViewError", "View"]

# Neighbours held at once while every item is searched with.
_NEIGHBORS = 2**20
# Items looked up at once.
_ITEMS = 1024
# Parts into which labelled items fall where a projection is fitted again without each of them.
_FOLDS = 3


class Labels(NamedTuple):
    """The items that have a label.

    Attributes
    ----------
    ids : int64 array of shape (n,)
        Increasing.
    codes : int64 array of shape (n,)
        The label of each, as its place in ``names``.
    names : list of str
        The labels, each once, in the order in which they first occur.
    """

    ids: Ids
    codes: Ids
    names: list[str]

    def of(self, ids: Ids) -> Ids:
        """Return the codes of some ids of any shape; -1 for those without a label."""
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
        File it was read from.
    sha256 : bytes or None
        Digest of that file.
    label : str or None
    """

    id: int
    path: str | None
    sha256: bytes | None
    label: str | None


class StaleViewError(Exception):
    """The gallery is searched by another projection since a view of it was made.

    Vectors of the view's projection are not comparable with what is indexed now: take another
    view, and project the queries by that.
    """


class View(ABC):
    """What a gallery looks like for the length of one call: frozen, filtered, projected.

    An item is known by its id, an int64 that stays the same as long as the gallery holds the item.
    Ids increase in the order in which items were added. Vectors are those that are searched:
    embeddings after the projection (`project`), and of length 1 for metric ``"cosine"``.

    A gallery fills in the hooks, which are not given anything that is not checked; `search` and
    all that is built on it then work anywhere.

    Parameters
    ----------
    metric : {"cosine", "ip", "l2"}
    projection : IdentityProjection or LinearProjection
    dtype : {"float16", "float32"}
        How embeddings are kept.
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
        """Return how many items there may be, where counting them takes long."""
        return len(self)

    @abstractmethod
    def _search(self, vectors: Embeddings, k: int) -> Neighbors:
        """Return the ``k`` nearest of each vector, fewer only where there are fewer items."""

    @abstractmethod
    def _embeddings(self, ids: Ids) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield increasing ids and their embeddings in pieces that fit memory."""

    @abstractmethod
    def _read(self, ids: Ids) -> Embeddings:
        """Return the embeddings of some ids, in their order."""

    @abstractmethod
    def _items(self, ids: Sequence[int]) -> dict[int, Item]:
        """Return items by id."""

    def _origins(self) -> Iterator[Origin]:
        """Yield where every item comes from, by id; an override may read less of each."""
        for id_, item in zip(self.ids.tolist(), self.items(), strict=True):
            yield Origin(id_, item.path, item.sha256, item.label)

    def _facts(self) -> Json:
        """Return what the gallery is made of, as JSON values."""
        return {}

    def _require(self, keys: Sequence[str]) -> list[int]:
        """Return the ids of keys that must be there, in their order; an override may read less."""
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
        ids, codes = np.array(pairs, dtype=np.int64).reshape(-1, 2).T.copy()
        return Labels(ids, codes, list(places))

    @abstractmethod
    def _without(self, ids: Ids) -> View:
        """Return the view of all items but some; ids increasing."""

    @abstractmethod
    def _labelled(self) -> View:
        """Return the view of the items that have a label."""

    # -- what is in it -----------------------------------------------------------------------

    @property
    def index(self) -> Tunable | None:
        """The index that searches, where it can be measured and tuned; or None."""
        return None

    @property
    def is_exact(self) -> bool:
        """Whether searches find the true nearest items."""
        index = self.index
        return index is not None and index.is_exact

    @final
    def facts(self) -> Json:
        """Return what the gallery is made of, as JSON values: embedder, index, metric and so on."""
        return self._facts()

    @final
    def origins(self) -> Iterator[Origin]:
        """Yield where every item comes from, by id."""
        return self._origins()

    @final
    def refusals(self, embeddings: Embeddings) -> list[str | None]:
        """Say of each embedding why it cannot be searched with; None where it can."""
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
        """Return the ids of the items of some keys, in their order.

        Raises
        ------
        KeyNotFoundError
            Naming the first that is not in the view.
        """
        return np.array(self._require(keys), dtype=np.int64)

    @final
    def items(self, ids: Ids | None = None) -> Iterator[Item]:
        """Yield items in the order of their ids, by default all of them."""
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
        """Return the view of all items but some, in any order."""
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
            How many; all of them where there are fewer.
        seed : int
        among : int64 array, optional
            The ids to draw from; by default all.

        Returns
        -------
        int64 array
            Increasing.
        """
        ids = self.ids if among is None else among
        return np.sort(np.random.default_rng(seed).permutation(ids)[:n])

    # -- vectors -----------------------------------------------------------------------------

    @final
    def project(self, embeddings: Any, name: str = "embeddings") -> Embeddings:
        """Return embeddings as they are searched.

        Raises
        ------
        InvalidInputError
            They are of another shape, not finite, or have no direction; ``name`` names them.
        """
        if self.projection.kind != "identity":
            kept = as_kept(embeddings, metric=self.metric, dtype=self.dtype)
            embeddings = self.projection.apply(kept)
        return check_scorable(embeddings, self.dim, self.metric, name)

    @final
    def embeddings(self, ids: Ids) -> Embeddings:
        """Return the kept embeddings of some ids, in their order: float32."""
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
            Increasing; by default all.
        """
        for block, embeddings in self._embeddings(self.ids if ids is None else ids):
            yield block, self.scorable(self.projection.apply(embeddings))

    @final
    def embedding_blocks(self, ids: Ids | None = None) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield ids and their kept embeddings in pieces; takes what `blocks` does."""
        yield from self._embeddings(self.ids if ids is None else ids)

    @final
    def scorable(self, vectors: Embeddings) -> Embeddings:
        """Return vectors of length 1 for metric ``"cosine"``, for others as they are."""
        return self.metric.prepare(vectors)

    # -- searching -----------------------------------------------------------------------------

    @final
    def search(self, vectors: Embeddings, k: int) -> Neighbors:
        """Find the items nearest to vectors.

        Parameters
        ----------
        vectors : float32 array of shape (n, dim)
            As `project` makes them.
        k : int
            At least 1.

        Returns
        -------
        Neighbors
            Best first: never fewer than ``min(k, len(view))`` of each, -1 and -inf after the
            last. There are ``k`` columns, or as many as the gallery has items where these are
            fewer.

        Raises
        ------
        StaleViewError
            The gallery has changed its projection.
        """
        k = max(1, min(check_count(k, "k"), self._most()))
        return padded(self._search(vectors, k), k)

    @final
    def nearest(self, ids: Ids, k: int) -> Iterator[tuple[slice, Neighbors]]:
        """Search with items, which may find themselves.

        Parameters
        ----------
        ids : int64 array of shape (n,)
            Increasing.
        k : int

        Yields
        ------
        (slice, Neighbors)
            Of one part of ``ids`` after the other.
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
        """Search with items for others: the one place where an item leaves itself out.

        Parameters
        ----------
        ids : int64 array of shape (n,)
            Increasing.
        k : int

        Yields
        ------
        (slice, Neighbors)
            Of one part of ``ids`` after the other: shape (m, k), best first.
        """
        for part, found in self.nearest(ids, k + 1):
            # Among many equals, or by an index that is not exact, the item itself may not be
            # found; then the farthest is dropped.
            yield part, first_of(found, found.ids != ids[part, None], k)

    @final
    def nearest_unseen(self, ids: Ids, k: int) -> Iterator[tuple[Ids, Neighbors]]:
        """Search with labelled items for others, as a new image of their class would.

        A projection that was fitted to the labels knows its own items better than it will know a
        new image. There the items are searched with in three parts, each among the rest, by a
        projection that is fitted without them. Items that are alone in their class are left out.

        Parameters
        ----------
        ids : int64 array of shape (n,)
            Increasing, with labels.
        k : int

        Yields
        ------
        (int64 array of shape (m,), Neighbors)
            Ids of one part after the other, and what is near them.
        """
        if not self.projection.from_labels:
            for part, found in self.nearest_others(ids, k):
                yield ids[part], padded(found, k)
            return
        folds = fold_of(self.labels.codes, _FOLDS)
        for fold in range(_FOLDS):
            held_out = self.labels.ids[folds == fold]
            asked = np.intersect1d(ids, held_out, assume_unique=True)
            if not len(asked):
                continue
            rest = self.held_out(held_out)
            for block, embeddings in self._embeddings(asked):
                yield block, padded(rest.search(rest.project(embeddings), k), k)

    @final
    def held_out(self, ids: Ids) -> View:
        """Return the view of all items but some, increasing, as if they had never been there.

        A projection that was fitted to the labels is fitted again without them, and then searches
        the items that are left by comparing with all of them.
        """
        rest = self._without(ids)
        if not self.projection.from_labels:
            return rest
        return _Refitted(rest)


class _Refitted(View):
    """A view whose projection is fitted again to the labels that are left in it."""

    def __init__(self, base: View) -> None:
        self._base = base
        ids, codes, _ = base.labels
        present, renumbered = np.unique(codes, return_inverse=True)

        def labelled() -> Iterator[tuple[Embeddings, Ids]]:
            for block, embeddings in base.embedding_blocks(ids):
                yield embeddings, renumbered[np.searchsorted(ids, block)]

        before = base.projection
        fit = Discriminant(labelled(), len(present))
        shrinkage = float(before.info["shrinkage"])
        projection = fit.projection(shrinkage, min(before.dim_out, fit.max_dim))
        super().__init__(base.metric, projection, base.dtype)

    def _ids(self) -> Ids:
        return self._base.ids

    def _search(self, vectors: Embeddings, k: int) -> Neighbors:
        return exact_search(self.scorable(vectors), self.blocks(), k, self.metric)

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
        return self._base._without(ids)  # noqa: SLF001  # of the same family

    def _labelled(self) -> View:
        return self._base._labelled()  # noqa: SLF001  # the same


def padded(found: Neighbors, k: int) -> Neighbors:
    """Return neighbours of ``k`` columns, -1 and -inf after those there are."""
    n, m = found.ids.shape
    if m >= k:
        return found
    ids: Ids = np.full((n, k), -1, dtype=np.int64)
    scores: Embeddings = np.full((n, k), -np.inf, dtype=np.float32)
    ids[:, :m], scores[:, :m] = found
    return Neighbors(ids, scores)
