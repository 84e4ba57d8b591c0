"""Top-1 and top-5 accuracy of classification on two folders of class subfolders.

python benchmarks/accuracy.py TRAIN VALID [--embedder general] [--croppers none spectral]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from imgret import Retriever


def main() -> None:
    """Print a line a cropper."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--embedder", default="general")
    parser.add_argument("--croppers", nargs="+", default=["none", "center", "spectral"])
    options = parser.parse_args()
    queries = sorted(options.queries.glob("*/*.jpg"))
    print(f"{'cropper':<10}{'gallery':>9}{'queries':>9}{'top-1':>8}{'top-5':>8}{'seconds':>9}")
    for cropper in options.croppers:
        started = time.perf_counter()
        retriever = Retriever(embedder=options.embedder, cropper=cropper)
        retriever.add_folder(options.gallery, labels="parent", progress=False)
        answers = retriever.search_many(queries, k=5)
        right = [
            [hit.label == query.parent.name for hit in hits]
            for query, hits in zip(queries, answers, strict=True)
        ]
        top1 = sum(row[0] for row in right) / len(right)
        top5 = sum(any(row) for row in right) / len(right)
        print(
            f"{cropper:<10}{len(retriever):>9}{len(queries):>9}{top1:>8.3f}{top5:>8.3f}"
            f"{time.perf_counter() - started:>9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
