"""A flipped bit never changes an answer in silence; a check finds it; a repair keeps the rest."""

from __future__ import annotations

import json
import shutil
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import Retriever
from imgret.errors import (
    StoreCorruptError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreVersionError,
    UnsupportedError,
)
from imgret.galleries.local import check as checking
from imgret.galleries.local import salvage as salvaging
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.check import check_directory
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.rows import COLUMNS, SUMMED_TEXT, is_sound, row_checksum, to_row
from imgret.galleries.local.salvage import salvage_of
from imgret.galleries.local.writer_lock import LOCK, WriterLock
from imgret.galleries.report import Damage
from imgret.testing.data import Given
from imgret.types import Box, Item

N, DIM = 60, 8
LABELS = ["meadow flower", "garden flower", "forest flower"]


def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)


def make(path: Path, *, index: str, dtype: str = "float16", projected: bool = False) -> Path:
    with Retriever.open(path, "a", embedder=Given(DIM), index=index, dtype=dtype) as retriever:
        retriever.add_vectors(
            vectors(),
            keys=[f"image-{n:03d}" for n in range(N)],
            labels=[LABELS[n % 3] for n in range(N)],
            metadata=[{"number": n, "where": f"house {n}"} for n in range(N)],
        )
        retriever.remove(["image-007", "image-031"])
        retriever.update("image-005", label="vase")
        if projected:
            retriever.project("pca", dim=6)
        retriever.calibrate()
        retriever.create_filter_index("number")
    return path


