"""One image of a gallery, and the row of the catalog that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imgret.errors import InvalidInputError
from imgret.types import Box, Item, is_text

__all__ = ["COLUMNS", "check_item", "from_row", "to_row"]

COLUMNS = "key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata"


# Levels of JSON, well below what SQLite reads (1000): one item must not make all unreadable.
_DEEPEST = 200
_NUL, _NUL_IN_JSON = "\0", "\\u0000"


def check_item(item: Item) -> None:
    """Check what is to be stored, before work is spent on it.

    Raises
    ------
    InvalidInputError
        The key is empty; key, path or label is no Unicode text; the metadata is no JSON, or has
        names that are not text; or some text holds NUL, up to which SQLite's functions read.
    """
    to_row(item)


def to_row(item: Item) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`; raises what `check_item` does."""
    if not is_text(item.key) or not item.key or _NUL in item.key:
        raise InvalidInputError(
            f"key: expected non-empty text (Unicode, without NUL), found {item.key!r}"
        )
    for name, value in (("path", item.path), ("label", item.label)):
        if value is not None and (not is_text(value) or _NUL in value):
            raise InvalidInputError(
                f"{name} of {item.key!r}: expected Unicode text without NUL, or None, found "
                f"{value!r}"
            )
    if not isinstance(item.metadata, Mapping):
        raise InvalidInputError(
            f"metadata of {item.key!r}: expected a mapping, found {item.metadata!r}"
        )
    if not item.metadata:
        return (*_facts(item), "{}")
    try:
        metadata = json.dumps(dict(item.metadata), ensure_ascii=False, allow_nan=False)
        metadata.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"metadata of {item.key!r}: expected JSON values, found {error}"
        ) from error
    if metadata.count("[") + metadata.count("{") > _DEEPEST and _depth(item.metadata) > _DEEPEST:
        raise InvalidInputError(
            f"metadata of {item.key!r}: expected at most {_DEEPEST} levels of lists and objects, "
            f"found more"
        )
    _check_names_and_texts(item, nul=_NUL_IN_JSON in metadata)
    return (*_facts(item), metadata)


def _check_names_and_texts(item: Item, *, nul: bool) -> None:
    """Raise for a name that is not text, of which JSON makes one, and for NUL."""
    level: list[tuple[str, Any]] = [("", item.metadata)]
    while level:
        above, value = level.pop()
        if isinstance(value, Mapping):
            for name in value:
                if not isinstance(name, str):
                    raise InvalidInputError(
                        f"metadata of {item.key!r}: expected names that are text, found {name!r} "
                        f"({type(name).__name__}){f' below {above}' if above else ''}; write "
                        f"{str(name)!r}"
                    )
                level.append((f"{above}.{name}" if above else name, value[name]))
        elif isinstance(value, (list, tuple)):
            level += [(above, each) for each in value if nul or not isinstance(each, str)]
        if nul and (_NUL in above or (isinstance(value, str) and _NUL in value)):
            raise InvalidInputError(
                f"metadata of {item.key!r}: expected text without NUL characters in {above!r}, "
                f"found {value!r}; cut or replace them"
            )


def _facts(item: Item) -> tuple[Any, ...]:
    """Return the values of `COLUMNS` but the last."""
    return (
        item.key,
        item.path,
        item.sha256,
        item.size,
        item.mtime_ns,
        *(item.box or (None, None, None, None)),
        int(item.subject),
        item.label,
    )


def _depth(value: Any) -> int:
    """Count levels of lists and objects."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            below
            for each in level
            for below in (each.values() if isinstance(each, Mapping) else each)
            if isinstance(below, (Mapping, list, tuple))
        ]
    return depth


def from_row(row: tuple[Any, ...]) -> Item:
    """Return the item of the values of `COLUMNS`."""
    key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata = row
    return Item(
        key=key,
        path=path,
        sha256=sha256,
        size=size,
        mtime_ns=mtime_ns,
        box=None if x0 is None else Box(x0, y0, x1, y1),
        subject=bool(subject),
        label=label,
        metadata={} if metadata == "{}" else _loaded(metadata),
    )


def _loaded(metadata: str) -> Any:
    """Return metadata as filters see them, which read up to a NUL that an older imgret let in."""
    loaded = json.loads(metadata)
    return _cut(loaded) if _NUL_IN_JSON in metadata else loaded


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value.partition(_NUL)[0]
    if isinstance(value, list):
        return [_cut(each) for each in value]
    if isinstance(value, dict):
        return {_cut(name): _cut(each) for name, each in value.items()}
    return value
