"""The test suite for croppers."""
# ruff: noqa: D102  # the name of a test is its sentence

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest

from imgret import registry
from imgret.abc import Cropper
from imgret.errors import InvalidInputError
from imgret.testing.data import picture, pictures
from imgret.types import Box, Image

__all__ = ["CropperTests"]


class CropperTests:
    """Tests that every cropper must pass.

    Subclass it as ``class TestMine(CropperTests)`` and implement `make`.
    """

    _made: ClassVar[dict[type, Cropper]] = {}

    def make(self) -> Cropper:
        """Make the cropper."""
        raise NotImplementedError(f"{type(self).__name__}.make: expected to return a cropper")

    @pytest.fixture
    def cropper(self) -> Cropper:
        """Return the cropper, made once per class because a model may take long to load."""
        if type(self) not in self._made:
            self._made[type(self)] = self.make()
        return self._made[type(self)]

    def check(self, box: Box, image: Image) -> None:
        """Check that a box lies in its image and is not empty."""
        height, width = image.shape[:2]
        assert isinstance(box, Box)
        assert all(type(value) is int for value in box)
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height

    @pytest.mark.parametrize("name", list(pictures()))
    def test_a_picture_of_any_shape_alone(self, cropper: Cropper, name: str) -> None:
        image = pictures()[name]
        (box,) = cropper.boxes([image])
        self.check(box, image)
        (crop,) = cropper.crop([image])
        np.testing.assert_array_equal(crop, image[box.y0 : box.y1, box.x0 : box.x1])

    def test_the_batch_does_not_matter(self, cropper: Cropper) -> None:
        images = list(pictures().values())
        alone = [cropper.detect([image])[0] for image in images]
        assert cropper.detect(images) == alone
        assert cropper.detect(images[::-1]) == alone[::-1]

    def test_where_nothing_is_detected_the_box_is_the_whole_picture(self, cropper: Cropper) -> None:
        images = list(pictures().values())
        for image, found, box in zip(
            images, cropper.detect(images), cropper.boxes(images), strict=True
        ):
            assert box == (Box.full(image) if found is None else found)

    def test_crops_is_true_unless_the_whole_picture_is_always_kept(self, cropper: Cropper) -> None:
        images = list(pictures().values())
        if not cropper.crops:
            assert cropper.boxes(images) == [Box.full(image) for image in images]

    def test_the_same_twice(self, cropper: Cropper) -> None:
        images = list(pictures().values())
        assert cropper.detect(images) == cropper.detect(images)

    def test_no_images(self, cropper: Cropper) -> None:
        assert cropper.detect([]) == []
        assert cropper.boxes([]) == []
        assert cropper.crop([]) == []

    def test_images_are_left_alone_and_may_be_views(self, cropper: Cropper) -> None:
        image = picture(60, 80)
        before = image.copy()
        view = image[::-1, 3:50, ::-1]
        image.flags.writeable = False
        assert cropper.boxes([view]) == cropper.boxes([np.ascontiguousarray(view)])
        np.testing.assert_array_equal(image, before)

    @pytest.mark.parametrize(
        "images",
        [
            pytest.param(picture(8, 8), id="one image"),
            pytest.param([picture(8, 8).astype(np.float32)], id="float"),
            pytest.param([picture(8, 8)[..., 0]], id="grey"),
            pytest.param([np.zeros((8, 0, 3), dtype=np.uint8)], id="empty"),
            pytest.param(["photo.jpg"], id="path"),
        ],
    )
    def test_other_things_are_refused(self, cropper: Cropper, images: Any) -> None:
        with pytest.raises(InvalidInputError, match="images"):
            cropper.boxes(images)

    def test_config_makes_a_twin(self, cropper: Cropper) -> None:
        config = json.loads(json.dumps(cropper.config()))
        if cropper.name:
            again = registry.create("croppers", cropper.name, **config)
        else:
            again = type(cropper)(**config)
        assert again.config() == cropper.config()
        assert again.fingerprint == cropper.fingerprint
        images = list(pictures().values())
        assert again.detect(images) == cropper.detect(images)

    def test_several_threads_get_the_answer_of_one(self, cropper: Cropper) -> None:
        if not cropper.thread_safe:
            pytest.skip("thread_safe is False")
        images = list(pictures().values())
        expected = cropper.boxes(images)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda image: cropper.boxes([image])[0], images))
        assert found == expected
