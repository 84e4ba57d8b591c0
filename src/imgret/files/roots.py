"""The folders outside of which no image is read, while there is such a limit.

The catalog of a gallery says where its images are. That of a stranger may name any file of yours,
and pages made from it would show that file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgret.errors import ImageNotFoundError, InvalidInputError

__all__ = ["check_below", "is_limited", "only_below"]

_limits: list[tuple[str, ...]] = []


@contextmanager
def only_below(*roots: str | os.PathLike[str]) -> Iterator[None]:
    """Read no image outside some folders, for the length of a ``with`` block.

    It applies to every path and address from which this process reads an image meanwhile, in any
    thread: of items, of queries, of folders that are indexed. Links are resolved first. Use it with
    a gallery that you were given: its catalog can name any file as the image of an item, and pages
    and servers would show it.

    Parameters
    ----------
    *roots : path
        Folders, archives or files; or addresses such as ``s3://bucket/photos``, below which
        addresses are read. Without any, no file is read.

    Raises
    ------
    InvalidInputError
        A root does not exist.

    Notes
    -----
    Reading another image raises `ImageNotFoundError`, as if it did not exist; whether it does is
    not looked at.

    Examples
    --------
    >>> with images.only_below("from-them/photos"):  # doctest: +SKIP
    ...     Retriever.load("from-them/photos.imgret").search("query.jpg").save("page.html")
    """
    limit = tuple(map(_resolved, roots))
    _limits.append(limit)
    try:
        yield
    finally:
        _limits.remove(limit)  # blocks of other threads may have begun since


def is_limited() -> bool:
    """Whether images are only read below some folders at present."""
    return bool(_limits)


def check_below(path: str | os.PathLike[str]) -> None:
    """Raise an error if there is a limit and a path or an address is outside of it.

    Raises
    ------
    ImageNotFoundError
        It is.
    """
    if not _limits:
        return
    text = os.fspath(path)
    is_address = "://" in text
    # Dots in an address may be resolved by the service.
    found = "" if is_address and "/.." in text else text if is_address else os.path.realpath(path)
    for roots in tuple(_limits):
        if not any(found == root or found.startswith(_with_slash(root)) for root in roots):
            raise ImageNotFoundError(
                f"expected an image below {', '.join(roots) or 'no folder at all'}, to which "
                f"reading is limited, found one outside; if it may be read, name its folder, too",
                Path(path) if not is_address else text,
            )


def _resolved(root: str | os.PathLike[str]) -> str:
    text = os.fspath(root)
    if "://" in text:
        return text.rstrip("/")
    if not os.path.exists(root):  # noqa: PTH110  # text of any bytes
        raise InvalidInputError(
            f"{text}: expected a folder that images are read from, found none there"
        )
    return os.path.realpath(root)


def _with_slash(root: str) -> str:
    end = "/" if "://" in root else os.sep
    return root if root.endswith(end) else root + end
