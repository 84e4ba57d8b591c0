"""What an evaluation needs to know of the gallery."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.galleries.local.catalog import Catalog
from imgret.types import Ids

__all__ = ["Gallery"]


class Gallery:
    """Classes of the items, and which of them are the same picture.

    Parameters
    ----------
    catalog : Catalog

    Attributes
    ----------
    classes : dict of str to int
        Number of each label.
    of_id : int64 array of shape (rows,)
        Class number of each id; -1 for an item that is removed or has no label.
    size : int
        Items that can be found.
    labelled : int64 array
        Ids of the items that have a label, increasing.

    Raises
    ------
    InvalidInputError
        No item has a label.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.classes: dict[str, int] = {}
        self.of_id: NDArray[np.int64] = np.full(catalog.rows, -1, dtype=np.int64)
        self._by_path: dict[str, list[int]] = {}
        self._by_sha256: dict[bytes, list[int]] = {}
        self.size = 0
        for id_, path, sha256, label in catalog.origins():
            self.size += 1
            if label is not None:
                self.of_id[id_] = self.classes.setdefault(label, len(self.classes))
            if path is not None:
                self._by_path.setdefault(path, []).append(id_)
            if sha256 is not None:
                self._by_sha256.setdefault(sha256, []).append(id_)
        if not self.classes:
            raise InvalidInputError(
                f"labels: expected a gallery with labels, found {self.size} items without; add "
                f"its pictures again with labels, such as labels='parent'"
            )
        self.labelled: Ids = np.flatnonzero(self.of_id >= 0).astype(np.int64)
        self._counts = np.bincount(self.of_id[self.labelled], minlength=len(self.classes))

    def same_picture(self, path: Path | None, sha256: bytes | None) -> list[int]:
        """Ids of the items made from this file, or from one of the same bytes."""
        by_path = [] if path is None else self._by_path.get(str(path), [])
        if path is not None and not by_path:  # items of a folder have it with links resolved
            by_path = self._by_path.get(str(Path(os.path.realpath(path.parent), path.name)), [])
        by_sha256 = self._by_sha256.get(sha256 or b"", [])
        return sorted({*by_path, *by_sha256})

    def relevant(self, label: str, itself: list[int]) -> int:
        """How many items of a label there are beside these."""
        number = self.classes.get(label)
        if number is None:
            return 0
        return int(self._counts[number] - np.count_nonzero(self.of_id[itself] == number))
