"""imgret's test suite for embedders, and the registered name in use."""

import numpy as np
import pytest
from imgret_color import ColorHistogram

from imgret import ImgretError, Retriever
from imgret.testing import EmbedderTests


class TestColorHistogram(EmbedderTests):
    def make(self):
        return ColorHistogram()


def test_red_finds_red_by_name(tmp_path):
    red, blue = (np.full((40, 50, 3), color, np.uint8) for color in ((220, 20, 30), (10, 30, 200)))
    retriever = Retriever(embedder="color-histogram")
    retriever.add([red, blue], keys=["red", "blue"])
    retriever.save(tmp_path / "colors.imgret")
    loaded = Retriever.load(tmp_path / "colors.imgret")
    assert loaded.search(red[::2] - 3, k=1)[0].key == "red"


def test_a_gallery_of_other_bins_is_refused(tmp_path):
    Retriever(embedder="color-histogram").save(tmp_path / "colors.imgret")
    with pytest.raises(ImgretError):
        Retriever.load(tmp_path / "colors.imgret", embedder=ColorHistogram(bins=4))
