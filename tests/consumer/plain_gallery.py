"""A gallery of dictionaries: the contract filled in with as little as it takes.

Several handles of one place may change it at once, as on a server.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from imgret import VectorIndex
from imgret.abc import Gallery, GallerySpec, Stored
from imgret.errors import DuplicateKeyError, StoreExistsError, StoreNotFoundError
from imgret.filters import Filter, passes
from imgret.projections import IdentityProjection
from imgret.search import View
from imgret.support.exact import exact_search
from imgret.types import Embeddings, Ids, Item, Neighbors

Rows = dict[int, tuple[Item, Embeddings]]  # by id


class Place:
    """What is on the server."""

    def __init__(self, spec: GallerySpec) -> None:
        self.spec = spec
        self.rows: Rows = {}
        self.ids = itertools.count(1)
        self.named = itertools.count(1)
        self.changes = 0
        self.lock = threading.RLock()


SERVER: dict[str, Place] = {}


class PlainIndex:
    """Looks at as many vectors as it is told to."""

    name = "plain"
    is_exact = False
    finds_itself = False

    def __init__(self, view: PlainView) -> None:
        self.view = view

    def sweep(self) -> dict[str, list[int]]:
        return {"look_at": [30, 60, 120]}

    def settings(self) -> dict[str, int]:
        return {"look_at": self.view.look_at}

    def configure(self, **settings: int) -> None:
        self.view.look_at = settings["look_at"]

    def search(self, queries: Any, k: int, *, exact: bool = False) -> Neighbors:
        blocks = self.view.blocks(self.view.ids if exact else self.view.ids[: self.view.look_at])
        return exact_search(self.view.scorable(queries), blocks, k, self.view.metric)


class PlainView(View):
    def __init__(self, spec: GallerySpec, rows: Rows) -> None:
        super().__init__(spec.metric, IdentityProjection(spec.dim), spec.dtype)
        self.spec = spec
        self.rows = rows
        self.look_at = 10**6

    @property
    def index(self) -> PlainIndex:
        return PlainIndex(self)

    def _ids(self) -> Ids:
        return np.array(sorted(self.rows), dtype=np.int64)

    def _search(self, vectors: Embeddings, k: int) -> Neighbors:
        return exact_search(self.scorable(vectors), self.blocks(), k, self.metric)

    @property
    def is_exact(self) -> bool:
        return True

    def _embeddings(self, ids: Ids) -> Iterator[tuple[Ids, Embeddings]]:
        if len(ids):
            yield ids, self._read(ids)

    def _read(self, ids: Ids) -> Embeddings:
        rows = [self.rows[id_][1] for id_ in ids.tolist()]
        return np.array(rows, dtype=np.float32).reshape(-1, self.dim)

    def _items(self, ids: Sequence[int]) -> dict[int, Item]:
        return {id_: self.rows[id_][0] for id_ in ids}

    def _without(self, ids: Ids) -> PlainView:
        gone = set(ids.tolist())
        return self._of(lambda id_, _: id_ not in gone)

    def _labelled(self) -> PlainView:
        return self._of(lambda _, item: item.label is not None)

    def _of(self, keep: Callable[[int, Item], bool]) -> PlainView:
        rows = {id_: row for id_, row in self.rows.items() if keep(id_, row[0])}
        return PlainView(self.spec, rows)


class PlainGallery(Gallery):
    shared = True
    consistent_views = True

    def __init__(self, uri: str, *, writable: bool) -> None:
        super().__init__()
        self.uri, self._writable, self._closed = uri, writable, False

    @classmethod
    def create(cls, uri: str, spec: GallerySpec, prepared: VectorIndex | None = None) -> Self:
        if uri in SERVER:
            raise StoreExistsError(f"{uri}: expected nothing, found a gallery")
        SERVER[uri] = Place(spec)
        return cls(uri, writable=True)

    @classmethod
    def open(cls, uri: str, *, writable: bool) -> Self:
        if uri not in SERVER:
            raise StoreNotFoundError(f"{uri}: expected a gallery, found nothing")
        return cls(uri, writable=writable)

    @classmethod
    def is_taken(cls, uri: str) -> bool:
        return uri in SERVER

    @property
    def place(self) -> Place:
        return SERVER[self.uri]

    @property
    def name(self) -> str:
        return self.uri

    @property
    def spec(self) -> GallerySpec:
        return self.place.spec

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def writable(self) -> bool:
        return self._writable

    @property
    def version(self) -> int:
        return self.place.changes

    def _by_key(self) -> dict[str, int]:
        return {item.key: id_ for id_, (item, _) in self.place.rows.items()}

    def _count(self) -> int:
        return len(self.place.rows)

    def _keys(self) -> Iterator[str]:
        return iter([item.key for _, (item, _) in sorted(self.place.rows.items())])

    def _find(self, keys: Sequence[str]) -> dict[str, Item]:
        ids = self._by_key()
        return {key: self.place.rows[ids[key]][0] for key in keys if key in ids}

    def _embeddings(self, keys: Sequence[str] | None) -> Embeddings:
        ids = self._by_key()
        wanted = list(self._keys()) if keys is None else keys
        rows = [self.place.rows[ids[key]][1] for key in wanted]
        return np.array(rows, dtype=np.float32).reshape(-1, self.spec.dim)

    def copy_of(self, sha256: bytes) -> Stored | None:
        for _, (item, embedding) in sorted(self.place.rows.items()):
            if item.sha256 == sha256:
                return Stored(item, embedding)
        return None

    def files(self) -> Iterator[tuple[str, str | None]]:
        return iter([(item.key, item.path) for item, _ in self.place.rows.values()])

    def unused_keys(self, count: int) -> list[str]:
        names = (f"image-{n}" for n in self.place.named)
        return list(itertools.islice((name for name in names if name not in self), count))

    def _add(self, items: Sequence[Item], embeddings: Embeddings, replacing: Sequence[str]) -> None:
        with self.place.lock:
            ids, rows = self._by_key(), dict(self.place.rows)
            for key in replacing:
                del rows[ids[key]]
            taken = {item.key for item, _ in rows.values()}
            if clash := next((item.key for item in items if item.key in taken), None):
                raise DuplicateKeyError(f"key: expected new ones, found {clash!r}")
            for item, embedding in zip(items, embeddings, strict=True):
                rows[next(self.place.ids)] = item, embedding.copy()
            self._commit(rows)

    def _remove(self, keys: Sequence[str]) -> None:
        with self.place.lock:
            ids = self._by_key()
            going = {ids[key] for key in keys}
            self._commit({id_: r for id_, r in self.place.rows.items() if id_ not in going})

    def _change(self, items: Mapping[str, Item]) -> None:
        with self.place.lock:
            ids, rows = self._by_key(), dict(self.place.rows)
            for key, item in items.items():
                rows[ids[key]] = item, rows[ids[key]][1]
            if len({item.key for item, _ in rows.values()}) < len(rows):
                raise DuplicateKeyError("key: expected new ones")
            self._commit(rows)

    def _commit(self, rows: Rows) -> None:
        self.place.rows = rows
        self.place.changes += 1

    def _change_spec(self, changes: Mapping[str, Any]) -> None:
        self.place.spec = self.place.spec.with_(**changes)

    def _create_filter_index(self, field: str) -> None:
        pass

    def view(self, where: Filter | None = None) -> PlainView:
        rows = self.place.rows
        if where is not None:
            rows = {id_: row for id_, row in rows.items() if passes(row[0], where)}
        return PlainView(self.spec, rows)

    def _close(self) -> None:
        self._closed = True
