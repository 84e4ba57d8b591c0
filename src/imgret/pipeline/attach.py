"""A gallery, and the embedder and cropper it was made with, which may be elsewhere by now."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from imgret.abc import Cropper, Embedder
from imgret.galleries.local.compatible import (
    Found,
    check_files,
    check_given,
    same_cropper,
    same_embedder,
)
from imgret.galleries.local.gallery import LocalGallery
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.pipeline.pipeline import Late, Pipeline
from imgret.types import Part

__all__ = ["Attached", "Places"]

_Part = TypeVar("_Part", Embedder, Cropper)


class Places:
    """Where embedder and cropper were found, where the manifest may say another place.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.found: dict[str, Part] = {}

    def take(
        self, kind: str, same: Callable[[Manifest, Path, None], Found[_Part]], path: Path
    ) -> _Part:
        """Make the embedder or cropper of the gallery, and note where it was found."""
        found = same(self._store.manifest, path, None)
        self.found[kind] = found.part
        return found.made

    def keep(self) -> None:
        """Write them down, where the gallery is open for writing."""
        if self._store.closed or not self._store.writable:
            return
        manifest = self._store.manifest
        moved = {kind: part for kind, part in self.found.items() if part != getattr(manifest, kind)}
        if moved:
            self._store.change_manifest(**moved)


class Attached:
    """An opened store with all that belongs to it.

    Parameters
    ----------
    store : Store
        Closed again where anything does not agree.
    path : Path
        Where it was opened, or loaded from.
    embedder, cropper : str, path, object or None
        Those that are given; they must be the ones the gallery was made with.
    max_pixels : int
    **given
        What else is asked of the gallery: index, metric, dtype.

    Raises
    ------
    StoreMismatchError
        The gallery was made with something else, or the file of its model was replaced.
    """

    def __init__(
        self,
        store: Store,
        path: Path,
        embedder: str | os.PathLike[str] | Embedder | None,
        cropper: str | os.PathLike[str] | Cropper | None,
        *,
        max_pixels: int,
        **given: Any,
    ) -> None:
        try:
            manifest, home = store.manifest, path.absolute()
            self.places = places = Places(store)
            embeds: Late[Embedder] = Late(lambda: places.take("embedder", same_embedder, home))
            crops: Late[Cropper] = Late(lambda: places.take("cropper", same_cropper, home))
            if embedder is not None:
                made = same_embedder(manifest, path, embedder)
                embeds, places.found["embedder"] = Late(made.made), made.part
            if cropper is not None:
                found = same_cropper(manifest, path, cropper)
                crops, places.found["cropper"] = Late(found.made), found.part
            check_given(manifest, path, given)
            check_files(manifest, path, without=set(places.found))
            self.pipeline = Pipeline(embeds, crops, max_pixels=max_pixels)
            self.gallery = LocalGallery(store)
            self.gallery.live.restore(path)
            if store.path is not None:
                places.keep()
        except BaseException:
            store.close()
            raise
