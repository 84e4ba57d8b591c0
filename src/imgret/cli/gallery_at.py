"""The argument that says where a gallery is: a directory, or the URI of a server."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

__all__ = ["GalleryPlace"]

_SECRETS = ("password", "token", "secret", "key")


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
        return self._given if self.directory is not None else _shown(self._given)

    @property
    def name(self) -> str:
        """Name for the title of a page."""
        return str(self) if self.directory is None else self.directory.name


def _shown(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        user, at, host = parts.netloc.rpartition("@")
        kept = [
            (name, value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
            if not any(secret in name.lower() for secret in _SECRETS)
        ]
        netloc = user.partition(":")[0] + at + host
        query = urlencode(kept, quote_via=quote, safe="/:")
        return parts._replace(netloc=netloc, query=query).geturl()
    except ValueError:
        return uri.partition("://")[0] + "://..."
