"""The file of an item, as a gallery describes it.

The catalog of a gallery says where the image of an item is, and what its content was. That of a
stranger may name any file; but it knows the digest of none that its author has not read.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol, Self

from imgret.errors import ImageNotFoundError
from imgret.files.place import place_of, read_bytes
from imgret.files.roots import is_limited

__all__ = ["ItemFile"]


class _Described(Protocol):
    @property
    def path(self) -> str | None: ...
    @property
    def sha256(self) -> bytes | None: ...


class ItemFile(NamedTuple):
    """The file of an item.

    Attributes
    ----------
    path : str
        Path or address.
    sha256 : bytes or None
        Digest of the content from which the item was made, if the gallery has it.
    """

    path: str
    sha256: bytes | None

    @classmethod
    def of(cls, item: _Described) -> Self | None:
        """Return the file of an item or a hit; None if it has none."""
        return None if item.path is None else cls(item.path, item.sha256)

    def read(self) -> bytes:
        """Return the content, to be shown to whoever looks at the gallery.

        It has to be what the item was made from, or to lie in a folder that
        `imgret.images.only_below` names.

        Raises
        ------
        ImageNotFoundError
            The content is another, or is not known, and no folder is named.
        ImageError, MissingExtraError
            As for `imgret.images.read`.
        """
        data = read_bytes(self.path)
        if is_limited():
            return data
        place = place_of(self.path)
        if self.sha256 is None:
            raise ImageNotFoundError(
                "the gallery does not say what the file contained, so it may be any; name the "
                "folder of its images, with --images-below or imgret.images.only_below()",
                place,
            )
        if hashlib.sha256(data).digest() != self.sha256:
            raise ImageNotFoundError(
                "the file is not the one that was indexed; index its folder again", place
            )
        return data
