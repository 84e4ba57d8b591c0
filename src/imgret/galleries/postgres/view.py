"""Views of a gallery in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, final

import numpy as np

from imgret.abc import GallerySpec
from imgret.filters import Filter
from imgret.filters.postgres import compile_filter
from imgret.galleries.postgres.rows import COLUMNS, IdArray, from_row, unwire, wire, wire_ids
from imgret.galleries.postgres.schema import PostgresLayout
from imgret.galleries.server import ServerView
from imgret.search import Origin
from imgret.types import Embeddings, Ids, Item, Neighbors

if TYPE_CHECKING:
    from imgret.galleries.postgres.database import PooledConnection
    from imgret.galleries.postgres.gallery import PostgresGallery

__all__ = ["Listed", "PostgresView", "Status"]

# Rows read at once.
_ROWS = 8192
# Candidates beyond k that are compared again with the query as it was given: the first comparison
# rounds the query to float16 where the items are.
_SPARE = 16
# Candidates beyond k in a graph of which only some items pass: what it meets first is not the best.
_SPARE_OF_SOME = 64
# Number of items that pass a filter up to which all of them are compared, by their ids.
_LISTED = 10_000
# Lists of such ids that are remembered.
_KEPT = 16
# Hits whose items come with the answer of a search.
_WITH_ITEMS = 2048
# Columns of an answer before those of the item.
_HEAD = 5


# A row of an answer: id, score, number of items, of changes and of the revision, and `COLUMNS`.
_Row: TypeAlias = tuple[Any, ...]


class Status(NamedTuple):
    """What an answer says of the gallery at that moment."""

    items: int
    changes: int
    revision: int

    @classmethod
    def of(cls, row: _Row) -> Status:
        """Return what a row says."""
        return cls(*row[2:5])


class Listed(NamedTuple):
    """The ids that pass a filter, as of a number of changes; None if there are many."""

    changes: int
    ids: IdArray | None


@final
class PostgresView(ServerView):
    """The items of a gallery that pass a filter, except for some.

    Parameters
    ----------
    gallery : PostgresGallery
    read : callable
        Runs a function with a connection: one of a pool, or one with a snapshot.
    spec : GallerySpec
    where : Filter or None
    without : sequence of int
        Ids of items that are left out, increasing.
    """

    def __init__(
        self,
        gallery: PostgresGallery,
        read: Callable[[Callable[[PooledConnection], Any]], Any],
        spec: GallerySpec,
        where: Filter | None,
        without: Sequence[int] = (),
    ) -> None:
        layout = PostgresLayout.of(spec)
        super().__init__(gallery, spec, layout, where, without)
        self._gallery, self._read_by, self._layout = gallery, read, layout
        conditions, self._parameters = [], list[Any]()
        if where is not None:
            condition = compile_filter(where)
            conditions.append(f"({condition.sql})")
            self._parameters += condition.parameters
        if self._removed:
            conditions.append("id <> ALL(%s)")
            self._parameters.append(wire_ids(self._removed))
        self._condition = " AND ".join(conditions) or "true"
        self._is_whole = not conditions

    # -- what is in it -----------------------------------------------------------------------

    def __len__(self) -> int:
        if self._is_whole:
            return int(self._rows("SELECT items FROM state")[0][0])
        return int(self._select("count(*)", ordered=False)[0][0])

    def _ids(self) -> Ids:
        rows = self._select("id")
        return np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))

    def _keys(self) -> Iterable[str]:
        return [row[0] for row in self._select("key")]

    def _ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        rows = self._rows(
            f"SELECT key, id FROM items WHERE key = ANY(%s::text[]) AND {self._condition}",
            [list(keys), *self._parameters],
        )
        return dict(rows)

    def _look_up(self, ids: Sequence[int]) -> dict[int, Item]:
        rows = self._rows(f"SELECT id, {COLUMNS} FROM items WHERE id = ANY(%s)", [wire_ids(ids)])
        return {row[0]: from_row(row[1:]) for row in rows}

    def _origins(self) -> Iterator[Origin]:
        return map(Origin._make, self._stream("id, path, sha256, label"))

    def _label_of(self) -> Iterable[tuple[int, str]]:
        return self._select("id, label")

    def _like(self, where: Filter | None, without: Sequence[int]) -> Self:
        view = type(self)(self._gallery, self._read_by, self._spec, where, without)
        view.value = self.value
        return view

    def _vectors(self, ids: Ids) -> tuple[list[int], Embeddings]:
        rows = self._rows(
            "SELECT id, embedding FROM items WHERE id = ANY(%s) ORDER BY id", [wire_ids(ids)]
        )
        return [row[0] for row in rows], unwire([row[1] for row in rows], self.dim)

    # -- searching ---------------------------------------------------------------------------

    def _answer(self, vectors: Embeddings, k: int, *, exact: bool) -> Neighbors:
        queries = wire(vectors, "float32")
        found = self._among_listed(queries, k) if not (exact or self._is_whole) else None
        if found is None:
            found = [[]] * len(queries)
            for way in self._ways(k, exact=exact):
                short = [n for n, rows in enumerate(found) if len(rows) < k]
                if not short:
                    break
                answers = self._answers([queries[n] for n in short], k, way)
                for n, rows in zip(short, answers, strict=True):
                    found[n] = rows
        ids: Ids = np.full((len(found), k), -1, dtype=np.int64)
        scores: Embeddings = np.full((len(found), k), -np.inf, dtype=np.float32)
        last = None
        for n, rows in enumerate(found):
            if rows:
                last = rows[-1]
                ids[n, : len(rows)] = [row[0] for row in rows]
                scores[n, : len(rows)] = [row[1] for row in rows]
                if len(last) > _HEAD:
                    self._fetched.update((row[0], from_row(row[_HEAD:])) for row in rows)
        self._gallery.note(None if last is None else Status.of(last))
        return Neighbors(ids, scores)

    def _ways(self, k: int, *, exact: bool) -> list[str]:
        """Return how to search, quickest first; the next is for queries with too few hits.

        A graph ends its search with the candidates it has, of which some may be deleted, or goes on
        until enough pass. That also ends early if most of what it meets does not pass.
        """
        if exact:
            return ["exact"]
        wanted = k + self._spare(k, exact=False)
        enough = self._is_whole and wanted <= self.value
        return [*(["off"] if enough else []), "relaxed_order", "exact"]

    def _spare(self, k: int, *, exact: bool) -> int:
        """Return how many candidates beyond ``k`` are compared again."""
        if not (exact or self._is_whole):
            return max(_SPARE_OF_SOME, k)
        is_same = self._layout.dtype == "float32" and self._layout.searched == "embedding"
        return 0 if is_same else _SPARE

    def _among_listed(self, queries: Sequence[Any], k: int) -> list[list[_Row]] | None:
        """Compare the items that pass the filter, if there are few; None if there are many.

        Their ids are remembered, since finding them may take longer than comparing them.
        """
        key = self._condition, repr(self._parameters)
        while True:
            listed = self._gallery.listed.get(key)
            if listed is None:
                rows = self._rows(
                    f"SELECT changes, id FROM state LEFT JOIN items ON {self._condition} LIMIT %s",
                    [*self._parameters, _LISTED + 1],
                )
                few = len(rows) <= _LISTED
                passing = [row[1] for row in rows if row[1] is not None]
                ids = wire_ids(passing) if few else None
                listed = self._gallery.listed[key] = Listed(rows[0][0], ids)
                while len(self._gallery.listed) > _KEPT:
                    self._gallery.listed.popitem(last=False)
            if listed.ids is None:
                return None
            found = self._answers(queries, k, "exact", among=listed.ids)
            now = {Status.of(rows[0]).changes for rows in found if rows}
            if now <= {listed.changes} and (now or not self._changed(listed.changes)):
                return found
            self._gallery.listed.pop(key, None)  # something was changed meanwhile

    def _changed(self, since: int) -> bool:
        return bool(self._rows("SELECT changes FROM state")[0][0] != since)

    def _answers(
        self, queries: Sequence[Any], k: int, way: str, *, among: IdArray | None = None
    ) -> list[list[_Row]]:
        """Return for each query what is nearest, best first."""
        condition, values = self._condition, self._parameters
        if among is not None:
            condition, values = "id = ANY(%s)", [among]
        exact = way == "exact"
        with_items = k * len(queries) <= _WITH_ITEMS
        statement = self._nearest(condition, k, exact=exact, with_items=with_items)
        parameters = [(query, *values, query) for query in queries]
        options = self.value, way

        def work(connection: PooledConnection) -> list[list[_Row]]:
            if not exact and connection.graph_options != options:
                connection.execute(
                    "SELECT set_config('hnsw.ef_search', %s, false), "
                    "set_config('hnsw.iterative_scan', %s, false)",
                    (str(self.value), way),
                )
                connection.graph_options = options
            if exact or self._is_whole:
                return _all_rows(connection, statement, parameters)
            # The planner has no idea how many items pass, but that is known here: too many to
            # compare. An index that is in order already is the only way without sorting.
            with connection.pipeline(), connection.transaction():
                connection.execute("SELECT set_config('enable_sort', 'off', true)")
                answers = _all_rows(connection, statement, parameters)
                connection.execute("SELECT set_config('enable_sort', 'on', true)")
            return answers

        answers: list[list[_Row]] = self._read_by(work)
        return answers

    def _nearest(self, condition: str, k: int, *, exact: bool, with_items: bool) -> str:
        """Return the statement for the nearest items, with a query in its first and last place.

        The limits are part of it: of one that is bound, the planner assumes a tenth of the table,
        and plans the statement again each time.
        """
        layout, columns = self._layout, f", {COLUMNS}" if with_items else ""
        first = f"{layout.searched} {layout.operator} %s::vector::{layout.given}"
        if exact:  # an index is used for the bare distance only
            first = f"({first}) + 0, id"
        inner = (
            f"SELECT id{columns}, embedding FROM items WHERE {condition} "
            f"ORDER BY {first} LIMIT {k + self._spare(k, exact=exact)}"
        )
        stored = "embedding::vector" if layout.dtype == "float16" else "embedding"
        distance = f"({stored} {layout.operator} %s::vector)"
        score = {"<=>": f"1 - {distance}", "<#>": f"-{distance}", "<->": f"-({distance} ^ 2)"}
        return (
            f"SELECT id, ({score[layout.operator]})::float4 AS score, "
            f"(SELECT items FROM state), (SELECT changes FROM state), "
            f"(SELECT revision FROM spec){columns} FROM ({inner}) AS near "
            f"ORDER BY score DESC, id LIMIT {k}"
        )

    # -- statements --------------------------------------------------------------------------

    def _rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._read_by(
            lambda connection: connection.execute(statement, parameters, binary=True).fetchall()
        )
        return rows

    def _select(self, columns: str, *, ordered: bool = True) -> list[tuple[Any, ...]]:
        order = " ORDER BY id" if ordered else ""
        return self._rows(
            f"SELECT {columns} FROM items WHERE {self._condition}{order}", self._parameters
        )

    def _stream(self, columns: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows by id, of which the first column is one, some thousands at a time."""
        last = -1
        while rows := self._rows(
            f"SELECT {columns} FROM items WHERE id > %s AND {self._condition} ORDER BY id LIMIT %s",
            [last, *self._parameters, _ROWS],
        ):
            yield from rows
            last = rows[-1][0]


def _all_rows(
    connection: PooledConnection, statement: str, parameters: Sequence[tuple[Any, ...]]
) -> list[list[_Row]]:
    """Return the rows of a statement for each of several parameters, in one round trip."""
    with connection.cursor(binary=True) as cursor:
        if len(parameters) == 1:
            return [cursor.execute(statement, parameters[0]).fetchall()]
        cursor.executemany(statement, parameters, returning=True)
        return [cursor.fetchall() for _ in cursor.results()]
