"""Keeps the index in step with the store, and asks it.

The index is a cache of the store: it follows the catalog by two numbers, how many rows it
has taken in and which change it saw last.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imgret import registry
from imgret.abc import VectorIndex
from imgret.abc.checks import check_count
from imgret.errors import ImgretError, InvalidInputError, StoreCorruptError
from imgret.indexes import choose
from imgret.parts import part_of
from imgret.projections import LinearProjection
from imgret.storage import Checkpoint, Part, Store
from imgret.types import Embeddings, Ids, Json, Metric, Neighbors

__all__ = ["Searcher", "index_part"]

# A trained index has its cells laid for as many items as there were; from this many times
# more on it is built anew.
_RETRAIN_GROWTH = 4
# Enough for the cells of any index here (Faiss looks at no more than 256 a cell).
_TRAINING_ITEMS = 262_144
# Where in the index the ids lie by which a filter is judged.
_SAMPLE = np.random.default_rng(0).random(100)
# From this share on, what is found without a filter holds enough that passes it.
_MOST = 0.5

Maker = Callable[[int, int], VectorIndex]


class Searcher:
    """The index and the projection of a store.

    Parameters
    ----------
    store : Store
    prepared : VectorIndex, optional
        An empty index the user made; by default one is made from the manifest.
    """

    def __init__(self, store: Store, prepared: VectorIndex | None = None) -> None:
        self._store = store
        self._syncing = threading.RLock()
        self._make = _maker(store.manifest.index, store.manifest.metric, prepared)
        self._index: VectorIndex | None = None
        self._rows = 0  # ids below this have been taken in
        self._seen = 0  # changes up to this have been followed
        self._trained_on = 0  # items there were when the index was built
        self._stored: tuple[int, int] | None = None  # rows and changes of the copy on disk
        self.projection: LinearProjection | None = None

    @property
    def dim(self) -> int:
        """Dimension of the indexed vectors."""
        return self._store.dim if self.projection is None else self.projection.dim_out

    def describe(self) -> str:
        """Name the index, and what ``"auto"`` chose."""
        name = self._store.manifest.index.name
        if name == "auto" and self._index is not None:
            return f"'auto' ({self._index.name})"
        return repr(name)

    def reason(self) -> str | None:
        """Say why ``"auto"`` chose what it did; None for an index that was named."""
        part = self._store.manifest.index
        if part.name != "auto" or self._index is None:
            return None
        return choose(max(self._trained_on, 1), self.dim, **part.config).reason

    def search(self, vectors: Any, k: int, where: Any = None) -> Neighbors:
        """Find the ids nearest to embeddings, of those a filter lets pass: see `VectorIndex`."""
        catalog, index = self._store.catalog, self._index
        if index is None or self._rows != catalog.rows:
            index = self.sync()
        if self.projection is not None:
            vectors = self.projection.apply(vectors)
        if where is None:
            return index.search(vectors, k)
        ids = index.ids
        share = catalog.share_matching(where, ids[(_SAMPLE * len(ids)).astype(np.int64)])
        if share < _MOST:
            return index.search(vectors, k, allowed=catalog.matching(where))
        return self._search_and_check(index, np.asarray(vectors), k, where, share)

    def _search_and_check(
        self, index: VectorIndex, vectors: Any, k: int, where: Any, share: float
    ) -> Neighbors:
        """Search for more than is wanted, and keep what passes: no list of all that pass."""
        catalog = self._store.catalog
        k = check_count(k, "k")
        # More by three standard deviations, and by what helps where k is small.
        wide = math.ceil((k + 3 * math.sqrt(k * (1 - share))) / share) + 5
        found = index.search(vectors, max(k, min(wide, len(index) + 1)))
        rows = found.ids.tolist()
        passing = catalog.passing(where, list({id_ for row in rows for id_ in row}))
        passes = np.array([[id_ in passing for id_ in row] for row in rows], dtype=bool)
        passes = passes.reshape(found.ids.shape)  # of no query, too
        first = np.argsort(~passes, axis=1, kind="stable")[:, :k]
        ids = np.take_along_axis(np.where(passes, found.ids, -1), first, axis=1)
        scores = np.take_along_axis(np.where(passes, found.scores, -np.inf), first, axis=1)
        # Too few pass, though not all there are were found.
        short = (ids[:, -1] < 0) & (found.ids[:, -1] >= 0)
        if short.any():
            allowed = catalog.matching(where)
            ids[short], scores[short] = index.search(vectors[short], k, allowed=allowed)
        return Neighbors(ids, scores)

    def sync(self) -> VectorIndex:
        """Bring the index up to date with the store, and return it."""
        with self._syncing:
            catalog = self._store.catalog
            index = self._index
            if index is None or self._outgrown(index):
                return self._build(self._make)
            gone = catalog.removed_since(self._seen)
            gone = gone[gone < self._rows]
            if len(gone) and not index.supports_remove:
                return self._build(self._make)
            changes, rows = catalog.changes, catalog.rows
            if len(gone):
                index.remove(gone)
            if rows > self._rows:
                self._fill(index, catalog.live_ids(self._rows))
            self._rows, self._seen = rows, changes
            return index

    def follow(self) -> None:
        """Take in new items as they come, where that costs no more than all at the end."""
        with self._syncing:
            rows = self._store.catalog.rows
            if self._index is None and not len(self._store.catalog):
                self._build(self._make)
            if self._index is not None and not self._index.needs_training and rows > self._rows:
                self.sync()

    def rebuild(self, part: Part, prepared: VectorIndex | None) -> None:
        """Change to another index; the one in use stays until the new one is ready."""
        with self._syncing:
            make = _maker(part, self._store.manifest.metric, prepared)
            self._build(make)
            self._make = make
            self._store.change_manifest(index=part)
            self._stored = None
            self._store.drop_index()

    def project(self, projection: LinearProjection | None) -> None:
        """Change the projection and build the index anew."""
        with self._syncing:
            before, self.projection = self.projection, projection
            try:
                self._build(self._make)
            except BaseException:
                self.projection = before
                raise
            self._store.drop_index()
            self._stored = None
            self._store.set_projection(
                None if projection is None else projection.fingerprint,
                None if projection is None else projection.save,
            )

    # -- on disk ---------------------------------------------------------------------------

    def restore(self, path: Path) -> None:
        """Take up the projection and the index kept beside the gallery at ``path``."""
        manifest = self._store.manifest
        if manifest.projection is not None:
            self.projection = _read_projection(path, manifest.projection)
        found = Store.read_checkpoint(path)
        if found is not None:
            checkpoint, state = found
            if (
                checkpoint.projection == manifest.projection
                and checkpoint.rows <= self._store.catalog.rows
                and checkpoint.changes <= self._store.catalog.changes
                and self._is_current(checkpoint)
            ):
                self._load(checkpoint, state, path)
        if len(self._store.catalog):
            self.sync()

    def checkpoint(self) -> None:
        """Write the index beside the gallery, unless the copy there is current."""
        with self._syncing:
            if self._index is not None and not len(self._store.catalog):
                return
            kept = self.to_checkpoint()
            if kept is not None and self._stored != (kept[0].rows, kept[0].changes):
                self._store.write_index(*kept)
                self._stored = kept[0].rows, kept[0].changes

    def to_checkpoint(self) -> tuple[Checkpoint, Callable[[Path], None]] | None:
        """Return what there is to keep of the index; None where building is as fast."""
        index = self._index
        if index is None or index.cheap_to_build or not len(index):
            return None
        checkpoint = Checkpoint(
            rows=self._rows,
            changes=self._seen,
            part=part_of(index),
            projection=None if self.projection is None else self.projection.fingerprint,
            trained_on=self._trained_on,
        )
        return checkpoint, index.save_state

    def _is_current(self, checkpoint: Checkpoint) -> bool:
        """Whether the stored index is of the kind the manifest names."""
        part = self._store.manifest.index
        return part.name == "auto" or (
            part.name == checkpoint.part.name
            and all(checkpoint.part.config.get(name) == v for name, v in part.config.items())
        )

    def _load(self, checkpoint: Checkpoint, state: Path, path: Path) -> None:
        try:
            index = _make_index(checkpoint.part, self.dim, self._store.manifest.metric)
            index.load_state(state)
        except ImgretError as error:
            warnings.warn(
                f"{path}: the stored index is of no use and is built anew: {error}", stacklevel=2
            )
            return
        self._index = index
        self._rows, self._seen = checkpoint.rows, checkpoint.changes
        self._trained_on = checkpoint.trained_on
        self._stored = self._rows, self._seen

    # -- building ----------------------------------------------------------------------------

    def _outgrown(self, index: VectorIndex) -> bool:
        n = len(self._store.catalog)
        if index.needs_training and n >= _RETRAIN_GROWTH * max(self._trained_on, 1):
            return True
        part = self._store.manifest.index
        if part.name != "auto" or self._trained_on <= n < 2 * self._trained_on:
            return False
        return choose(max(n, 1), self.dim, **part.config).name != index.name

    def _build(self, make: Maker) -> VectorIndex:
        catalog = self._store.catalog
        changes, rows = catalog.changes, catalog.rows
        ids = catalog.live_ids()
        index = make(self.dim, len(ids))
        if index.needs_training and not index.is_trained and len(ids):
            sample = ids
            if len(ids) > _TRAINING_ITEMS:
                generator = np.random.default_rng(0)
                sample = np.sort(generator.choice(ids, _TRAINING_ITEMS, replace=False))
            index.train(self._projected(self._store.read(sample)))
        if len(ids):
            self._fill(index, ids)
        self._index = index
        self._rows, self._seen, self._trained_on = rows, changes, len(ids)
        return index

    def _fill(self, index: VectorIndex, ids: Ids) -> None:
        for block, embeddings in self._store.blocks(ids):
            index.add(self._projected(embeddings), block)

    def _projected(self, embeddings: Embeddings) -> Embeddings:
        return embeddings if self.projection is None else self.projection.apply(embeddings)


def index_part(
    given: str | VectorIndex, options: Json, dim: int, metric: Metric
) -> tuple[Part, VectorIndex | None]:
    """Return name and options of an index, and the object where one was given.

    Raises
    ------
    UnknownNameError, InvalidInputError
        There is no such index or option; or the object is not empty, or of another
        dimension or metric.
    """
    if isinstance(given, str):
        part = Part(given, options)
        _make_index(part, dim, metric)  # raises here and now what it will raise
        return part, None
    if not isinstance(given, VectorIndex):
        raise InvalidInputError(
            f"index: expected a registered name or an imgret.abc.VectorIndex, found {given!r}"
        )
    if options:
        raise InvalidInputError(
            f"index: expected options only with a name, found {', '.join(options)} with an object"
        )
    if len(given) or given.dim != dim or given.metric != metric:
        raise InvalidInputError(
            f"index: expected an empty index of dimension {dim} and metric {metric!r}, found "
            f"{given!r}"
        )
    return part_of(given), given


def _maker(part: Part, metric: Metric, prepared: VectorIndex | None) -> Maker:
    """Return what makes an empty index, given its dimension and how many items it is for."""
    if prepared is None:
        return lambda dim, n: _make_index(part, dim, metric, n)
    unused = [prepared]

    def make(dim: int, n: int) -> VectorIndex:  # noqa: ARG001  # the size matters to 'auto' alone
        if unused and unused[0].dim == dim:
            return unused.pop()
        return type(prepared).from_config({**prepared.config(), "dim": dim})

    return make


def _make_index(part: Part, dim: int, metric: Metric, n: int = 0) -> VectorIndex:
    if part.name == "auto":
        choice = choose(max(n, 1), dim, **part.config)
        part = Part(choice.name, choice.options)
    index = registry.create("indexes", part.name, dim=dim, metric=metric, **part.config)
    if not isinstance(index, VectorIndex):
        raise InvalidInputError(
            f"index {part.name!r}: expected an imgret.abc.VectorIndex, found {type(index)}"
        )
    return index


def _read_projection(path: Path, fingerprint: str) -> LinearProjection:
    candidates = Store.projection_files(path)
    for candidate in candidates:
        if candidate.exists():
            projection = LinearProjection.load(candidate)
            if projection.fingerprint == fingerprint:
                return projection
    raise StoreCorruptError(
        f"{candidates[0]}: expected the projection {fingerprint[:12]} that the manifest names, "
        f'found another or none; restore it from a copy, or set "projection" to null in the '
        f"manifest to search the full embeddings"
    )
