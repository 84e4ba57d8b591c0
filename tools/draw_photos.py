"""Draw photos as large as cameras take them, to measure how quickly they are decoded.

    python tools/draw_photos.py FOLDER [--count 24]

FOLDER gets a subfolder for each kind: ``jpeg-12`` (4000 x 3000, as of a phone), ``jpeg-24``,
``jpeg-48``, ``png-24``, and ``heic-12`` if pillow-heif is installed. The scenes are those of
`imgret.demo`, with the grain of a sensor: without it, files are small and decoded too quickly.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from imgret.demo import samples
from imgret.types import Image as Pixels

# Name, suffix, width, height, and standard deviation of the grain in grey levels: files of JPEG
# have 2.5 to 3.5 bits a pixel with it, as those of phones and cameras have.
_KINDS = [
    ("jpeg-12", ".jpg", 4000, 3000, 5.0),
    ("jpeg-24", ".jpg", 6000, 4000, 5.0),
    ("jpeg-48", ".jpg", 8000, 6000, 5.0),
    ("png-24", ".png", 6000, 4000, 2.0),
    ("heic-12", ".heic", 4000, 3000, 1.0),
]
_QUALITY = 92
# The scene is drawn smaller and enlarged, as lenses do not resolve single pixels either.
_SHARPNESS = 2


def photo(number: int, width: int, height: int, grain: float) -> Pixels:
    """Return one photo: uint8 RGB."""
    names = samples.species()
    size = (width // _SHARPNESS, height // _SHARPNESS)
    scene = samples.draw(names[number % len(names)], number, size=size)
    large = cv2.resize(scene, (width, height), interpolation=cv2.INTER_CUBIC)
    rng = np.random.default_rng(number)
    noise = (rng.standard_normal(2**20, dtype=np.float32) * grain).round().astype(np.int16)
    starts = rng.integers(len(noise) - width * 3, size=height)
    grains = noise[starts[:, None] + np.arange(width * 3)].reshape(large.shape)
    noisy: Pixels = np.clip(large + grains, 0, 255).astype(np.uint8)
    return noisy


def write(folder: Path, count: int) -> Iterator[Path]:
    """Write photos of every kind, and yield the folders."""
    for kind, suffix, width, height, grain in _KINDS:
        if suffix == ".heic" and find_spec("pillow_heif") is None:
            continue
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = photo(number, width, height, grain)
            path = folder / kind / f"{number:03d}{suffix}"
            if suffix == ".heic":
                import pillow_heif  # noqa: PLC0415  # an extra
                from PIL import Image  # noqa: PLC0415  # with it

                pillow_heif.from_pillow(Image.fromarray(pixels)).save(path, quality=50)
            else:
                options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if suffix == ".jpg" else []
                cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
        yield folder / kind


def main() -> None:
    """Draw them, and say how large the files are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    for folder in write(options.folder, options.count):
        sizes = [path.stat().st_size for path in folder.iterdir()]
        print(f"{folder}: {len(sizes)} photos of {np.mean(sizes) / 2**20:.1f} MB")


if __name__ == "__main__":
    main()
