"""What can be read of a gallery that may be damaged: row by row, and as far as the files go."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.database import at_any_rate, legible, patiently
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.rows import COLUMNS, item_of, row_checksum
from imgret.galleries.local.store import CATALOG, PROJECTION, Store, vectors_path
from imgret.galleries.local.vectors import checksums
from imgret.galleries.report import Damage
from imgret.projections import LinearProjection
from imgret.support.items import check_item
from imgret.types import Item, Json

__all__ = ["Good", "Salvage", "rewrite", "salvage_of"]

_CHUNK = 1000
_ADD_AGAIN = "a repair removes the item; `imgret index` with the folder of its image adds it again"


class Good(NamedTuple):
    """Some items whose rows and vectors are sound.

    Attributes
    ----------
    items : list of Item
    vectors : array of shape (n, dim)
        As they are stored.
    """

    items: list[Item]
    vectors: NDArray[Any]


class Salvage:
    """The items of a gallery, read without relying on anything but their own checksums.

    Parameters
    ----------
    catalog, vectors : Path
        Files of the gallery.
    dim : int
    dtype : dtype
        How vectors are stored.

    Attributes
    ----------
    damages : list of Damage
        What was found by `good`.
    rows : int
        Number of ids given out so far, as far as that can be known; of `good`.
    """

    def __init__(self, catalog: Path, vectors: Path, dim: int, dtype: np.dtype[Any]) -> None:
        self._catalog, self._vectors = catalog, vectors
        self._dim, self._dtype = dim, dtype
        self._keys: set[str] = set()
        self.rows = 0
        self.damages: list[Damage] = []

    def filter_fields(self) -> list[str]:
        """Return the fields that have an index for filters, if that can be read."""
        with suppress(sqlite3.Error), self._connected() as db:
            rows = db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'filter:%'")
            return [name.partition(":")[2] for (name,) in rows]
        return []

    def good(self) -> Iterator[Good]:
        """Yield the live items that are sound, by id."""
        with ExitStack() as open_:
            try:
                db = open_.enter_context(self._connected())
                there = {str(name) for _, name, *_ in db.execute("PRAGMA table_info(items)")}
                self.rows = bound = self._bound(db)
            except sqlite3.Error as error:
                self._report(f"it cannot be read ({error})", "restore it from a copy")
                return
            columns = [name if name in there else "NULL" for name in COLUMNS.split(", ")]
            checked = "row_crc" in there
            selected = (
                f"id, {', '.join(columns)}, crc, removed_at, {'row_crc' if checked else 'NULL'}"
            )
            file = None
            with suppress(OSError):
                file = open_.enter_context(self._vectors.open("rb"))
            missing = 0
            for start in range(0, bound, _CHUNK):
                stop = min(start + _CHUNK, bound)
                rows = _rows(self._catalog, db, selected, start, stop)
                missing += stop - start - len(rows)
                yield self._good_of([row for row in rows if self._is_live(row, checked)], file)
        if missing:
            self._report(
                f"{missing:,} rows are missing or cannot be read",
                "a repair keeps the others; `imgret index` with the folders of the images adds "
                "what is missing",
                item={"sound": False},
            )

    # -- inside --------------------------------------------------------------------------

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            catalog = legible(self._catalog, Path(folder) / CATALOG)
            with closing(at_any_rate(catalog)) as db:
                yield db

    def _bound(self, db: sqlite3.Connection) -> int:
        """Return the bound of the ids to look for.

        One wrong number must not make this look for billions of rows, nor end too early.
        """
        width = self._dim * self._dtype.itemsize
        stored = self._vectors.stat().st_size // width if self._vectors.exists() else 0
        stated = []
        for query in ("SELECT rows FROM counts", "SELECT max(id) + 1 FROM items"):
            with suppress(sqlite3.Error, TypeError, ValueError):
                stated.append(int(db.execute(query).fetchone()[0]))
        fitting = [number for number in stated if 0 <= number <= stored]
        return max(fitting) if fitting else max(0, min(stated, default=stored))

    def _is_live(self, row: tuple[Any, ...], checked: bool) -> bool:  # noqa: FBT001  # of the caller
        """Whether a row is sound and not removed; what is not sound is reported."""
        *_, removed_at, stored = row
        try:
            if checked:
                # Zero for a live item, else one more than the change that has removed it.
                beyond: int = stored - row_checksum(row)
                if beyond == 0 or beyond - 1 == removed_at:
                    return not beyond
            else:
                check_item(item_of(row))
                return removed_at is None
        except (AttributeError, TypeError, ValueError, RecursionError, InvalidInputError):
            pass
        self._report(
            f"row {row[0]} is not what was stored",
            _ADD_AGAIN,
            key=str(row[1]),
            item=_read_of(row, sound=False),
        )
        return False

    def _good_of(self, rows: list[tuple[Any, ...]], file: BinaryIO | None) -> Good:
        """Return those of some live rows whose vectors are sound."""
        items: list[Item] = []
        vectors: list[NDArray[Any]] = []
        stored = _stored(file, [row[0] for row in rows], self._dim * self._dtype.itemsize)
        for row, vector in zip(rows, stored, strict=True):
            item, problem, part = item_of(row), None, "catalog"
            if item.key in self._keys:
                problem = f"row {row[0]} has the key of another item"
            elif vector is None or zlib.crc32(vector) != row[-3]:
                part = "vectors"
                problem = f"the vector in row {row[0]} is {'damaged' if vector else 'missing'}"
            if problem is None and vector is not None:
                self._keys.add(item.key)
                items.append(item)
                vectors.append(np.frombuffer(vector, self._dtype))
            else:
                read = _read_of(row, sound=True)
                self._report(str(problem), _ADD_AGAIN, part=part, key=item.key, item=read)
        return Good(items, np.array(vectors, self._dtype).reshape(len(vectors), self._dim))

    def _report(
        self,
        what: str,
        remedy: str,
        *,
        part: str = "catalog",
        key: str | None = None,
        item: Json | None = None,
    ) -> None:
        self.damages.append(Damage(part, what, remedy, key, item))


def salvage_of(path: Path, manifest: Manifest) -> Salvage:
    """Return what reads the items of a gallery one by one."""
    stored = np.dtype(manifest.dtype).newbyteorder("<")
    return Salvage(path / CATALOG, vectors_path(path, manifest), manifest.dim, stored)


def rewrite(path: Path, new: Path, manifest: Manifest, salvage: Salvage) -> None:
    """Write the items of a gallery that are sound into a new directory, without removed ones."""
    kept = 0
    with (
        closing(Catalog(new / CATALOG)) as catalog,
        vectors_path(new, manifest).open("wb") as vectors,
    ):
        for good in salvage.good():
            if good.items:
                catalog.add(good.items, checksums(good.vectors))
                vectors.write(good.vectors.data)
                kept += len(good.items)
        for field in salvage.filter_fields():
            catalog.create_filter_index(field)
    if manifest.projection is not None:
        for file in Store.projection_files(path):
            if file.exists() and LinearProjection.load(file).fingerprint == manifest.projection:
                shutil.copyfile(file, new / PROJECTION)
    manifest.with_(dropped=manifest.dropped + max(0, salvage.rows - kept)).write(new)


def _rows(
    path: Path, db: sqlite3.Connection, selected: str, start: int, stop: int
) -> list[tuple[Any, ...]]:
    """Return the rows with ids in a range that can be read.

    Each id has a row. One that a scan does not reach may still be found by its id.
    """
    alone = stop - start == 1
    which = "id = ?" if alone else "id BETWEEN ? AND ? ORDER BY id"
    values = (start,) if alone else (start, stop - 1)
    statement = f"SELECT {selected} FROM items NOT INDEXED WHERE {which}"  # noqa: S608  # names of columns
    rows: list[tuple[Any, ...]] = []
    with suppress(sqlite3.Error):
        rows = patiently(lambda: db.execute(statement, values).fetchall(), path)
    if alone or len(rows) == stop - start:
        return rows
    middle = (start + stop) // 2
    return [
        *_rows(path, db, selected, start, middle),
        *_rows(path, db, selected, middle, stop),
    ]


def _stored(file: BinaryIO | None, ids: list[int], width: int) -> list[bytes | None]:
    """Return the stored bytes of increasing ids; None beyond the end of the file."""
    if file is None or not ids:
        return [None] * len(ids)
    file.seek(ids[0] * width)
    data = file.read((ids[-1] - ids[0] + 1) * width)
    parts = [data[(id_ - ids[0]) * width :][:width] for id_ in ids]
    return [part if len(part) == width else None for part in parts]


def _read_of(row: tuple[Any, ...], *, sound: bool) -> Json:
    """Return what is left of an item, for people to read."""
    path, label, metadata = row[2], row[11], row[12]
    return {"sound": sound, "path": path, "label": label, "metadata": metadata}
