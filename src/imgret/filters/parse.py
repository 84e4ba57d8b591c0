"""Parser of filters in the style of MongoDB."""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgret.errors import InvalidInputError
from imgret.filters.tree import (
    AllOf,
    AnyOf,
    Compare,
    Contains,
    Exists,
    Field,
    Filter,
    Not,
    OneOf,
    Sign,
    Value,
)
from imgret.types import is_text

__all__ = ["metadata_field", "parse_filter"]

_OPERATORS = (
    *("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$contains"),
    *("$and", "$or", "$not"),
)
_ORDERED: dict[str, Sign] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
# Well below the limits of SQLite's parser on the depth and size of expressions.
_DEEPEST = 16
_MOST_CONDITIONS = 500


def parse_filter(where: Any) -> Filter:
    """Turn a filter into a tree.

    Parameters
    ----------
    where : mapping
        Fields and the conditions on them, such as ``{"label": "rose", "year": {"$gte": 2020}}``.

    Raises
    ------
    InvalidInputError
        ``where`` is not a valid filter: it has an unknown operator, a value that cannot be
        compared, or too many levels or conditions.
    """
    return _Parser().filter(where, 0)


def metadata_field(name: str) -> Field:
    """Return the metadata field with this name.

    Raises
    ------
    InvalidInputError
        ``name`` is not a valid field name.
    """
    if not is_text(name) or not all(name.split(".")) or re.search(r'["\\\x00-\x1f]', name):
        raise InvalidInputError(
            f"where: expected the name of a field (words joined by dots, without quotes, "
            f"backslashes and control characters), found {name!r}"
        )
    return Field(name)


class _Parser:
    """Reads a filter from left to right, and counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, where: Any, depth: int) -> Filter:
        if not isinstance(where, Mapping):
            raise InvalidInputError(
                f"where: expected a mapping such as {{'label': 'rose'}}, found {_shown(where)}"
            )
        _check_depth(depth)
        self._count()
        return _all(tuple(self._entry(name, where[name], depth + 1) for name in where))

    def _entry(self, name: Any, given: Any, depth: int) -> Filter:
        if name in {"$and", "$or"}:
            if not isinstance(given, (list, tuple)) or not given:
                raise InvalidInputError(
                    f"{name}: expected a list of at least one filter, found {_shown(given)}"
                )
            parts = tuple(self.filter(each, depth) for each in given)
            return _all(parts) if name == "$and" else _any(parts)
        if name == "$not":
            return Not(self.filter(given, depth))
        if not isinstance(name, str) or (name.startswith("$") and name not in _OPERATORS):
            raise _unknown(name)
        if name.startswith("$"):
            raise InvalidInputError(
                f"where: expected {name} below a field, as in {{'year': {{{name!r}: ...}}}}, "
                f"found it in place of a field"
            )
        return self._tests(metadata_field(name), given, depth)

    def _tests(self, field: Field, given: Any, depth: int) -> Filter:
        _check_depth(depth)
        if not isinstance(given, Mapping):
            return self._test(field, "$eq", given, depth)
        if not given:
            raise InvalidInputError(
                f"{field.name}: expected a value or operators such as {{'$eq': 1}}, found {{}}"
            )
        return _all(tuple(self._test(field, name, given[name], depth) for name in given))

    def _test(self, field: Field, operator: Any, value: Any, depth: int) -> Filter:
        self._count()
        where = f"{operator} of {field.name!r}"
        if operator in {"$eq", "$ne", "$in", "$nin"}:
            values = [value] if operator in {"$eq", "$ne"} else value
            if not isinstance(values, (list, tuple)):
                raise InvalidInputError(
                    f"{where}: expected a list of values, found {_shown(value)}"
                )
            # Long lists are common; repeated values in them are harmless and dropped.
            among = OneOf(field, tuple(dict.fromkeys(_value(field, v, where) for v in values)))
            return among if operator in {"$eq", "$in"} else Not(among)
        if operator in _ORDERED:
            if value is None or isinstance(value, bool):
                raise InvalidInputError(
                    f"{where}: expected a number or text to compare with, found {_shown(value)}"
                )
            return Compare(field, _ORDERED[operator], _value(field, value, where))
        if operator == "$contains":
            return Contains(field, _value(field, value, where, may_be_null=not field.is_column))
        if operator == "$exists":
            if not isinstance(value, bool):
                raise InvalidInputError(f"{where}: expected True or False, found {_shown(value)}")
            return Exists(field) if value else Not(Exists(field))
        if operator == "$not":
            if not isinstance(value, Mapping):
                raise InvalidInputError(
                    f"{where}: expected operators such as {{'$gt': 1}}, found {_shown(value)}"
                )
            return Not(self._tests(field, value, depth + 1))
        raise _unknown(operator)

    def _count(self) -> None:
        self._conditions += 1
        if self._conditions > _MOST_CONDITIONS:
            raise InvalidInputError(
                f"where: expected at most {_MOST_CONDITIONS} conditions, found more; $in takes "
                f"many values at once"
            )


def _value(field: Field, value: Any, where: str, *, may_be_null: bool = True) -> Value:
    """Return a value that the field can be compared with, or raise."""
    if value is None and may_be_null:
        return Value("null", None)
    if value is None:
        raise _not_text(field, value, where)
    if isinstance(value, bool):
        found = Value("bool", value)
    elif isinstance(value, (int, float)) and abs(value) <= sys.float_info.max:  # false for NaN
        found = Value("number", value)
    elif is_text(value) and "\0" not in value:
        found = Value("text", value)
    else:
        raise InvalidInputError(
            f"{where}: expected text (Unicode, without NUL), a finite number, True, False or "
            f"None, found {_shown(value)}{_remedy(value)}"
        )
    if field.is_column and found.kind != "text":
        raise _not_text(field, value, where)
    return found


def _remedy(value: Any) -> str:
    """Return how to write a date or a time, which JSON does not have."""
    if not isinstance(value, np.datetime64) and not callable(getattr(value, "isoformat", None)):
        return ""
    text = str(value) if isinstance(value, np.datetime64) else value.isoformat()
    if text == "NaT":
        return "; write None for a missing value"
    return (
        f"; dates and times are stored as text: write it as the items have it, such as {text!r} "
        f"(ISO 8601 compares in order of time)"
    )


def _shown(value: Any) -> str:
    """Return a value as messages show it, however long it is and however many levels it has."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 200
    shown.maxlist = shown.maxtuple = shown.maxset = shown.maxdict = 20
    return shown.repr(value)


def _all(parts: tuple[Filter, ...]) -> Filter:
    return parts[0] if len(parts) == 1 else AllOf(parts)


def _any(parts: tuple[Filter, ...]) -> Filter:
    return parts[0] if len(parts) == 1 else AnyOf(parts)


def _check_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise InvalidInputError(
            f"where: expected at most {_DEEPEST} levels of nesting, found more; join conditions "
            f"in one $and or $or"
        )


def _not_text(field: Field, found: Any, where: str) -> InvalidInputError:
    return InvalidInputError(
        f"{where}: expected text, as the {field.name} of an item is text, found {_shown(found)}"
    )


def _unknown(found: Any) -> InvalidInputError:
    return InvalidInputError(
        f"where: expected a field or one of the operators {', '.join(_OPERATORS)}, found "
        f"{_shown(found)}"
    )