KINDS = {
    "ivf-pq": {"index": "ivf-pq", "projected": True},
    "hnsw-sq8": {"index": "hnsw-sq8", "dtype": "float32"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: make(folder / f"{name}.imgret", **how) for name, how in KINDS.items()}


@pytest.fixture
def gallery(made, tmp_path):
    return Path(shutil.copytree(made["ivf-pq"], tmp_path / "g.imgret"))


def answers(retriever: Retriever) -> dict[str, object]:
    """What users get of a gallery; filters are left out, see `test_what_a_filter_misses`."""
    labels = retriever.view().labels
    hits = retriever.search_vectors(vectors()[:6] + 0.1, k=5)
    return {
        "spec": (retriever.metric, retriever.calibration, retriever.embedder.fingerprint),
        "hits": [[(h.key, h.score, h.label, h.metadata, h.probability) for h in hs] for hs in hits],
        "keys": list(retriever),
        "items": [retriever[f"image-{n:03d}"] for n in (3, 5, 59)],
        "labels": (labels.ids.tolist(), [labels.names[code] for code in labels.codes]),
        "origins": list(retriever.view().origins()),
        "vectors": retriever.embeddings().tolist(),
        "one": retriever.embeddings(["image-004"]).tolist(),
    }


def opened(path: Path) -> dict[str, object]:
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        return answers(retriever)


def loaded(path: Path) -> dict[str, object]:
    return answers(Retriever.load(path, embedder=Given(DIM)))


def flip(file: Path, place: int, bit: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(place)
        (byte,) = opened.read(1)
        opened.seek(place)
        opened.write(bytes([byte ^ 1 << bit]))


# -- which error ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"meadow flower", b'"number": 3,', b"image-003"])
def test_a_damaged_row_is_named(gallery, text):
    file = gallery / "catalog.sqlite"
    content = file.read_bytes()
    row = content.index(b"image-003meadow flower")  # not in an index of SQLite
    flip(file, content.index(text, row) + 1, 0)
    for read in (opened, loaded):
        with pytest.raises(StoreCorruptError, match=r"catalog\.sqlite: .*item 3.*imgret check"):
            read(gallery)


def test_a_row_that_is_gone_is_not_left_out_of_a_copy(gallery, tmp_path):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("DELETE FROM items WHERE id = 9")
    with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
        for copy in (retriever.compact, lambda: retriever.save(tmp_path / "copy.imgret")):
            with pytest.raises(StoreCorruptError, match="expected 58 items in the order of their"):
                copy()


def test_a_row_that_is_gone_is_noticed(gallery):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("DELETE FROM items WHERE id = 9")
    with (
        Retriever.open(gallery, embedder=Given(DIM)) as retriever,
        pytest.raises(StoreCorruptError, match="expected 58 items in the order of their rows"),
    ):
        list(retriever)


def test_damaged_vectors_are_not_ranked_read_or_copied(made, tmp_path):
    for kind, suffix in (("ivf-pq", "f16"), ("hnsw-sq8", "f32")):
        path = Path(shutil.copytree(made[kind], tmp_path / f"{kind}.imgret"))
        flip(
            path / f"vectors.{suffix}", (path / f"vectors.{suffix}").stat().st_size // N * 5 + 1, 5
        )
        with Retriever.open(path, embedder=Given(DIM)) as retriever:
            assert retriever.embeddings(["image-004"]).shape == (1, DIM)
            uses = [
                lambda r: r.search_vectors(vectors()[5:6], k=3),
                lambda r: r.search_key("image-005"),
                lambda r: r.embeddings(["image-005"]),
                lambda r: r.embeddings(),
                lambda r: r.save(tmp_path / "copy.imgret"),
            ]
            for use in uses:
                with pytest.raises(StoreCorruptError, match=rf"vectors\.{suffix}.*'image-005'"):
                    use(retriever)
        assert not (tmp_path / "copy.imgret").exists()


@pytest.fixture
def unasked(monkeypatch):
    """Let no vector be compared with the checksum in the catalog."""

    def fail(*args):
        raise AssertionError("the catalog was asked for checksums")

    monkeypatch.setattr(Catalog, "checksums_of", fail)


def searched(path: Path | Retriever) -> list[list[tuple[str, float]]]:
    if isinstance(path, Path):
        with Retriever.open(path, embedder=Given(DIM)) as retriever:
            return searched(retriever)
    found = path.search_vectors(vectors() + 0.1, k=5)
    return [[(hit.key, hit.score) for hit in hits] for hits in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["as made", "copied", "compacted"])
def test_a_search_does_without_the_checksums_in_the_catalog(made, tmp_path, unasked, kind, how):
    path = Path(shutil.copytree(made[kind], tmp_path / "g.imgret"))
    if how == "copied":
        with Retriever.open(path, embedder=Given(DIM)) as retriever:
            retriever.save(tmp_path / "copy.imgret")
        path = tmp_path / "copy.imgret"
    if how == "compacted":
        with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
            retriever.compact()
            assert searched(retriever) == searched(made[kind])
    with closing(sqlite3.connect(path / "catalog.sqlite")) as db:
        stored = [crc for (crc,) in db.execute("SELECT crc FROM items ORDER BY id")]
    assert len(stored) == (N if how == "as made" else N - 2)
    assert np.fromfile(path / "index" / "checksums.u32", dtype="<u4").tolist() == stored
    assert searched(path) == searched(made[kind])


@pytest.mark.parametrize("change", ["missing", "short", "a directory", "damaged"])
def test_without_its_copy_the_catalog_has_the_checksums(gallery, made, monkeypatch, change):
    copy = gallery / "index" / "checksums.u32"
    if change == "damaged":
        copy.write_bytes(bytes(4 * N))
    elif change == "short":
        copy.write_bytes(copy.read_bytes()[:-4])
    else:
        copy.unlink()
    if change == "a directory":
        copy.mkdir()
    asked, look_up = list[int](), Catalog.checksums_of

    def counted(self, ids):
        asked.extend(ids.tolist())
        return look_up(self, ids)

    monkeypatch.setattr(Catalog, "checksums_of", counted)
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        for _ in range(2):
            found = retriever.search_vectors(vectors() + 0.1, k=5)
            assert sorted(asked) == [n for n in range(N) if n not in (7, 31)]  # once
        hits = [[(hit.key, hit.score) for hit in hits] for hits in found]
        assert hits == searched(made["ivf-pq"])


def test_vectors_newer_than_the_copy_are_compared(gallery, tmp_path):
    kept = shutil.copytree(gallery / "index", tmp_path / "kept")
    new = np.full((1, DIM), 3, dtype=np.float32)
    with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
        retriever.add_vectors(new, keys=["new"])
    shutil.rmtree(gallery / "index")
    shutil.copytree(kept, gallery / "index")  # as if it had been killed
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        assert retriever.search_vectors(new, k=1)[0][0].key == "new"
    flip(gallery / "vectors.f16", N * DIM * 2 + 1, 5)
    with (
        Retriever.open(gallery, embedder=Given(DIM)) as retriever,
        pytest.raises(StoreCorruptError, match="'new'"),
    ):
        retriever.search_vectors(new, k=1)


def test_an_index_that_was_built_has_read_all_vectors(gallery, request):
    shutil.rmtree(gallery / "index")
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        assert len(retriever.index) == N - 2
        request.getfixturevalue("unasked")
        retriever.search_vectors(vectors(), k=5)


def test_a_damaged_row_is_not_copied(gallery, tmp_path):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("UPDATE items SET label = 'else' WHERE id = 9")
    with (
        Retriever.open(gallery, embedder=Given(DIM)) as retriever,
        pytest.raises(StoreCorruptError, match="row of item 9"),
    ):
        retriever.save(tmp_path / "copy.imgret")
    assert not (tmp_path / "copy.imgret").exists()


def test_what_a_filter_misses_is_found_by_a_check(gallery):
    """A filter reads labels in SQLite: documented, and the reason for `check`."""
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("UPDATE items SET label = 'else' WHERE id = 9")
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        assert len(retriever.view({"label": LABELS[0]}).ids) == 19
    (damage,) = check_directory(gallery).damages
    assert (damage.part, damage.key, damage.item["label"]) == ("catalog", "image-009", "else")


# -- checking and repairing ------------------------------------------------------------------------


def contents(path: Path) -> dict[str, tuple[Item, list[float]]]:
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        return {key: (retriever[key], retriever.embeddings([key])[0].tolist()) for key in retriever}


def ruin(path: Path, what: str) -> set[str]:  # noqa: C901, PLR0912  # one case a kind of damage
    """Damage a gallery, and return the keys that are lost by it."""
    catalog = path / "catalog.sqlite"
    with closing(sqlite3.connect(catalog)) as db, db:
        match what:
            case "row":
                db.execute("UPDATE items SET metadata = '{}' WHERE id IN (4, 40)")
                return {"image-004", "image-040"}
            case "sqlite index":
                (page,) = db.execute(
                    "SELECT rootpage FROM sqlite_schema WHERE name = 'items_label'"
                ).fetchone()
            case "removed":
                db.execute("UPDATE items SET removed_at = 1 WHERE id = 4")
            case "counts":
                db.execute("UPDATE counts SET live = 7")
    match what:
        case "sqlite index":
            flip(catalog, page * 4096 - 3, 1)
        case "column" | "type" | "table":  # in the text that describes the table
            text = {"column": b"mtime_ns ", "type": b"TEXT NOT NULL,", "table": b"itemsitems"}[what]
            flip(catalog, catalog.read_bytes().index(text) + 1, 6)
        case "vector":
            flip(path / "vectors.f16", 4 * DIM * 2, 0)
            return {"image-004"}
        case "short":
            with (path / "vectors.f16").open("r+b") as file:
                file.truncate((N - 2) * DIM * 2 + 5)
            return {"image-058", "image-059"}
        case "manifest":
            flip(path / "manifest.json", 30, 0)
        case "manifest gone":
            (path / "manifest.json").unlink()
        case "manifest copy":
            (path / "manifest.copy.json").unlink()
        case "index":
            flip(next((path / "index" / "state").glob("*.faiss")), 99, 0)
        case "index of others":
            file = path / "index" / "checkpoint.json"
            file.write_text(file.read_text().replace('"rows": 60', '"rows": 59'))
        case "checksums of the index":
            flip(path / "index" / "checksums.u32", 4 * 17, 3)
        case "thumbnail":
            folder = path.with_name(f".{path.name}.thumbnails") / "ab"
            folder.mkdir(parents=True)
            (folder / "c.jpg").write_bytes(b"\xff\xd8 no more")
    return set()


RUINS = {
    "row": "catalog",
    "sqlite index": "catalog",
    "column": "catalog",
    "type": "catalog",
    "table": "catalog",
    "removed": "catalog",
    "counts": "catalog",
    "vector": "vectors",
    "short": "vectors",
    "manifest": "manifest",
    "manifest copy": "manifest",
    "index": "index",
    "index of others": "index",
    "checksums of the index": "index",
    "thumbnail": "thumbnails",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", RUINS)
def test_a_repair_keeps_every_sound_item(gallery, what):
    before = contents(gallery)
    lost = ruin(gallery, what)
    report = check_directory(gallery)
    assert not report.ok
    assert not report.repaired
    assert {damage.part for damage in report.damages} == {RUINS[what]}
    repaired = check_directory(gallery, repair=True)
    assert repaired.repaired
    assert {damage.key for damage in repaired.lost} == lost
    assert check_directory(gallery).ok
    assert contents(gallery) == {key: it for key, it in before.items() if key not in lost}
    with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
        assert retriever.calibration is not None
        assert retriever.projection.dim_out == 6
        assert len(retriever.search_vectors(vectors()[:1], k=99)[0]) == N - 2 - len(lost)


def test_a_repair_keeps_what_the_gallery_is_made_of(gallery):
    before = Manifest.read(gallery)
    ruin(gallery, "vector")
    assert check_directory(gallery, repair=True).repaired
    assert Manifest.read(gallery) == before.with_(dropped=before.dropped + 3)
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        assert retriever.projection.dim_out == 6
        assert retriever._gallery.store.catalog.filter_fields() == ["number"]


def test_what_is_read_of_a_damaged_item_is_reported(gallery):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("UPDATE items SET path = '/photos/4.jpg' WHERE id = 4")
        db.execute("DELETE FROM items WHERE id IN (20, 50)")
    flip(gallery / "vectors.f16", 9 * DIM * 2, 0)
    report = check_directory(gallery)
    assert 0 <= report.seconds < 60
    row, vector, missing = sorted(report.damages, key=lambda damage: damage.what[:3] != "row")
    if vector.part == "catalog":
        vector, missing = missing, vector
    again = "a repair removes the item; `imgret index` with the folder of its image adds it again"
    read = {"sound": False, "path": "/photos/4.jpg", "label": LABELS[1]}
    assert row == Damage(
        "catalog",
        "row 4 is not what was stored",
        again,
        "image-004",
        {**read, "metadata": '{"number": 4, "where": "house 4"}'},
    )
    assert vector == Damage(
        "vectors",
        "the vector in row 9 is damaged",
        again,
        "image-009",
        {
            "sound": True,
            "path": None,
            "label": LABELS[0],
            "metadata": '{"number": 9, "where": "house 9"}',
        },
    )
    assert (missing.part, missing.what, missing.key, missing.item) == (
        "catalog",
        "2 rows are missing or cannot be read",
        None,
        {"sound": False},
    )
    assert report.items == N - 2 - 4


def test_a_file_of_vectors_that_is_missing_is_reported(gallery):
    (gallery / "vectors.f16").unlink()
    damages = check_directory(gallery).damages
    assert [damage.what for damage in damages[:2]] == [
        "the file is missing",
        "the vector in row 0 is missing",
    ]
    assert len(damages) == 1 + N - 2


@pytest.mark.parametrize("rows", [-3, 0, 5, 59, 61, 10**12])
@pytest.mark.parametrize("vectors_there", [True, False])
def test_a_wrong_number_of_rows_hides_no_item(gallery, rows, vectors_there):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute(f"UPDATE counts SET rows = {rows}")  # noqa: S608  # a number
    if not vectors_there:
        (gallery / "vectors.f16").unlink()
    salvage = salvage_of(gallery, Manifest.read(gallery))
    found = sum(len(good.items) for good in salvage.good())
    if vectors_there:
        assert (found, salvage.rows, salvage.damages) == (N - 2, N, [])
    else:
        assert (found, salvage.rows) == (0, max(0, min(rows, N)))


def test_rows_that_cannot_be_read_cost_no_others(gallery, monkeypatch):
    """Each half is read by itself, down to a row."""
    read = salvaging.patiently

    def failing(query, path):
        found = read(query, path)
        if any(row[0] == 33 for row in found):
            raise sqlite3.DatabaseError("malformed")
        return found

    monkeypatch.setattr(salvaging, "patiently", failing)
    salvage = salvage_of(gallery, Manifest.read(gallery))
    keys = [item.key for good in salvage.good() for item in good.items]
    assert keys == [f"image-{n:03d}" for n in range(N) if n not in (7, 31, 33)]
    assert [damage.what for damage in salvage.damages] == ["1 rows are missing or cannot be read"]


@pytest.mark.parametrize("at_a_time", [1, 7, 1000])
@pytest.mark.parametrize("gone", [None, 0, 20, N - 1])
def test_rows_are_read_some_at_a_time(gallery, monkeypatch, at_a_time, gone):
    monkeypatch.setattr(salvaging, "_CHUNK", at_a_time)
    tries, read = [], salvaging.patiently
    monkeypatch.setattr(
        salvaging, "patiently", lambda query, path: tries.append(1) or read(query, path)
    )
    if gone is not None:
        with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
            db.execute("DELETE FROM items WHERE id = ?", (gone,))
    salvage = salvage_of(gallery, Manifest.read(gallery))
    there = [n for n in range(N) if n not in (7, 31, gone)]
    found = list(salvage.good())
    assert [item.key for good in found for item in good.items] == [f"image-{n:03d}" for n in there]
    kept = np.concatenate([good.vectors for good in found])
    assert np.array_equal(kept, vectors()[there].astype(np.float16))
    if gone is None:
        assert salvage.damages == []
        assert len(tries) == -(-N // at_a_time)
    else:
        assert [one.what for one in salvage.damages] == ["1 rows are missing or cannot be read"]


def test_a_key_of_another_item_is_found(gallery):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("DROP INDEX items_key")
        db.execute("UPDATE items SET key = 'image-008' WHERE id = 9")
        row = db.execute(f"SELECT id, {COLUMNS} FROM items WHERE id = 9").fetchone()  # noqa: S608  # constants
        db.execute("UPDATE items SET row_crc = ? WHERE id = 9", (row_checksum(row),))
    salvage = salvage_of(gallery, Manifest.read(gallery))
    assert sum(len(good.items) for good in salvage.good()) == N - 3
    (damage,) = salvage.damages
    assert (damage.part, damage.what, damage.key) == (
        "catalog",
        "row 9 has the key of another item",
        "image-008",
    )


def test_what_is_no_database_has_no_items_and_no_fields(gallery):
    (gallery / "catalog.sqlite").write_bytes(b"no database" * 999)
    salvage = salvage_of(gallery, Manifest.read(gallery))
    assert list(salvage.good()) == []
    assert salvage.filter_fields() == []
    assert [damage.remedy for damage in salvage.damages] == ["restore it from a copy"]


@pytest.mark.parametrize("name", ["v1.imgret", "v2.imgret"])
def test_items_of_an_old_gallery_are_checked_as_far_as_they_can_be(tmp_path, name):
    path = Path(
        shutil.copytree(Path(__file__).parents[1] / "data/galleries" / name, tmp_path / name)
    )
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert check_directory(path).ok
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    with closing(sqlite3.connect(path / "catalog.sqlite")) as db, db:
        db.execute("UPDATE items SET metadata = '[1]' WHERE id = 2")
    (damage,) = check_directory(path).damages
    assert (damage.what, damage.key) == ("row 2 is not what was stored", "picture-2")
    assert check_directory(path, repair=True).repaired
    assert check_directory(path).items == 8


def test_vectors_of_an_index_are_compared_by_a_sample(gallery, monkeypatch):
    monkeypatch.setattr(checking, "_SAMPLE", 10)
    assert check_directory(gallery).ok


def test_an_index_of_other_items_is_found(gallery):
    file = gallery / "index" / "checkpoint.json"
    content = json.loads(file.read_text())
    content["rows"] = N - 1
    del content["crc32"]
    crc = crc32(json.dumps(content, sort_keys=True).encode())
    file.write_text(json.dumps({"crc32": crc, **content}))
    (damage,) = check_directory(gallery).damages
    assert damage.what == f"it holds {N - 2} vectors, not those of the {N - 3} items it is for"


def test_a_projection_that_is_lost_is_set_aside(gallery):
    (gallery / "projection.npz").write_bytes(b"no")
    report = check_directory(gallery, repair=True)
    assert [damage.part for damage in report.damages] == ["projection"]
    assert not (gallery / "projection.npz").exists()
    assert not (gallery / "index").exists()
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        assert retriever.projection is None
        assert len(retriever) == N - 2


def test_a_repair_that_is_interrupted_loses_nothing(gallery, monkeypatch):
    before = contents(gallery)
    lost = ruin(gallery, "vector")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checking.Manifest, "write", lambda *_: None)
        patch.setattr(checking, "rewrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            check_directory(gallery, repair=True)
    assert check_directory(gallery).items == N - 3
    check_directory(gallery, repair=True)
    assert contents(gallery) == {key: it for key, it in before.items() if key not in lost}


def test_where_nothing_can_be_kept_nothing_is_changed(gallery):
    (gallery / "catalog.sqlite").write_bytes(b"no database" * 999)
    files = {file: file.read_bytes() for file in gallery.rglob("*") if file.is_file()}
    assert [damage.part for damage in check_directory(gallery).damages] == ["catalog", "catalog"]
    with pytest.raises(StoreCorruptError, match=r"found none .*nothing was changed"):
        check_directory(gallery, repair=True)
    (gallery / "catalog.sqlite").unlink()
    with pytest.raises(StoreCorruptError, match=r"found none .*missing"):
        check_directory(gallery, repair=True)
    (gallery / "catalog.sqlite").write_bytes(b"no database" * 999)
    assert {file: file.read_bytes() for file in gallery.rglob("*") if file.is_file()} == files
    for name in ("manifest.json", "manifest.copy.json"):
        (gallery / name).write_text("{")
    assert check_directory(gallery).damages[0].part == "manifest"
    with pytest.raises(StoreCorruptError, match="and so is its copy"):
        check_directory(gallery, repair=True)


def test_who_may_check_and_repair(gallery, tmp_path):
    with pytest.raises(StoreNotFoundError, match="imgret index"):
        check_directory(tmp_path / "none")
    lost = ruin(gallery, "vector")
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        report = retriever.check()
        assert [damage.key for damage in report.damages] == list(lost)
        with pytest.raises(StoreReadOnlyError, match=r"mode='r\+'"):
            retriever.check(repair=True)
    lock = WriterLock(gallery / LOCK)
    with pytest.raises(StoreLockedError):
        check_directory(gallery, repair=True)
    lock.release()
    with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
        hits = retriever.search_vectors(vectors()[9:10], k=1)[0]
        assert retriever.check(repair=True).repaired
        assert hits[0].key == "image-009"
        assert retriever.check().ok
        assert "image-004" not in retriever
        assert retriever.projection.dim_out == 6
        retriever.add_vectors(vectors()[4:5], keys=["image-004"])
        assert retriever.search_vectors(vectors()[4:5], k=1)[0][0].key == "image-004"
    with pytest.raises(UnsupportedError, match="in memory"):
        Retriever(embedder=Given(DIM)).check()


@pytest.mark.parametrize(("index", "n"), [("hnsw", 2), ("hnsw", N), ("hnsw-sq8", N)])
def test_an_index_of_other_vectors_is_found(tmp_path, index, n):
    path, other = tmp_path / "g.imgret", tmp_path / "other.imgret"
    for place, rows in ((path, vectors()[:n]), (other, vectors()[:n][::-1])):
        with Retriever.open(place, "a", embedder=Given(DIM), index=index) as retriever:
            retriever.add_vectors(rows, keys=[str(number) for number in range(n)])
    shutil.rmtree(path / "index")
    shutil.copytree(other / "index", path / "index")
    (path / "index" / "checksums.u32").unlink()  # which an older imgret does not write
    (damage,) = check_directory(path).damages
    assert (damage.part, damage.what) == ("index", "its vectors are not those of the items")
    assert check_directory(path, repair=True).repaired
    assert check_directory(path).ok


@pytest.mark.parametrize(("scale", "ok"), [(1.005, True), (1.05, False)])
def test_an_index_of_vectors_that_are_a_little_off_is_found(tmp_path, scale, ok):
    path, other = tmp_path / "g.imgret", tmp_path / "other.imgret"
    for place, factor in ((path, 1), (other, scale)):
        with Retriever.open(
            place, "a", embedder=Given(DIM), index="hnsw", metric="ip", dtype="float32"
        ) as retriever:
            retriever.add_vectors(vectors() * factor, keys=[str(n) for n in range(N)])
    shutil.rmtree(path / "index")
    shutil.copytree(other / "index", path / "index")
    (path / "index" / "checksums.u32").unlink()
    assert check_directory(path).ok is ok


@pytest.mark.parametrize(
    ("index", "metric", "rows"),
    [
        ("hnsw", "cosine", vectors()[:1]),  # there is no other to compare it with
        ("hnsw-sq8", "cosine", np.ones((N, DIM))),  # which are all the same
        ("hnsw", "l2", np.concatenate([np.zeros((1, DIM)), vectors()])),  # as near as can be
    ],
)
def test_a_sound_index_of_unusual_vectors_is_sound(tmp_path, index, metric, rows):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM), index=index, metric=metric) as retriever:
        retriever.add_vectors(rows, keys=[str(n) for n in range(len(rows))])
    assert (path / "index").exists()
    assert check_directory(path).damages == []


def test_an_index_that_was_stored_before_the_last_changes_is_sound(gallery, tmp_path):
    kept = shutil.copytree(gallery / "index", tmp_path / "kept")
    with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
        retriever.add_vectors(vectors()[:2] + 1, keys=["new", "newer"])
        retriever.remove(["image-009", "new"])
    shutil.rmtree(gallery / "index")
    shutil.copytree(kept, gallery / "index")  # as if it had been killed
    assert check_directory(gallery).damages == []


def test_a_gallery_without_items_is_sound(tmp_path):
    Retriever.open(tmp_path / "g.imgret", "a", embedder=Given(DIM)).close()
    (tmp_path / "g.imgret" / "vectors.f16").unlink(missing_ok=True)
    report = check_directory(tmp_path / "g.imgret")
    assert (report.damages, report.items) == ([], 0)


def test_a_gallery_whose_replacement_was_killed_is_checked(gallery):
    gallery.rename(gallery.with_name(".g.imgret.old"))  # killed between the two renames
    assert check_directory(gallery).ok


@pytest.mark.parametrize("times", [0, 1, 9])
def test_a_writer_beside_a_check_is_no_damage(gallery, monkeypatch, times):
    """What changes while it is read is read again, though not for ever."""
    looks, salvage = [], checking.salvage_of
    writer = Retriever.open(gallery, "r+", embedder=Given(DIM))

    def changed(path, manifest):
        looks.append(1)
        if len(looks) <= times:
            writer.remove(f"image-{len(looks):03d}")
        return salvage(path, manifest)

    monkeypatch.setattr(checking, "salvage_of", changed)
    report = check_directory(gallery)
    writer.close()
    assert len(looks) == min(times + 1, 3)
    if times < 3:
        assert (report.damages, report.items) == ([], N - 2 - times)


def test_a_newer_manifest_is_no_damage(gallery):
    file = gallery / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 99}))
    with pytest.raises(StoreVersionError, match="found 99"):
        check_directory(gallery)


