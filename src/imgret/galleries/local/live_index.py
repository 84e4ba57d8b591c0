"""The index of a gallery in use, kept in step with the store.

The index is a cache of the store: it follows the catalog by two numbers, how many rows it
contains and which change it saw last.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.abc import VectorIndex
from imgret.errors import InvalidInputError, UnknownNameError
from imgret.galleries.local import planner as planning
from imgret.galleries.local.checkpoint import Checkpoint, read_checksums
from imgret.galleries.local.planner import FilterPlan, SearchPlan
from imgret.galleries.local.store import Store
from imgret.galleries.local.stored_index import fits, read_index, read_projection
from imgret.indexes.make import IndexMaker, auto_choice, index_maker, make_index, part_of
from imgret.projections import IdentityProjection, Projection
from imgret.search import StaleViewError
from imgret.support.checks import check_count, check_scorable
from imgret.support.exact import best_of, exact_search, first_of
from imgret.support.locks import ReadWriteLock, RLock, renew_in_child
from imgret.support.plan import exact_cost
from imgret.types import Embeddings, Ids, Json, Neighbors, Part

__all__ = ["LiveIndex"]

_log = logging.getLogger(__name__)
# A trained index has cells for the number of items at that time; from this many times more on,
# it is rebuilt.
_RETRAIN_GROWTH = 4
# Enough for the cells of any index here (Faiss uses at most 256 per cell).
_TRAINING_ITEMS = 262_144
# Seconds for which items are added to an index in use at a time; searches wait meanwhile.
_PIECE_SECONDS = 0.05
# Minimum and maximum number of items added at a time; each addition to a graph has a fixed cost.
_PIECE_ITEMS = 16, 16_384
# Plans that a search makes without the lock, as something may change meanwhile.
_PLANS = 3
# Factor by which a search is widened if a filter removes what is near.
_WIDER = 32
# Bytes of vectors that are compared at a time where they are stored: a cache holds them.
_SCANNED_BYTES = 2**20
# Candidates in addition to the best, as the last bits of their scores may differ.
_SPARE = 8
_AS_KEPT: Any = object()
_NOTHING: tuple[Any, Ids] = (None, np.zeros(0, dtype=np.int64))


class LiveIndex:
    """The index and the projection of a store.

    Parameters
    ----------
    store : Store
    prepared : VectorIndex, optional
        Empty index made by the user; by default one is made from the manifest.
    """

    def __init__(self, store: Store, prepared: VectorIndex | None = None) -> None:
        self._store = store
        self._syncing = RLock()
        # Shared by searches, and held exclusively while what they see changes.
        self._seeing = ReadWriteLock()
        self._make = index_maker(store.manifest.index, store.manifest.metric, prepared)
        self._index: VectorIndex | None = None
        # The gallery whose stored index is still to be read, or was read and is not up to date.
        self._beside: Path | None = None
        self._rows = 0  # ids below this are in the index
        self._seen = 0  # changes up to this are in the index
        self._half = False  # whether it may hold items that searches must not see yet
        self._piece = 256  # items added at a time, adapted to the time they take
        self._trained_on = 0  # number of items when the index was built
        self._prepared = _NOTHING  # what the next scan is of, and the ids it goes through
        self._asked = False  # whether something was searched for
        self._stored: tuple[int, int] | None = None  # rows and changes of the copy on disk
        self._left = False  # whether the index is in use by the LiveIndex of another store by now
        self.generation = 0  # times that items got other ids
        self.projection: Projection = IdentityProjection(store.dim)
        renew_in_child(self)

    def renew(self) -> None:
        """In a forked child, forget an index that another thread was changing."""
        if self._seeing.abandoned or (self._index is not None and self._index.is_abandoned):
            self._seeing = ReadWriteLock()
            self._index, self._beside = None, self._store.path

    @property
    def store(self) -> Store:
        """The store whose items are indexed."""
        return self._store

    @property
    def is_there(self) -> bool:
        """Whether the index is in memory, or may be stored beside the gallery."""
        return self._index is not None or self._beside is not None

    @property
    def dim(self) -> int:
        """Dimension of the indexed vectors."""
        return self.projection.dim_out

    def describe(self) -> str:
        """Name the index, and what ``"auto"`` chose."""
        name, chosen = self._store.manifest.index.name, self._chosen()
        return repr(name) if name != "auto" or chosen is None else f"'auto' ({chosen[0]})"

    def reason(self) -> str | None:
        """Say why ``"auto"`` chose what it did; None for an index that was named."""
        part, chosen = self._store.manifest.index, self._chosen()
        if part.name != "auto" or chosen is None:
            return None
        return auto_choice(part, chosen[1], self.dim).reason

    def _chosen(self) -> tuple[str, int] | None:
        """Return the name of the index, and the number of items it is for; None without any."""
        if self._index is not None:
            return self._index.name, self._trained_on
        found = None if self._beside is None else Store.read_checkpoint(self._beside)
        if found is not None and fits(self._store.manifest, found[0]):
            return found[0].part.name, found[0].trained_on
        part, n = self._store.manifest.index, len(self._store.catalog)
        if not n or part.name != "auto":
            return None
        return auto_choice(part, n, self.dim).name, n

    def find(self, vectors: Embeddings, k: int, where: Any, projection: Projection) -> Neighbors:
        """Find the ids nearest to vectors, among those that pass a filter.

        The result is from one state of the gallery: a change that another thread is adding to the
        index is seen as a whole or not at all.

        Parameters
        ----------
        vectors : float32 array of shape (n, dim)
            Vectors as `View.project` returns them.
        k : int
        where : SqliteCondition, optional
            Compiled filter.
        projection : Projection
            Projection of the vectors.

        Returns
        -------
        Neighbors
            Neighbours with 1 to ``k`` columns, no more than the index holds vectors or than pass
            the filter; padded with -1 and -inf.

        Raises
        ------
        StaleViewError
            The gallery no longer uses ``projection``.
        """
        if (empty := self._empty()) is not None:
            self._asked = True
            return self._scanned(empty, vectors, k, where, projection)
        self._catch_up()
        if where is None:
            with self._seeing.read():
                self._check_projection(projection)
                index, rows = self._required(), self._rows
                k = _clipped(k, len(index))
                if not self._half:
                    found = index.find(vectors, k)
                    # A change may have begun meanwhile.
                    if not self._half or not (found.ids >= rows).any():
                        return found
                return _search_below(rows, index, vectors, k)
        for _ in range(_PLANS):
            # Planned without the lock, as the filter may have to read every item.
            basis = self._basis()
            choice = self._choice(k, where, len(vectors))
            with self._seeing.read():
                self._check_projection(projection)
                if basis == self._basis():
                    return self._by_choice(choice, vectors, k, where)
        with self._seeing.read():  # there are changes all the time: make them wait
            self._check_projection(projection)
            return self._by_choice(self._choice(k, where, len(vectors)), vectors, k, where)

    def _empty(self) -> VectorIndex | None:
        """Return an index to be filled with what the first search finds; None for another search.

        A command asks once. An index that compares all vectors would first have to read them and
        keep a copy of them, which takes longer than to compare them where they are stored; that is
        for the second search.
        """
        if self._index is not None or self._asked or not len(self._store.catalog):
            return None
        with self._syncing:
            self._take_up()
            if self._index is not None:
                return None
            index = self._new(self.projection, len(self._store.catalog))
            return index if index.is_exact and index.cheap_to_build else None

    def _scanned(
        self,
        empty: VectorIndex,
        vectors: Embeddings,
        k: int,
        where: Any,
        projection: Projection,
    ) -> Neighbors:
        self._check_projection(projection)
        ids = self._scanned_ids(where)
        dim, metric = self.dim, self._store.manifest.metric
        blocks = (
            (block, check_scorable(projection.apply(embeddings), dim, metric, "vectors"))
            for block, embeddings in self._store.blocks(ids, _SCANNED_BYTES, once=True)
        )
        k = _clipped(k, len(ids))
        found = exact_search(vectors, blocks, k + _SPARE, metric)
        best = np.array(sorted({*found.ids.ravel().tolist()} - {-1}), dtype=np.int64)
        if not len(best):
            return Neighbors(found.ids[:, :k], found.scores[:, :k])
        # The index scores them, so that a score is the same in every search.
        empty.add(projection.apply(self._store.read(best)), best)
        return empty.find(vectors, k)

    def _scanned_ids(self, where: Any) -> Ids:
        catalog = self._store.catalog
        state = catalog.version, where
        (prepared, ids), self._prepared = self._prepared, _NOTHING
        if prepared == state:
            return ids
        return catalog.live_ids() if where is None else catalog.matching(where)

    def prepare(self, where: Any) -> None:
        """Do what `find` does first, before it looks at the vectors."""
        if self._empty() is None:
            self._catch_up()
            return
        state, ids = (self._store.catalog.version, where), self._scanned_ids(where)
        for _ in self._store.blocks(ids, _SCANNED_BYTES, once=True):
            pass
        self._prepared = state, ids

    def _check_projection(self, projection: Projection) -> None:
        self._check_not_left()
        if projection.fingerprint != self.projection.fingerprint:
            raise StaleViewError("view: the projection of the gallery has changed")

    def _check_not_left(self) -> None:
        if self._left:
            raise StaleViewError("view: what is left of removed items was deleted from the gallery")

    def explain(self, k: int, where: Any, n_queries: int) -> SearchPlan:
        """Return the plan that `search` would follow."""
        k, n_queries = check_count(k, "k"), check_count(n_queries, "n_queries")
        self._catch_up()
        return planning.explain(
            self._required(),
            self._store.catalog,
            rows=self._rows,
            k=k,
            where=where,
            n_queries=n_queries,
        )

    def _basis(self) -> tuple[object, int, int]:
        """Return what a plan depends on."""
        return self._index, self._rows, self._seen

    def _choice(self, k: int, where: Any, n_queries: int) -> FilterPlan:
        return planning.choose_way(
            self._required(),
            self._store.catalog,
            rows=self._rows,
            k=k,
            where=where,
            n_queries=max(n_queries, 1),
        )

    def _by_choice(self, choice: FilterPlan, vectors: Embeddings, k: int, where: Any) -> Neighbors:
        index = self._required()
        if choice.allowed is None:
            k = _clipped(k, len(index))
            return self._search_and_check(index, vectors, k, where, choice)
        k = _clipped(k, len(choice.allowed))
        found = index.find(vectors, k, allowed=choice.allowed)
        if choice.way == "exact" or index.is_exact:
            return found
        # If what passes is far from a query, an index that searches nothing else misses some of it.
        return _united(found, self._search_and_check(index, vectors, k, where, choice))

    def _search_and_check(
        self, index: VectorIndex, vectors: Embeddings, k: int, where: Any, choice: FilterPlan
    ) -> Neighbors:
        """Search for more neighbours than requested, and keep those that pass."""
        catalog, rows, listed = self._store.catalog, self._rows, choice.allowed

        def passes(ids: Ids) -> NDArray[np.bool_]:
            if listed is not None:
                places = np.minimum(np.searchsorted(listed, ids), len(listed) - 1)
                return np.equal(listed[places], ids)
            held = np.unique(ids[ids < rows])
            passing = np.array(sorted(catalog.passing(where, held.tolist())), dtype=np.int64)
            return np.isin(ids, passing)

        def allowed() -> Ids:
            matching = catalog.matching(where) if listed is None else listed
            return matching[: np.searchsorted(matching, rows)]

        return _search_widely(index, vectors, k, share=choice.share, passes=passes, allowed=allowed)

    def _required(self) -> VectorIndex:
        assert self._index is not None  # noqa: S101  # `_catch_up` has seen to it
        return self._index

    def _catch_up(self) -> None:
        """Add what is new in the store, unless another thread is doing so; do not wait for it."""
        if self._index is None or self._beside is not None:
            self.sync()
        elif self._rows != self._store.catalog.rows and self._syncing.acquire(blocking=False):
            try:
                self.sync()
            finally:
                self._syncing.release()

    def sync(self) -> VectorIndex:
        """Bring the index up to date with the store, and return it."""
        with self._syncing:
            self._check_not_left()
            catalog = self._store.catalog
            self._take_up()
            index = self._index
            if index is None or self._outgrown(index):
                return self._build(self._make)
            changes, rows = catalog.changes, catalog.rows
            # Searches do not see ids in the index that are not below `_rows`, and run between the
            # pieces. Some ids are in the index already if an earlier try was interrupted.
            gone = catalog.removed_since(self._seen)
            gone = gone[index.holds(gone)]
            if len(gone) and (not index.supports_remove or index.removal_rebuilds(len(gone))):
                return self._build(self._make)
            last = None
            if rows > self._rows:
                new = catalog.live_ids(self._rows)
                self._half = True
                for block, vectors in self._pieces(new[~index.holds(new)]):
                    if last is not None:
                        self._let_search(self._add(index, *last))
                    last = vectors, block
            taken = 0.0
            with self._seeing.write():
                if last is not None:
                    taken = self._add(index, *last)
                if len(gone):
                    index.remove(gone)
                self._rows, self._seen = rows, changes
                self._half, self._beside = False, None
            self._let_search(taken)
            if last is not None or len(gone):
                _log.debug("brought index %s up to date: %d vectors", index.name, len(index))
            return index

    def _add(self, index: VectorIndex, vectors: Embeddings, ids: Ids) -> float:
        """Add a piece, adapt the size of the next one to the time it took, and return that time."""
        started = time.perf_counter()
        index.add(vectors, ids)
        taken = time.perf_counter() - started
        fitting = int(len(ids) * _PIECE_SECONDS / max(taken, 1e-6))
        least, most = _PIECE_ITEMS
        self._piece = max(least, min(fitting, 2 * self._piece, most))
        return taken

    def _let_search(self, taken: float) -> None:
        """Give searches that had to wait as much time as they waited."""
        if self._seeing.is_read:
            time.sleep(min(taken, _PIECE_SECONDS))

    def follow(self) -> None:
        """Add new items as they come, if that costs no more than adding all at the end."""
        with self._syncing:
            rows = self._store.catalog.rows
            self._take_up()
            if self._index is None and not len(self._store.catalog):
                self._build(self._make)
            if self._index is not None and not self._index.needs_training and rows > self._rows:
                self.sync()

    def configure(self, tuned: Json) -> None:
        """Search with other settings from now on, and store them.

        Parameters
        ----------
        tuned : dict
            ``index``, the name of the index, and ``settings``; further entries are only stored.
        """
        with self._syncing:
            self._store.change_manifest(tuned=tuned)
            self._required().configure(**tuned["settings"])

    def rebuild(self, part: Part, prepared: VectorIndex | None) -> None:
        """Switch to another index; the one in use stays until the new one is ready."""
        with self._syncing:
            make = index_maker(part, self._store.manifest.metric, prepared)
            tuned, manifest = None, self._store.manifest
            if manifest.tuned is not None and part == manifest.index:
                tuned = manifest.tuned
            self._build(make, tuned)
            self._make = make
            self._store.change_manifest(index=part, tuned=tuned)
            self._stored = None
            self._store.drop_index()

    def project(self, projection: Projection) -> None:
        """Change the projection and rebuild the index."""
        with self._syncing:
            self._build(self._make, self._store.manifest.tuned, projection=projection)
            self._store.drop_index()
            self._stored = None
            self._store.set_projection(projection)

    # -- on disk ---------------------------------------------------------------------------

    def restore(self, path: Path) -> None:
        """Load the stored projection of the gallery at ``path``, and its index when needed.

        A gallery in memory reads the index now, as it does not keep the files.
        """
        fingerprint = self._store.manifest.projection
        if fingerprint is not None:
            self.projection = read_projection(path, fingerprint)
        if len(self._store.catalog):
            self._beside = path
            if self._store.path is None:
                self.sync()

    def checkpoint(self) -> None:
        """Write the index beside the gallery, unless the copy there is current."""
        with self._syncing:
            kept = self.to_checkpoint()
            if kept is not None and self._stored != (kept[0].rows, kept[0].changes):
                self._store.write_index(*kept)
                self._stored = kept[0].rows, kept[0].changes

    def to_checkpoint(self) -> tuple[Checkpoint, Callable[[Path], None]] | None:
        """Return what to store of the index; None if building it is as fast."""
        index = self._index
        if index is None or index.cheap_to_build or not len(index):
            return None
        if not (index.ids[1:] > index.ids[:-1]).all():
            return None  # readers beside a writer rely on the order: see `stored_index`
        checkpoint = Checkpoint(
            rows=self._rows,
            changes=self._seen,
            part=part_of(index),
            projection=self.projection.fingerprint,
            trained_on=self._trained_on,
        )
        return checkpoint, index.save_state

    def to_copy(self, kept: Ids) -> tuple[Checkpoint, Callable[[Path], None]] | None:
        """Return what to store of the index beside a copy; None as in `to_checkpoint`.

        Parameters
        ----------
        kept : int64 array of shape (n,)
            Increasing ids; item ``i`` of the copy is the one with ``kept[i]`` here.
        """
        found, index = self.to_checkpoint(), self._index
        if found is None or index is None:
            return None
        checkpoint, write = found
        count = int(np.searchsorted(kept, checkpoint.rows))
        if not np.array_equal(index.ids, kept[:count]):
            return None  # another process has removed some
        checkpoint = replace(checkpoint, rows=count)
        if kept[count - 1] == count - 1:
            return checkpoint, write
        if not index.supports_renumber:
            return None

        def write_renumbered(directory: Path) -> None:
            write(directory)
            copy = make_index(checkpoint.part, index.dim, index.metric)
            copy.load_state(directory)
            for file in directory.iterdir():
                file.unlink()
            copy.renumber(np.arange(count))
            copy.save_state(directory)

        return checkpoint, write_renumbered

    def moved_to(self, store: Store, ids: Ids) -> LiveIndex:
        """Return the index of a store without removed items, and leave it this one's.

        Searches by views of this one raise `StaleViewError` from now on.

        Parameters
        ----------
        store : Store
        ids : int64 array of shape (n,)
            Ids of its items here: item ``i`` is the one with ``ids[i]``.
        """
        new = LiveIndex(store)
        new._make, new._piece, new.projection = self._make, self._piece, self.projection
        new.generation = self.generation + 1
        with self._syncing, self._seeing.write():
            self._left = True
            index = self._index
            if index is None or not index.supports_renumber or not np.array_equal(index.ids, ids):
                return new  # which builds another one when it is needed
            index.renumber(np.arange(len(ids)))
            new._prepare(index, self.projection, store.manifest.tuned)
            new._index, new._trained_on = index, self._trained_on
            new._rows, new._seen = store.catalog.rows, store.catalog.changes
        return new

    def _take_up(self) -> None:
        """Use the stored index, if it was not read yet and is usable."""
        if self._index is not None or self._beside is None:
            return
        found = read_index(self._store, self._beside, self.projection)
        if found is None:
            self._beside = None
            return
        index, checkpoint = found
        if self._store.path is not None:
            self._store.row_checks.use_copy(read_checksums(self._beside, checkpoint.rows))
        self._prepare(index, self.projection, self._store.manifest.tuned)
        catalog = self._store.catalog
        self._index = index
        self._rows = min(checkpoint.rows, catalog.rows)
        self._seen = min(checkpoint.changes, catalog.changes)
        self._trained_on = checkpoint.trained_on
        self._stored = checkpoint.rows, checkpoint.changes
        _log.info("read stored index %s of %d vectors", index.name, len(index))

    # -- building ----------------------------------------------------------------------------

    def _outgrown(self, index: VectorIndex) -> bool:
        n = len(self._store.catalog)
        if index.needs_training and n >= _RETRAIN_GROWTH * max(self._trained_on, 1):
            return True
        part = self._store.manifest.index
        if part.name != "auto" or self._trained_on <= n < 2 * self._trained_on:
            return False
        return auto_choice(part, n, self.dim).name != index.name

    def _build(
        self, make: IndexMaker, tuned: Json | None = _AS_KEPT, *, projection: Any = _AS_KEPT
    ) -> VectorIndex:
        """Build a new index beside the one in use, and replace that when it is done."""
        if projection is _AS_KEPT:
            projection = self.projection
        catalog = self._store.catalog
        changes, rows = catalog.changes, catalog.rows
        ids = catalog.live_ids()
        started = time.perf_counter()
        index = self._new(projection, len(ids), make)
        if index.needs_training and not index.is_trained and len(ids):
            sample = ids
            if len(ids) > _TRAINING_ITEMS:
                generator = np.random.default_rng(0)
                sample = np.sort(generator.choice(ids, _TRAINING_ITEMS, replace=False))
            index.train(projection.apply(self._store.read(sample)), expected=len(ids))
        for block, embeddings in self._store.blocks(ids):
            index.add(projection.apply(embeddings), block)
        self._prepare(index, projection, self._store.manifest.tuned if tuned is _AS_KEPT else tuned)
        with self._seeing.write():
            self._index, self.projection = index, projection
            self._rows, self._seen, self._trained_on = rows, changes, len(ids)
            self._half, self._beside = False, None
        if len(ids):
            _log.info(
                "built index %s of %d vectors in %.2f s",
                index.name,
                len(ids),
                time.perf_counter() - started,
            )
        return index

    def _new(self, projection: Projection, n: int, make: IndexMaker | None = None) -> VectorIndex:
        """Return an empty index for so many items."""
        try:
            return (make or self._make)(projection.dim_out, n)
        except (InvalidInputError, UnknownNameError) as error:  # an option that is in the manifest
            raise type(error)(
                f"{self._store.name}: its index cannot be made: {error}; give it another with "
                f"reindex()"
            ) from error

    def _prepare(self, index: VectorIndex, projection: Projection, tuned: Json | None) -> None:
        """Let an index re-rank by the stored embeddings, and search as it was tuned."""
        store = self._store  # not `self`, which has the index: a cycle would keep the files open
        index.refine_by(
            lambda ids: projection.apply(store.read(ids)),
            store.table if projection.fingerprint is None else None,
        )
        if tuned is not None and tuned["index"] == index.name:
            index.configure(**tuned["settings"])

    def _pieces(self, ids: Ids) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield increasing ids and their vectors, in pieces that are added quickly."""
        for block, embeddings in self._store.blocks(ids):
            vectors = self.projection.apply(embeddings)
            start = 0
            while start < len(block):
                piece = slice(start, start + self._piece)
                start = piece.stop
                yield block[piece], vectors[piece]


