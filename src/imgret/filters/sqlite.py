"""Filters as SQL conditions over the catalog of a local gallery.

Values are bound, never written into the statement. A field is written into it as a quoted literal,
since SQLite uses an index on an expression only for exactly the same expression.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

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
    Value,
    leaves,
)

__all__ = [
    "Ordered",
    "SqliteCondition",
    "column_of",
    "compile_filter",
    "has_field",
    "is_a",
    "json_path",
]

Ordered: TypeAlias = Literal["number", "text"]

_TYPES = {"number": "('integer', 'real')", "text": "('text')"}
# SQLite reads a bound JSON value like a stored one, so that equal numbers compare as equal.
_GIVEN = "json_extract(?, '$')"
_LISTED = "(SELECT value FROM json_each(?))"


class SqliteCondition(NamedTuple):
    """A filter as SQL.

    Attributes
    ----------
    sql : str
        Expression over the columns of ``items``, with a question mark for each parameter. Its
        value may be NULL, which counts as false.
    parameters : tuple of str
    fields : tuple of Field
        Metadata fields that the filter names; a field that no item has is a mistake.
    ordered : tuple of (Field, {"number", "text"})
        Metadata fields that are compared by order, and the kind they are compared with.
    """

    sql: str
    parameters: tuple[str, ...]
    fields: tuple[Field, ...]
    ordered: tuple[tuple[Field, Ordered], ...]


def compile_filter(where: Filter) -> SqliteCondition:
    """Turn a parsed filter into SQL."""
    parameters: list[str] = []
    sql = _sql(where, parameters)
    asked = [leaf for leaf in leaves(where) if not leaf.field.is_column]
    return SqliteCondition(
        sql,
        tuple(parameters),
        tuple(dict.fromkeys(leaf.field for leaf in asked)),
        tuple(
            dict.fromkeys(
                (leaf.field, _ordered(leaf.value)) for leaf in asked if isinstance(leaf, Compare)
            )
        ),
    )


def column_of(field: Field) -> str:
    """Return the SQL expression of a field's value; an index on the field has the same one."""
    return field.name if field.is_column else f"json_extract(metadata, {json_path(field.parts)})"


def json_path(parts: Iterable[str]) -> str:
    """Return the JSON path of a metadata field as an SQL literal."""
    quoted = "".join(f'."{part}"' for part in parts)
    return "'$" + quoted.replace("'", "''") + "'"


def has_field(field: Field) -> str:
    """Return the condition that an item has the field, even if its value is null."""
    return f"{column_of(field) if field.is_column else _type(field)} IS NOT NULL"


def is_a(field: Field, kind: Ordered) -> str:
    """Return the condition that a metadata field holds a number, or text."""
    return f"{_type(field)} IN {_TYPES[kind]}"


def _sql(where: Filter, parameters: list[str]) -> str:  # noqa: PLR0911  # one a kind of part
    """Return the SQL of a filter, and append its parameters in the same order."""
    match where:
        case AllOf(parts):
            return _joined("AND", [_sql(part, parameters) for part in parts])
        case AnyOf(parts):
            return _joined("OR", [_sql(part, parameters) for part in parts])
        case Not(part):
            return f"({_sql(part, parameters)}) IS NOT TRUE"  # NOT would leave NULL as it is
        case Exists(field):
            return has_field(field)
        case OneOf(field, values):
            return _one_of(field, values, parameters)
        case Compare(field, sign, value):
            compared = f"{column_of(field)} {sign} {_bound(value.value, parameters)}"
            if field.is_column:
                return compared
            return f"({compared} AND {is_a(field, _ordered(value))})"
        case Contains(field, value):
            return _contains(field, value, parameters)


def _one_of(field: Field, values: Iterable[Value], parameters: list[str]) -> str:
    # A missing field and a null are both NULL. SQLite turns true and false into 1 and 0, and
    # lists and objects into text, so the JSON type is compared as well.
    by_kind: dict[str, list[Any]] = {}
    for value in values:
        by_kind.setdefault(value.kind, []).append(value.value)
    column = column_of(field)
    parts = [f"{column} IS NULL"] if "null" in by_kind else []
    parts += [
        f"({column} = {int(each)} AND {_type(field)} = '{str(each).lower()}')"
        for each in sorted(by_kind.get("bool", []))
    ]
    kinds: tuple[Ordered, ...] = ("number", "text")
    for kind in kinds:
        if some := by_kind.get(kind):
            among = _among(column, some, parameters)
            parts.append(among if field.is_column else f"({among} AND {is_a(field, kind)})")
    return _joined("OR", parts)


def _among(column: str, values: list[Any], parameters: list[str]) -> str:
    if len(values) == 1:
        return f"{column} = {_bound(values[0], parameters)}"
    parameters.append(json.dumps(values))
    return f"{column} IN {_LISTED}"


def _contains(field: Field, value: Value, parameters: list[str]) -> str:
    column = column_of(field)
    if field.is_column:
        return f"instr({column}, {_bound(value.value, parameters)}) > 0"
    if value.kind in {"null", "bool"}:
        name = {None: "null", True: "true", False: "false"}[value.value]
        return _has_element(field, f"type = '{name}'")
    kind = _ordered(value)
    given = _bound(value.value, parameters)
    element = _has_element(field, f"value = {given} AND type IN {_TYPES[kind]}")
    if kind == "number":
        return element
    inside = f"instr({column}, {_bound(value.value, parameters)}) > 0"
    return f"({element} OR ({is_a(field, 'text')} AND {inside}))"


def _has_element(field: Field, condition: str) -> str:
    each = f"json_each(metadata, {json_path(field.parts)})"
    return f"({_type(field)} = 'array' AND EXISTS (SELECT 1 FROM {each} WHERE {condition}))"  # noqa: S608  # values are bound


def _type(field: Field) -> str:
    """Return the SQL expression of a field's JSON type; NULL if an item has no such field."""
    return f"json_type(metadata, {json_path(field.parts)})"


def _bound(value: Any, parameters: list[str]) -> str:
    parameters.append(json.dumps(value))
    return _GIVEN


def _ordered(value: Value) -> Ordered:
    return "text" if value.kind == "text" else "number"


def _joined(word: str, parts: list[str]) -> str:
    """Join conditions; without any, AND is true and OR is false."""
    if not parts:
        return "1" if word == "AND" else "0"
    return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"
