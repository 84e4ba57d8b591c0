"""The stored index and projection of a gallery, loaded as of the snapshot the gallery has open."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgret.abc import VectorIndex
from imgret.errors import ImgretError, StoreCorruptError
from imgret.galleries.local.checkpoint import Checkpoint
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.indexes.make import make_index
from imgret.projections import LinearProjection, Projection
from imgret.support.warning import warn

__all__ = ["fits", "read_index", "read_projection"]

# Attempts to read a stored index, as a writer may replace it meanwhile.
_READS = 3
_QUICK = 100_000  # vectors compared


def read_projection(path: Path, fingerprint: str) -> LinearProjection:
    """Read the projection that the manifest of a gallery names.

    Raises
    ------
    StoreCorruptError
        No file holds this projection.
    """
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


def fits(manifest: Manifest, checkpoint: Checkpoint) -> bool:
    """Whether a stored index is the one that a manifest names."""
    part, tuned = manifest.index, manifest.tuned
    free = {} if tuned is None else tuned["settings"]  # set when the index is in use
    return checkpoint.projection == manifest.projection and (
        part.name == "auto"
        or (
            part.name == checkpoint.part.name
            and all(
                checkpoint.part.config.get(name) == value
                for name, value in part.config.items()
                if name not in free
            )
        )
    )


def read_index(
    store: Store, path: Path, projection: Projection
) -> tuple[VectorIndex, Checkpoint] | None:
    """Read the index stored beside a gallery.

    Parameters
    ----------
    store : Store
    path : Path
        Path where the store was opened; another gallery may be there by now.
    projection : Projection
        Projection applied to its vectors.

    Returns
    -------
    (VectorIndex, Checkpoint) or None
        The index holds nothing that the store does not see, even if the checkpoint covers more.
        None if no stored index is usable, with a warning if it is damaged.
    """
    for _ in range(_READS):
        found = Store.read_checkpoint(path)
        if found is None or not fits(store.manifest, found[0]):
            return None
        checkpoint, state = found
        if store.writable and checkpoint.changes > store.catalog.changes:
            return None  # no one else writes, so one of the two is damaged, and not the items
        problem: object = None
        try:
            index = make_index(checkpoint.part, projection.dim_out, store.manifest.metric)
            index.load_state(state)
            _try(index)
        except Exception as error:  # noqa: BLE001  # an index is a cache, whatever is wrong with it
            problem = error if isinstance(error, ImgretError) else repr(error)
        if not store.is_at(path):
            return None
        if Store.read_checkpoint(path) != found:
            continue  # what was read may be of both
        if problem is not None:
            warn(f"{path}: the stored index is unusable and is rebuilt: {problem}")
            return None
        return (index, checkpoint) if _turn_back(store, index, checkpoint, projection) else None
    return None


def _try(index: VectorIndex) -> None:
    """Search once, if that is quick: what was read without an error may still not be searchable."""
    if len(index) and index.plan(1, n_queries=1).compared <= _QUICK:
        index.find(np.eye(1, index.dim, dtype=np.float32), 1)


def _turn_back(
    store: Store, index: VectorIndex, checkpoint: Checkpoint, projection: Projection
) -> bool:
    """Roll an index that was stored after a reader opened back to what the reader sees.

    Returns
    -------
    bool
        False if building one is as quick.
    """
    catalog = store.catalog
    if checkpoint.changes <= catalog.changes:
        return True
    later = index.ids[index.ids >= catalog.rows]
    if len(later):
        if not index.supports_remove or index.removal_rebuilds(len(later)):
            return False
        index.remove(later)
    seen = catalog.removed_by_others()
    for block, embeddings in store.blocks(seen[~index.holds(seen)]):
        index.add(projection.apply(embeddings), block)
    return True
