"""Map of a gallery: every item as a point in the plane."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from imgret.curation.graph import build_neighbor_graph
from imgret.errors import InvalidInputError, MissingExtraError
from imgret.images import MAX_PIXELS
from imgret.pages import map as map_pages
from imgret.pages.result import Result
from imgret.projections import fit_pca
from imgret.search import View
from imgret.types import Embeddings, Json

__all__ = ["Map2D", "Method", "draw_map"]

Method: TypeAlias = Literal["pca", "umap"]

_NEIGHBOURS = 15  # UMAP's default, which includes the item itself


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Map2D(Result):
    """Items as points in the plane: the closer, the more alike, as far as a plane can show it.

    Attributes
    ----------
    keys : tuple of str
        Keys of the items, in the order they were added.
    coordinates : float32 array of shape (n, 2)
    labels, paths : tuple of str or None
        Label and path of each item; None if it has none.
    method : {"pca", "umap"}
    max_pixels : int
        Maximum number of pixels of an image that a page reads again.
    """

    keys: tuple[str, ...]
    coordinates: Embeddings
    labels: tuple[str | None, ...]
    paths: tuple[str | None, ...]
    method: Method
    max_pixels: int = MAX_PIXELS

    def __repr__(self) -> str:
        return f"<Map2D of {len(self.keys)} items by {self.method}>"

    def to_html(self, *, title: str | None = None) -> str:
        """Return a self-contained page: a scatter plot that zooms, coloured by label.

        Up to 300 items show their image, read again from its file. Of more than 50,000 items, a
        random sample of 50,000 is drawn.

        Parameters
        ----------
        title : str, optional
        """
        return map_pages.page(
            title or f"Map of {len(self.keys)} items",
            self.keys,
            self.coordinates,
            self.labels,
            self.paths,
            method=self.method,
            max_pixels=self.max_pixels,
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
    view: View, *, method: Method = "pca", seed: int = 0, max_pixels: int = MAX_PIXELS
) -> Map2D:
    """Lay the items out in the plane.

    Parameters
    ----------
    view : View
    method, seed
        As for `Retriever.map2d`.
    max_pixels : int
        As for `Retriever`.
    """
    if method not in {"pca", "umap"}:
        raise InvalidInputError(f"method: expected 'pca' or 'umap', found {method!r}")
    lay_out = _umap() if method == "umap" else None  # before any work is done
    if len(view) < 3:
        raise InvalidInputError(f"map2d: expected at least 3 items, found {len(view)}")
    pca = fit_pca((vectors for _, vectors in view.blocks()), 2)
    coordinates = np.concatenate([pca.apply(vectors) for _, vectors in view.blocks()])
    if lay_out is not None:
        coordinates = _unfolded(lay_out, view, coordinates, seed)
    items = list(view.items())
    return Map2D(
        keys=tuple(item.key for item in items),
        coordinates=coordinates,
        labels=tuple(item.label for item in items),
        paths=tuple(item.path for item in items),
        method=method,
        max_pixels=max_pixels,
    )


def _umap() -> Callable[..., Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that TensorFlow is missing
            from umap import UMAP  # noqa: PLC0415  # an extra, and slow to load
    except ImportError as error:
        raise MissingExtraError.of("map2d(method='umap')", extra="umap") from error
    made: Callable[..., Any] = UMAP
    return made


def _unfolded(umap: Callable[..., Any], view: View, start: Embeddings, seed: int) -> Embeddings:
    """Return coordinates by UMAP of the neighbour graph, starting from principal components."""
    n = len(start)
    graph = build_neighbor_graph(view, k=min(_NEIGHBOURS, n - 1) - 1)
    # UMAP only compares distances of the same item, so any decreasing function of the score works.
    distances = graph.scores.max() - graph.scores
    generator = np.random.default_rng(seed)
    # UMAP divides by the extent of each axis, which must not be 0.
    start = (start + generator.normal(scale=1e-4 * start.std(), size=start.shape)).astype(
        np.float32
    )
    layout = umap(
        n_neighbors=graph.indices.shape[1] + 1,
        init=start,
        random_state=int(generator.integers(2**31 - 1)),
        n_jobs=1,  # with a seed, UMAP uses only one
        precomputed_knn=(
            np.concatenate([np.arange(n)[:, None], graph.indices], axis=1),
            np.concatenate([np.zeros((n, 1), np.float32), distances], axis=1),
        ),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn")  # no items are added later
        coordinates: Embeddings = layout.fit_transform(start)
    return coordinates
