"""Training images: finding, checking, splitting and loading them in batches."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imgret import images
from imgret.errors import ImageError, InvalidInputError
from imgret.ingest.folder import find_images
from imgret.models import Preprocess
from imgret.support.warning import warn
from imgret.train.schedule import Augmentation
from imgret.types import Box, Image

__all__ = [
    "Dataset",
    "ahead",
    "batch_starts",
    "batches",
    "find_classes",
    "hold_out",
    "random_view",
    "readable",
    "unscaled",
]

# Crops come from images decoded at no less than this factor times the side of the crop.
_ROOM = 1.25

_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Image paths and their classes.

    Attributes
    ----------
    paths : list of Path
    labels : int64 array of shape (n,)
        Class of each image, as a position in ``classes``.
    classes : tuple of str
        Sorted class names.
    max_pixels : int
        Maximum number of pixels of an image, as for `imgret.Retriever`.
    """

    paths: list[Path]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    max_pixels: int = images.MAX_PIXELS

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """Return the images in the given rows."""
        rows = np.asarray(rows, dtype=np.int64)
        return replace(self, paths=[self.paths[row] for row in rows], labels=self.labels[rows])

    def load(self, row: int, *, min_side: int | None = None) -> Image:
        """Decode an image, a large JPEG at reduced scale if ``min_side`` allows it."""
        return images.load(self.paths[row], max_pixels=self.max_pixels, min_side=min_side)

    def digest(self) -> str:
        """Return a hash of these images' classes and file names."""
        lines = [
            f"{self.classes[label]}/{path.name}"
            for path, label in zip(self.paths, self.labels, strict=True)
        ]
        text = "\n".join(lines).encode("utf-8", "surrogateescape")
        return hashlib.sha256(text).hexdigest()


def find_classes(
    folder: Path, classes: tuple[str, ...] | None = None, *, max_pixels: int = images.MAX_PIXELS
) -> Dataset:
    """Find images in the subfolders of a folder, one subfolder per class.

    Parameters
    ----------
    folder : Path
    classes : tuple of str, optional
        Allowed classes. By default all subfolders.
    max_pixels : int
        As for `Dataset`.

    Raises
    ------
    InvalidInputError
        There are fewer than two classes, or there is a class that ``classes`` does not contain.
    ImageNotFoundError
        There is no such folder.
    """
    found, _ = find_images(folder)
    paths = [path for path in found if path.parent != folder]
    names = [path.relative_to(folder).parts[0] for path in paths]
    there = tuple(sorted(set(names)))
    if classes is None:
        if len(there) < 2:
            what = f"one, {there[0]!r}" if there else "none"
            if loose := len(found) - len(paths):
                what += f", and {loose} images in no subfolder"
            raise InvalidInputError(
                f"{folder}: expected a subfolder of images for each of at least two classes, "
                f"found {what}"
            )
        if loose := len(found) - len(paths):
            warn(f"{folder}: {loose} images lie in no subfolder and are left out")
        classes = there
    elif unknown := sorted(set(there) - set(classes)):
        raise InvalidInputError(
            f"{folder}: expected the {len(classes)} classes that are trained, found also "
            f"{', '.join(map(repr, unknown[:5]))}"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in names], dtype=np.int64)
    return Dataset(paths, labels, classes, max_pixels)


