"""The test suite for embedders."""
# ruff: noqa: D102  # the name of a test is its sentence

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest

from imgret import registry
from imgret.abc import Embedder
from imgret.errors import InvalidInputError, UnsupportedError
from imgret.testing.data import picture, pictures
from imgret.types import Embeddings

__all__ = ["EmbedderTests"]

_TEXTS = (
    "a red rose",
    "Ein gelber Löwenzahn auf der Wiese",
    "",
    "naïve café, 東京 🌷",
    "שלום עולם",
    "\x00\x07 \u202eabc\ufeff",
)


class EmbedderTests:
    """Tests that every embedder must pass.

    Subclass it as ``class TestMine(EmbedderTests)`` and implement `make`.

    Attributes
    ----------
    batch_tolerance : float
        Maximum cosine distance between the embeddings of one image in two batches.
    """

    batch_tolerance: ClassVar[float] = 1e-5
    _made: ClassVar[dict[type, Embedder]] = {}

    def make(self) -> Embedder:
        """Make the embedder."""
        raise NotImplementedError(f"{type(self).__name__}.make: expected to return an embedder")

    @pytest.fixture
    def embedder(self) -> Embedder:
        """Return the embedder, made once per class because a model may take long to load."""
        if type(self) not in self._made:
            self._made[type(self)] = self.make()
        return self._made[type(self)]

    def check_same(self, found: Embeddings, expected: Embeddings) -> None:
        """Check that embeddings agree in direction, row by row."""
        products = np.einsum("ij,ij->i", found, expected, dtype=np.float64)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        assert found.shape == expected.shape
        assert (products >= (1 - self.batch_tolerance) * norms).all(), products / norms

    def test_shape_and_type(self, embedder: Embedder) -> None:
        images = list(pictures().values())
        found = embedder.embed(images)
        assert isinstance(embedder.dim, int)
        assert found.shape == (len(images), embedder.dim)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert np.isfinite(found).all()

    @pytest.mark.parametrize("name", list(pictures()))
    def test_a_picture_of_any_shape_alone(self, embedder: Embedder, name: str) -> None:
        found = embedder.embed([pictures()[name]])
        assert found.shape == (1, embedder.dim)
        assert np.isfinite(found).all()

    def test_no_images(self, embedder: Embedder) -> None:
        assert embedder.embed([]).shape == (0, embedder.dim)

    @pytest.mark.parametrize("batch_size", [1, 3, 64])
    def test_the_batch_does_not_matter(self, embedder: Embedder, batch_size: int) -> None:
        images = list(pictures().values())
        alone = np.concatenate([embedder.embed([image]) for image in images])
        self.check_same(embedder.embed(images, batch_size=batch_size), alone)

    def test_order_is_kept(self, embedder: Embedder) -> None:
        images = [picture(40, 50, seed=seed) for seed in range(5)]
        expected = embedder.embed(images)
        self.check_same(embedder.embed(images[::-1]), expected[::-1])

    def test_images_are_distinguished(self, embedder: Embedder) -> None:
        found = embedder.embed([picture(64, 64, seed=1), picture(64, 64, seed=2)])
        assert not np.allclose(found[0], found[1])

    def test_the_same_twice(self, embedder: Embedder) -> None:
        images = [picture(50, 60)]
        np.testing.assert_array_equal(embedder.embed(images), embedder.embed(images))

    def test_images_are_left_alone_and_may_be_views(self, embedder: Embedder) -> None:
        image = picture(60, 80)
        before = image.copy()
        view = image[::-1, 3:50, ::-1]
        image.flags.writeable = False
        self.check_same(embedder.embed([view]), embedder.embed([np.ascontiguousarray(view)]))
        np.testing.assert_array_equal(image, before)

    @pytest.mark.parametrize(
        "images",
        [
            pytest.param(picture(8, 8), id="one image"),
            pytest.param([picture(8, 8).astype(np.float32)], id="float"),
            pytest.param([picture(8, 8)[..., 0]], id="grey"),
            pytest.param([np.zeros((8, 8, 4), dtype=np.uint8)], id="RGBA"),
            pytest.param([np.zeros((0, 8, 3), dtype=np.uint8)], id="empty"),
            pytest.param([picture(8, 8), None], id="None"),
            pytest.param(["photo.jpg"], id="path"),
        ],
    )
    def test_other_things_are_refused(self, embedder: Embedder, images: Any) -> None:
        with pytest.raises(InvalidInputError, match="images"):
            embedder.embed(images)

    @pytest.mark.parametrize("batch_size", [0, -1, 2.5])
    def test_batch_size_is_checked(self, embedder: Embedder, batch_size: Any) -> None:
        with pytest.raises(InvalidInputError, match="batch_size"):
            embedder.embed([picture(8, 8)], batch_size=batch_size)

    def test_texts(self, embedder: Embedder) -> None:
        if not embedder.reads_text:
            with pytest.raises(UnsupportedError, match="expected an embedder that reads text"):
                embedder.embed_text(_TEXTS)
            return
        found = embedder.embed_text(_TEXTS)
        assert found.shape == (len(_TEXTS), embedder.dim)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert np.isfinite(found).all()
        assert not np.allclose(found[0], found[1])
        assert embedder.embed_text([]).shape == (0, embedder.dim)
        alone = np.concatenate([embedder.embed_text([text]) for text in _TEXTS])
        self.check_same(found, alone)
        self.check_same(embedder.embed_text(_TEXTS[::-1]), found[::-1])

    @pytest.mark.parametrize("texts", ["a rose", [b"a rose"], [None], [picture(8, 8)], 5])
    def test_other_things_than_texts_are_refused(self, embedder: Embedder, texts: Any) -> None:
        if not embedder.reads_text:
            pytest.skip("the embedder reads no text")
        with pytest.raises(InvalidInputError, match="text"):
            embedder.embed_text(texts)

    def test_config_and_fingerprint(self, embedder: Embedder) -> None:
        config = json.loads(json.dumps(embedder.config()))
        assert embedder.fingerprint
        assert self.make().fingerprint == embedder.fingerprint
        if embedder.name:
            again = registry.create("embedders", embedder.name, **config)
        else:
            again = type(embedder)(**config)
        assert again.fingerprint == embedder.fingerprint
        assert again.config() == embedder.config()
        images = [picture(30, 40)]
        self.check_same(again.embed(images), embedder.embed(images))

    def test_several_threads_get_the_answer_of_one(self, embedder: Embedder) -> None:
        if not embedder.thread_safe:
            pytest.skip("thread_safe is False")
        images = [picture(40, 50, seed=seed) for seed in range(4)]
        expected = [embedder.embed([image]) for image in images]
        with ThreadPoolExecutor(4) as pool:
            for found, alone in zip(
                pool.map(lambda image: embedder.embed([image]), images), expected, strict=True
            ):
                self.check_same(found, alone)
