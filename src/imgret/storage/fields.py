"""What a filter can ask of a field, as conditions of SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

from imgret.errors import InvalidInputError
from imgret.storage.item import is_text

__all__ = [
    "FIELDS",
    "ColumnTests",
    "Kind",
    "MetadataField",
    "MetadataTests",
    "joined",
    "metadata_field",
]

Kind: TypeAlias = Literal["number", "text"]

# Fields of every item that are no metadata.
FIELDS = ("key", "label", "path")
_TYPES = {"number": "('integer', 'real')", "text": "('text')"}
# A bound JSON value is read by the code that reads the stored one: equal numbers stay equal.
_GIVEN = "json_extract(?, '$')"
_LISTED = "(SELECT value FROM json_each(?))"


class MetadataField(NamedTuple):
    """A field of the metadata.

    Attributes
    ----------
    name : str
        As the user writes it: dots descend into nested objects.
    """

    name: str

    @property
    def path(self) -> str:
        """Its JSON path, as a literal of SQL."""
        quoted = "".join(f'."{part}"' for part in self.name.split("."))
        return "'$" + quoted.replace("'", "''") + "'"

    @property
    def value(self) -> str:
        """Expression of its value: what an index on the field is made of."""
        return f"json_extract(metadata, {self.path})"

    @property
    def type(self) -> str:
        """Expression of its JSON type; NULL where an item has no such field."""
        return f"json_type(metadata, {self.path})"

    def is_a(self, kind: Kind) -> str:
        """Return the condition that the value is of a kind."""
        return f"{self.type} IN {_TYPES[kind]}"


def metadata_field(name: str) -> MetadataField:
    """Return the field of this name.

    Raises
    ------
    InvalidInputError
        No metadata can be reached by it.
    """
    if not is_text(name) or not all(name.split(".")) or re.search(r'["\\\x00-\x1f]', name):
        raise InvalidInputError(
            f"where: expected the name of a field (words joined by dots, without quotes, "
            f"backslashes and control characters), found {name!r}"
        )
    return MetadataField(name)


class ColumnTests:
    """Conditions on text, NULL where an item has none: the key, the label or the path.

    Values are bound in the order in which their question marks are written.
    """

    def __init__(self, name: str, bind: Callable[[Any], None]) -> None:
        self.name = name
        self._bind = bind

    def one_of(self, values: list[Any], where: str) -> str:
        """Say that it is one of some values; None is that there is none."""
        texts = [self._text(value, where) for value in values if value is not None]
        parts = [f"{self.name} IS NULL"] if len(texts) < len(values) else []
        if texts:
            parts.append(self._among(texts))
        return joined("OR", parts)

    def _among(self, texts: list[str]) -> str:
        if len(texts) == 1:
            self._bind(texts[0])
            return f"{self.name} = {_GIVEN}"
        self._bind(texts)
        return f"{self.name} IN {_LISTED}"

    def compared(self, sign: str, value: Any, where: str) -> str:
        """Say that it is smaller or larger than a value."""
        self._bind(self._text(value, where))
        return f"{self.name} {sign} {_GIVEN}"

    def exists(self) -> str:
        """Say that there is one."""
        return f"{self.name} IS NOT NULL"

    def contains(self, value: Any, where: str) -> str:
        """Say that it holds a value: text in text."""
        self._bind(self._text(value, where))
        return f"instr({self.name}, {_GIVEN}) > 0"

    def _text(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise InvalidInputError(
                f"{where}: expected text, which the {self.name} of an item is, found {value!r}"
            )
        return value


class MetadataTests:
    """Conditions on a JSON value, which an item may not have."""

    def __init__(self, field: MetadataField, bind: Callable[[Any], None]) -> None:
        self.name = field.name
        self.ordered: list[Kind] = []  # kinds it was compared with by order
        self._field = field
        self._bind = bind

    def one_of(self, values: list[Any], where: str) -> str:  # noqa: ARG002  # as of a column
        """Say that it is one of some values; None is that there is none."""
        # A missing field and a null are both NULL. Of true and false SQLite makes 1 and 0, and
        # of lists and objects text, which is why the type is asked for, too.
        field = self._field
        parts = [f"{field.value} IS NULL"] if None in values else []
        parts += [
            f"({field.value} = {int(each)} AND {field.type} = '{str(each).lower()}')"
            for each in (False, True)
            if any(value is each for value in values)
        ]
        for kind in ("number", "text"):
            some = [value for value in values if _kind(value) == kind]
            if some:
                parts.append(f"({self._among(some)} AND {field.is_a(kind)})")
        return joined("OR", parts)

    def _among(self, values: list[Any]) -> str:
        if len(values) == 1:
            self._bind(values[0])
            return f"{self._field.value} = {_GIVEN}"
        self._bind(values)
        return f"{self._field.value} IN {_LISTED}"

    def compared(self, sign: str, value: Any, where: str) -> str:  # noqa: ARG002  # as of a column
        """Say that it is smaller or larger than a value."""
        kind = _kind(value)
        if kind is None:  # _test has seen to that
            raise TypeError(value)
        self.ordered.append(kind)
        self._bind(value)
        return f"({self._field.value} {sign} {_GIVEN} AND {self._field.is_a(kind)})"

    def exists(self) -> str:
        """Say that there is one."""
        return f"{self._field.type} IS NOT NULL"

    def contains(self, value: Any, where: str) -> str:  # noqa: ARG002  # as of a column
        """Say that it holds a value: text in text, an element in a list."""
        kind, field = _kind(value), self._field
        if kind is None:
            name = {None: "null", True: "true", False: "false"}[value]
            return self._has_element(f"type = '{name}'")
        self._bind(value)
        element = self._has_element(f"value = {_GIVEN} AND type IN {_TYPES[kind]}")
        if kind == "number":
            return element
        self._bind(value)
        return f"({element} OR ({field.is_a('text')} AND instr({field.value}, {_GIVEN}) > 0))"

    def _has_element(self, condition: str) -> str:
        each = f"json_each(metadata, {self._field.path})"
        return f"({self._field.type} = 'array' AND EXISTS (SELECT 1 FROM {each} WHERE {condition}))"  # noqa: S608  # values are bound


def _kind(value: Any) -> Kind | None:
    if isinstance(value, str):
        return "text"
    return None if value is None or isinstance(value, bool) else "number"


def joined(word: str, parts: Iterable[str]) -> str:
    """Join conditions; none of them are all true, and none of them is true."""
    listed = list(parts)
    if not listed:
        return "1" if word == "AND" else "0"
    return listed[0] if len(listed) == 1 else f"({f' {word} '.join(listed)})"
