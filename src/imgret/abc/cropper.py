"""The base class of croppers: images in, boxes of their subjects out."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from imgret.errors import ImgretError
from imgret.support.checks import check_images
from imgret.support.given import is_path
from imgret.types import Box, Image, Json

__all__ = ["Cropper"]


class Cropper(ABC):
    """Finds the box of the subject of an image.

    A subclass sets ``name`` and implements `config` and `_detect`. If its boxes depend on more
    than its options, it also overrides `fingerprint`. Everything else is final.

    Attributes
    ----------
    name : str
        Name under which the cropper is registered (entry-point group ``imgret.croppers``).
    crops : bool
        False only for a cropper that always returns the whole image; imgret then
        need not call it.
    thread_safe : bool
        Whether `boxes` may run in several threads at once; True by default.
    """

    name: str = ""
    crops: ClassVar[bool] = True
    thread_safe: ClassVar[bool] = True

    @abstractmethod
    def config(self) -> Json:
        """Return the keyword arguments, as JSON values, that recreate this cropper."""

    @property
    def fingerprint(self) -> str:
        """A str that changes whenever the box of some image could change.

        The default is made of the name and `config`, with the sha256 of each file in place of its
        path, so a moved file does not matter. A cropper that depends on anything else overrides
        it. Galleries store the fingerprint and refuse a cropper with another one.
        """
        kind = type(self)
        name = self.name or f"{kind.__module__}.{kind.__qualname__}"
        return f"{name} {json.dumps(_contents(self.config()), sort_keys=True)}"

    @abstractmethod
    def _detect(self, images: Sequence[Image]) -> Sequence[Box | None]:
        """Return a box per image, or None where no subject is found.

        A box that extends beyond its image is clipped. The images have been checked, and there
        is at least one.
        """

    @final
    def detect(self, images: Sequence[Image]) -> list[Box | None]:
        """Return the boxes of the subjects; None where no subject is found.

        Parameters
        ----------
        images : sequence of uint8 arrays of shape (H, W, 3)
            RGB images; sizes may differ.

        Returns
        -------
        list of Box or None
            One box per image, inside it and never empty.
        """
        images = check_images(images)
        if not len(images):
            return []
        boxes = self._detect(images)
        if len(boxes) != len(images):
            raise ImgretError(
                f"{type(self).__name__}._detect: expected {len(images)} boxes, found "
                f"{len(boxes)}; this is a bug in the cropper"
            )
        return [
            None if box is None else Box(*map(int, box)).clip(image.shape[1], image.shape[0])
            for box, image in zip(boxes, images, strict=True)
        ]

    @final
    def boxes(self, images: Sequence[Image]) -> list[Box]:
        """Return the boxes of the subjects; the whole image where no subject is found.

        Apart from that it works like `detect`.
        """
        images = check_images(images)
        return [
            Box.full(image) if box is None else box
            for box, image in zip(self.detect(images), images, strict=True)
        ]

    @final
    def crop(self, images: Sequence[Image]) -> list[Image]:
        """Return the images cropped to their subjects.

        Returns
        -------
        list of uint8 arrays of shape (h, w, 3)
            Views into the images, not copies.
        """
        images = check_images(images)
        return [
            image[box.y0 : box.y1, box.x0 : box.x1]
            for box, image in zip(self.boxes(images), images, strict=True)
        ]


def _contents(option: Any) -> Any:
    """Return options with the sha256 of each file in place of its path."""
    if isinstance(option, Mapping):
        return {name: _contents(value) for name, value in option.items()}
    if isinstance(option, (list, tuple)):
        return [_contents(value) for value in option]
    if is_path(option) and Path(option).is_file():
        with Path(option).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return option
