"""Filters in the style of MongoDB, turned into a condition of SQL.

``docs/filters.md`` says what each operator means. Values are bound, never written into the
statement. A field is written into it as a quoted literal, since SQLite uses an index on an
expression only where it finds the same expression.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

from imgret.errors import InvalidInputError
from imgret.storage.fields import (
    FIELDS,
    ColumnTests,
    Kind,
    MetadataField,
    MetadataTests,
    joined,
    metadata_field,
)
from imgret.storage.item import is_text

__all__ = ["Condition", "compile_where", "identity_of"]

_OPERATORS = (
    *("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$contains"),
    *("$and", "$or", "$not"),
)
_ORDERED = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
# What SQLite's parser and its limit on the depth of an expression take, with room to spare.
_DEEPEST = 16
_MOST_CONDITIONS = 500
_SCALARS = frozenset({str, int, float, bool, type(None)})


class Condition(NamedTuple):
    """A filter as SQL.

    Attributes
    ----------
    sql : str
        Of the columns of ``items``, with a question mark for each parameter. Its value may be
        NULL, which counts as false.
    parameters : tuple of str
    fields : tuple of MetadataField
        Fields it speaks of; one that no item has is a mistake.
    ordered : tuple of (MetadataField, Kind)
        Fields compared by order, and with what.
    """

    sql: str
    parameters: tuple[str, ...]
    fields: tuple[MetadataField, ...]
    ordered: tuple[tuple[MetadataField, Kind], ...]


def compile_where(where: Any) -> Condition:
    """Turn a filter into SQL.

    Parameters
    ----------
    where : mapping
        Fields with what is asked of them, such as ``{"label": "rose", "year": {"$gte": 2020}}``.

    Raises
    ------
    InvalidInputError
        It is no such mapping: an unknown operator, a value that cannot be compared, or too
        many levels or conditions.
    """
    compiler = _Compiler()
    sql = compiler.filter(where, 0)
    return Condition(
        sql, tuple(compiler.parameters), tuple(compiler.fields), tuple(compiler.ordered)
    )


def identity_of(where: Any) -> Hashable | None:
    """Return what two filters share only if they are the same; None where that is not sure.

    It is sure of Python's own dictionaries, lists, texts and numbers. Objects of other classes may
    say of themselves what they like, and 1 is equal to True.
    """
    try:
        return _identity(where)
    except (TypeError, RecursionError):
        return None


def _identity(value: Any) -> Hashable:
    kind = type(value)
    if kind is dict:
        if any(type(name) is not str for name in value):
            raise TypeError
        return dict, tuple(value), tuple(map(_identity, value.values()))
    if kind is list or kind is tuple:
        kinds = tuple(map(type, value))
        if _SCALARS.issuperset(kinds):
            return kinds, tuple(value)
        return list, tuple(map(_identity, value))
    if kind not in _SCALARS:
        raise TypeError
    return kind, value


class _Compiler:
    """Writes a condition from left to right, its parameters in the same order."""

    def __init__(self) -> None:
        self.parameters: list[str] = []
        self.fields: dict[MetadataField, None] = {}  # a set that keeps the order
        self.ordered: dict[tuple[MetadataField, Kind], None] = {}
        self._conditions = 0

    def filter(self, where: Any, depth: int) -> str:
        if not isinstance(where, Mapping):
            raise InvalidInputError(
                f"where: expected a mapping such as {{'label': 'rose'}}, found {where!r}"
            )
        _check_depth(depth)
        self._count()
        return joined("AND", [self._entry(name, where[name], depth + 1) for name in where])

    def _entry(self, name: Any, given: Any, depth: int) -> str:
        if name in {"$and", "$or"}:
            if not isinstance(given, (list, tuple)) or not given:
                raise InvalidInputError(
                    f"{name}: expected a list of at least one filter, found {given!r}"
                )
            parts = [self.filter(each, depth) for each in given]
            return joined("AND" if name == "$and" else "OR", parts)
        if name == "$not":
            return _negated(self.filter(given, depth))
        if not isinstance(name, str) or (name.startswith("$") and name not in _OPERATORS):
            raise _unknown(name)
        if name.startswith("$"):
            raise InvalidInputError(
                f"where: expected {name} below a field, as in {{'year': {{{name!r}: ...}}}}, "
                f"found it beside fields"
            )
        if name in FIELDS:
            return self._tests(ColumnTests(name, self.bind), given, depth)
        field = metadata_field(name)
        self.fields[field] = None
        tests = MetadataTests(field, self.bind)
        sql = self._tests(tests, given, depth)
        self.ordered |= dict.fromkeys((field, kind) for kind in tests.ordered)
        return sql

    def _tests(self, field: ColumnTests | MetadataTests, given: Any, depth: int) -> str:
        _check_depth(depth)
        if not isinstance(given, Mapping):
            return self._test(field, "$eq", given, depth)
        if not given:
            raise InvalidInputError(
                f"{field.name}: expected a value or operators such as {{'$eq': 1}}, found {{}}"
            )
        return joined("AND", [self._test(field, name, given[name], depth) for name in given])

    def _test(
        self, field: ColumnTests | MetadataTests, operator: Any, value: Any, depth: int
    ) -> str:
        self._count()
        where = f"{operator} of {field.name!r}"
        if operator in {"$eq", "$ne", "$in", "$nin"}:
            values = [value] if operator in {"$eq", "$ne"} else value
            if not isinstance(values, (list, tuple)):
                raise InvalidInputError(f"{where}: expected a list of values, found {value!r}")
            among = field.one_of([_scalar(each, where) for each in values], where)
            return among if operator in {"$eq", "$in"} else _negated(among)
        if operator in _ORDERED:
            if value is None or isinstance(value, bool):
                raise InvalidInputError(
                    f"{where}: expected a number or text to compare with, found {value!r}"
                )
            return field.compared(_ORDERED[operator], _scalar(value, where), where)
        if operator == "$contains":
            return field.contains(_scalar(value, where), where)
        if operator == "$exists":
            if not isinstance(value, bool):
                raise InvalidInputError(f"{where}: expected True or False, found {value!r}")
            return field.exists() if value else _negated(field.exists())
        if operator == "$not":
            if not isinstance(value, Mapping):
                raise InvalidInputError(
                    f"{where}: expected operators such as {{'$gt': 1}}, found {value!r}"
                )
            return _negated(self._tests(field, value, depth + 1))
        raise _unknown(operator)

    def bind(self, value: Any) -> None:
        self.parameters.append(json.dumps(value))

    def _count(self) -> None:
        self._conditions += 1
        if self._conditions > _MOST_CONDITIONS:
            raise InvalidInputError(
                f"where: expected at most {_MOST_CONDITIONS} conditions, found more; $in takes "
                f"many values at once"
            )


def _scalar(value: Any, where: str) -> Any:
    """Return a value that can be compared with, or raise."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) <= sys.float_info.max:  # no NaN is
        return value
    if is_text(value) and "\0" not in value:
        return value
    raise InvalidInputError(
        f"{where}: expected text (Unicode, without NUL), a finite number, True, False or None, "
        f"found {value!r}"
    )


def _negated(condition: str) -> str:
    return f"({condition}) IS NOT TRUE"  # NOT would leave NULL as it is


def _check_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise InvalidInputError(
            f"where: expected at most {_DEEPEST} levels of nesting, found more; join conditions "
            f"in one $and or $or"
        )


def _unknown(found: Any) -> InvalidInputError:
    return InvalidInputError(
        f"where: expected a field or one of the operators {', '.join(_OPERATORS)}, found {found!r}"
    )
