"""Write the exports of version 1 that later versions must read: python tests/data/exports/make.py.

Run it with a new name when the version is raised; files of old versions stay as they are.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from conftest import MeanColor  # noqa: E402  # found by the line above

from imgret import Retriever  # noqa: E402  # the same


def main() -> None:
    """Write a gallery of four items, with a projection."""
    vectors = np.arange(4 * 48, dtype=np.float32).reshape(4, 48) % 7 - 2.9
    retriever = Retriever(embedder=MeanColor(), metric="l2")
    retriever.add_vectors(
        vectors,
        keys=["a.jpg", "b é", "c", "d"],
        labels=["x", None, "y", "x"],
        metadata=[{}, {"n": 1, "f": 1.0, "s": "1", "none": None}, {"deep": {"list": [True]}}, {}],
    )
    retriever.project("pca", dim=2)
    for kind in ("parquet", "npz"):
        retriever.to_parquet(HERE / f"version-1.{kind}", overwrite=True)


if __name__ == "__main__":
    main()
