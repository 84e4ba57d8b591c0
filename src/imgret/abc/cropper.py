"""The contract of a cropper: images in, boxes of their subjects out."""

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

    A subclass sets ``name`` and fills in `config` and `_detect`; one whose boxes
    depend on more than its options also overrides `fingerprint`. Everything else is final.

    Attributes
    ----------
    name : str
        Name under which the cropper is registered (entry-point group ``imgret.croppers``).
    crops : bool
        False only for a cropper that always answers with the whole image; imgret then
        need not ask it.
    thread_safe : bool
        Whether `boxes` may run in several threads at once (the default).
    """

    name: str = ""
    crops: ClassVar[bool] = True
    thread_safe: ClassVar[bool] = True

    @abstractmethod
    def config(self) -> Json:
        """Keyword arguments, as JSON values, that make this cropper again."""

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever the box of some image could change.

        By default the name and `config`, where the sha256 of a file stands for its path: not its
        place counts. One that is made of anything else overrides it. Galleries keep it, and refuse
        a cropper of another fingerprint.
        """
        kind = type(self)
        name = self.name or f"{kind.__module__}.{kind.__qualname__}"
        return f"{name} {json.dumps(_contents(self.config()), sort_keys=True)}"

    @abstractmethod
    def _detect(self, images: Sequence[Image]) -> Sequence[Box | None]:
        """Return a box per image, or None where there is no subject to be found.

        A box that reaches out of its image is clipped. The images are checked and
        there is at least one.
        """

    @final
    def detect(self, images: Sequence[Image]) -> list[Box | None]:
        """Find the subjects; None where there is none.

        Parameters
        ----------
        images : sequence of uint8 arrays of shape (H, W, 3)
            RGB; sizes may differ.

        Returns
        -------
        list of Box or None
            One per image, inside it and never empty.
        """
        images = check_images(images)
        if not len(images):
            return []
        boxes = self._detect(images)
        if len(boxes) != len(images):
            raise ImgretError(
                f"{type(self).__name__}._detect: expected {len(images)} boxes, found "
                f"{len(boxes)}; this is a fault of the cropper"
            )
        return [
            None if box is None else Box(*map(int, box)).clip(image.shape[1], image.shape[0])
            for box, image in zip(boxes, images, strict=True)
        ]

    @final
    def boxes(self, images: Sequence[Image]) -> list[Box]:
        """Find the subjects; the whole image where there is none.

        Takes and returns what `detect` does, without the None.
        """
        images = check_images(images)
        return [
            Box.full(image) if box is None else box
            for box, image in zip(self.detect(images), images, strict=True)
        ]

    @final
    def crop(self, images: Sequence[Image]) -> list[Image]:
        """Return the images cut down to their subjects.

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
    """Return options with the sha256 of each file in the place of its path."""
    if isinstance(option, Mapping):
        return {name: _contents(value) for name, value in option.items()}
    if isinstance(option, (list, tuple)):
        return [_contents(value) for value in option]
    if is_path(option) and Path(option).is_file():
        with Path(option).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return option
