"""Vectors compared with the checksums that the catalog has of them, each once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import ImgretError, StoreCorruptError
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.vectors import checksums
from imgret.types import Ids

__all__ = ["RowChecks"]

# Vectors whose checksums are asked for by one statement.
_AT_ONCE = 10_000


class RowChecks:
    """Which vectors of a gallery are known to be what was committed, and the others' checks.

    Parameters
    ----------
    catalog : Catalog
        Has the checksums that count.
    gallery, file : str
        Name of the gallery and of what holds its vectors, for messages.
    """

    def __init__(self, catalog: Catalog, *, gallery: str, file: str) -> None:
        self._catalog = catalog
        self._gallery = gallery
        self._file = file
        self._sound: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)  # by id
        # Of the first rows, as they are stored with the index: quicker than the catalog's.
        self._copied: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)

    def compare(self, ids: Ids, expected: list[int], rows: NDArray[Any]) -> None:
        """Raise if stored vectors have other checksums than expected.

        Raises
        ------
        StoreCorruptError
            A vector is not what was committed; the message names its item.
        """
        found = checksums(rows)
        if expected == found:
            return
        bad = [int(id_) for id_, a, b in zip(ids, expected, found, strict=True) if a != b]
        names = ", ".join(repr(item.key) for item in self._catalog.items(bad[:3]).values())
        raise StoreCorruptError(
            f"{self._file}: {len(bad)} stored vectors are damaged, the first of {names}; restore "
            f"the file from a copy, or see what `imgret check {self._gallery}` can save"
        )

    def compare_new(self, ids: Ids, rows: NDArray[Any]) -> None:
        """Compare those vectors that were not compared yet; raise what `compare` does."""
        if self.all_sound(ids):
            return
        flags = self._flags()
        places = np.flatnonzero(~flags.take(ids))
        new, first = np.unique(ids[places], return_index=True)
        places, copied = places[first], self._copied
        found = np.array(checksums(rows[places]), dtype=np.uint32)
        differs = new >= len(copied)
        if len(copied):
            differs |= copied.take(new, mode="clip") != found
        places = places[differs]
        for start in range(0, len(places), _AT_ONCE):
            part = places[start : start + _AT_ONCE]
            self.compare(ids[part], self._catalog.checksums_of(ids[part]), rows[part])
        flags[new] = True

    def all_sound(self, ids: Ids) -> bool:
        """Whether the vectors of these ids were all compared."""
        return 0 not in self._flags().take(ids).tobytes()  # in half the time of all()

    def mark_sound(self, ids: Ids) -> None:
        """Note that the vectors of these ids were compared."""
        self._flags()[ids] = True

    def forget(self) -> None:
        """Take no vector as compared."""
        self._sound[:] = False

    def _flags(self) -> NDArray[np.bool_]:
        """Return by id whether a vector was compared.

        Threads may lengthen the array at once. Flags that one of them sets meanwhile may be lost,
        and these vectors are compared again.
        """
        flags, rows = self._sound, self._catalog.rows
        if len(flags) < rows:
            self._sound = flags = np.concatenate([flags, np.zeros(rows - len(flags), np.bool_)])
        return flags

    # -- the copy beside the index ---------------------------------------------------------

    def of(self, ids: Ids) -> NDArray[np.uint32] | None:
        """Return the catalog's checksums of increasing ids; None if it is damaged."""
        found: NDArray[np.uint32] = np.empty(len(ids), dtype=np.uint32)
        try:
            for start in range(0, len(ids), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                found[part] = self._catalog.checksums(ids[part])
        except (ImgretError, ValueError, TypeError, OverflowError):
            return None
        return found

    def use_copy(self, copied: NDArray[np.uint32] | None) -> None:
        """Compare with these checksums of the first rows first, if there are any."""
        self._copied = self._copied if copied is None else copied

    def differ(self, copied: NDArray[np.uint32]) -> bool:
        """Whether any of these checksums of the first rows is not that of the catalog."""
        expected = self.of(np.arange(len(copied)))
        return expected is not None and not np.array_equal(copied, expected)
