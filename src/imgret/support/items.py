"""The check of items before they are stored in a gallery."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from imgret.errors import InvalidInputError
from imgret.types import Item, is_text

__all__ = ["check_item", "check_items"]

# Levels of JSON, well below SQLite's limit (1000), beyond which one item makes all unreadable.
_DEEPEST = 200
_HASH = 8  # bytes of a perceptual hash
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_NUL, _NUL_IN_JSON = "\0", "\\u0000"
_BLOCK = 512  # items checked at once


def check_item(item: Item) -> str:
    """Check an item before work is spent on it, and return its metadata as JSON.

    Raises
    ------
    InvalidInputError
        The key is empty; key, path or label is not Unicode text; the metadata is not JSON, or has
        names that are not text; a text contains NUL, where SQLite's functions stop reading; or the
        hash has another length.
    """
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
    if item.phash is not None and (not isinstance(item.phash, bytes) or len(item.phash) != _HASH):
        raise InvalidInputError(
            f"phash of {item.key!r}: expected {_HASH} bytes or None, found {item.phash!r}"
        )
    if type(item.metadata) is not dict and not isinstance(item.metadata, Mapping):
        raise InvalidInputError(
            f"metadata of {item.key!r}: expected a mapping, found {item.metadata!r}"
        )
    if not item.metadata:
        return "{}"
    try:
        metadata = _ENCODE(dict(item.metadata))
        metadata.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"metadata of {item.key!r}: expected JSON values, found {error}"
        ) from error
    brackets = metadata.count("[") + metadata.count("{")
    if brackets > _DEEPEST and _depth(item.metadata) > _DEEPEST:
        raise InvalidInputError(
            f"metadata of {item.key!r}: expected at most {_DEEPEST} levels of lists and objects, "
            f"found more"
        )
    nul = _NUL_IN_JSON in metadata
    if brackets > 1 or nul or set(map(type, item.metadata)) != {str}:
        _check_names_and_texts(item, nul=nul)
    return metadata


def check_items(items: Sequence[Item]) -> list[str]:
    """Check many items like `check_item`, several times as fast; return the metadata of each."""
    found: list[str] = []
    for start in range(0, len(items), _BLOCK):
        block = items[start : start + _BLOCK]
        usual = _all_json([item.metadata for item in block]) if _are_usual(block) else None
        found += usual or map(check_item, block)
    return found


def _are_usual(items: Sequence[Item]) -> bool:
    """Whether keys, paths, labels and hashes are valid at first sight, all of them at once."""
    keys = [item.key for item in items]
    others = [text for item in items for text in (item.path, item.label) if text is not None]
    if set(map(type, keys + others)) != {str} or not all(keys):
        return False
    text = "".join(keys + others)
    hashes = [item.phash for item in items if item.phash is not None]
    return (
        _NUL not in text
        and is_text(text)
        and all(isinstance(phash, bytes) and len(phash) == _HASH for phash in hashes)
    )


def _all_json(rows: Sequence[Any]) -> list[str] | None:
    """Return metadata as JSON, made at once; None if any is invalid, or has a mapping inside."""
    if set(map(type, rows)) != {dict} or set(map(type, chain.from_iterable(rows))) - {str}:
        return None
    try:
        text = _ENCODE(rows)
    except (TypeError, ValueError, RecursionError):
        return None
    # As many braces as mappings: so these are around each, and nowhere else, also not in a text.
    if not text.count("{") == text.count("}") == len(rows) or _NUL_IN_JSON in text:
        return None
    if not is_text(text):
        return None
    found = [f"{{{fields}}}" for fields in text[2:-2].split("}, {")]
    is_deep = text.count("[") > _DEEPEST and any(each.count("[") >= _DEEPEST for each in found)
    return None if is_deep else found


def _check_names_and_texts(item: Item, *, nul: bool) -> None:
    """Raise for a name that is not text, which JSON would convert, and for NUL."""
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
                f"found {value!r}; remove or replace them"
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