def readable(dataset: Dataset, threads: int) -> tuple[Dataset, list[ImageError]]:
    """Decode every image once, and leave out unreadable ones.

    Raises
    ------
    InvalidInputError
        Readable images have fewer than two classes.
    """

    def broken(row: int) -> ImageError | None:
        try:
            dataset.load(row, min_side=64)
        except ImageError as error:
            return error
        return None

    with ThreadPoolExecutor(threads) as pool:
        errors = list(pool.map(broken, range(len(dataset))))
    good = [row for row, error in enumerate(errors) if error is None]
    kept = dataset.select(good)
    failed = [error for error in errors if error is not None]
    if len(set(kept.labels.tolist())) < 2:
        raise InvalidInputError(
            f"expected readable images of at least two classes, found {len(kept)} readable and "
            f"{len(failed)} that are not, the first {failed[0] if failed else 'none'}"
        )
    return kept, failed


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split off a share of each class, at least one image if it has two or more.

    Returns
    -------
    kept, held : Dataset
        A class with a single image is not split.
    """
    generator = np.random.default_rng(seed)
    held: list[int] = []
    for label, count in sorted(Counter(dataset.labels.tolist()).items()):
        rows = np.flatnonzero(dataset.labels == label)
        if count > 1:
            take = min(max(1, round(share * count)), count - 1)
            held += generator.choice(rows, take, replace=False).tolist()
    kept = np.setdiff1d(np.arange(len(dataset)), held)
    return dataset.select(kept), dataset.select(np.sort(np.array(held, dtype=np.int64)))


def batches(
    dataset: Dataset,
    order: NDArray[np.int64],
    *,
    side: int,
    batch_size: int,
    augmentation: Augmentation,
    seed: Sequence[int],
    threads: int,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Load random crops of images in a given order, a few batches ahead.

    A crop depends on the seed and the position in the order, not on the threads.

    Parameters
    ----------
    order : int64 array
        Rows of ``dataset``.
    side : int
        Side of the square crops, in pixels.
    seed : sequence of int
        Seed of the crops, such as the seed of the run and the number of the epoch.

    Yields
    ------
    pixels : uint8 array of shape (n, side, side, 3)
    rows : int64 array of shape (n,)
        Rows of the images. A last batch of a single image is left out, because batch
        normalisation needs at least two.
    """

    def load(start: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        rows = order[start : start + batch_size]
        pixels = np.empty((len(rows), side, side, 3), dtype=np.uint8)
        for position, row in enumerate(rows):
            generator = np.random.default_rng([*seed, start + position])
            image = dataset.load(row, min_side=round(side * _ROOM))
            pixels[position] = random_crop(image, side, augmentation, generator)
        return pixels, rows

    return ahead(load, batch_starts(len(order), batch_size), threads)


def ahead(load: Callable[[int], _Loaded], starts: Sequence[int], threads: int) -> Iterator[_Loaded]:
    """Yield the results of ``load`` for each start in order, loading a few of them ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Loaded]] = deque()
        try:
            for start in starts:
                waiting.append(pool.submit(load, start))
                if len(waiting) > threads + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def batch_starts(n: int, batch_size: int) -> list[int]:
    """Return the start of each batch of ``n`` images, without a last one of a single image."""
    return [start for start in range(0, n, batch_size) if n - start > 1]


def random_crop(
    image: Image, side: int, augmentation: Augmentation, generator: np.random.Generator
) -> Image:
    """Return a random rectangle, resized to a square and mirrored with probability 0.5."""
    box, mirrored = random_view(image.shape[1], image.shape[0], augmentation, generator)
    cut = images.resize(image[box.y0 : box.y1, box.x0 : box.x1], side, side)
    return cut[:, ::-1] if mirrored else cut


def random_view(
    columns: int, rows: int, augmentation: Augmentation, generator: np.random.Generator
) -> tuple[Box, bool]:
    """Return a random rectangle of an image, and whether to mirror it.

    C. Szegedy et al., "Going Deeper with Convolutions" (2015), section 6.
    """
    stretch = np.log(augmentation.stretch)
    area = rows * columns * generator.uniform(augmentation.smallest, 1)
    ratio = np.exp(generator.uniform(-stretch, stretch))
    width = min(columns, max(1, round(np.sqrt(area * ratio))))
    height = min(rows, max(1, round(np.sqrt(area / ratio))))
    left = int(generator.integers(columns - width + 1))
    top = int(generator.integers(rows - height + 1))
    return Box(left, top, left + width, top + height), bool(generator.random() < 0.5)


def unscaled(preprocess: Preprocess) -> Preprocess:
    """Return the same crop and size without scaling of pixels: uint8 (n, h, w, 3)."""
    facts = preprocess.to_json() | {"layout": "NHWC", "dtype": "uint8", "scaling": None}
    return Preprocess.from_json(facts)
