"""Oxford 102 Flowers: 8,189 images of 102 kinds of flowers.

M.-E. Nilsback and A. Zisserman, "Automated Flower Classification over a Large Number of Classes",
Indian Conference on Computer Vision, Graphics and Image Processing, 2008.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from imgret.datasets.download import check_md5, fetch
from imgret.datasets.mat import read_mat
from imgret.datasets.names import FLOWERS
from imgret.datasets.splits import image_name, stratified
from imgret.datasets.unpack import unpack
from imgret.errors import DatasetError, InvalidInputError
from imgret.ingest.folder import find_images
from imgret.ingest.progress import Progress

__all__ = ["Flowers102", "LabeledImages", "flowers102"]

Split = Literal["official", "stratified", "folders"]

_SITE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
_IMAGES, _LABELS, _SPLIT = "102flowers.tgz", "imagelabels.mat", "setid.mat"
_MD5 = {  # that of the archive is torchvision's
    _IMAGES: "52808999861908f626f3c1f4e79d11fa",
    _LABELS: "e0620be6f572b9609742df49c70aed4d",
    _SPLIT: "a5357ecc9cb78c4bef273ce3793fc85c",
}


@dataclass(frozen=True, kw_only=True)
class LabeledImages:
    """One part of a data set.

    Attributes
    ----------
    paths : list of Path
        Image files.
    labels : list of str
        The class of each image, as many as paths.
    """

    paths: list[Path]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"LabeledImages({len(self)} images, {len(set(self.labels))} classes)"


@dataclass(frozen=True, kw_only=True)
class Flowers102:
    """Oxford 102 Flowers, in three parts.

    Attributes
    ----------
    train : LabeledImages
        Images to train with, in the order of their numbers.
    valid : LabeledImages
    test : LabeledImages
    names : tuple of str
        The 102 classes in the order of their numbers: ``names[0]`` is class 1 of the files.
    split : {"official", "stratified", "folders"}
    """

    train: LabeledImages
    valid: LabeledImages
    test: LabeledImages
    names: tuple[str, ...]
    split: Split

    def arrange(self, folder: str | os.PathLike[str]) -> Path:
        """Lay the images out as ``PART/CLASS/image_00001.jpg``, as `imgret train` takes them.

        Files are linked where that is possible (hard links, which take no room), and copied
        otherwise. Those that are there already stay.

        Parameters
        ----------
        folder : path
            Folder for the folders ``train``, ``valid`` and ``test``; made if it is missing.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        DatasetError
            The folder cannot be written.
        """
        root = Path(folder)
        for name, part in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            for path, label in zip(part.paths, part.labels, strict=True):
                _place(path, root / name / label / path.name)
        return root


def flowers102(
    root: str | os.PathLike[str],
    *,
    split: Split = "official",
    download: bool = False,
    progress: Progress = None,
) -> Flowers102:
    """Return paths and labels of Oxford 102 Flowers, ready to be added, trained on and evaluated.

    The files are those of https://www.robots.ox.ac.uk/~vgg/data/flowers/102/: ``102flowers.tgz``
    (345 MB), ``imagelabels.mat`` and ``setid.mat``. They may have been put into the folder by
    hand, and the folder ``flowers-102`` that torchvision makes is taken as it is.

    Parameters
    ----------
    root : path
        Folder of the files. The images are unpacked into its folder ``jpg``.
    split : {"official", "stratified", "folders"}
        ``"official"`` is the split of the data set's makers: 1,020 images to train with, 1,020 to
        validate with and 6,149 to test with.

        ``"folders"`` is for copies that are divided into folders ``train/1`` to ``train/102``,
        ``valid/1`` and so on, as in the common split of 6,552, 818 and 819 images. That one was
        made at random and published as folders only, so it cannot be made from the official
        files. A missing folder ``valid`` or ``test`` is an empty part.

        ``"stratified"`` makes parts of the same sizes, 6,552, 818 and 819, from the official
        files: the same ones everywhere, with each class divided in the same proportion. Figures
        are comparable with each other, and not exactly with those of the common split.
    download : bool
        Whether missing files are downloaded. What has arrived is kept if the connection breaks,
        and the same call goes on from there. Checksums are compared.
    progress : bool, callable or None
        As for `imgret.Retriever.add_folder`, in megabytes of the download.

    Returns
    -------
    Flowers102

    Raises
    ------
    DatasetError
        Files are missing or damaged, or cannot be downloaded or written.

    Notes
    -----
    The models ``flowers102``, ``flowers102-large`` and ``flowers102-resnet`` were trained on the
    6,552 images of the folders, so only with ``split="folders"`` have they not seen the images to
    test with.

    The images belong to their photographers; the data set is meant for research.
    """
    folder = Path(root)
    if split not in get_args(Split):
        expected = ", ".join(map(repr, get_args(Split)))
        raise InvalidInputError(f"split: expected one of {expected}, found {split!r}")
    if split == "folders":
        parts = [_folder_part(folder / name) for name in ("train", "valid", "test")]
        if not len(parts[0]):
            raise DatasetError(
                f"{folder}: expected folders train/1 to train/102 with images, found none; the "
                f"official files are read with split='official' or split='stratified'"
            )
        return Flowers102(train=parts[0], valid=parts[1], test=parts[2], names=FLOWERS, split=split)
    wanted = (_LABELS, _SPLIT) if split == "official" else (_LABELS,)
    for name in wanted:
        _provide(folder, name, download=download, progress=progress)
    labels = _vector(folder / _LABELS, "labels", 1, len(FLOWERS))
    if split == "official":
        names = ("trnid", "valid", "tstid")
        numbers = [sorted(_vector(folder / _SPLIT, name, 1, len(labels))) for name in names]
    else:
        numbers = stratified(labels)
    _provide_images(folder, len(labels), download=download, progress=progress)
    parts = [
        LabeledImages(
            paths=[folder / "jpg" / image_name(number) for number in part],
            labels=[FLOWERS[labels[number - 1] - 1] for number in part],
        )
        for part in numbers
    ]
    return Flowers102(train=parts[0], valid=parts[1], test=parts[2], names=FLOWERS, split=split)


def _provide(folder: Path, name: str, *, download: bool, progress: Progress) -> None:
    """Make sure that a file is there, and the published one."""
    path = folder / name
    if path.exists():
        check_md5(path, _MD5[name])
    elif download:
        fetch(_SITE + name, path, md5=_MD5[name], progress=progress)
    else:
        raise DatasetError(
            f"{path}: expected this file of Oxford 102 Flowers, found none; call flowers102 with "
            f"download=True, which fetches what is missing, or put it there from {_SITE}{name}"
        )


def _provide_images(folder: Path, count: int, *, download: bool, progress: Progress) -> None:
    """Make sure that all images are unpacked."""
    missing = _missing(folder / "jpg", count)
    if not missing:
        return
    _provide(folder, _IMAGES, download=download, progress=progress)
    unpack(folder / _IMAGES, folder / "jpg", missing)
    if missing := _missing(folder / "jpg", count):
        raise DatasetError(
            f"{folder / _IMAGES}: expected {count:,} images, found {len(missing):,} of them "
            f"missing, such as {min(missing)}"
        )


def _missing(folder: Path, count: int) -> set[str]:
    there = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    return {image_name(number) for number in range(1, count + 1)} - there


def _vector(path: Path, name: str, least: int, most: int) -> list[int]:
    """Return whole numbers of a .mat file, checked."""
    arrays: Mapping[str, NDArray[Any]] = read_mat(path)
    if name not in arrays:
        raise DatasetError(
            f"{path}: expected an array {name!r}, found {', '.join(arrays) or 'no arrays'}"
        )
    values = np.asarray(arrays[name]).ravel()
    if not len(values) or values.min() < least or values.max() > most:
        raise DatasetError(f"{path}: expected numbers from {least} to {most} in {name!r}")
    return [int(value) for value in values]


def _folder_part(folder: Path) -> LabeledImages:
    """Read a folder of folders that are named by the numbers of classes."""
    paths: list[Path] = []
    if folder.is_dir():
        found, _ = find_images(folder)
        paths = sorted(found, key=lambda path: (path.name, path))
    return LabeledImages(paths=paths, labels=list(_labels_of(paths, folder)))


def _labels_of(paths: Iterable[Path], folder: Path) -> Iterable[str]:
    for path in paths:
        number = path.relative_to(folder).parts[0]
        if not re.fullmatch(r"\d{1,3}", number) or not 1 <= int(number) <= len(FLOWERS):
            raise DatasetError(
                f"{path}: expected images in folders 1 to {len(FLOWERS)} of {folder}, found "
                f"{number!r}; move images without a class elsewhere"
            )
        yield FLOWERS[int(number) - 1]


def _place(path: Path, target: Path) -> None:
    """Link or copy a file, unless the target is there."""
    if target.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:  # another disk, or a file system without links
            part = target.with_name(f"{target.name}.part")
            shutil.copyfile(path, part)
            part.replace(target)
    except OSError as error:
        raise DatasetError(f"{target}: cannot be written ({error.strerror or error})") from error
