"""Heat maps of matches: deletion and insertion curves, compared with a random order.

    python benchmarks/explain.py PHOTOS [--embedder general] [--pairs 100] [--fill blur]

PHOTOS is a folder of class subfolders. Each query is paired with its best hit of the same class.
The part of the image that the network sees is divided into 7 x 7 patches. For deletion, patches are
replaced from the hottest to the coldest, and the area under the curve of the score is measured:
less is better. For insertion, they are revealed in that order: more is better (V. Petsiuk, A. Das
and K. Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018). Patches
fade into each other, since hard edges lower a score by themselves, and a random order has most of
them. ``--fill`` is what patches are replaced by: a blurred copy or grey.

"random" is the mean of several random orders; "centre" takes the patches in the middle first, where
subjects usually are. The intervals are those of the paired difference from random, from a bootstrap
over the pairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from results import save

from imgret import Retriever, images
from imgret.croppers import NoCrop
from imgret.explain import Explanation, HeatMap
from imgret.explain.occlude import blurred
from imgret.support.statistics import interval, resampled_means
from imgret.types import Embeddings, Hit, Image

_Floats: TypeAlias = NDArray[np.float64]

PATCHES, STEPS, RANDOM, SEED = 7, 7, 5, 0
METHODS = ("exact", "occlusion")
CURVES = ("deletion", "insertion")


def main() -> None:
    """Print a table of the areas, and of their differences with random."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--embedder", default="general")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--fill", choices=("blur", "grey"), default="blur")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    retriever = Retriever(embedder=options.embedder)
    retriever.add_folder(options.photos, labels="parent", progress=False)
    areas: dict[str, list[float]] = {}
    for query, hit in pairs(retriever, options.pairs):
        for name, value in measured(retriever, query, hit, options.fill).items():
            areas.setdefault(name, []).append(value)
    rows = summary({name: np.array(values) for name, values in areas.items()})
    n = len(next(iter(areas.values())))
    title = f"{options.embedder}, {n} pairs, {options.fill}: areas under the curve of the score"
    save(options.out, "explain", rows, title=title)


def pairs(retriever: Retriever, n: int) -> list[tuple[str, Hit]]:
    """Return queries drawn at random, and the best other hit of the same class for each."""
    generator = np.random.default_rng(SEED)
    keys = [key for key in retriever if retriever[key].path is not None]
    found = []
    for key in generator.permutation(keys).tolist():
        item = retriever[key]
        hits = retriever.search_key(key, 1, where={"label": item.label})
        if hits:
            found.append((str(item.path), hits[0]))
        if len(found) == n:
            break
    return found


def measured(retriever: Retriever, query: str, hit: Hit, fill: str) -> dict[str, float]:
    """Return the areas of one pair by curve, map and order."""
    found: dict[str, float] = {}
    generator = np.random.default_rng([SEED, len(query), hit.rank])
    explained: dict[str, Explanation] = {
        method: retriever.explain_match(Path(query), hit, method=method)  # type: ignore[arg-type]  # of METHODS
        for method in METHODS
    }
    for which in ("query", "hit"):
        maps: dict[str, HeatMap] = {m: getattr(e, which) for m, e in explained.items()}
        first = maps["exact"]
        part = seen_part(first)
        other = explained["exact"].hit if which == "query" else explained["exact"].query
        if other is None:
            raise RuntimeError("a query that is an image has a map")
        score = scorer(retriever, other.image)
        orders = {m: [order(patch_means(heat))] for m, heat in maps.items()}
        orders["centre"] = [order(-distances())]
        orders["random"] = [generator.permutation(PATCHES**2) for _ in range(RANDOM)]
        replaced = blurred(first.image) if fill == "blur" else np.full_like(first.image, 127)
        for name, several in orders.items():
            for curve in CURVES:
                start, end = first.image, replaced
                if curve == "insertion":
                    start, end = end, start
                found[f"{curve} {which} {name}"] = float(
                    np.mean([area(start, end, each, part, score) for each in several])
                )
    return found


def scorer(retriever: Retriever, other: Image) -> Callable[[list[Image]], _Floats]:
    """Return what scores images with another one."""
    view = retriever.view()

    def vectors(pictures: list[Image]) -> Embeddings:
        return view.project(retriever._pipeline.embed(pictures, cropper=NoCrop()))  # noqa: SLF001  # cropped already

    (fixed,) = vectors([other])
    return lambda pictures: np.asarray(view.metric.scores(vectors(pictures), fixed))


def seen_part(heat: HeatMap) -> tuple[slice, slice]:
    """Return the rows and columns of the image that the network sees."""
    rows, columns = (np.flatnonzero(heat.shown().any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def patch_means(heat: HeatMap) -> _Floats:
    """Return the mean heat of each patch."""
    means = images.resize(heat.pixels()[seen_part(heat)], PATCHES, PATCHES)
    return means.astype(np.float64)


def distances() -> _Floats:
    """Return the distance of each patch from the middle."""
    at = np.arange(PATCHES) - (PATCHES - 1) / 2
    found: _Floats = np.hypot(at[:, None], at)
    return found


def order(heat: _Floats) -> Any:
    """Return the numbers of the patches, the hottest first."""
    return np.argsort(-heat.ravel(), kind="stable")


def area(
    start: Image,
    end: Image,
    patches: Any,
    part: tuple[slice, slice],
    score: Callable[[list[Image]], _Floats],
) -> float:
    """Return the area under the score while one image turns into another, patch by patch."""
    turned = np.zeros(PATCHES**2, dtype=np.float32)
    height, width = start[part].shape[:2]
    pictures = [start]
    for some in np.array_split(patches, STEPS):
        turned[some] = 1
        share = images.resize(turned.reshape(PATCHES, PATCHES), width, height)[:, :, None]
        picture = start.copy()
        picture[part] = np.rint(start[part] * (1 - share) + end[part] * share)
        pictures.append(picture)
    return float(np.trapezoid(score(pictures), dx=1 / STEPS))


def summary(areas: dict[str, _Floats]) -> list[dict[str, Any]]:
    """Return a row for each curve, map and order."""
    rows = []
    for name, values in areas.items():
        curve, which, by = name.split()
        gain = low = high = None
        if by != "random":
            sign = 1 if curve == "insertion" else -1
            gains = sign * (values - areas[f"{curve} {which} random"])
            means = resampled_means({name: gains}, n_resamples=10_000, seed=SEED)
            gain, (low, high) = float(gains.mean()), interval(means, 0.95)[:, 0].tolist()
        rows.append(
            {
                "curve": curve,
                "map": which,
                "order": by,
                "area": float(values.mean()),
                "better than random by": gain,
                "from": low,
                "to": high,
            }
        )
    return sorted(rows, key=lambda row: (row["curve"], row["map"]))


if __name__ == "__main__":
    main()
