"""The view of a gallery in a directory or in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import final

import numpy as np

from imgret.abc import VectorIndex
from imgret.filters import Filter
from imgret.filters.tree import AllOf, Exists, Field
from imgret.galleries.local.live_index import LiveIndex
from imgret.galleries.local.store import Store
from imgret.search import Labels, Origin, View
from imgret.support.exact import first_of
from imgret.types import Embeddings, Ids, Item, Json, Neighbors

__all__ = ["LocalView"]

_LABELLED = Exists(Field("label"))
_NONE: Ids = np.empty(0, dtype=np.int64)


@final
class LocalView(View):
    """The view of a store and its index, with a filter or without some items.

    Parameters
    ----------
    store : Store
    searcher : LiveIndex
    where : Filter, optional
        Filter; only items that pass it are in the view.
    without : sequence of int
        Ids of items that are left out, increasing.
    """

    def __init__(
        self,
        store: Store,
        searcher: LiveIndex,
        where: Filter | None = None,
        without: Sequence[int] = (),
    ) -> None:
        spec = store.manifest
        super().__init__(spec.metric, searcher.projection, spec.dtype)
        self._store = store
        self._size = store.catalog.live  # as of now, so that the width of answers is fixed
        self._searcher = searcher
        self._filter = where
        self._where = None if where is None else store.catalog.compile(where)
        self._removed = np.asarray(without, dtype=np.int64) if without else _NONE

    def __len__(self) -> int:
        if self._where is None:
            return len(self._store.catalog) - len(self._removed)
        return super().__len__()

    def _ids(self) -> Ids:
        catalog = self._store.catalog
        ids = catalog.live_ids() if self._where is None else catalog.matching(self._where)
        return np.setdiff1d(ids, self._removed, assume_unique=True) if len(self._removed) else ids

    def _most(self) -> int:
        return self._size

    def _search(self, vectors: Embeddings, k: int) -> Neighbors:
        removed = len(self._removed)
        found = self._searcher.find(vectors, k + removed, self._where, self.projection)
        if not removed:
            return found
        left = (found.ids >= 0) & ~np.isin(found.ids, self._removed)
        return first_of(found, left, k)

    def _embeddings(self, ids: Ids) -> Iterator[tuple[Ids, Embeddings]]:
        return self._store.blocks(ids)

    def _read(self, ids: Ids) -> Embeddings:
        return self._store.read(ids)

    def _items(self, ids: Sequence[int]) -> dict[int, Item]:
        return self._store.catalog.items(ids)

    @property
    def index(self) -> VectorIndex:
        """The index that answers searches; it holds all items, whatever the filter."""
        return self._searcher.sync()

    def prepare(self) -> None:
        """Do what the first search does before it looks at its query.

        It reads the index and brings it up to date; or, where it would compare all vectors as they
        are stored, it checks them.
        """
        self._searcher.prepare(self._where)

    def _origins(self) -> Iterator[Origin]:
        if self._where is None and not len(self._removed):
            return map(Origin._make, self._store.catalog.origins())
        return super()._origins()

    def _facts(self) -> Json:
        manifest, index, projection = self._store.manifest, self.index, self.projection
        return {
            "gallery": None if self._store.path is None else str(self._store.path),
            "embedder": asdict(manifest.embedder),
            "fingerprint": manifest.fingerprint,
            "cropper": asdict(manifest.cropper),
            "index": {"name": index.name, "config": index.config()},
            "metric": manifest.metric,
            "dtype": manifest.dtype,
            "projection": None
            if projection.fingerprint is None
            else {
                "kind": projection.kind,
                "dim": projection.dim_out,
                "fingerprint": projection.fingerprint,
            },
        }

    def _require(self, keys: Sequence[str]) -> list[int]:
        if self._where is None and not len(self._removed):
            return self._store.catalog.require(keys)
        return super()._require(keys)

    def _keys(self) -> Iterable[str]:
        if self._where is None and not len(self._removed):
            return self._store.catalog
        return (item.key for item in self.items())

    def _labels(self) -> Labels:
        labels = Labels(*self._store.catalog.labelled())
        if self._where is None and not len(self._removed):
            return labels
        kept = np.isin(labels.ids, self.ids)
        return Labels(labels.ids[kept], labels.codes[kept], labels.names)

    def _without(self, ids: Ids) -> View:
        removed = np.union1d(self._removed, ids).tolist()
        return LocalView(self._store, self._searcher, self._filter, removed)

    def _labelled(self) -> View:
        where = _LABELLED if self._filter is None else AllOf((self._filter, _LABELLED))
        return LocalView(self._store, self._searcher, where, self._removed.tolist())