def test_a_repair_that_does_not_help_says_so(gallery, monkeypatch):
    ruin(gallery, "vector")
    monkeypatch.setattr(checking, "_repair", lambda *_: [])
    with pytest.raises(
        StoreCorruptError, match="still damaged after a repair: vectors: the vector in row 4"
    ):
        check_directory(gallery, repair=True)


MADE_AGAIN = "a repair deletes it, and the next search builds it again"


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        (
            "manifest gone",
            (
                "manifest",
                "expected a gallery (a directory with a manifest.json), found a folder of other",
                "a repair restores it from manifest.copy.json, which is sound",
            ),
        ),
        (
            "manifest copy",
            (
                "manifest",
                "its copy, manifest.copy.json, is missing or differs",
                "a repair writes it again",
            ),
        ),
        (
            "index",
            (
                "index",
                "with the checksums in state.json, found different ones for index.faiss",
                MADE_AGAIN,
            ),
        ),
        ("index of others", ("index", "its checkpoint cannot be read", MADE_AGAIN)),
        (
            "checksums of the index",
            (
                "index",
                "the checksums stored with it are not those of the catalog",
                MADE_AGAIN,
            ),
        ),
    ],
)
def test_what_can_be_made_again_is_named_and_the_items_stay_where_they_are(gallery, what, damage):
    ruin(gallery, what)
    before = (gallery / "catalog.sqlite").stat().st_ino
    report = check_directory(gallery, repair=True)
    (found,) = report.damages
    assert (found.part, found.remedy, found.key) == (damage[0], damage[2], None)
    assert damage[1] in found.what
    assert ";" not in found.what  # what to do is said elsewhere
    assert (report.items, report.repaired) == (N - 2, True)
    assert (gallery / "catalog.sqlite").stat().st_ino == before
    assert (gallery / "index").exists() is (damage[0] != "index")


