"""Images with masks: finding, checking and loading them in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret import images
from imgret.errors import ImageError, InvalidInputError
from imgret.ingest.folder import find_images
from imgret.train.data import ahead, batch_starts, random_view
from imgret.train.saliency.recipe import SaliencyRecipe
from imgret.types import Box, Image

__all__ = ["MaskedImages", "find_pairs", "masked_batches", "readable_pairs"]

# Crops come from images decoded at no less than this factor times the side of the crop.
_ROOM = 1.25
# The mean of the mask, out of 255, must be below this where a subject is pasted.
_EMPTY = 12
_TRIES = 6


@dataclass(frozen=True, slots=True)
class MaskedImages:
    """Images and their masks.

    Attributes
    ----------
    photos, masks : list of Path
        Paths, the mask of each image at the same position.
    max_pixels : int
        Maximum number of pixels of an image, as for `imgret.Retriever`.
    """

    photos: list[Path]
    masks: list[Path]
    max_pixels: int = images.MAX_PIXELS

    def __len__(self) -> int:
        return len(self.photos)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> MaskedImages:
        """Return the pairs in the given rows."""
        return replace(
            self,
            photos=[self.photos[row] for row in rows],
            masks=[self.masks[row] for row in rows],
        )

    def load(self, row: int, *, min_side: int | None = None) -> Image:
        """Decode an image, a large JPEG at reduced scale if ``min_side`` allows it."""
        return images.load(self.photos[row], max_pixels=self.max_pixels, min_side=min_side)

    def load_mask(self, row: int) -> NDArray[np.uint8]:
        """Return a mask of shape (h, w) with values from 0 to 255."""
        mask: NDArray[np.uint8] = images.load(self.masks[row], max_pixels=self.max_pixels)[:, :, 0]
        return mask

    def digest(self) -> str:
        """Return a hash of the file names of these pairs."""
        text = "\n".join(f"{path.parent.name}/{path.name}" for path in self.photos)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def find_pairs(photos: Path, masks: Path, *, max_pixels: int = images.MAX_PIXELS) -> MaskedImages:
    """Find images and their masks, which have the same relative path but end in ``.png``.

    Images without a mask are ignored.

    Raises
    ------
    InvalidInputError
        There is no pair.
    ImageNotFoundError
        There is no such folder.
    """
    found, _ = find_images(photos)
    pairs = [
        (path, mask)
        for path in found
        if (mask := (masks / path.relative_to(photos)).with_suffix(".png")).is_file()
    ]
    if not pairs:
        raise InvalidInputError(
            f"{masks}: expected a mask for each image of {photos}, at the same relative path "
            f"with the suffix .png, found none for its {len(found)} images"
        )
    return MaskedImages([photo for photo, _ in pairs], [mask for _, mask in pairs], max_pixels)


def readable_pairs(pairs: MaskedImages, threads: int) -> tuple[MaskedImages, list[ImageError]]:
    """Decode every image and mask once, and leave out unreadable pairs.

    Raises
    ------
    InvalidInputError
        Fewer than two pairs are readable.
    """

    def broken(row: int) -> ImageError | None:
        try:
            pairs.load(row, min_side=64)
            pairs.load_mask(row)
        except ImageError as error:
            return error
        return None

    with ThreadPoolExecutor(threads) as pool:
        errors = list(pool.map(broken, range(len(pairs))))
    kept = pairs.select([row for row, error in enumerate(errors) if error is None])
    failed = [error for error in errors if error is not None]
    if len(kept) < 2:
        raise InvalidInputError(
            f"expected at least two readable images with masks, found {len(kept)} and "
            f"{len(failed)} that are not readable, the first {failed[0] if failed else 'none'}"
        )
    return kept, failed


def masked_batches(
    pairs: MaskedImages,
    order: NDArray[np.int64],
    *,
    side: int,
    recipe: SaliencyRecipe,
    seed: Sequence[int],
    threads: int,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Load random crops of images and masks in a given order, a few batches ahead.

    Yields
    ------
    pixels : uint8 array of shape (n, side, side, 3)
    masks : uint8 array of shape (n, side / 2, side / 2)
    """

    def load(start: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rows = order[start : start + recipe.batch_size]
        pixels = np.empty((len(rows), side, side, 3), dtype=np.uint8)
        masks = np.empty((len(rows), side // 2, side // 2), dtype=np.uint8)
        for position, row in enumerate(rows):
            generator = np.random.default_rng([*seed, start + position])
            image, mask = _view(pairs, int(row), side, recipe, generator)
            if generator.random() < recipe.paste:
                other = int(generator.integers(len(pairs)))
                ground, its_mask = _view(pairs, other, side, recipe, generator)
                image, mask = paste(image, mask, ground, its_mask, generator)
            pixels[position] = image
            masks[position] = images.resize(mask, side // 2, side // 2)
        return pixels, masks

    return ahead(load, batch_starts(len(order), recipe.batch_size), threads)


def _view(
    pairs: MaskedImages, row: int, side: int, recipe: SaliencyRecipe, generator: np.random.Generator
) -> tuple[Image, NDArray[np.uint8]]:
    """Return a random square view of an image, and its mask of the same size."""
    image = pairs.load(row, min_side=round(side * _ROOM))
    mask = pairs.load_mask(row)
    height, width = image.shape[:2]
    box, mirrored = random_view(width, height, recipe.augmentation, generator)
    on_mask = box.scale(mask.shape[1] / width, mask.shape[0] / height).clip(
        mask.shape[1], mask.shape[0]
    )
    image = images.resize(image[box.y0 : box.y1, box.x0 : box.x1], side, side)
    mask = images.resize(mask[on_mask.y0 : on_mask.y1, on_mask.x0 : on_mask.x1], side, side)
    return (image[:, ::-1], mask[:, ::-1]) if mirrored else (image, mask)


def paste(
    image: Image,
    mask: NDArray[np.uint8],
    ground: Image,
    its_mask: NDArray[np.uint8],
    generator: np.random.Generator,
) -> tuple[Image, NDArray[np.uint8]]:
    """Paste the reduced subject of one square image on the emptiest part of another.

    If the subject is faint or smaller than an eighth of the side, or the other image has no empty
    part, the image and its mask are returned unchanged.
    """
    side = len(image)
    rows, columns = (np.flatnonzero((mask > 127).any(axis=axis)) for axis in (1, 0))
    if len(rows) < side // 8 or len(columns) < side // 8:
        return image, mask
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    window = _emptiest(its_mask, generator)
    if window is None:
        return image, mask
    ground = images.resize(ground[window.y0 : window.y1, window.x0 : window.x1], side, side)
    scale = side * generator.uniform(0.25, 0.7) / max(y1 - y0, x1 - x0)
    width, height = (max(1, min(side, round(n * scale))) for n in (x1 - x0, y1 - y0))
    subject = images.resize(image[y0:y1, x0:x1], width, height)
    share = images.resize(mask[y0:y1, x0:x1], width, height)
    left, top = (int(generator.integers(side - n + 1)) for n in (width, height))
    part = (slice(top, top + height), slice(left, left + width))
    pasted, its_map = ground.copy(), np.zeros_like(mask)
    alpha = share[:, :, None].astype(np.float32) / 255
    pasted[part] = (subject * alpha + pasted[part] * (1 - alpha)).astype(np.uint8)
    its_map[part] = share
    return pasted, its_map


def _emptiest(mask: NDArray[np.uint8], generator: np.random.Generator) -> Box | None:
    """Return the random window with the least subject in it; None if none is empty enough."""
    side, best, least = len(mask), None, float(_EMPTY)
    for _ in range(_TRIES):
        width, height = (int(side * generator.uniform(0.4, 1)) for _ in range(2))
        left, top = (
            int(generator.integers(side - width + 1)),
            int(generator.integers(side - height + 1)),
        )
        found = float(mask[top : top + height, left : left + width].mean())
        if found < least:
            best, least = Box(left, top, left + width, top + height), found
    return best
