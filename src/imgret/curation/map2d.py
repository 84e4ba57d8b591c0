"""Map of a gallery: every item as a point in the plane."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from imgret.curation import layout
from imgret.errors import InvalidInputError, MissingExtraError
from imgret.files import ItemFile
from imgret.images import MAX_PIXELS
from imgret.ingest.progress import Progress, progress_bar
from imgret.pages import map as map_pages
from imgret.pages.result import Tabular
from imgret.pipeline.embed import worker_count
from imgret.projections import fit_pca
from imgret.search import View
from imgret.types import Embeddings, Json

__all__ = ["METHODS", "Map2D", "Method", "draw_map"]

Method: TypeAlias = Literal["auto", "tsne", "umap", "pca"]

METHODS: tuple[Method, ...] = ("auto", "tsne", "umap", "pca")

_COARSE = (
    "Two principal components show only the coarse outline: classes overlap. For a map that "
    "separates them: pip install 'imgret[map]'"
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Map2D(Tabular):
    """Items as points in the plane: the closer, the more alike, as far as a plane can show it.

    Attributes
    ----------
    keys : tuple of str
        Keys of the items, in the order they were added.
    coordinates : float32 array of shape (n, 2)
    labels : tuple of str or None
        Label of each item; None if it has none.
    files : tuple of ItemFile or None
        Path of each item's file, and the digest of its content; None if it has none.
    method : {"tsne", "umap", "pca"}
        Method that was used.
    note : str
        What the reader of the map should know, such as that a better method is not installed.
    max_pixels : int
        Maximum number of pixels of an image that a page reads again.
    """

    keys: tuple[str, ...]
    coordinates: Embeddings
    labels: tuple[str | None, ...]
    files: tuple[ItemFile | None, ...]
    method: Literal["tsne", "umap", "pca"]
    note: str = ""
    max_pixels: int = MAX_PIXELS

    @property
    def paths(self) -> tuple[str | None, ...]:
        """Path of each item's file; None if it has none."""
        return tuple(None if file is None else file.path for file in self.files)

    def __repr__(self) -> str:
        return f"<Map2D of {len(self.keys)} items by {self.method}>"

    def __str__(self) -> str:
        return f"{self!r}\n{self.note}" if self.note else repr(self)

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        rows = zip(self.keys, self.labels, self.paths, self.coordinates.tolist(), strict=True)
        names = ("key", "label", "path", "x", "y")
        return names, [(key, label, path, *place) for key, label, path, place in rows]

    def to_html(self, *, title: str | None = None, progress: bool | None = None) -> str:
        """Return a self-contained page: a map that zooms, with images, a search box and a lasso.

        Images are read again from their files; those that cannot be read appear as points. The
        page contains small images of up to 20,000 items, and larger ones if there are at most
        2,000. It also contains the paths of the files, to link to them. Of more than 50,000 items,
        a random sample of 50,000 is drawn. A page of 5,000 photos takes about 14 MB, and the
        largest about 25 MB.

        Parameters
        ----------
        title : str, optional
        progress : bool, optional
            Whether to show a progress bar while images are read; by default if stderr is a
            terminal.
        """
        return map_pages.page(
            title or f"Map of {len(self.keys):,} items",
            self.keys,
            self.coordinates,
            self.labels,
            self.files,
            method=self.method,
            note=self.note,
            max_pixels=self.max_pixels,
            threads=worker_count(),
            progress=lambda n: progress_bar(progress, total=n, unit=" images", desc="read"),
        )

    def _body(self) -> str:
        return (
            f"<pre>{html.escape(str(self))}</pre>{map_pages.sketch(self.coordinates, self.labels)}"
        )

    def to_dict(self) -> Json:
        """Return everything as JSON values, one row per item."""
        rows = zip(self.keys, self.labels, self.paths, self.coordinates.tolist(), strict=True)
        return {
            "method": self.method,
            "items": [
                {"key": key, "label": label, "path": path, "x": x, "y": y}
                for key, label, path, (x, y) in rows
            ],
        }


def draw_map(
    view: View,
    *,
    method: Method = "auto",
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = False,
) -> Map2D:
    """Lay the items out in the plane.

    Parameters
    ----------
    view : View
    method, seed, progress
        As for `Retriever.map2d`.
    max_pixels : int
        As for `Retriever`.
    """
    chosen, lay_out = _choose(method)  # before any work is done
    if len(view) < 3:
        raise InvalidInputError(f"map2d: expected at least 3 items, found {len(view)}")
    pca = fit_pca((vectors for _, vectors in view.blocks()), 2)
    coordinates = np.concatenate([pca.apply(vectors) for _, vectors in view.blocks()])
    if lay_out is not None:
        # As much for the neighbours as for the layout: both take about as long.
        with progress_bar(progress, total=2 * len(view), unit="image", desc="laying out") as bar:
            coordinates = lay_out(view, coordinates, seed, bar.update)
    items = list(view.items())
    return Map2D(
        keys=tuple(item.key for item in items),
        coordinates=coordinates,
        labels=tuple(item.label for item in items),
        files=tuple(map(ItemFile.of, items)),
        method=chosen,
        note=_COARSE if method == "auto" and chosen == "pca" else "",
        max_pixels=max_pixels,
    )


def _choose(method: Method) -> tuple[Literal["tsne", "umap", "pca"], layout.Layout | None]:
    """Return the method to use, and its layout; None for principal components alone."""
    match method:
        case "auto":
            try:
                return "tsne", layout.tsne()
            except MissingExtraError:
                return "pca", None
        case "tsne":
            return "tsne", layout.tsne()
        case "umap":
            return "umap", layout.umap()
        case "pca":
            return "pca", None
    expected = ", ".join(map(repr, METHODS))
    raise InvalidInputError(f"method: expected one of {expected}, found {method!r}")
