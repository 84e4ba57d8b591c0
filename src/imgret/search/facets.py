"""Facets: the fields that items have, with the values that occur and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imgret.search.view import View
from imgret.types import Json

__all__ = ["Facet", "count_facets"]


@dataclass(frozen=True, slots=True)
class Facet:
    """One field of the items.

    Attributes
    ----------
    field : str
        ``"label"``, or a name in the metadata; dots separate nested ones.
    items : int
        Number of items that have the field.
    values : tuple of (value, int)
        The most frequent values and their number of items, most frequent first. Empty if
        nearly every item has a value of its own, as with measured numbers.
    distinct : int
        Number of different values.
    least, most : float or None
        Range of the numbers in the field; None if it holds none.
    """

    field: str
    items: int
    values: tuple[tuple[Any, int], ...]
    distinct: int
    least: float | None = None
    most: float | None = None

    def to_dict(self) -> Json:
        """Return the attributes as JSON values."""
        return {
            "field": self.field,
            "items": self.items,
            "values": [{"value": value, "items": n} for value, n in self.values],
            "distinct": self.distinct,
            "least": self.least,
            "most": self.most,
        }


def count_facets(view: View, most: int = 100) -> list[Facet]:
    """Count the values of each field; the label is first, then fields by name.

    Parameters
    ----------
    view : View
    most : int
        Maximum number of values per field.
    """
    counts: dict[str, Counter[tuple[str, Any]]] = {}
    for item in view.items():
        if item.label is not None:
            counts.setdefault("label", Counter())[_typed(item.label)] += 1
        for field, value in _flat(item.metadata):
            counts.setdefault(field, Counter())[_typed(value)] += 1
    fields = sorted(counts, key=lambda field: (field != "label", field))
    return [_facet(field, counts[field], most) for field in fields]


def _flat(metadata: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields with a single value, and those values."""
    for name, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, (str, bool, int, float)):
            yield f"{before}{name}", value


def _typed(value: Any) -> tuple[str, Any]:
    """Return a key that tells ``True`` from 1, which Python takes for equal."""
    return type(value).__name__, value


def _facet(field: str, counts: Counter[tuple[str, Any]], most: int) -> Facet:
    numbers = [value for kind, value in counts if kind in {"int", "float"}]
    items = sum(counts.values())
    listed = len(counts) <= most or 2 * len(counts) <= items
    return Facet(
        field=field,
        items=items,
        values=tuple((value, n) for (_, value), n in counts.most_common(most)) if listed else (),
        distinct=len(counts),
        least=min(numbers, default=None),
        most=max(numbers, default=None),
    )
