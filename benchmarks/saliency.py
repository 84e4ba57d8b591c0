"""Quality of croppers: boxes and maps compared with true masks.

    python benchmarks/saliency.py PICTURES MASKS [--models u2net.onnx ...]

The true box of an image bounds its mask at half its height; the shares of the images whose box has
at least 0.9 of an IoU, and less than 0.7, follow the mean. For maps, pysodmetrics computes the
mean absolute error, the maximum F-beta (beta squared 0.3) over the thresholds of the curve averaged
over the images, and the S-measure. Croppers that only return boxes have none of these. The time is
that of one thread without decoding. Needs: pip install pysodmetrics
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from py_sod_metrics import MAE, Fmeasure, Smeasure

from imgret import images
from imgret.abc import Cropper
from imgret.croppers import (
    AttentionCropper,
    CenterCrop,
    CombinedCropper,
    MapCropper,
    NoCrop,
    SaliencyCropper,
)
from imgret.croppers.maps import subject_box
from imgret.types import Box


def main() -> None:
    """Print a line a cropper."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--models", nargs="*", default=[], help="more saliency models")
    options = parser.parse_args()
    paths = sorted(options.pictures.glob("*.jpg"))
    photos = [images.load(path) for path in paths]
    masks = [images.load(options.masks / f"{path.stem}.png")[:, :, 0] for path in paths]
    croppers: dict[str, Cropper] = {
        "whole": NoCrop(),
        "center": CenterCrop(),
        "spectral": SaliencyCropper("spectral"),
        "saliency": SaliencyCropper(),
        "attention": AttentionCropper(),
        "combined": CombinedCropper(),
        **{str(model): SaliencyCropper(model) for model in options.models},
    }
    print(f"{len(paths)} images")
    columns = ("box IoU", ">= 0.9", "< 0.7", "MAE", "max F", "S", "ms")
    print(f"{'cropper':<13}" + "".join(f"{column:>8}" for column in columns))
    for name, cropper in croppers.items():
        print(f"{Path(name).stem:<12}{_line(cropper, photos, masks)}", flush=True)


def _line(cropper: Cropper, photos: list[np.ndarray], masks: list[np.ndarray]) -> str:
    cropper.boxes(photos[:2])
    started = time.perf_counter()
    boxes = [cropper.boxes([photo])[0] for photo in photos]
    spent = 1000 * (time.perf_counter() - started) / len(photos)
    found = []
    for box, mask in zip(boxes, masks, strict=True):
        whole = Box(0, 0, mask.shape[1], mask.shape[0])
        true = subject_box((mask / 255).astype(np.float32), whole, 0.5)
        found.append(box.iou(true or whole))
    ious = np.array(found)
    line = f"{ious.mean():>9.4f}{(ious >= 0.9).mean():>8.2f}{(ious < 0.7).mean():>8.2f}"
    if not isinstance(cropper, MapCropper):
        return f"{line}{'':>24}{spent:>8.2f}"
    mae, measure, structure = MAE(), Fmeasure(), Smeasure()
    for photo, mask in zip(photos, masks, strict=True):
        level = np.rint(cropper.saliency(photo) * 255).astype(np.uint8)
        for metric in (mae, measure, structure):
            metric.step(pred=level, gt=mask)
    curve = measure.get_results()["fm"]["curve"]
    return (
        f"{line}{mae.get_results()['mae']:>8.4f}{curve.max():>8.4f}"
        f"{structure.get_results()['sm']:>8.4f}{spent:>8.2f}"
    )


if __name__ == "__main__":
    main()
