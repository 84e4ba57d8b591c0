"""The base of every vector index: checks, ids, locks, exact search and files.

`imgret.abc.VectorIndex` is the contract of the hooks, and derives from `IndexEngine`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import (
    DuplicateKeyError,
    ImgretError,
    InvalidInputError,
    KeyNotFoundError,
    NotTrainedError,
    StoreCorruptError,
    StoreMismatchError,
    UnsupportedError,
)
from imgret.support.checks import MAX_DIM, check_count, check_ids, check_scorable
from imgret.support.exact import best_of, by_id, exact_search
from imgret.support.idmap import IdMap
from imgret.support.locks import ReadWriteLock
from imgret.support.metric import DistanceMetric, check_metric
from imgret.support.plan import Plan, exact_cost
from imgret.support.state import read_state, write_state
from imgret.types import Embeddings, Ids, Json, Metric, Neighbors

__all__ = ["IndexEngine"]

# Rows fetched at a time when the base class searches by itself.
_BLOCK_ROWS = 16_384
# Lists of allowed ids that are remembered, with those of their ids that the index holds.
_LISTS_KEPT = 8
# Maximum number of padding entries in an answer: 1.5 GB.
_MOST_PADDING = 2**27


class IndexEngine(ABC):
    """The public methods of a vector index; they are final, and call the hooks.

    Parameters
    ----------
    dim : int
    metric : {"cosine", "ip", "l2"}
    """

    # Declared by a subclass: see `imgret.abc.VectorIndex`.
    name: str
    needs_training: bool
    supports_remove: bool
    supports_allowed: bool
    supports_renumber: bool
    is_exact: bool
    is_compressed: bool
    refine: int
    reconstructs_slowly: bool

    def __init__(self, dim: int, metric: Metric = "cosine") -> None:
        self._dim = check_count(dim, "dim", at_most=MAX_DIM)
        self._metric = check_metric(metric)
        self._ids = IdMap()
        self._was_trained = False
        self._lock = ReadWriteLock()
        self._true_vectors: Callable[[Ids], Embeddings] | None = None
        self._true_table: Callable[[Ids], Embeddings | None] | None = None
        self._expected = 0  # number of vectors, given for training
        self._changes = 0  # number of changes to the set of ids, or of what they stand for
        self._lists_seen: list[tuple[Any, int, Ids]] = []

    @abstractmethod
    def _options(self) -> Json: ...

    @abstractmethod
    def _train(self, vectors: Embeddings) -> None: ...

    @abstractmethod
    def _add(self, vectors: Embeddings, ids: Ids) -> None: ...

    @abstractmethod
    def _remove(self, ids: Ids) -> None: ...

    @abstractmethod
    def _removal_rebuilds(self, count: int) -> bool: ...

    @abstractmethod
    def _renumber(self, ids: Ids) -> None: ...

    @abstractmethod
    def _search(
        self, queries: Embeddings, k: int, allowed: Ids | None
    ) -> tuple[Ids, Embeddings]: ...

    @abstractmethod
    def _reconstruct(self, ids: Ids) -> Embeddings: ...

    @abstractmethod
    def _comparisons(self, k: int, n_allowed: int | None) -> float: ...

    @abstractmethod
    def _search_options(self) -> Mapping[str, Sequence[int]]: ...

    @abstractmethod
    def _configure(self, settings: Mapping[str, int]) -> None: ...

    @abstractmethod
    def _true_scores(
        self, queries: Embeddings, ids: Ids, vectors_of: Callable[[Ids], Embeddings]
    ) -> Embeddings: ...

    @abstractmethod
    def _pair_scores(self, queries: Embeddings, vectors: Embeddings, rows: Ids) -> Embeddings: ...

    @abstractmethod
    def _save(self, directory: Path) -> None: ...

    @abstractmethod
    def _load(self, directory: Path) -> None: ...

    # -- what it is ----------------------------------------------------------------------

    @property
    @final
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._dim

    @property
    @final
    def metric(self) -> DistanceMetric:
        """``"cosine"``, ``"ip"`` or ``"l2"``."""
        return self._metric

    @property
    @final
    def is_trained(self) -> bool:
        """Whether vectors can be added."""
        return self._was_trained or not self.needs_training

    @property
    @final
    def ids(self) -> Ids:
        """Ids in the order they were added: int64, shape (n,). Read-only view."""
        return self._ids.ids

    @final
    def config(self) -> Json:
        """Return the JSON values from which `from_config` makes the same index, but empty."""
        return {"dim": self._dim, "metric": self._metric.value, **self._options()}

    @classmethod
    @final
    def from_config(cls, config: Json) -> Self:
        """Make an empty index from what `config` returned."""
        return cls(**config)

    @final
    def __len__(self) -> int:
        return self._ids.size

    @final
    def __contains__(self, id_: object) -> bool:
        if not isinstance(id_, (int, np.integer)):
            return False
        return bool(self._ids.positions(np.array([id_], dtype=np.int64))[0] >= 0)

    @final
    def holds(self, ids: Any) -> NDArray[np.bool_]:
        """Return which ids the index holds.

        Parameters
        ----------
        ids : array of whole numbers of shape (n,)
            Distinct ids.

        Returns
        -------
        bool array of shape (n,)
        """
        ids = check_ids(ids, "ids")
        with self._lock.read():
            return self._ids.positions(ids) >= 0

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self._options().items())
        return (
            f"{type(self).__name__}(dim={self._dim}, metric={self._metric!r}{options}) "
            f"<{len(self)} vectors>"
        )

    # -- changing it ---------------------------------------------------------------------

    @final
    def train(self, vectors: Any, *, expected: int | None = None) -> None:
        """Train on a sample of vectors; does nothing if the index needs no training.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            Sample of the vectors that will be added. It is not stored.
        expected : int, optional
            Number of vectors that will be added; by default the size of the sample.

        Raises
        ------
        InvalidInputError
            The shape is wrong, a value is NaN, there are fewer vectors than the index needs, or
            the index is not empty.
        """
        vectors = self._checked(vectors, "vectors")
        if not self.needs_training:
            return
        if not len(vectors):
            raise InvalidInputError("vectors: expected at least 1 vector to train on, found none")
        with self._lock.write():
            if self._ids.size:
                raise InvalidInputError(
                    f"train: expected an empty index, found one with {self._ids.size} vectors; "
                    f"train before adding"
                )
            self._expected = len(vectors) if expected is None else check_count(expected, "expected")
            self._train(vectors)
            self._was_trained = True

    @final
    def add(self, vectors: Any, ids: Any) -> None:
        """Add vectors under new ids; on any error, none is added.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            Vectors, converted to float32.
        ids : array of whole numbers of shape (n,)
            Distinct ids of at least 0 that are not in the index.

        Raises
        ------
        DimensionError, InvalidInputError
            The vectors have another width, NaN or infinity, or for ``"cosine"`` a row of zeros;
            or the number of ids is not the number of vectors.
        DuplicateKeyError
            An id is given twice or is in the index already.
        NotTrainedError
            The index needs training first.
        """
        vectors = self._checked(vectors, "vectors")
        ids = check_ids(ids, "ids")
        if len(ids) != len(vectors):
            raise InvalidInputError(
                f"ids: expected one for each of {len(vectors)} vectors, found {len(ids)}"
            )
        with self._lock.write():
            self._require_training()
            taken = self._ids.positions(ids) >= 0
            if taken.any():
                raise DuplicateKeyError(
                    f"ids: expected new ones, found {ids[np.argmax(taken)]} in the index already "
                    f"({int(taken.sum())} of {len(ids)})"
                )
            if len(ids):
                self._add(vectors, ids)
                self._ids.append(ids)
                self._changes += 1

    @final
    def remove(self, ids: Any) -> int:
        """Remove ids; those that are not in the index are ignored.

        Parameters
        ----------
        ids : array of whole numbers of shape (n,)
            Distinct ids.

        Returns
        -------
        int
            Number of ids that were removed.

        Raises
        ------
        UnsupportedError
            The index cannot remove (``supports_remove`` is False).
        """
        ids = check_ids(ids, "ids")
        with self._lock.write():
            if not self.supports_remove:
                raise UnsupportedError(
                    f"{type(self).__name__} cannot remove (supports_remove is False); "
                    f"build a new index without those ids"
                )
            positions = self._ids.positions(ids)
            present = positions >= 0
            if present.any():
                self._remove(ids[present])
                self._ids.remove(positions[present])
                self._changes += 1
            return int(present.sum())

    @final
    def removal_rebuilds(self, count: int) -> bool:
        """Whether removing this many ids takes as long as rebuilding the index."""
        with self._lock.read():
            return self._removal_rebuilds(count)

    @final
    def renumber(self, ids: Any) -> None:
        """Give the vectors other ids, whose order is the same.

        Parameters
        ----------
        ids : array of whole numbers of shape (n,)
            Distinct ids of at least 0, one for each of `ids`, ordered alike by size.

        Raises
        ------
        InvalidInputError
            There are more or fewer of them, or they are ordered differently.
        UnsupportedError
            The index cannot renumber (``supports_renumber`` is False).
        """
        ids = check_ids(ids, "ids")
        with self._lock.write():
            if not self.supports_renumber:
                raise UnsupportedError(
                    f"{type(self).__name__} cannot renumber (supports_renumber is False); build a "
                    f"new index with those ids"
                )
            before = self._ids.ids
            if len(ids) != len(before):
                raise InvalidInputError(
                    f"ids: expected one for each of {len(before)} vectors, found {len(ids)}"
                )
            ordered = ids[np.argsort(before)]
            if not (ordered[1:] > ordered[:-1]).all():
                raise InvalidInputError(
                    "ids: expected the order of those they replace, found another"
                )
            if len(ids):
                self._renumber(ids)
                self._ids = IdMap(ids.copy())
                self._changes += 1

    # -- how it searches -----------------------------------------------------------------

    @final
    def refine_by(
        self,
        vectors_of: Callable[[Ids], Embeddings] | None,
        table: Callable[[Ids], Embeddings | None] | None = None,
    ) -> None:
        """Re-rank hits by their true vectors, if the index compresses.

        Parameters
        ----------
        vectors_of : callable or None
            Function from ids of the index, possibly repeated, to their vectors as they were added:
            float32 of shape (n, dim). It is called in the thread that searches.
        table : callable, optional
            Function that returns an array whose row i is the vector of id i, C-contiguous float32,
            in memory or mapped; or None if there is no such array. It is given the ids whose rows
            will be read, of any shape.
        """
        self._true_vectors, self._true_table = vectors_of, table
        self._changes += 1  # what is known of rows was of others

    @final
    def sweep(self) -> dict[str, list[int]]:
        """Return the options that trade recall for speed, with values to try, fastest first."""
        found = {name: list(values) for name, values in self._search_options().items()}
        if self.is_compressed and self._true_vectors is not None:
            found["refine"] = [1, 2, 3, 4, 6, 8, 12, 16, 32]
        return found

    @final
    def settings(self) -> dict[str, int]:
        """Return the current values of the options of `sweep`, without those not yet known."""
        names = [*self._search_options(), *(["refine"] if self.is_compressed else [])]
        values = {name: getattr(self, name) for name in names}
        return {name: int(value) for name, value in values.items() if value is not None}

    @final
    def configure(self, **settings: int) -> None:
        """Change options of `sweep`; the vectors stay unchanged.

        Raises
        ------
        InvalidInputError
            The index has no such option, or a value is below 1; nothing is changed.
        """
        known = {*self._search_options(), *(["refine"] if self.is_compressed else [])}
        for name, value in settings.items():
            if name not in known:
                raise InvalidInputError(
                    f"{type(self).__name__}: expected a search option "
                    f"({', '.join(sorted(known)) or 'the index has none'}), found {name!r}"
                )
            check_count(value, name, at_most=2**31 - 1)  # as Faiss counts
        with self._lock.write():
            own = {name: value for name, value in settings.items() if name != "refine"}
            if own:
                self._configure(own)
            self.refine = settings.get("refine", self.refine)

    @final
    def plan(self, k: int, *, n_allowed: int | None = None, n_queries: int = 1) -> Plan:
        """Return how a search would be answered.

        Parameters
        ----------
        k : int
        n_allowed : int, optional
            Number of ids that may be found; by default all.
        n_queries : int
            Number of queries in one call.

        Returns
        -------
        Plan
        """
        k, n_queries = check_count(k, "k"), check_count(n_queries, "n_queries")
        with self._lock.read():
            return self._planned(k, n_allowed, n_queries)

    # -- asking it -----------------------------------------------------------------------

    @final
    def search(
        self, queries: Any, k: int, *, allowed: Any = None, exact: bool = False
    ) -> Neighbors:
        """Find the ``k`` nearest vectors of each query.

        Parameters
        ----------
        queries : array of shape (n, dim)
            Queries, converted to float32.
        k : int
            Number of neighbours per query, at least 1. If the index has fewer, all are returned.
        allowed : array of whole numbers of shape (m,), optional
            The only ids that may be found; those the index does not hold are ignored.
        exact : bool
            Whether to compare with every vector that may be found, whatever the index.

        Returns
        -------
        Neighbors
            ``ids`` and ``scores`` of shape (n, k), best first, padded with -1 and -inf.
            Each row holds ``min(k, number that may be found)`` ids, never fewer. Equal scores
            are ordered by id; if ``is_exact``, ties with the last hit are also decided by id. A
            query gets the same scores alone and in a batch.

        Raises
        ------
        DimensionError, InvalidInputError
            As in `add`; or ``k`` is below 1, or so far above the number of vectors that the
            padding would fill memory.
        """
        k = check_count(k, "k")
        return self.find(self._checked(queries, "queries"), k, allowed=allowed, exact=exact)

    @final
    def find(
        self, queries: Embeddings, k: int, *, allowed: Any = None, exact: bool = False
    ) -> Neighbors:
        """Search without checking ``queries`` and ``k`` again; otherwise like `search`.

        Parameters
        ----------
        queries : float32 array of shape (n, dim)
            Queries as `View.project` returns them: C-contiguous, finite, and of length 1 for metric
            ``"cosine"``.
        k, allowed, exact
            As for `search`.
        """
        with self._lock.read():
            allowed = None if allowed is None else self._present(allowed)
            there = self._ids.size if allowed is None else len(allowed)
            found = min(k, there)
            if found < k and (k - found) * len(queries) > _MOST_PADDING:
                raise InvalidInputError(
                    f"k: expected about as many neighbours as there are ({there}), as answers are "
                    f"padded to k columns, found {k}; ask for min(k, {max(there, 1)})"
                )
            if found == 0 or not len(queries):
                shape = (len(queries), k)
                return Neighbors(
                    np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32)
                )
            exact = exact and not self.is_exact
            if not exact and allowed is not None:
                exact = self._planned(found, len(allowed), len(queries)).exact
            if exact:
                among = self._ids.ids if allowed is None else allowed
                ids, scores = self._search_exactly(queries, found, among)
            else:
                ids, scores = self._search_index(queries, found, there, allowed)
                last = ids[:, -1]
                if min(last.tolist()) < 0:  # an approximate index found too few: search exactly
                    short = last < 0
                    ids[short], scores[short] = self._search_exactly(
                        queries[short], found, self._ids.ids if allowed is None else allowed
                    )
                if len(scores) > 1 or len(set(scores[0].tolist())) < scores.shape[1]:
                    ids, scores = by_id(ids, scores)
        if found < k:
            pad = ((0, 0), (0, k - found))
            ids = np.pad(ids, pad, constant_values=-1)
            scores = np.pad(scores, pad, constant_values=-np.inf)
        return Neighbors(ids, scores)

    @final
    def reconstruct(self, ids: Any) -> Embeddings:
        """Return vectors as the index holds them.

        Parameters
        ----------
        ids : array of whole numbers of shape (n,)
            Distinct ids that are in the index.

        Returns
        -------
        float32 array of shape (n, dim)
            Vectors, of unit length for metric ``"cosine"``; only close to what was added if the
            index compresses.

        Raises
        ------
        KeyNotFoundError
            An id is not in the index.
        """
        ids = check_ids(ids, "ids")
        with self._lock.read():
            missing = self._ids.positions(ids) < 0
            if missing.any():
                raise KeyNotFoundError(
                    f"ids: expected ids in the index, found {ids[np.argmax(missing)]}, which is not"
                )
            if not len(ids):
                return np.empty((0, self._dim), dtype=np.float32)
            return self._reconstruct(ids)

    # -- keeping it ----------------------------------------------------------------------

    @final
    def save_state(self, directory: str | Path) -> None:
        """Write the index into an existing, empty directory; `load_state` reads it back."""
        directory = Path(directory)
        with self._lock.read():
            np.save(directory / "ids.npy", self._ids.ids, allow_pickle=False)
            if self.is_trained:
                self._save(directory)
            facts = {"name": self.name, "config": self.config(), "trained": self.is_trained}
            write_state(directory, facts)

    @final
    def load_state(self, directory: str | Path) -> None:
        """Load what `save_state` wrote into an empty index with the same `config`.

        Raises
        ------
        StoreCorruptError
            A file is missing or has changed: checksums are compared before anything is read.
        StoreMismatchError
            The files belong to another kind of index, or to another `config`.
        """
        directory = Path(directory)
        with self._lock.write():
            if self._ids.size:
                raise InvalidInputError(
                    f"load_state: expected an empty index, found one with {self._ids.size} vectors"
                )
            state = read_state(directory)
            expected = (self.name, json.loads(json.dumps(self.config())))
            if (found := (state.get("name"), state.get("config"))) != expected:
                raise StoreMismatchError(
                    f"{directory}: expected an index {expected[0]!r} with {expected[1]}, found "
                    f"{found[0]!r} with {found[1]}; rebuild the index"
                )
            try:
                ids = check_ids(np.load(directory / "ids.npy", allow_pickle=False), "ids.npy")
                if state.get("trained"):
                    self._load(directory)
            except ImgretError as error:
                raise StoreCorruptError(f"{directory}: {error}; rebuild the index") from error
            except Exception as error:  # whatever damaged or crafted files lead to
                raise StoreCorruptError(
                    f"{directory}: expected the files of a {type(self).__name__}, found "
                    f"{type(error).__name__}: {error}; rebuild the index"
                ) from error
            self._was_trained = bool(state.get("trained"))
            self._ids = IdMap(ids)
            self._changes += 1

    @property
    def is_abandoned(self) -> bool:
        """Whether this process was forked while another thread was changing the index.

        If so, the index is unusable: every method that reads the vectors raises an error.
        """
        return self._lock.abandoned

    # -- inside --------------------------------------------------------------------------

    def _checked(self, vectors: Any, name: str) -> Embeddings:
        return check_scorable(vectors, self._dim, self._metric, name)

    def _require_training(self) -> None:
        if not self.is_trained:
            raise NotTrainedError(
                f"{type(self).__name__}: expected a trained index; call train(vectors) with a "
                f"sample of what will be added"
            )

    def _present(self, allowed: Any) -> Ids:
        """Return those of the allowed ids that the index holds.

        A read-only list, as a gallery's filters return, is looked up once. If the same list is
        passed again, the result is the same array.
        """
        for given, known, present in self._lists_seen:
            if given is allowed and known == self._changes:
                return present
        ids = check_ids(allowed, "allowed")
        present = ids[self._ids.positions(ids) >= 0]
        if isinstance(allowed, np.ndarray) and allowed.base is None and not allowed.flags.writeable:
            self._lists_seen = [
                (allowed, self._changes, present),
                *self._lists_seen[: _LISTS_KEPT - 1],
            ]
        return present

    def _planned(self, k: int, n_allowed: int | None, n_queries: int) -> Plan:
        total = self._ids.size
        if n_allowed is None:
            what = "there is no filter"
            return Plan(self.is_exact, round(min(self._comparisons(k, None), total)), what)
        n_allowed = min(n_allowed, total)
        if not self.supports_allowed:
            return Plan(True, n_allowed, f"{self.name or type(self).__name__} takes no filter")
        work, exact = self._comparisons(k, n_allowed), exact_cost(n_allowed, n_queries)
        if exact <= work:
            return Plan(True, n_allowed, f"{n_allowed:,} match, so few that all are compared")
        what = (
            f"{n_allowed:,} match; the index costs about as much as comparing {round(work):,} "
            f"vectors per query, an exact search as much as {round(exact):,}"
        )
        return Plan(self.is_exact, round(work), what)

    def _search_index(
        self, queries: Embeddings, k: int, there: int, allowed: Ids | None
    ) -> tuple[Ids, Embeddings]:
        """Call `_search`; if the index compresses, re-rank what it finds by the true vectors."""
        vectors_of = self._true_vectors if self.is_compressed else None
        asked = k if vectors_of is None else min(k * self.refine, there)
        ids, scores = self._search(queries, asked, allowed)
        if ids.shape != (len(queries), asked) or scores.shape != ids.shape:
            raise ImgretError(
                f"{type(self).__name__}._search: expected shape {(len(queries), asked)}, "
                f"found {ids.shape} and {scores.shape}; this is a bug in the index"
            )
        if vectors_of is None:
            return ids, scores
        if ids.min() >= 0:
            return best_of(ids, self._true_scores(queries, ids, vectors_of), k)
        missing = ids < 0
        some = int(ids.max())
        if some < 0:
            return ids[:, :k], scores[:, :k]
        scores = self._true_scores(queries, np.where(missing, some, ids), vectors_of)
        scores[missing] = -np.inf
        return best_of(ids, scores, k)

    def _search_exactly(self, queries: Embeddings, k: int, ids: Ids) -> Neighbors:
        vectors_of: Callable[[Ids], Embeddings] = self._reconstruct
        given = self._true_vectors is not None and (self.is_compressed or self.reconstructs_slowly)
        if self._true_vectors is not None and given:
            vectors_of = self._true_vectors

        def blocks() -> Iterator[tuple[Ids, Embeddings]]:
            for start in range(0, len(ids), _BLOCK_ROWS):
                block = ids[start : start + _BLOCK_ROWS]
                vectors = vectors_of(block)
                if given:
                    vectors = self._metric.prepare(vectors)
                yield block, vectors

        return exact_search(queries, blocks(), k, self._metric, self._pair_scores)
