"""Filters as expressions of Milvus.

Servers differ in what they make of a JSON value that is missing, null or of another kind, and their
language cannot say everything that a filter can. So an expression lets through every item that
passes the filter, and perhaps more; `Expression.exact` says whether more is possible. What comes
back is then checked with `imgret.filters.passes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

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
)

__all__ = ["ALL", "Expression", "compile_filter", "in_list", "literal"]

# From here on whole numbers and floats cannot be told apart by all servers.
_LARGE = 2**53
# Values of a list that are written one by one, as JSON fields need.
_LISTED = 64
# Columns that may be missing, and the field that says whether an item has them.
_PRESENT = {"label": "labelled", "path": "has_path"}
# What has a meaning of its own in a path or in a pattern.
_IN_PATHS, _IN_PATTERNS = frozenset("\"'\\[]~/\n\r\t"), frozenset("%_\\\"'\n\r\t")


class Expression(NamedTuple):
    """A filter as an expression of Milvus.

    Attributes
    ----------
    text : str
        Expression over the fields of a collection; empty for all items.
    exact : bool
        Whether only items pass that pass the filter.
    """

    text: str
    exact: bool


ALL = Expression("", exact=True)
_ANY = Expression("", exact=False)
_NONE = Expression("id < 0", exact=True)  # ids are positive


def compile_filter(where: Filter, *, substrings: bool) -> Expression:
    """Turn a parsed filter into an expression.

    Parameters
    ----------
    where : Filter
    substrings : bool
        Whether the server finds a text inside another: since 2.4.
    """
    return _compiled(where, substrings=substrings, negated=False)


def literal(value: str) -> str:
    """Return a text as it is written in an expression."""
    for plain, written in (
        ("\\", "\\\\"),
        ('"', '\\"'),
        ("\n", "\\n"),
        ("\r", "\\r"),
        ("\t", "\\t"),
    ):
        value = value.replace(plain, written)
    return f'"{value}"'


def in_list(field: str, values: Iterable[str | int]) -> str:
    """Return the expression that a field has one of some values."""
    listed = (literal(value) if isinstance(value, str) else str(value) for value in values)
    return f"{field} in [{', '.join(listed)}]"


def _compiled(where: Filter, *, substrings: bool, negated: bool) -> Expression:
    """Return the expression of a filter, or of its contrary: a superset of either."""
    match where:
        case AllOf(parts) | AnyOf(parts):
            compiled = [_compiled(part, substrings=substrings, negated=negated) for part in parts]
            return _all(compiled) if isinstance(where, AllOf) != negated else _any(compiled)
        case Not(part):
            return _compiled(part, substrings=substrings, negated=not negated)
        case OneOf() | Compare() | Exists() | Contains() if where.field.is_column:
            return _column(where, substrings=substrings, negated=negated)
        case _:
            return _metadata(where, substrings=substrings, negated=negated)


# -- fields of every item --------------------------------------------------------------------------


def _column(
    where: OneOf | Compare | Exists | Contains, *, substrings: bool, negated: bool
) -> Expression:
    """Return the expression of a condition on key, label or path, none of which is null."""
    name = where.field.name
    present = f"{_PRESENT[name]} == true" if name in _PRESENT else "id >= 0"
    match where:
        case Exists():
            text = present
        case Compare(_, sign, value):
            text = f"({present} and {name} {sign} {literal(value.value)})"
        case OneOf(_, values):
            texts = [value.value for value in values if value.kind == "text"]
            parts = [f"({present} and {in_list(name, texts)})"] if texts else []
            if any(value.kind == "null" for value in values):
                parts.append(f"not ({present})")
            text = " or ".join(parts) or _NONE.text
        case Contains(_, value):
            pattern = _pattern(value.value, substrings=substrings)
            if negated or pattern is None:
                return _ANY
            return Expression(f"({present} and {name} like {pattern})", exact=False)
    return Expression(f"not ({text})" if negated else f"({text})", exact=True)


# -- metadata --------------------------------------------------------------------------------------


def _metadata(
    where: OneOf | Compare | Exists | Contains, *, substrings: bool, negated: bool
) -> Expression:
    path = _path(where.field)
    if path is None:
        return _ANY
    match where:
        case Exists() if negated:
            text = f"(not (exists {path}))"
        case Exists():
            text = f"((exists {path}) or nulls == true)"  # where there is null, servers differ
        case OneOf(_, values):
            return _one_of(path, values, negated=negated)
        case Compare() | Contains() if negated:
            return _ANY  # a value of another kind is neither smaller nor larger
        case Compare(_, sign, value):
            if value.kind == "number" and abs(value.value) >= _LARGE:
                text = f"(exists {path})"
            else:
                text = f"{path} {sign} {_written(value)}"
        case Contains(_, value):
            text = _contains(path, value, substrings=substrings)
    return Expression(text, exact=False)


def _one_of(path: str, values: tuple[Value, ...], *, negated: bool) -> Expression:
    null = any(value.kind == "null" for value in values)
    given = [value for value in values if value.kind != "null"]
    unclear = len(given) > _LISTED or any(_is_large(value) for value in given)
    if negated:
        # Missing values pass unless null is listed; some servers then say neither yes nor no.
        if unclear or null or not given:
            return Expression(f"(exists {path})", exact=False) if null else _ANY
        equal = " or ".join(f"{path} == {_written(value)}" for value in given)
        # Some take true for 1 and false for 0.
        twins = [twin for value in given if (twin := _twin(value))]
        others = "".join(f" or {path} == {twin}" for twin in twins)
        return Expression(f"(not ({equal}) or (not (exists {path})){others})", exact=False)
    parts = [f"(exists {path})"] if unclear else [f"{path} == {_written(value)}" for value in given]
    if null:
        parts.append(f"(not (exists {path})) or nulls == true")
    if not parts:
        return _NONE
    return Expression(f"({' or '.join(parts)})", exact=False)


def _contains(path: str, value: Value, *, substrings: bool) -> str:
    if _is_large(value) or _written(value).startswith("-"):
        return f"(exists {path})"  # Milvus Lite takes no sign in a call
    listed = f"json_contains({path}, {_written(value)})"
    if value.kind != "text":
        return listed if value.kind != "null" else f"(exists {path})"
    pattern = _pattern(value.value, substrings=substrings)
    return f"(exists {path})" if pattern is None else f"({listed} or {path} like {pattern})"


def _path(field: Field) -> str | None:
    """Return a metadata field as a path; None for a name that servers read differently."""
    for part in field.parts:
        if not part or part == "-" or part.isdigit() or _IN_PATHS & set(part):
            return None
    return "metadata" + "".join(f'["{part}"]' for part in field.parts)


def _pattern(text: str, *, substrings: bool) -> str | None:
    if not substrings or not text or _IN_PATTERNS & set(text):
        return None
    return f'"%{text}%"'


def _written(value: Value) -> str:
    if value.kind == "bool":
        return "true" if value.value else "false"
    return literal(value.value) if value.kind == "text" else repr(value.value)


def _twin(value: Value) -> str | None:
    if value.kind == "bool":
        return "1" if value.value else "0"
    if value.kind == "number" and value.value in {0, 1}:
        return "true" if value.value else "false"
    return None


def _is_large(value: Value) -> bool:
    return value.kind == "number" and abs(value.value) >= _LARGE


# -- several conditions ----------------------------------------------------------------------------


def _all(parts: list[Expression]) -> Expression:
    texts = [part.text for part in parts if part.text]
    exact = all(part.exact for part in parts)
    return Expression(texts[0] if len(texts) == 1 else _joined("and", texts), exact)


def _any(parts: list[Expression]) -> Expression:
    if not parts:
        return _NONE
    exact = all(part.exact for part in parts)
    if any(not part.text for part in parts):
        return Expression("", exact)
    return Expression(_joined("or", [part.text for part in parts]), exact)


def _joined(word: str, texts: list[str]) -> str:
    return f"({f' {word} '.join(texts)})" if texts else ""
