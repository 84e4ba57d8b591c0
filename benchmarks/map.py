"""How well maps keep classes together, and the time and size of the page.

    python benchmarks/map.py PHOTOS [--embedder general] [--methods pca umap tsne] [--out DIR]

PHOTOS is a folder of class subfolders. Of the 10 nearest neighbours of each image on the plane,
the share in its own class is divided by the same share in the embedding space: 1 means that the
map separates classes as well as the embedding does. Methods that are not installed are left out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from results import save

from imgret import Retriever
from imgret.curation.map2d import Method
from imgret.errors import MissingExtraError
from imgret.indexes.exact import ExactIndex
from imgret.types import Embeddings, Ids

_K = 10


def own_class(codes: NDArray[np.int64], neighbours: Ids) -> float:
    """Return the share of neighbours that are of the same class."""
    return float((codes[neighbours] == codes[:, None]).mean())


def on_the_plane(coordinates: Embeddings) -> Ids:
    """Return the nearest neighbours of each point, without itself."""
    centred = coordinates - coordinates.mean(axis=0)
    index = ExactIndex(2, metric="l2")
    index.add(centred, np.arange(len(centred)))
    found = index.search(centred, _K + 1).ids
    others = found != np.arange(len(found))[:, None]
    others[others.all(axis=1), -1] = False  # the point itself lies behind its copies
    neighbours: Ids = found[others].reshape(len(found), _K)
    return neighbours


def main() -> None:
    """Print a table with a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--embedder", default="general")
    parser.add_argument(
        "--methods", nargs="+", choices=get_args(Method), default=["pca", "umap", "tsne"]
    )
    parser.add_argument("--out", type=Path, help="Folder for JSON and Markdown.")
    options = parser.parse_args()
    retriever = Retriever(embedder=options.embedder)
    retriever.add_folder(options.photos, labels="parent", progress=False)
    _, codes = np.unique([str(retriever[key].label) for key in retriever], return_inverse=True)
    embedding = own_class(codes, retriever.neighbor_graph(_K).indices)
    rows = [row for method in options.methods for row in measure(retriever, method, codes)]
    for row in rows:
        row["of the embedding's"] = row["own class"] / embedding
    save(
        options.out,
        f"map-{options.photos.name}",
        rows,
        title=f"Neighbours on the map of {len(retriever)} images of {options.photos.name}",
        notes=[f"In the embedding space, {embedding:.3f} of the neighbours are of the own class."],
    )


def measure(retriever: Retriever, method: Method, codes: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return the row of a method; none if it is not installed."""
    # Lay out a few items first: UMAP compiles for half a minute, and both are slow to import.
    few = Retriever(embedder=retriever.embedder)
    few.add_vectors(retriever.embeddings()[:50], keys=[str(n) for n in range(50)])
    try:
        few.map2d(method)
    except MissingExtraError as error:
        print(error)
        return []
    started = time.process_time()
    drawn = retriever.map2d(method)
    laid_out = time.process_time()
    page = drawn.to_html(progress=False)
    return [
        {
            "method": method,
            "own class": own_class(codes, on_the_plane(drawn.coordinates)),
            "of the embedding's": None,
            "layout, CPU s": laid_out - started,
            "page, CPU s": time.process_time() - laid_out,
            "page, MB": len(page.encode()) / 1e6,
        }
    ]


if __name__ == "__main__":
    main()