def _clipped(k: int, there: int) -> int:
    """Return how many columns an answer needs: no more than can be found, but at least one."""
    return max(1, min(k, there))


def _search_below(rows: int, index: VectorIndex, vectors: Embeddings, k: int) -> Neighbors:
    """Search for ids below ``rows`` in an index with more ids, which are increasing."""
    ids = index.ids
    known = ids[: np.searchsorted(ids, rows)]
    if not len(known):
        return index.find(vectors, k, allowed=known)
    return _search_widely(
        index,
        vectors,
        k,
        share=len(known) / len(ids),
        passes=lambda found: (found >= 0) & (found < rows),
        allowed=lambda: known,
    )


def _search_widely(
    index: VectorIndex,
    vectors: Embeddings,
    k: int,
    *,
    share: float,
    passes: Callable[[Ids], NDArray[np.bool_]],
    allowed: Callable[[], Ids],
) -> Neighbors:
    """Search for more neighbours than requested, and keep those that pass, a share of all.

    If too few pass, the filter removes just what is near the query. An approximate index that
    searched only what passes would miss items, as the lists and paths near the query lead to items
    that do not pass. So the search is widened as long as that reaches further and costs less than
    comparing with all that pass. Otherwise all that pass are compared.
    """
    # Three standard deviations more than expected, and a margin for a small k.
    wide = math.ceil((k + 3 * math.sqrt(k * (1 - share))) / share) + 5
    asked = max(k, min(wide, len(index) + 1))
    found = index.find(vectors, asked)
    ids, scores = first_of(found, passes(found.ids), k)
    # Too few pass, although the index has more.
    short = np.flatnonzero((ids[:, -1] < 0) & (found.ids[:, -1] >= 0))
    while len(short):
        looked_at = index.plan(asked, n_queries=len(short)).compared
        asked *= _WIDER
        cost = index.plan(asked, n_queries=len(short)).compared
        if not looked_at < cost < exact_cost(round(share * len(index)), len(short)):
            matching = allowed()
            columns = _clipped(k, len(matching))
            ids[short], scores[short] = -1, -np.inf
            ids[short, :columns], scores[short, :columns] = index.find(
                vectors[short], columns, allowed=matching, exact=True
            )
            break
        found = index.find(vectors[short], asked)
        kept = passes(found.ids)
        ids[short], scores[short] = first_of(found, kept, k)
        # The farther half of what a graph walk finds has gaps.
        enough = kept[:, : asked // 2].sum(axis=1) >= k
        short = short[~enough & (found.ids[:, -1] >= 0)]
    return Neighbors(ids, scores)


def _united(a: Neighbors, b: Neighbors) -> Neighbors:
    """Return the best of two answers of the same width to the same queries."""
    ids, scores = (
        np.concatenate([a.ids, b.ids], axis=1),
        np.concatenate([a.scores, b.scores], axis=1),
    )
    order = np.argsort(ids, axis=1, kind="stable")
    ids, scores = np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
    twice = np.zeros(ids.shape, dtype=np.bool_)
    twice[:, 1:] = ids[:, 1:] == ids[:, :-1]
    ids[twice], scores[twice] = -1, -np.inf
    return best_of(ids, scores, a.ids.shape[1])