def test_what_a_repair_has_lost_is_reported_once(gallery):
    size = (N - 2) * DIM * 2 + 5
    ruin(gallery, "short")
    report = check_directory(gallery, repair=True)
    assert [(one.what, one.key) for one in report.damages] == [
        (f"it has {size} of {N * DIM * 2} bytes", None),
        ("the vector in row 58 is missing", "image-058"),
        ("the vector in row 59 is missing", "image-059"),
    ]
    assert report.items == N - 4


def test_a_newer_catalog_is_no_damage(gallery):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db:
        db.execute("PRAGMA user_version = 99")
    before = (gallery / "catalog.sqlite").read_bytes()
    for repair in (False, True):
        with pytest.raises(StoreVersionError, match="found 99; upgrade imgret"):
            check_directory(gallery, repair=repair)
    assert (gallery / "catalog.sqlite").read_bytes() == before


def test_a_report_shows_itself(gallery):
    ruin(gallery, "row")
    report = check_directory(gallery)
    text = str(report)
    assert "catalog: 'image-004': row 4 is not what was stored; a repair removes" in text
    assert text.endswith("2 damages found; 56 items are sound")
    assert json.loads(report.to_json())["damages"][0]["key"] == "image-004"
    assert "<table>" in report._repr_html_()
    check_directory(gallery, repair=True)
    assert "nothing is damaged" in str(check_directory(gallery))


