"""The items that pass a filter, with a cache of the last answers."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from imgret.errors import InvalidInputError
from imgret.filters.sqlite import Ordered, SqliteCondition, has_field, is_a, json_path
from imgret.filters.tree import COLUMNS, Field
from imgret.types import Ids

__all__ = ["Matcher"]

# Limits of the cached answers; the last one is always kept.
_KEPT = 64
_KEPT_BYTES = 64 * 2**20
_SHOWN = 20
# Number of items whose check costs as much as checking what one query has found.
_LISTED_FOR = 250

_Key = tuple[str, tuple[str, ...]]


class Matcher:
    """Finds the items of a catalog that pass filters, and remembers the last answers.

    Parameters
    ----------
    query : callable
        Function that runs a statement with its parameters, and returns the rows.
    """

    def __init__(self, query: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]) -> None:
        self._query = query
        self._state: object = None
        self._kept: dict[_Key, Ids] = {}  # the most recently used one is last
        self._shares: dict[_Key, float] = {}
        self._asked: dict[_Key, int] = {}  # queries so far, for filters without a list
        # Items that have a field, or a value of some kind in it. Finding one may take a scan;
        # checking that it still has the field does not.
        self._witnesses: dict[str, int] = {}

    def ids(self, condition: SqliteCondition, rows: int, changes: int, state: object) -> Ids:
        """Return the ids of live items that meet a condition: increasing, read-only.

        Parameters
        ----------
        condition : SqliteCondition
        rows, changes : int
            State that a reader sees: ids below ``rows``, without those removed up to ``changes``.
        state : object
            Value that differs whenever something may have changed.
        """
        self._forget_unless(state)
        key = condition.sql, condition.parameters
        if key in self._kept:
            self._kept[key] = ids = self._kept.pop(key)
            return ids
        self.check(condition, rows, changes)
        found = self._live(condition.sql, condition.parameters, rows, changes)
        ids = np.fromiter((row[0] for row in found), dtype=np.int64, count=len(found))
        ids.sort()
        ids.flags.writeable = False
        self._kept[key] = ids
        while len(self._kept) > _KEPT or (len(self._kept) > 1 and self._bytes() > _KEPT_BYTES):
            del self._kept[next(iter(self._kept))]
        return ids

    def is_listed(self, condition: SqliteCondition, asked: int, items: int, state: object) -> bool:
        """Whether `ids` has its answer cached, or enough queries have come to make it worthwhile.

        Parameters
        ----------
        condition : SqliteCondition
        asked : int
            Number of queries now.
        items : int
            Number of items to check.
        state : object
            As for `ids`.
        """
        self._forget_unless(state)
        key = condition.sql, condition.parameters
        if key in self._kept:
            return True
        if len(self._asked) >= _KEPT and key not in self._asked:
            self._asked.clear()
        self._asked[key] = self._asked.get(key, 0) + asked
        return self._asked[key] * _LISTED_FOR >= items

    def passing(
        self, condition: SqliteCondition, ids: list[int], rows: int, changes: int
    ) -> set[int]:
        """Return those of the ids whose items are live and meet a condition."""
        # NOT INDEXED, as SQLite may prefer the index of the label to looking up each id.
        found = self._query(
            "SELECT id FROM items NOT INDEXED WHERE id IN (SELECT value FROM json_each(?)) "  # noqa: S608  # as compiled
            f"AND id < ? AND (removed_at IS NULL OR removed_at > ?) AND {condition.sql}",
            (json.dumps(ids), rows, changes, *condition.parameters),
        )
        return {row[0] for row in found}

    def share(
        self, condition: SqliteCondition, sample: Ids, rows: int, changes: int, state: object
    ) -> float:
        """Return about what share of all items meets a condition, estimated from a sample.

        The other parameters are as for `ids`.
        """
        self._forget_unless(state)
        key = condition.sql, condition.parameters
        if key not in self._shares:
            self.check(condition, rows, changes)
            ids = sample.tolist()
            passing = self.passing(condition, ids, rows, changes)
            if len(self._shares) >= _KEPT:
                self._shares.clear()
            # Count two more that fail: a sample that passes does not prove that all pass.
            self._shares[key] = sum(id_ in passing for id_ in ids) / (len(ids) + 2)
        return self._shares[key]

    def check(self, condition: SqliteCondition, rows: int, changes: int) -> None:
        """Raise if a condition names a field that no item has.

        Raises
        ------
        InvalidInputError
            No item has the field; or it is compared with a number and holds text, or the other way
            round.
        """
        for field in condition.fields:
            if not self._is_there(has_field(field), rows, changes):
                raise self._unknown(field, rows, changes)
        for field, kind in condition.ordered:
            other: Ordered = "text" if kind == "number" else "number"
            if not self._is_there(is_a(field, kind), rows, changes) and self._is_there(
                is_a(field, other), rows, changes
            ):
                raise InvalidInputError(
                    f"where: expected {field.name!r} to be compared with {_NAMES[other]}, which "
                    f"is what the items hold, found {_NAMES[kind]}"
                )

    def _forget_unless(self, state: object) -> None:
        if state != self._state:
            self._state = state
            self._kept.clear()
            self._shares.clear()
            self._asked.clear()

    def _bytes(self) -> int:
        return sum(ids.nbytes for ids in self._kept.values())

    def _is_there(self, condition: str, rows: int, changes: int) -> bool:
        witness = self._witnesses.get(condition)
        if witness is not None and self._live(
            f"items.id = {witness} AND {condition}", (), rows, changes
        ):
            return True
        found = self._live(condition, (), rows, changes, "LIMIT 1")
        if found:
            self._witnesses[condition] = found[0][0]
        return bool(found)

    def _live(
        self,
        condition: str,
        parameters: Sequence[str],
        rows: int,
        changes: int,
        limit: str = "",
    ) -> list[tuple[int]]:
        # Two statements, as each has its indexes; the second finds items that were removed since
        # a reader opened.
        start = "SELECT id FROM items WHERE id < ? AND"
        return self._query(
            f"{start} removed_at IS NULL AND {condition} UNION ALL "
            f"{start} removed_at > ? AND {condition} {limit}",
            (rows, *parameters, rows, changes, *parameters),
        )

    def _unknown(self, field: Field, rows: int, changes: int) -> InvalidInputError:
        """Return the error that lists the known fields in place of an unknown one."""
        parts = field.parts
        depth = next(
            (
                n
                for n in range(1, len(parts))
                if not self._is_there(has_field(Field(".".join(parts[:n]))), rows, changes)
            ),
            len(parts),
        )
        above = parts[: depth - 1]
        path = json_path(above)
        names = [
            ".".join([*above, row[0]])
            for row in self._query(
                f"SELECT DISTINCT each.key FROM items, json_each(metadata, {path}) AS each "  # noqa: S608  # a quoted literal
                f"WHERE items.id < ? AND (removed_at IS NULL OR removed_at > ?) "
                f"AND json_type(metadata, {path}) = 'object' ORDER BY each.key",
                (rows, changes),
            )
        ]
        names = [*([] if above else COLUMNS), *names]
        near = difflib.get_close_matches(".".join(parts[:depth]), names)
        known = f"did you mean {near[0]!r}? Known fields" if near else "known fields"
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        return InvalidInputError(
            f"where: expected a field that some item has, found {field.name!r}; "
            f"{known}: {shown or 'none below ' + '.'.join(above)}"
        )


_NAMES = {"number": "a number", "text": "text"}
