"""What many tests need: small real pictures, and an embedder that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from imgret import images
from imgret.abc import Embedder
from imgret.types import Embeddings, Image, Json

settings.register_profile("imgret", deadline=None, print_blob=True)  # machines are busy at times
settings.load_profile("imgret")


class MeanColor(Embedder):
    """Mean and spread of the colours of a 4 x 4 grid: quick, exact, needs no model."""

    name = "mean-color"
    batch_size = 8

    def __init__(self, offset: float = 1.0) -> None:
        self.offset = offset

    @property
    def dim(self) -> int:
        return 48

    @property
    def fingerprint(self) -> str:
        return f"mean-color-{self.offset}"

    def config(self) -> Json:
        return {"offset": self.offset}

    def _embed(self, images_: Sequence[Image]) -> Embeddings:
        grids = [images.resize(image, 4, 4).astype(np.float32).ravel() for image in images_]
        return np.stack(grids) / 255 - 0.5 + self.offset * 0.01


@pytest.fixture
def mean_color() -> MeanColor:
    return MeanColor()


@pytest.fixture
def other_embedder() -> MeanColor:
    return MeanColor(offset=2.0)


def picture(seed: int, *, size: tuple[int, int] = (48, 40)) -> Image:
    """A picture that JPEG keeps well: a smooth field of colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return images.resize(coarse, *size)


@pytest.fixture
def make_picture():
    return picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve JPEGs in three folders."""
    root = tmp_path / "photos"
    for label_number, label in enumerate(("lake", "sand", "wood")):
        (root / label).mkdir(parents=True)
        for n in range(4):
            data = images.encode(picture(10 * label_number + n), "jpeg", quality=90)
            (root / label / f"{n}.jpg").write_bytes(data)
    return root
