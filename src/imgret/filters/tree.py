"""A parsed filter: a tree that can be compared, hashed and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = [
    "COLUMNS",
    "AllOf",
    "AnyOf",
    "Compare",
    "Contains",
    "Exists",
    "Field",
    "Filter",
    "Kind",
    "Not",
    "OneOf",
    "Sign",
    "Value",
    "leaves",
]

Kind: TypeAlias = Literal["null", "bool", "number", "text"]
Sign: TypeAlias = Literal[">", ">=", "<", "<="]

COLUMNS = ("key", "label", "path")
"""Fields of every item that are not metadata."""


class Field(NamedTuple):
    """A field of an item: one of `COLUMNS`, or a metadata field.

    Attributes
    ----------
    name : str
        Name as the user writes it; dots descend into nested objects of the metadata.
    """

    name: str

    @property
    def is_column(self) -> bool:
        """Whether the field is one of `COLUMNS` rather than of the metadata."""
        return self.name in COLUMNS

    @property
    def parts(self) -> list[str]:
        """The name, split at its dots."""
        return self.name.split(".")


class Value(NamedTuple):
    """What a field is compared with; the kind keeps ``1`` and ``True`` apart.

    Attributes
    ----------
    kind : {"null", "bool", "number", "text"}
    value : None, bool, int, float or str
    """

    kind: Kind
    value: Any


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part passes; true without parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part passes; false without parts."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not pass."""

    part: Filter


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field equals one of the values and has its kind; null also matches a missing field."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """The field has the kind of the value, number or text, and is smaller or larger than it."""

    field: Field
    sign: Sign
    value: Value


@dataclass(frozen=True, slots=True)
class Exists:
    """The item has the field, which may be null."""

    field: Field


@dataclass(frozen=True, slots=True)
class Contains:
    """The field is text that contains the text, or a list that has an equal element."""

    field: Field
    value: Value


Leaf: TypeAlias = OneOf | Compare | Exists | Contains
Filter: TypeAlias = AllOf | AnyOf | Not | Leaf


def leaves(where: Filter) -> Iterator[Leaf]:
    """Yield the conditions on single fields, from left to right."""
    match where:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from leaves(part)
        case Not(part):
            yield from leaves(part)
        case _:
            yield where