# -- the checksum --------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
NUMBER = st.none() | st.integers(-(2**63), 2**63 - 1)
BOX = st.builds(lambda x, y: Box(x, y, x + 3, y + 4), st.integers(0, 9), st.integers(0, 9))
ITEMS = st.builds(
    Item,
    key=TEXT.filter(bool),
    path=st.none() | TEXT,
    sha256=st.none() | st.binary(min_size=32, max_size=32),
    size=NUMBER,
    mtime_ns=NUMBER | st.just(5.0),
    box=st.none() | BOX,
    subject=st.booleans(),
    label=st.none() | TEXT,
    metadata=st.dictionaries(TEXT, TEXT | st.integers(), max_size=2),
    phash=st.none() | st.binary(min_size=8, max_size=8),
)


@given(ITEMS, st.booleans())
def test_sqlite_and_python_sum_the_same(item, removed):
    with closing(Catalog()) as catalog:
        catalog.add([item], [7])
        if removed:
            catalog.remove([0])
        catalog._check_from(0)
        ((text, *row),) = catalog._query(f"SELECT {SUMMED_TEXT}, id, {COLUMNS} FROM items")  # noqa: S608  # constants
        ((stored,),) = catalog._query("SELECT row_crc FROM items")
        assert crc32(text) == row_checksum(tuple(row)) == stored - (3 if removed else 0)


