"""Tables of vectors that other programs wrote: which column is which, and rows as items."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imgret.errors import InvalidInputError
from imgret.support.items import check_item
from imgret.types import Item

__all__ = ["Columns", "choose_columns", "plain_item"]

# Names under which other programs have their columns, the likeliest first. img2dataset has "key",
# clip-retrieval "image_path"; Hugging Face's datasets often have "id" or "file_name".
_KEYS = (
    "key", "keys", "id", "ids", "image_id", "image_path", "path", "file", "filename", "file_name",
    "url",
)  # fmt: skip
_VECTORS = (
    "vector", "vectors", "embedding", "embeddings", "img_emb", "image_embedding",
    "image_embeddings", "clip_embedding", "feature", "features", "emb",
)  # fmt: skip
_LABELS = ("label", "labels")
_PATHS = ("path", "image_path", "file", "filename", "file_name", "paths")


class Columns(NamedTuple):
    """Names of the columns of a table.

    Attributes
    ----------
    key, vector : str
    label, path : str or None
    metadata : tuple of str
        All other columns.
    """

    key: str
    vector: str
    label: str | None
    path: str | None
    metadata: tuple[str, ...]


def choose_columns(
    path: Path,
    names: Sequence[str],
    vectors: Sequence[str],
    *,
    key: str | None,
    vector: str | None,
) -> Columns:
    """Choose the columns of keys and vectors: those that were named, or the likeliest.

    Parameters
    ----------
    path : Path
        File, for errors.
    names : sequence of str
        Names of all columns.
    vectors : sequence of str
        Names of those that hold one vector per row.
    key, vector : str or None
        Names given by the user.

    Raises
    ------
    InvalidInputError
        There is no such column, or none that is likely.
    """
    for name, option in ((key, "key"), (vector, "vector")):
        if name is not None and name not in names:
            raise InvalidInputError(
                f"{path}: expected a column {name!r} ({option}_column), found {_listed(names)}"
            )
    if vector is not None and vector not in vectors:
        raise InvalidInputError(
            f"{path}: expected one vector of numbers per row in column {vector!r}, found another "
            f"type"
            + (f"; columns of vectors: {_listed(vectors)}" if vectors else "; no column has them")
        )
    found_vector = vector or next((name for name in _VECTORS if name in vectors), None)
    if found_vector is None and len(vectors) == 1:
        found_vector = vectors[0]
    if found_vector is None:
        raise InvalidInputError(
            f"{path}: expected a column of vectors, such as 'vector' or 'embedding', found "
            + (
                f"several of another name: {_listed(vectors)}; name one by vector_column "
                f"(--vector-column)"
                if vectors
                else f"none among {_listed(names)}; imgret imports embeddings, and `imgret index` "
                f"makes them from images"
            )
        )
    # pandas keeps its row numbers under such a name.
    others = [n for n in names if n not in vectors and not n.startswith("__index_level_")]
    found_key = key or next((name for name in _KEYS if name in others), None)
    if found_key is None:
        raise InvalidInputError(
            f"{path}: expected a column of keys, such as 'key', 'id' or 'image_path', found "
            f"{_listed(others)}; name one by key_column (--key-column)"
        )
    label = next((name for name in _LABELS if name in others and name != found_key), None)
    place = next((name for name in _PATHS if name in others), None)
    taken = {found_key, label, place}
    metadata = tuple(name for name in others if name not in taken)
    return Columns(found_key, found_vector, label, place, metadata)


def plain_item(row: Mapping[str, Any], columns: Columns, folder: Path, where: str) -> Item:
    """Return the item of a row.

    Parameters
    ----------
    row : mapping of str to object
        Values as Python objects, without the vector.
    columns : Columns
    folder : Path
        Folder of the file, from which relative paths are looked for as well.
    where : str
        File and row, for errors.

    Raises
    ------
    InvalidInputError
        The row has no key, or a value that cannot be stored.
    """
    key = row[columns.key]
    if isinstance(key, bytes):
        key = key.decode("utf-8", "replace")
    if key is None or key == "" or (isinstance(key, float) and not key.is_integer()):
        raise InvalidInputError(
            f"{where}: expected text or a whole number in column {columns.key!r}, found {key!r}"
        )
    key = str(int(key)) if isinstance(key, float) else str(key)
    metadata = {name: _value(row[name]) for name in columns.metadata if row[name] is not None}
    path = None
    if columns.path is not None and row[columns.path] is not None:
        named = str(row[columns.path])
        path = _existing(named, folder)
        if path is None and columns.path != columns.key:
            metadata[columns.path] = named
    label = None if columns.label is None else row[columns.label]
    item = Item(key, path, label=None if label is None else str(label), metadata=metadata)
    try:
        check_item(item)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error
    return item


def _existing(named: str, folder: Path) -> str | None:
    """Return the absolute path of a file, looked for here and beside the table; None without it."""
    if "\0" in named:
        return None
    if Path(named).is_absolute():
        return named
    for place in (folder / named, Path(named)):
        if place.is_file():
            return os.path.abspath(place)  # noqa: PTH100  # ".." goes, links stay
    return None


def _value(value: Any) -> Any:
    """Return a value of a column as one of JSON; times as ISO 8601, bytes as hexadecimal."""
    if isinstance(value, Mapping):
        return {str(name): _value(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:20]))
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "no columns"
