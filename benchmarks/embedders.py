"""Comparison of embedders on one core: size, images per second and retrieval quality.

    python benchmarks/embedders.py flowers102 flowers102-large general flowers102-resnet
    python benchmarks/embedders.py flowers102 flowers102-resnet@384
    python benchmarks/embedders.py flowers102 general --gallery TRAIN --queries VALID

Models are names of built-in models or paths. Each runs on prepared pixels of its own size, or of
the one after ``@``, one image per run, on one thread.
All models take turns, so that other work on the machine affects each alike, and the ratio to the
last named model is the median over the rounds. With ``--gallery`` and ``--queries``, two folders of
class subfolders, each model also indexes the first and is evaluated with the second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from imgret import OnnxEmbedder, Retriever
from imgret.models.model import Model


def images_per_second(model: Model, batch: Any, seconds: float) -> float:
    """Run one picture over and over."""
    model.session.run(batch, model.output)
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        model.session.run(batch, model.output)
        runs += 1
    return runs / (time.perf_counter() - started)


def accuracy(embedder: OnnxEmbedder, gallery: Path, queries: Path) -> dict[str, float]:
    """Index the gallery, evaluate with the queries."""
    retriever = Retriever(embedder=embedder)
    retriever.add_folder(gallery, labels="parent", progress=False)
    found = retriever.evaluate(queries).metrics
    return {
        "top1": found["top1"],
        "top5": found["top5"],
        "map5_hits": found["map5"]["hits"],
        "map5_min_k_r": found["map5"]["min_k_r"],
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["flowers102", "general"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds per turn")
    parser.add_argument("--gallery", type=Path)
    parser.add_argument("--queries", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names, _, given = zip(*(name.partition("@") for name in options.models), strict=True)
    sizes = [int(size) if size else None for size in given]
    models = [
        Model(name, kind="embedder", size=size) for name, size in zip(names, sizes, strict=True)
    ]
    batches = []
    for model in models:
        side = model.preprocess.size
        picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        batches.append(model.preprocess.prepare([picture]))
    rates: list[list[float]] = [[] for _ in models]
    for _ in range(options.rounds):
        for seen, model, batch in zip(rates, models, batches, strict=True):
            seen.append(images_per_second(model, batch, options.seconds))
    rows: list[dict[str, Any]] = []
    for name, size, model, found in zip(names, sizes, models, rates, strict=True):
        ratios = [rate / last for rate, last in zip(found, rates[-1], strict=True)]
        row: dict[str, Any] = {
            "model": Path(name).stem,
            "mb": model.path.stat().st_size / 1e6,
            "size": model.preprocess.size,
            "images_per_second": statistics.median(found),
            "ratio": statistics.median(ratios),
        }
        if options.gallery and options.queries:
            row |= accuracy(OnnxEmbedder(name, size=size), options.gallery, options.queries)
        rows.append(row)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'model':<24}{'MB':>6}{'px':>6}{'images/s':>10}{'ratio':>8}", end="")
    print(f"{'top-1':>9}{'top-5':>9}{'mAP@5 hits':>12}{'min_k_r':>9}" if options.gallery else "")
    for row in rows:
        print(
            f"{row['model']:<24}{row['mb']:>6.1f}{row['size']:>6}{row['images_per_second']:>10.1f}"
            f"{row['ratio']:>8.2f}",
            end="",
        )
        if "top1" in row:
            print(
                f"{row['top1']:>9.4f}{row['top5']:>9.4f}{row['map5_hits']:>12.4f}"
                f"{row['map5_min_k_r']:>9.4f}",
                end="",
            )
        print()


if __name__ == "__main__":
    main()
