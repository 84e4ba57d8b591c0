"""An embedder that looks at the whole image and at its subject."""

import numpy as np
import pytest
from skimage import data

from imgret import Retriever, registry
from imgret.croppers import CenterCrop, NoCrop, SaliencyCropper
from imgret.embedders import OnnxEmbedder, TwoViewEmbedder
from imgret.errors import InvalidInputError, UnknownNameError
from imgret.testing import EmbedderTests


class TestTwoViews(EmbedderTests):
    def make(self):
        return TwoViewEmbedder("general", "spectral", weight=0.4)


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_it_is_the_mean_of_both_views(mean_color):
    pictures = [data.coffee(), data.chelsea()]
    cropper = CenterCrop(0.5)
    whole = _unit(mean_color.embed(pictures))
    crop = _unit(mean_color.embed(cropper.crop(pictures)))
    found = TwoViewEmbedder(mean_color, cropper, weight=0.25).embed(pictures)
    np.testing.assert_allclose(found, _unit(0.75 * whole + 0.25 * crop), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_without_a_subject_it_is_the_whole(mean_color):
    flat = np.full((40, 60, 3), 90, dtype=np.uint8)
    found = TwoViewEmbedder(mean_color, SaliencyCropper("spectral")).embed([flat])
    np.testing.assert_allclose(found, _unit(mean_color.embed([flat])), atol=1e-6)


def test_the_fingerprint_tells_cropper_and_weight(mean_color):
    made = [
        TwoViewEmbedder(mean_color, CenterCrop(0.5)),
        TwoViewEmbedder(mean_color, CenterCrop(0.6)),
        TwoViewEmbedder(mean_color, CenterCrop(0.5), weight=0.4),
        TwoViewEmbedder("general", CenterCrop(0.5)),
    ]
    assert len({embedder.fingerprint for embedder in made}) == len(made)


def test_a_gallery_makes_it_again(photos, tmp_path):
    retriever = Retriever(embedder=TwoViewEmbedder("flowers102", "saliency", weight=0.3))
    retriever.add_folder(photos, labels="parent", progress=False)
    retriever.save(tmp_path / "x.imgret")
    again = Retriever.load(tmp_path / "x.imgret")
    assert again.embedder.config() == retriever.embedder.config()
    assert again.search(photos / "lake" / "0.jpg", k=1)[0].key == "lake/0.jpg"
    assert registry.create("embedders", "two-view").dim == OnnxEmbedder("general").dim


@pytest.mark.parametrize(
    ("parts", "options", "error", "message"),
    [
        (("general", "spectral"), {"weight": 1}, InvalidInputError, "over 0 and below 1"),
        (("general", "spectral"), {"weight": 0}, InvalidInputError, "weight"),
        (("spectral", "general"), {}, UnknownNameError, "no 'spectral'"),
        (("general", 4), {}, InvalidInputError, "cropper: expected a registered name"),
        ((NoCrop(), "spectral"), {}, InvalidInputError, "embedder: expected a registered name"),
        (({"nam": 1}, "spectral"), {}, InvalidInputError, "expected the keys 'name'"),
    ],
)
def test_bad_parts_are_told(parts, options, error, message):
    with pytest.raises(error, match=message):
        TwoViewEmbedder(*parts, **options)
