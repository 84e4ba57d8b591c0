"""The embedder and cropper of a gallery, also if their files were moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from imgret import registry
from imgret.abc import Cropper, Embedder, Gallery, GallerySpec
from imgret.errors import UnsupportedError
from imgret.indexes.make import EmbedderLike
from imgret.pipeline.compatible import (
    LocatedPart,
    check_files,
    check_given,
    same_cropper,
    same_embedder,
)
from imgret.pipeline.pipeline import Late, Pipeline
from imgret.types import Part

__all__ = ["PartLocations", "attach"]

_Part = TypeVar("_Part", Embedder, Cropper)


class PartLocations:
    """Places where embedder and cropper were found; the gallery may store different ones.

    Parameters
    ----------
    gallery : Gallery
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self.found: dict[str, Part] = {}

    def take(
        self, kind: str, same: Callable[[GallerySpec, str, None], LocatedPart[_Part]], home: str
    ) -> _Part:
        """Make the embedder or cropper of the gallery, and record where it was found."""
        found = same(self._gallery.spec, home, None)
        self.found[kind] = found.part
        return found.made

    def keep(self) -> None:
        """Store the places in the gallery, if it is open for writing."""
        if self._gallery.closed or not self._gallery.writable:
            return
        spec = self._gallery.spec
        moved = {kind: part for kind, part in self.found.items() if part != getattr(spec, kind)}
        if moved:
            self._gallery.change_spec(**moved)

    def to_open(self, pipeline: Pipeline) -> dict[str, Any]:
        """Return the arguments with which another process opens the gallery for reading.

        Raises
        ------
        UnsupportedError
            It is in memory, on a server, or opened for writing.
        """
        gallery = self._gallery
        gallery.check_open()
        if gallery.path is None or gallery.writable:
            if gallery.path is not None:
                opened, remedy = "for writing", "open it for reading"
            elif gallery.shared:
                opened, remedy = "on a server", "open its URI"
            else:
                opened, remedy = "in memory", "save() it and open it"
            raise UnsupportedError(
                f"{gallery.name}: expected a gallery on disk that was opened for reading, to send "
                f"it to another process, found one {opened}; {remedy} there"
            )
        arguments: dict[str, Any] = {"max_pixels": pipeline.max_pixels}
        kinds: tuple[tuple[str, registry.Kind], ...]
        kinds = (("embedder", "embedders"), ("cropper", "croppers"))
        for kind, group in kinds:
            stored, found = getattr(gallery.spec, kind), self.found.get(kind)
            if not registry.is_registered(group, stored.name):  # an object: nothing else makes it
                arguments[kind] = getattr(pipeline, kind)
            elif found is not None and found != stored:
                arguments[kind] = asdict(found)
        return arguments


def attach(
    gallery: Gallery,
    home: str,
    embedder: EmbedderLike | None,
    cropper: str | os.PathLike[str] | Cropper | None,
    *,
    max_pixels: int,
    **given: Any,
) -> tuple[Pipeline, PartLocations]:
    """Return the embedder and cropper of an opened gallery, both made on first use.

    Parameters
    ----------
    gallery : Gallery
        Opened gallery; it is closed if anything does not match.
    home : str
        Place it was opened or loaded from: an absolute directory or a URI.
    embedder, cropper : str, path, object or None
        Parts given by the caller; they must be the ones the gallery was made with.
    max_pixels : int
    **given
        Other properties asked of the gallery: index, metric, dtype.

    Raises
    ------
    StoreMismatchError
        The gallery was made with something else, or the file of its model was replaced.
    """
    try:
        spec = gallery.spec
        places = PartLocations(gallery)
        embeds: Late[Embedder] = Late(lambda: places.take("embedder", same_embedder, home))
        crops: Late[Cropper] = Late(lambda: places.take("cropper", same_cropper, home))
        if embedder is not None:
            made = same_embedder(spec, home, embedder)
            embeds, places.found["embedder"] = Late(made.made), made.part
        if cropper is not None:
            found = same_cropper(spec, home, cropper)
            crops, places.found["cropper"] = Late(found.made), found.part
        check_given(spec, home, given)
        check_files(spec, home, without=set(places.found))
        pipeline = Pipeline(embeds, crops, max_pixels=max_pixels)
        if gallery.path is not None:
            places.keep()
    except BaseException:
        gallery.close()
        raise
    return pipeline, places
