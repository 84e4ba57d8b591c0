"""Ground truth of an evaluation: classes of a gallery's items, and items of the same image."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from imgret.errors import InvalidInputError
from imgret.files import Place
from imgret.search import View
from imgret.types import Ids

__all__ = ["GroundTruth"]


class GroundTruth:
    """Classes of the items, and which items are the same image.

    Parameters
    ----------
    view : View

    Attributes
    ----------
    classes : dict of str to int
        Class number of each label.
    size : int
        Number of items that can be found.
    labelled : int64 array
        Ids of the items that have a label, increasing.

    Raises
    ------
    InvalidInputError
        No item has a label.
    """

    def __init__(self, view: View) -> None:
        self._by_path: dict[str, list[int]] = {}
        self._by_sha256: dict[bytes, list[int]] = {}
        self.size = 0
        for id_, path, sha256, _ in view.origins():
            self.size += 1
            if path is not None:
                self._by_path.setdefault(path, []).append(id_)
            if sha256 is not None:
                self._by_sha256.setdefault(sha256, []).append(id_)
        self._labels = view.labels
        self.classes = {name: code for code, name in enumerate(self._labels.names)}
        if not self.classes:
            raise InvalidInputError(
                f"labels: expected a gallery with labels, found {self.size} items without a "
                f"label; add the images again with labels='parent' or others (`imgret index FOLDER "
                f"-o GALLERY --labels parent`)"
            )
        self.labelled: Ids = self._labels.ids
        self._names = self._labels.names
        self._counts = np.bincount(self._labels.codes, minlength=len(self.classes))

    def class_of(self, ids: Ids) -> Ids:
        """Return the class number of each id, of any shape; -1 for an item without a label."""
        return self._labels.of(ids)

    def name_of(self, number: int) -> str:
        """Return the label of a class number."""
        return self._names[number]

    @property
    def largest(self) -> int:
        """Number of items in the largest class."""
        return int(self._counts.max())

    def same_image(self, path: Place | None, sha256: bytes | None) -> list[int]:
        """Return the ids of the items made from this file, or from one with the same bytes."""
        by_path = [] if path is None else self._by_path.get(str(path), [])
        if isinstance(path, Path) and not by_path:  # adding a folder resolves links in paths
            by_path = self._by_path.get(str(Path(os.path.realpath(path.parent), path.name)), [])
        by_sha256 = self._by_sha256.get(sha256 or b"", [])
        return sorted({*by_path, *by_sha256})

    def relevant(self, label: str, itself: list[int]) -> int:
        """Return the number of items with a label, not counting those of ``itself``."""
        number = self.classes.get(label)
        if number is None:
            return 0
        return int(
            self._counts[number]
            - np.count_nonzero(self.class_of(np.array(itself, dtype=np.int64)) == number)
        )
