"""Effect of cropping on retrieval, with original images and with hard queries made from them.

    python benchmarks/crops.py FLOWERS CALTECH [--masks MASKS] [--embedders general flowers102]

FLOWERS contains ``train``, which is the gallery, and ``valid``, which are the queries. CALTECH is
evaluated on itself, leaving one out. MASKS, if given, contains saliency maps as PNG with the same
relative paths, in ``flowers102/train``, ``flowers102/valid`` and ``caltech51``, as
`imgret.train.draw_masks` makes them with a model other than the one under test. From these, two
sets of hard queries are made of the images of ``valid``. In "small", the flower has 25 to 40 % of
the side and lies off the middle, on an empty part of a train image of another class. In
"distractor", there is also an object of CALTECH at 15 to 25 % of the side. The table shows which
part of the mAP@5 (min_k_r) that whole images lose by this a cropper recovers. Gallery and queries
go through the same cropper.

"ms" is the time to crop and embed one image on one thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgret import Retriever, images
from imgret.abc import Cropper, Embedder
from imgret.croppers import AttentionCropper, CenterCrop, CombinedCropper, NoCrop, SaliencyCropper
from imgret.embedders import OnnxEmbedder, TwoViewEmbedder
from imgret.evaluation import Report
from imgret.types import Image

SIDE, SEED = 320, 0


class Queries(NamedTuple):
    """Images, by path or as arrays, with their classes."""

    name: str
    pictures: list[Any]
    labels: list[str]


def ways(model: str) -> Iterator[tuple[str, Embedder, Cropper]]:
    """Return what is compared: name, embedder, cropper."""
    embedder = OnnxEmbedder(model)
    saliency, attention = SaliencyCropper(), AttentionCropper(model)
    largest = SaliencyCropper(largest=True)
    combined = CombinedCropper([saliency, attention], weights=[2, 1], margin=0)
    agreed = CombinedCropper([saliency, attention], weights=[2, 1], margin=0, largest=True)
    yield "none", embedder, NoCrop()
    yield "center", embedder, CenterCrop()
    yield "spectral", embedder, SaliencyCropper("spectral")
    yield "saliency", embedder, saliency
    yield "saliency, largest part", embedder, largest
    yield "attention", embedder, attention
    yield "saliency x attention", embedder, combined
    yield "the same, largest part", embedder, agreed
    yield "two-view, saliency", TwoViewEmbedder(embedder, saliency), NoCrop()
    yield "two-view, sal. x att.", TwoViewEmbedder(embedder, agreed), NoCrop()


def main() -> None:
    """Print a table per embedder and set of images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flowers", type=Path)
    parser.add_argument("caltech", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--embedders", nargs="+", default=["general", "flowers102"])
    parser.add_argument("--only", nargs="*", help="rows to measure, such as none saliency")
    parser.add_argument("--samples", type=Path, help="folder to write some of the hard queries to")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paths = sorted((options.flowers / "valid").glob("*/*.jpg"))
    sets = [Queries("valid", paths, [path.parent.name for path in paths])]
    if options.masks is not None:
        hard = Hard(options.flowers, options.caltech, options.masks)
        sets += [hard.queries("small", distract=False), hard.queries("distractor", distract=True)]
        if options.samples is not None:
            hard.save(sets, options.samples)
    found: dict[str, Any] = {}
    for model in options.embedders:
        print(f"\nflowers, {model}: {', '.join(f'{len(s.labels)} {s.name}' for s in sets)}")
        rows = _flowers(model, options, sets)
        print(f"\nCaltech, {model}, leave one out")
        found[model] = {"flowers": rows, "caltech": _caltech(model, options)}
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


def _flowers(model: str, options: Any, sets: list[Queries]) -> dict[str, Any]:
    print(_head([queries.name for queries in sets]))
    rows: dict[str, Any] = {}
    base: dict[str, float] = {}
    for name, embedder, cropper in ways(model):
        if options.only and name not in {*options.only, "none"}:
            continue
        retriever = Retriever(embedder=embedder, cropper=cropper)
        told = retriever.add_folder(options.flowers / "train", labels="parent", progress=False)
        cells: list[str] = []
        row: dict[str, Any] = {}
        for queries in sets:
            report = retriever.evaluate(queries.pictures, queries.labels, k=(1, 5))
            row[queries.name] = _figures(report)
            score = row[queries.name]["map5_min_k_r"]
            base.setdefault(queries.name, score)
            cell = _cell(row[queries.name])
            if queries.name != "valid":
                lost = base["valid"] - base[queries.name]
                row[queries.name]["recovered"] = (score - base[queries.name]) / lost
                cell += f" {100 * row[queries.name]['recovered']:>5.0f} %"
            cells.append(cell)
        row["ms"] = _milliseconds(told.stages, len(retriever))
        rows[name] = row
        print(f"{name:<24}{row['ms']:>6.1f}  {'  '.join(cells)}", flush=True)
    return rows


def _caltech(model: str, options: Any) -> dict[str, Any]:
    print(_head(["caltech"]))
    rows: dict[str, Any] = {}
    for name, embedder, cropper in ways(model):
        if options.only and name not in {*options.only, "none"}:
            continue
        retriever = Retriever(embedder=embedder, cropper=cropper)
        told = retriever.add_folder(options.caltech, labels="parent", progress=False)
        row = _figures(retriever.evaluate(k=(1, 5)))
        row["ms"] = _milliseconds(told.stages, len(retriever))
        rows[name] = row
        print(f"{name:<24}{row['ms']:>6.1f}  {_cell(row)}", flush=True)
    return rows


def _head(names: list[str]) -> str:
    columns = "  ".join(f"{name + ': top-1, mAP@5 (min_k_r)':<39}" for name in names)
    return f"{'cropper':<24}{'ms':>6}  {columns}"


def _figures(report: Report) -> dict[str, Any]:
    return {
        "top1": report.metrics["top1"],
        "top1_ci": report.ci["top1"],
        "map5_hits": report.metrics["map5"]["hits"],
        "map5_min_k_r": report.metrics["map5"]["min_k_r"],
        "map5_min_k_r_ci": report.ci["map5"]["min_k_r"],
    }


def _cell(row: dict[str, Any]) -> str:
    (a, b), (c, d) = row["top1_ci"], row["map5_min_k_r_ci"]
    return f"{row['top1']:.3f} [{a:.3f} {b:.3f}] {row['map5_min_k_r']:.3f} [{c:.3f} {d:.3f}]"


def _milliseconds(stages: dict[str, float], n: int) -> float:
    return 1000 * (stages.get("crop", 0.0) + stages["embed"]) / n


class Hard:
    """Makes hard queries; the same ones each time."""

    def __init__(self, flowers: Path, caltech: Path, masks: Path) -> None:
        self._queries = _masked(flowers / "valid", masks / "flowers102" / "valid")
        self._grounds = _masked(flowers / "train", masks / "flowers102" / "train")
        self._objects = _masked(caltech, masks / "caltech51")

    def queries(self, name: str, *, distract: bool) -> Queries:
        """Return one query for each picture of ``valid`` whose flower can be cut out."""
        pictures, labels = [], []
        for number, (path, mask) in enumerate(self._queries):
            generator = np.random.default_rng([SEED, number])
            label = path.parent.name
            picture = self._make(path, mask, label, generator, distract=distract)
            if picture is not None:
                pictures.append(picture)
                labels.append(label)
        return Queries(name, pictures, labels)

    def save(self, sets: list[Queries], folder: Path) -> None:
        """Write some of the queries that are arrays."""
        folder.mkdir(parents=True, exist_ok=True)
        for queries in sets:
            for number, picture in enumerate(
                queries.pictures[:: max(1, len(queries.labels) // 12)]
            ):
                if isinstance(picture, np.ndarray):
                    data = images.encode(picture, "jpeg")
                    (folder / f"{queries.name}-{number:02d}.jpg").write_bytes(data)

    def _make(
        self,
        path: Path,
        mask: Path,
        label: str,
        generator: np.random.Generator,
        *,
        distract: bool,
    ) -> Image | None:
        subject = _cut(path, mask)
        picture = self._ground(label, generator)
        if subject is None or picture is None:
            return None
        size = SIDE * generator.uniform(0.25, 0.4)
        left, right = generator.random() < 0.5, generator.random() < 0.5
        # Off the middle: in one of the four corners of the picture.
        _put(picture, subject, size, (0.04 if left else 0.55, 0.04 if right else 0.55), generator)
        if distract:
            thing = None
            while thing is None:
                thing = _cut(*self._objects[generator.integers(len(self._objects))])
            size = SIDE * generator.uniform(0.15, 0.25)
            _put(picture, thing, size, (0.7 if left else 0.04, 0.7 if right else 0.04), generator)
        return picture

    def _ground(self, label: str, generator: np.random.Generator) -> Image | None:
        """Return an empty part of a picture of another class, SIDE x SIDE."""
        for _ in range(200):
            path, mask_path = self._grounds[generator.integers(len(self._grounds))]
            if path.parent.name == label:
                continue
            mask = images.load(mask_path)[:, :, 0]
            rows, columns = mask.shape
            side = int(min(rows, columns) * generator.uniform(0.35, 0.6))
            top, left = generator.integers(rows - side + 1), generator.integers(columns - side + 1)
            if mask[top : top + side, left : left + side].mean() > 3:
                continue
            picture = images.load(path)
            y, x = picture.shape[0] / rows, picture.shape[1] / columns
            part = picture[
                round(top * y) : round((top + side) * y), round(left * x) : round((left + side) * x)
            ]
            return images.resize(part, SIDE, SIDE).copy()
        return None


def _masked(pictures: Path, masks: Path) -> list[tuple[Path, Path]]:
    pairs = [
        (path, (masks / path.relative_to(pictures)).with_suffix(".png"))
        for path in sorted(pictures.glob("*/*.jpg"))
    ]
    return [(path, mask) for path, mask in pairs if mask.is_file()]


def _cut(path: Path, mask_path: Path) -> tuple[Image, NDArray[np.float32]] | None:
    """Return a subject and how much of each pixel belongs to it, cut to its box."""
    picture, mask = images.load(path), images.load(mask_path)[:, :, 0]
    share = images.resize(mask, picture.shape[1], picture.shape[0])
    rows, columns = (np.flatnonzero((share > 127).any(axis=axis)) for axis in (1, 0))
    if len(rows) < 32 or len(columns) < 32:
        return None
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return picture[part], (share[part] / 255).astype(np.float32)


def _put(
    picture: Image,
    subject: tuple[Image, NDArray[np.float32]],
    size: float,
    corner: tuple[float, float],
    generator: np.random.Generator,
) -> None:
    """Paste a subject whose longer side is ``size`` near a place."""
    cut, share = subject
    scale = size / max(cut.shape[:2])
    width, height = (max(1, round(n * scale)) for n in (cut.shape[1], cut.shape[0]))
    x, y = (
        int(min(SIDE * (place + generator.uniform(0, 0.04)), SIDE - n))
        for place, n in zip(corner, (width, height), strict=True)
    )
    alpha = images.resize(share, width, height)[:, :, None]
    part = picture[y : y + height, x : x + width]
    part[:] = np.rint(images.resize(cut, width, height) * alpha + part * (1 - alpha))


if __name__ == "__main__":
    main()
