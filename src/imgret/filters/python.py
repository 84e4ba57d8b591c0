"""Filters evaluated in Python, for what a database cannot express in its own language."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from imgret.filters.tree import (
    AllOf,
    AnyOf,
    Compare,
    Contains,
    Exists,
    Field,
    Filter,
    Kind,
    Not,
    OneOf,
    Sign,
    Value,
)

__all__ = ["passes"]

_SIGNS: dict[Sign, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_MISSING: Any = object()


class _Item(Protocol):
    @property
    def metadata(self) -> Mapping[str, Any]: ...


def passes(item: _Item, where: Filter) -> bool:  # noqa: PLR0911  # one a kind of part
    """Return whether an item passes a filter.

    Parameters
    ----------
    item : Item
    where : Filter
        Parsed filter: see `parse_filter`.
    """
    match where:
        case AllOf(parts):
            return all(passes(item, part) for part in parts)
        case AnyOf(parts):
            return any(passes(item, part) for part in parts)
        case Not(part):
            return not passes(item, part)
        case Exists(field):
            return _stored(item, field) is not _MISSING
        case OneOf(field, values):
            stored = _stored(item, field)
            return any(_equal(stored, value) for value in values)
        case Compare(field, sign, value):
            stored = _stored(item, field)
            return _kind(stored) == value.kind and _SIGNS[sign](
                _number(stored), _number(value.value)
            )
        case Contains(field, value):
            stored = _stored(item, field)
            if isinstance(stored, (list, tuple)):
                return any(_equal(each, value) for each in stored)
            return isinstance(stored, str) and value.kind == "text" and value.value in stored


def _stored(item: _Item, field: Field) -> Any:
    if field.is_column:
        found = getattr(item, field.name)
        return _MISSING if found is None else found
    found = item.metadata
    for part in field.parts:
        if not isinstance(found, Mapping) or part not in found:
            return _MISSING
        found = found[part]
    return found


def _equal(stored: Any, value: Value) -> bool:
    kind = _kind(stored)
    return kind == value.kind and (kind == "null" or _number(stored) == _number(value.value))


def _kind(stored: Any) -> Kind | None:
    if stored is None or stored is _MISSING:
        return "null"
    if isinstance(stored, bool):
        return "bool"
    if isinstance(stored, (int, float)):
        return "number"
    return "text" if isinstance(stored, str) else None


def _number(value: Any) -> Any:
    """Convert a whole number beyond 64 bits to float64, as SQLite does; infinite if too large."""
    if not isinstance(value, int) or value.bit_length() <= 63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
