"""Filters as SQL conditions over the table of items in PostgreSQL.

Values are bound, never written into the statement. The name of a field is written into it as a
quoted literal, since PostgreSQL uses an index on an expression only for the same expression.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

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

__all__ = ["PostgresCondition", "compile_filter", "expression_of", "json_number"]

# From here on numbers are compared as float64, as everywhere.
_LARGE = 2**63
# Range of float8, beyond which a cast fails.
_FLOAT8 = "1.7e308"


class PostgresCondition(NamedTuple):
    """A filter as SQL.

    Attributes
    ----------
    sql : str
        Expression over the columns of ``items``, with ``%s`` for each parameter. Its value may be
        NULL, which counts as false.
    parameters : tuple
    fields : tuple of Field
        Metadata fields that the filter names; a field that no item has is a mistake.
    """

    sql: str
    parameters: tuple[Any, ...]
    fields: tuple[Field, ...]


def compile_filter(where: Filter) -> PostgresCondition:
    """Turn a parsed filter into SQL."""
    parameters: list[Any] = []
    sql = _sql(where, parameters)
    fields = (leaf.field for leaf in leaves(where) if not leaf.field.is_column)
    return PostgresCondition(sql, tuple(parameters), tuple(dict.fromkeys(fields)))


def expression_of(field: Field) -> str:
    """Return the SQL expression of a field's value: text of a column, jsonb of the metadata."""
    if field.is_column:
        return field.name
    return "(metadata" + "".join(f" -> '{_quoted(part)}'::text" for part in field.parts) + ")"


def json_number(value: float) -> str:
    """Return a number as JSON of which jsonb keeps the exact value, and whether it is a float.

    jsonb stores decimal digits, and writes 1e+300 as a whole number of 301 digits.
    """
    text = json.dumps(value)
    if isinstance(value, float) and "e+" in text:
        return f"{int(value)}.0"  # floats of this size are whole numbers
    return text


def _sql(where: Filter, parameters: list[Any]) -> str:  # noqa: PLR0911  # one a kind of part
    """Return the SQL of a filter, and append its parameters in the same order."""
    match where:
        case AllOf(parts):
            return _joined("AND", [_sql(part, parameters) for part in parts])
        case AnyOf(parts):
            return _joined("OR", [_sql(part, parameters) for part in parts])
        case Not(part):
            return f"({_sql(part, parameters)}) IS NOT TRUE"  # NOT would leave NULL as it is
        case Exists(field):
            return f"{expression_of(field)} IS NOT NULL"
        case OneOf(field, values):
            return _one_of(field, values, parameters)
        case Compare(field, sign, value):
            return _compare(field, sign, value, parameters)
        case Contains(field, value):
            return _contains(field, value, parameters)


def _one_of(field: Field, values: Iterable[Value], parameters: list[Any]) -> str:
    column, values = expression_of(field), list(values)
    parts = []
    if any(value.kind == "null" for value in values):
        parts.append(f"{column} IS NULL")
        if not field.is_column:
            parts.append(f"{column} = 'null'::jsonb")
    large = [value.value for value in values if _is_large(value)]
    equal = [value for value in values if value.kind != "null" and not _is_large(value)]
    if equal and field.is_column:
        parameters.append([value.value for value in equal])
        parts.append(f"{column} = ANY(%s::text[])")
    elif equal:
        # jsonb compares kinds as well: 1, true and "1" differ; 1 and 1.0 are equal.
        parameters.append([_as_json(value) for value in equal])
        parts.append(f"{column} = ANY(%s::jsonb[])")
    for value in large:
        parameters.append(float(value))
        parts.append(f"{_float8(column)} = %s::float8")
    return _joined("OR", parts)


def _compare(field: Field, sign: str, value: Value, parameters: list[Any]) -> str:
    column = expression_of(field)
    if field.is_column:
        parameters.append(value.value)
        return f"{column} {sign} %s::text"  # columns of text are in the order of code points
    if value.kind == "text":
        parameters.append(value.value)
        text = f"""({column} #>> '{{}}') COLLATE "C" {sign} %s::text"""
        return _if(column, "string", text)
    if _is_large(value):
        parameters.append(float(value.value))
        return f"{_float8(column)} {sign} %s::float8"
    parameters.append(_as_json(value))
    # jsonb sorts by kind first, so that this comparison may use an index of the field.
    return f"({column} {sign} %s::jsonb AND jsonb_typeof({column}) = 'number')"


def _contains(field: Field, value: Value, parameters: list[Any]) -> str:
    column = expression_of(field)
    if field.is_column:
        parameters.append(value.value)
        return f"strpos({column}, %s::text) > 0"
    if _is_large(value):
        parameters.append(float(value.value))
        listed = f"CASE WHEN jsonb_typeof({column}) = 'array' THEN {column} ELSE '[]'::jsonb END"
        return (
            f"EXISTS (SELECT 1 FROM jsonb_array_elements({listed}) AS element "  # bound
            f"WHERE {_float8('element')} = %s::float8)"
        )
    parameters.append(f"[{_as_json(value)}]")
    element = f"(jsonb_typeof({column}) = 'array' AND {column} @> %s::jsonb)"
    if value.kind != "text":
        return element
    parameters.append(value.value)
    inside = _if(column, "string", f"strpos({column} #>> '{{}}', %s::text) > 0")
    return f"({element} OR {inside})"


def _float8(column: str) -> str:
    """Return a stored number as float64; NULL for what is no number, infinite beyond the range."""
    number = f"({column} #>> '{{}}')::numeric"
    return (
        f"CASE WHEN jsonb_typeof({column}) <> 'number' THEN NULL "
        f"WHEN {number} > {_FLOAT8} THEN 'infinity'::float8 "
        f"WHEN {number} < -{_FLOAT8} THEN '-infinity'::float8 ELSE {number}::float8 END"
    )


def _if(column: str, kind: str, condition: str) -> str:
    """Return a condition that is evaluated for values of one JSON type only."""
    return f"(CASE WHEN jsonb_typeof({column}) = '{kind}' THEN {condition} ELSE false END)"


def _is_large(value: Value) -> bool:
    return value.kind == "number" and abs(value.value) >= _LARGE


def _as_json(value: Value) -> str:
    if value.kind == "number":
        return json_number(value.value)
    return json.dumps(value.value, ensure_ascii=False)


def _quoted(part: str) -> str:
    return part.replace("'", "''").replace("%", "%%")


def _joined(word: str, parts: list[str]) -> str:
    """Join conditions; without any, AND is true and OR is false."""
    if not parts:
        return "true" if word == "AND" else "false"
    return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"
