"""Layouts of a neighbour graph in the plane, by t-SNE and by UMAP."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from imgret.curation.graph import build_neighbor_graph
from imgret.errors import MissingExtraError
from imgret.search import View
from imgret.types import Embeddings

__all__ = ["Layout", "tsne", "umap"]

Step: TypeAlias = Callable[[int], object]
Layout: TypeAlias = Callable[[View, Embeddings, int, Step], Embeddings]
"""Function of a view, start coordinates of shape (n, 2) and a seed; returns coordinates.

It calls the last argument with numbers that add up to at most 2 n: n when all neighbours are known.
"""

_NEIGHBOURS = 15  # the layout hardly depends on it; UMAP's default, which counts the item itself
_MANY = 100_000  # items from which clusters would touch; exaggeration as in Kobak & Berens 2019
_EXAGGERATION = 4.0
_ITERATIONS, _OFTEN = 750, 25  # of t-SNE, and after how many progress is reported


def tsne() -> Layout:
    """Return the layout by openTSNE.

    Raises
    ------
    MissingExtraError
        openTSNE is not installed.
    """
    try:
        import openTSNE  # noqa: PLC0415  # an extra
        from openTSNE.affinity import Uniform  # noqa: PLC0415
        from openTSNE.nearest_neighbors import PrecomputedNeighbors  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError.of("map2d(method='tsne')", extra="map") from error

    def lay_out(view: View, start: Embeddings, seed: int, step: Step) -> Embeddings:
        n = len(start)
        # With as many neighbours as there are items, nothing would hold a class together.
        graph = build_neighbor_graph(view, k=max(1, min(_NEIGHBOURS, (n - 1) // 3)), step=step)
        # Each neighbour weighs the same, so the scores of any metric will do.
        weights = Uniform(
            knn_index=PrecomputedNeighbors(graph.indices, np.ones(graph.indices.shape)),
            symmetrize="mean",
        )
        generator = np.random.default_rng(seed)
        start = _apart(start, generator)
        done = 0

        def report(*_: object) -> None:  # a true value would end the layout, as an exception does
            nonlocal done
            done += _OFTEN
            before, after = ((done - _OFTEN) * n // _ITERATIONS, done * n // _ITERATIONS)
            step(after - before)

        layout = openTSNE.TSNE(
            # t-SNE needs a start that is small, so that neighbours can still meet.
            initialization=1e-4 * (start / start[:, 0].std()).astype(np.float64),
            exaggeration=_EXAGGERATION if n >= _MANY else None,
            n_jobs=1,  # several threads hang in a forked process, and gain little
            early_exaggeration_iter=_ITERATIONS // 3,
            n_iter=_ITERATIONS - _ITERATIONS // 3,
            callbacks=report,
            callbacks_every_iters=_OFTEN,
        )
        coordinates = np.asarray(layout.fit(affinities=weights), dtype=np.float32)
        return _apart(coordinates, generator, 1e-3)  # t-SNE puts copies on the same point

    return lay_out


def umap() -> Layout:
    """Return the layout by umap-learn.

    Raises
    ------
    MissingExtraError
        umap-learn is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that TensorFlow is missing
            from umap import UMAP  # noqa: PLC0415  # an extra, and slow to load
    except ImportError as error:
        raise MissingExtraError.of("map2d(method='umap')", extra="umap") from error

    def lay_out(view: View, start: Embeddings, seed: int, step: Step) -> Embeddings:
        n = len(start)
        graph = build_neighbor_graph(view, k=min(_NEIGHBOURS, n - 1) - 1, step=step)
        # UMAP only compares distances of the same item: any decreasing function of the score works.
        distances = graph.scores.max() - graph.scores
        generator = np.random.default_rng(seed)
        start = _apart(start, generator)
        layout: Any = UMAP(
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

    return lay_out


def _apart(
    coordinates: Embeddings, generator: np.random.Generator, share: float = 1e-4
) -> Embeddings:
    """Move items by a share of the spread: no two coincide, and no axis is without extent."""
    noise = generator.normal(scale=share * coordinates.std(), size=coordinates.shape)
    return (coordinates + noise).astype(np.float32)