@pytest.mark.parametrize("removed_at", [None, 5])
def test_a_row_is_sound_as_it_was_committed_alone(removed_at):
    *columns, total = to_row(3, Item("a", sha256=b"s" * 32))
    total += 0 if removed_at is None else removed_at + 1
    assert is_sound((*columns, removed_at, total))
    for other in (None, 4, 6, 0, "5"):
        assert is_sound((*columns, other, total)) == (other == removed_at)
    assert not is_sound((*columns[:3], "s" * 32, *columns[4:], removed_at, total))  # no bytes
    assert not is_sound((*columns, removed_at, None))
    assert not is_sound((3, "unknown"))


def test_rows_of_removed_items_are_compared_too(tmp_path):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add([Item("a"), Item("b")], [0, 0])
        catalog.remove([0])
    with closing(Catalog(path)) as catalog:
        assert catalog.items([0]) == {0: Item("a")}
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE items SET removed_at = 1 WHERE id = 0")
    with closing(Catalog(path)) as catalog, pytest.raises(StoreCorruptError, match="item 0"):
        catalog.items([0])


def test_a_damaged_catalog_says_how_it_is_repaired(gallery):
    ruin(gallery, "type")
    with pytest.raises(StoreCorruptError) as found:
        Retriever.open(gallery, embedder=Given(DIM))
    assert str(found.value).endswith(f"or run `imgret check {gallery} --repair`")
