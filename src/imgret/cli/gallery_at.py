"""The argument that says where a gallery is: a directory, or the URI of a server."""

from __future__ import annotations

import os
from pathlib import Path

from imgret.support.uris import without_secrets

__all__ = ["GalleryPlace"]


class GalleryPlace(os.PathLike[str]):
    """Where a gallery is; shown without what is secret in it.

    Parameters
    ----------
    given : str
        Path of a directory, or URI, as on the command line.

    Attributes
    ----------
    directory : Path or None
        The directory; None for the gallery of a server.
    """

    def __init__(self, given: str) -> None:
        scheme, colon, _ = given.partition("://")
        on_server = bool(colon) and scheme.isalnum() and scheme != "file"
        self._given = given
        self.directory = None if on_server else Path(given)

    def __fspath__(self) -> str:
        """Return the path or URI as it was given."""
        return self._given

    def __str__(self) -> str:
        """Return the path, or the URI without password and token."""
        return self._given if self.directory is not None else without_secrets(self._given)

    @property
    def name(self) -> str:
        """Name for the title of a page."""
        return str(self) if self.directory is None else self.directory.name
