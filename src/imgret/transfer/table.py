"""What is read from a file: items with their embeddings, piece by piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from imgret.transfer.header import GalleryHeader
from imgret.transfer.records import Records

__all__ = ["Table"]


class Table(ABC):
    """A file of items and embeddings that is open for reading.

    Attributes
    ----------
    path : Path
    header : GalleryHeader or None
        The gallery that the items are from; None for a file that imgret did not write.
    dim : int
        Dimension of the embeddings.
    chosen : str
        Which columns were taken for keys and vectors, in words; empty for a file of imgret.
    """

    path: Path
    header: GalleryHeader | None
    dim: int
    chosen: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    @abstractmethod
    def batches(self) -> Iterator[Records]:
        """Yield all items in pieces that fit memory; may be called again.

        Raises
        ------
        InvalidInputError
            A row is not valid; the message names the file and the row.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
