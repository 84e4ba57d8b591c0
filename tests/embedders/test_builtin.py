"""The models that come with imgret keep the contract of embedders."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from imgret import Retriever, images, registry
from imgret.support.unit import unit_length
from imgret.testing import EmbedderTests


class TestGeneral(EmbedderTests):
    def make(self):
        return registry.create("embedders", "general")


class TestFlowers102(EmbedderTests):
    def make(self):
        return registry.create("embedders", "flowers102")


class TestFlowers102Large(EmbedderTests):
    def make(self):
        return registry.create("embedders", "flowers102-large")


class TestFlowers102Resnet(EmbedderTests):
    def make(self):
        return registry.create("embedders", "flowers102-resnet")


@pytest.mark.parametrize("name", ["flowers102", "flowers102-large", "flowers102-resnet"])
def test_a_gallery_finds_its_embedder_again(name, photos, tmp_path):
    retriever = Retriever(embedder=name)
    retriever.add_folder(photos, labels="parent", progress=False)
    retriever.save(tmp_path / "x.imgret")
    again = Retriever.load(tmp_path / "x.imgret")
    assert again.embedder.name == name
    assert again.search(photos / "lake" / "0.jpg", k=1)[0].key == "lake/0.jpg"


@pytest.mark.parametrize("name", ["flowers102", "flowers102-large", "flowers102-resnet"])
def test_the_same_thing_seen_otherwise_is_found(name):
    # Not a flower, but the parts of a real photo, each to be found by its mirror image.
    photo = skimage.data.astronaut()
    parts = [photo[y : y + 256, x : x + 256] for y in (0, 128, 256) for x in (0, 128, 256)]
    embedder = registry.create("embedders", name)
    mirrored = [np.ascontiguousarray(images.resize(p[:, ::-1], 300, 300)) for p in parts]
    found = unit_length(embedder.embed(parts)) @ unit_length(embedder.embed(mirrored)).T
    assert (found.argmax(axis=1) == np.arange(len(parts))).mean() > 0.7
