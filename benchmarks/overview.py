"""Duplicates, wrong labels and outliers found in a whole gallery.

    python benchmarks/overview.py PHOTOS OTHERS [--embedder general] [--out DIR]

Both are folders of class subfolders. For duplicates, a fortieth of PHOTOS is copied with different
changes; the result is the share of copies whose score with the original reaches a threshold. For
wrong labels, labels of PHOTOS are swapped at random and searched for with and without
`Retriever.adapt`. For outliers, sixty images of OTHERS are hidden among PHOTOS and looked for among
the first sixty outliers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from results import save

from imgret import Retriever, images
from imgret.support.unit import unit_length
from imgret.types import Image

_DUPLICATE_THRESHOLDS = (0.98, 0.95, 0.93)
_LABEL_THRESHOLDS = (0.3, 0.5, 0.7)
_SWAPPED = (0.05, 0.01)
_HIDDEN = 60


def scaled(numerator: int, denominator: int) -> Callable[[Image], Image]:
    """Return what resizes by a fraction."""
    return lambda pixels: images.resize(
        pixels,
        pixels.shape[1] * numerator // denominator,
        pixels.shape[0] * numerator // denominator,
    )


def saved(quality: int) -> Callable[[Image], Image]:
    """Return what saves as JPEG and reads again."""
    return lambda pixels: images.load(images.encode(pixels, "jpeg", quality=quality))


def trimmed(pixels: Image) -> Image:
    """Cut a fortieth off each side."""
    y, x = (side // 40 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[y:-y, x:-x])


def mirrored(pixels: Image) -> Image:
    """Swap left and right."""
    return np.ascontiguousarray(pixels[:, ::-1])


COPIES: dict[str, Callable[[Image], Image]] = {
    "three quarters of the size": scaled(3, 4),
    "half of the size": scaled(1, 2),
    "JPEG of quality 50": saved(50),
    "5 % cut off": trimmed,
    "mirrored": mirrored,
}


def main() -> None:
    """Print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("others", type=Path)
    parser.add_argument("--embedder", default="general")
    parser.add_argument("--out", type=Path, help="Folder for JSON and Markdown.")
    options = parser.parse_args()
    photos, others = (
        _gallery(folder, options.embedder) for folder in (options.photos, options.others)
    )
    rows = [*_copies(photos), *(_pairs(gallery) for gallery in (photos, others))]
    save(options.out, "duplicates", rows, title="Copies told as duplicates, and pairs told")
    save(options.out, "mislabelled", _wrong_labels(photos), title="Swapped labels found")
    save(options.out, "outliers", [_hidden(photos, others)], title="What does not belong, found")


def _gallery(folder: Path, embedder: str) -> Retriever:
    retriever = Retriever(embedder=embedder)
    retriever.add_folder(folder, labels="parent", progress=False)
    return retriever


def _copies(photos: Retriever) -> list[dict[str, Any]]:
    originals = [images.load(photos[key].path) for key in list(photos)[::40]]
    known = unit_length(photos.embed(originals))
    rows = []
    for name, change in COPIES.items():
        changed = unit_length(photos.embed([change(pixels) for pixels in originals]))
        scores = (known * changed).sum(axis=1)
        told = {str(least): float((scores >= least).mean()) for least in _DUPLICATE_THRESHOLDS}
        rows.append({"what": f"copies: {name}", "n": len(originals), **told})
    return rows


def _pairs(gallery: Retriever) -> dict[str, Any]:
    vectors = unit_length(gallery.embeddings())
    scores = np.triu(vectors @ vectors.T, 1)
    told = {str(least): int((scores >= least).sum()) for least in _DUPLICATE_THRESHOLDS}
    return {"what": "pairs of the gallery", "n": len(gallery), **told}


def _wrong_labels(photos: Retriever) -> list[dict[str, Any]]:
    keys, vectors = list(photos), photos.embeddings()
    right = {key: str(photos[key].label) for key in keys}
    names = sorted(set(right.values()))
    rows = []
    for share in _SWAPPED:
        generator = np.random.default_rng(1)
        labels = dict(right)
        for row in generator.choice(len(keys), round(share * len(keys)), replace=False):
            shift = int(generator.integers(1, len(names)))
            labels[keys[row]] = names[(names.index(right[keys[row]]) + shift) % len(names)]
        swapped = sum(labels[key] != right[key] for key in keys)
        retriever = Retriever()
        retriever.add_vectors(vectors, keys=keys, labels=list(labels.values()))
        for adapted in (False, True):
            if adapted:
                retriever.adapt()
            for threshold in _LABEL_THRESHOLDS:
                started = time.perf_counter()
                told = retriever.mislabelled(threshold=threshold)
                seconds = time.perf_counter() - started
                found = [issue for issue in told if labels[issue.key] != right[issue.key]]
                rows.append(
                    {
                        "swapped": swapped,
                        "adapted": str(adapted),
                        "threshold": threshold,
                        "told": len(told),
                        "precision": len(found) / max(len(told), 1),
                        "recall": len(found) / swapped,
                        "right suggestion": sum(
                            issue.suggested == right[issue.key] for issue in found
                        )
                        / max(len(found), 1),
                        "s": seconds,
                    }
                )
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _hidden(photos: Retriever, others: Retriever) -> dict[str, Any]:
    drawn = np.random.default_rng(0).choice(len(others), _HIDDEN, replace=False)
    keys = list(others)
    strange = [keys[row] for row in drawn]
    retriever = Retriever()
    retriever.add_vectors(photos.embeddings(), keys=[f"photos/{key}" for key in photos])
    retriever.add_vectors(others.embeddings(strange), keys=[f"others/{key}" for key in strange])
    first = retriever.outliers(_HIDDEN)
    return {
        "items": len(retriever),
        "hidden": _HIDDEN,
        "among the first": sum(outlier.key.startswith("others/") for outlier in first),
    }


if __name__ == "__main__":
    main()
