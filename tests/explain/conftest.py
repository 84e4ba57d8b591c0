"""Small galleries to explain matches of."""

import numpy as np
import pytest

from imgret import Retriever, images
from imgret.demo import samples


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Thirty drawn flowers, wider than high."""
    root = tmp_path_factory.mktemp("explained")
    for species in ("daisy", "rose", "tulip"):
        (root / species).mkdir()
        for n in range(10):
            picture = samples.draw(species, n, size=(200, 150))
            (root / species / f"{n}.jpg").write_bytes(images.encode(picture, quality=95))
    return root


@pytest.fixture(scope="session")
def flowers(folder):
    retriever = Retriever()
    retriever.add_folder(folder, labels="parent", progress=False)
    return retriever


@pytest.fixture
def planted():
    """Make an image of soft green with a flower at a place."""

    def make(x, y, *, size=(320, 240), side=90, species="sunflower"):
        rng = np.random.default_rng(x + y)
        ground = rng.integers((20, 60, 20), (60, 110, 60), (4, 4, 3)).astype(np.uint8)
        picture = images.resize(ground, *size).copy()
        flower = images.resize(samples.draw(species, 3), side, side)
        picture[y : y + side, x : x + side] = flower
        return picture

    return make


@pytest.fixture
def middle_of_heat():
    """Return the pixel of the full-size image where the heat is greatest."""

    def find(heat):
        pixels = heat.pixels()
        y, x = np.unravel_index(pixels.argmax(), pixels.shape)
        height, width = pixels.shape
        return x * heat.size[0] / width, y * heat.size[1] / height

    return find
