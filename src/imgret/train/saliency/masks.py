"""Training masks made by another model."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imgret.croppers import SaliencyCropper
from imgret.errors import ImageError
from imgret.images import MAX_PIXELS, encode, load, resize
from imgret.ingest.folder import find_images
from imgret.ingest.progress import progress_bar
from imgret.pipeline.embed import worker_count

__all__ = ["draw_masks"]

_SIDE = 160


def draw_masks(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    teacher: SaliencyCropper,
    *,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: bool | None = None,
) -> list[ImageError]:
    """Write a teacher's saliency map for each image that does not have one yet.

    After an interruption, the next call continues where the last one stopped.

    Parameters
    ----------
    images : path
        Folder of images.
    masks : path
        Folder to write to. Masks have the same relative paths, as 8-bit PNG with longer side 160.
    teacher : SaliencyCropper
        Cropper to take the maps from, such as one with the ONNX file of U2-Net (X. Qin et al.,
        2020).
    threads : int, optional
        Number of threads. By default one per core.
    max_pixels : int
        Maximum number of pixels of an image; larger ones are reported as unreadable. For a large
        JPEG, the pixels are counted at the scale it is decoded at.
    progress : bool, optional
        If true, show a progress bar on stderr. By default (None) only on a terminal.

    Returns
    -------
    list of ImageError
        Errors of the images that could not be read.
    """
    folder, masks = Path(images), Path(masks)
    found, _ = find_images(folder)

    def draw(path: Path) -> ImageError | None:
        target = (masks / path.relative_to(folder)).with_suffix(".png")
        if target.is_file():
            return None
        try:
            image = load(path, max_pixels=max_pixels)
        except ImageError as error:
            return error
        height, width = image.shape[:2]
        scale = _SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        level = resize(teacher.saliency(image), *size)
        grey = (level * 255).round().astype("uint8")[:, :, None].repeat(3, axis=2)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        part.write_bytes(encode(grey, "png"))
        part.replace(target)
        return None

    with ThreadPoolExecutor(worker_count(threads)) as pool:
        errors = []
        with progress_bar(progress, total=len(found), unit="img", desc="masks") as bar:
            for error in pool.map(draw, found):
                bar.update()
                if error is not None:
                    errors.append(error)
        return errors
