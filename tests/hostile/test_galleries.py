"""Galleries of somebody who means harm: links, schemas, stored indexes, projections, paths."""

import hashlib
import re
import sqlite3
import sys
import time
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgret import HNSWIndex, Retriever, images
from imgret.abc import GallerySpec
from imgret.errors import ImageNotFoundError, InvalidInputError, StoreCorruptError
from imgret.files import ItemFile, read_bytes, state_of
from imgret.galleries.local import database
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.checkpoint import Checkpoint
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.projections import LinearProjection
from imgret.support.state import read_state, write_state
from imgret.transfer.npz_file import NpzTable
from imgret.types import Item, Part

DIM = 8
links = pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege")


def manifest(index="flat"):
    part = Part("general", {})
    return Manifest.of(
        GallerySpec(
            dim=DIM,
            metric="cosine",
            dtype="float16",
            embedder=part,
            fingerprint="f",
            cropper=Part("none", {}),
            index=Part(index, {}),
            projection=None,
        )
    )


@pytest.fixture
def gallery(tmp_path):
    path = tmp_path / "theirs.imgret"
    store = Store.create(path, manifest())
    store.close()
    return path


@pytest.fixture
def mine(tmp_path):
    """A file that must stay as it is."""
    file = tmp_path / "mine.txt"
    file.write_text("mine")
    yield file
    assert file.read_text() == "mine"


def vectors(n, seed=0):
    found = np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


# -- links -----------------------------------------------------------------------------------------


@links
@pytest.mark.parametrize("name", ["lock", "vectors.f16", "catalog.sqlite"])
def test_links_are_not_followed_for_writing(gallery, mine, name):
    (gallery / name).unlink(missing_ok=True)
    (gallery / name).symlink_to(mine)
    with pytest.raises(StoreCorruptError, match=rf"{name}: expected a file .* found a link to"):
        Store.open(gallery, writable=True)
    with pytest.raises(StoreCorruptError, match="link"):
        Store.open(gallery, writable=True)  # nothing stays locked


@links
def test_half_written_files_that_are_links_are_replaced(gallery, mine):
    for name in ("manifest.json.tmp", "projection.npz.tmp", "projection.npz.tmp.tmp"):
        (gallery / name).symlink_to(mine)
    store = Store.open(gallery, writable=True)
    store.change_manifest(index=Part("hnsw", {}))
    projection = LinearProjection(np.eye(DIM), np.zeros(DIM), kind="pca")
    store.set_projection(projection)
    store.close()
    assert LinearProjection.load(gallery / "projection.npz").fingerprint == projection.fingerprint
    assert not (gallery / "projection.npz").is_symlink()


@links
@pytest.mark.parametrize("name", ["index", "index.tmp", "index.old"])
def test_an_index_that_is_a_link_is_replaced(gallery, tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    (gallery / name).symlink_to(folder)
    store = Store.open(gallery, writable=True)
    checkpoint = Checkpoint(0, 0, Part("flat", {}), None, 0)
    store.write_index(checkpoint, lambda directory: (directory / "x").write_text("x"))
    assert (gallery / "index" / "state" / "x").read_text() == "x"
    store.drop_index()
    store.close()
    assert [each.name for each in folder.iterdir()] == ["kept.txt"]
    assert not list(gallery.glob("index*"))


# -- the catalog -----------------------------------------------------------------------------------


def changed(gallery, *statements):
    db = sqlite3.connect(gallery / "catalog.sqlite")
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT"


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize(
    ("statements", "name"),
    [
        (
            ["CREATE TRIGGER t AFTER INSERT ON items BEGIN UPDATE items SET label = 'x'; END"],
            "trigger 't'",
        ),
        (["CREATE VIEW v AS SELECT 1"], "view 'v'"),
        (["DROP TABLE counts", f"CREATE VIEW counts AS {ENDLESS} x, x, x FROM n"], "counts"),
        (
            ["ALTER TABLE items ADD COLUMN g TEXT AS (hex(zeroblob(1000000000)))"],
            "table 'items'",
        ),
        (["CREATE TABLE more (x)"], "table 'more'"),
        (["CREATE INDEX i ON items (hex(zeroblob(10)))"], "index 'i'"),
        (['CREATE INDEX "filter:label" ON items (key)'], "index 'filter:label'"),
        (['CREATE INDEX "filter:a..b" ON items (key)'], "index 'filter:a..b'"),
        (['CREATE INDEX "label" ON items (label) WHERE removed_at IS NULL'], "index 'label'"),
        (["CREATE TABLE sqlite (tbl, idx, stat)"], "table 'sqlite'"),
        (["DROP TABLE counts"], "table 'counts'"),
    ],
)
def test_a_catalog_has_the_known_schema_only(gallery, statements, name, writable):
    changed(gallery, *statements)
    before = (gallery / "catalog.sqlite").read_bytes()
    started = time.monotonic()
    with pytest.raises(StoreCorruptError, match=name):
        Store.open(gallery, writable=writable)
    assert time.monotonic() - started < 5
    assert (gallery / "catalog.sqlite").read_bytes() == before


def test_what_imgret_and_analyze_write_is_known(gallery):
    store = Store.open(gallery, writable=True)
    store.add(vectors(2), [Item("a", metadata={"place": {"row of it": 1}}), Item("b")])
    for name in ("size", "place", "place.row of it"):
        store.catalog.create_filter_index(name)
    store.close()
    changed(gallery, "ANALYZE")
    with closing(Catalog(gallery / "catalog.sqlite", writable=False)) as catalog:
        assert list(catalog) == ["a", "b"]


def test_a_gallery_made_after_the_page_of_the_format_is_opened(gallery):
    page = (Path(__file__).parents[2] / "docs" / "storage-format.md").read_text(encoding="utf-8")
    (statements,) = re.findall(r"^```sql\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (gallery / "catalog.sqlite").unlink()
    db = sqlite3.connect(gallery / "catalog.sqlite")
    version = f"PRAGMA user_version = {database._SCHEMA_VERSION}"
    db.executescript(statements)
    db.execute("INSERT INTO counts VALUES (0, 0, 0)")
    db.execute(version)
    db.commit()
    db.close()
    Store.open(gallery, writable=True).close()


def test_a_look_at_a_schema_ends(monkeypatch):
    monkeypatch.setattr(database, "_LOOKING_SECONDS", 0.2)
    db = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError, match="interrupted"), database._limited(db):
        db.execute(f"{ENDLESS} max(x) FROM n").fetchone()
    assert db.execute("SELECT 1").fetchone() == (1,)  # no longer
    db.close()


def test_a_journal_that_names_another_file_is_left_alone(gallery, mine):
    name = str(mine).encode()
    end = len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big")
    journal = gallery / "catalog.sqlite-journal"
    magic = bytes.fromhex("d9d505f920a163d7")
    journal.write_bytes(magic + bytes(504) + b"\0\0\0\1" + name + end + magic)
    for writable in (True, False):
        with pytest.raises(StoreCorruptError, match="journal: .* names another file"):
            Store.open(gallery, writable=writable)


# -- what is derived -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@pytest.mark.filterwarnings("ignore:.*the stored index is unusable and is rebuilt")
def test_a_stored_index_with_new_checksums_is_rebuilt_or_usable(tmp_path, mean_color, kind):
    path, vectors_ = tmp_path / "g.imgret", np.random.default_rng(0).normal(size=(400, 48))
    options = {"nlist": 4} if kind == "ivf" else {}
    with Retriever.open(path, "a", embedder=mean_color) as retriever:
        retriever.add_vectors(vectors_, keys=[str(n) for n in range(400)])
        retriever.reindex(kind, **options)
    state = path / "index" / "state"
    facts = read_state(state)
    facts.pop("sha256")
    whole = {file.name: file.read_bytes() for file in state.iterdir() if file.suffix == ".faiss"}
    assert whole
    for seed in (6, 0, 1, 2):
        rng = np.random.default_rng(seed)
        for name, data in whole.items():
            damaged = bytearray(data)
            at = int(rng.integers(0, min(200, len(damaged) - 8)))
            damaged[at : at + 8] = [b"\xff" * 8, bytes(8), b"\0\0\0\x10" * 2][seed % 3]
            (state / name).write_bytes(damaged)
        (state / "state.json").unlink()
        write_state(state, facts)
        with Retriever.open(path, "r", embedder=mean_color) as retriever:
            (hits,) = retriever.search_vectors(vectors_[5:6], 3)
        assert {hit.key for hit in hits} <= {str(n) for n in range(400)}


@pytest.mark.parametrize(
    "error",
    [MemoryError(), IndexError("x"), TypeError("x"), OverflowError(), StoreCorruptError("theirs")],
)
@pytest.mark.parametrize("step", ["_load", "_search"])
def test_whatever_reading_an_index_raises_it_is_rebuilt(
    tmp_path, mean_color, monkeypatch, error, step
):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=mean_color) as retriever:
        retriever.add_vectors(np.eye(48), keys=[str(n) for n in range(48)])
        retriever.reindex("hnsw")

    works = getattr(HNSWIndex, step)

    def fail(*_, **__):
        monkeypatch.setattr(HNSWIndex, step, works)
        raise error

    monkeypatch.setattr(HNSWIndex, step, fail)
    ours = isinstance(error, StoreCorruptError)
    if step == "_load":
        said = (
            f"{path}/index/state: .*{'theirs' if ours else type(error).__name__}.*rebuild the index"
        )
    else:
        said = "theirs" if ours else re.escape(repr(error))
    with Retriever.open(path, "r", embedder=mean_color) as retriever:
        with pytest.warns(UserWarning, match=f"^{path}: .* unusable and is rebuilt: {said}$"):
            (hits,) = retriever.search_vectors(np.eye(48)[5:6], 1)
        assert hits[0].key == "5"


def test_a_projection_that_unpacks_to_far_more_is_not_read(tmp_path):
    path = tmp_path / "projection.npz"
    LinearProjection(np.eye(DIM), np.zeros(DIM), kind="pca").save(path)
    packed = tmp_path / "packed.npz"
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(packed, "w") as after:
        for name in before.namelist():
            data = before.read(name) if name != "matrix.npy" else before.read(name) + bytes(10**7)
            after.writestr(name, data, compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(StoreCorruptError, match="unpacks from"):
        LinearProjection.load(packed)


def test_a_table_that_unpacks_to_far_more_is_not_read(tmp_path):
    path = tmp_path / "table.npz"
    np.savez_compressed(path, keys=np.array(["a"]), vectors=np.zeros((1 << 20, 32), np.float32))
    with pytest.raises(InvalidInputError, match=r"table\.npz: .* vectors\.npy of 134,217,856"):
        NpzTable(path)


# -- paths -----------------------------------------------------------------------------------------


def image_at(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode(np.full((8, 8, 3), 99, np.uint8)))
    return path


def test_images_are_read_below_the_stated_roots_only(tmp_path):
    inside, outside = image_at(tmp_path / "photos/a.jpg"), image_at(tmp_path / "photos2/b.jpg")
    (tmp_path / "photos/link.jpg").symlink_to(outside)
    with images.only_below(tmp_path / "photos"):
        assert images.load(inside).shape == (8, 8, 3)
        for path in (outside, tmp_path / "photos/link.jpg", tmp_path / "photos/../photos2/b.jpg"):
            for read in (read_bytes, state_of, images.load):
                with pytest.raises(
                    ImageNotFoundError, match=r"below .*photos, .* found one outside"
                ):
                    read(path)
        with pytest.raises(ImageNotFoundError, match="outside"):
            read_bytes("http://169.254.169.254/a.jpg")
        with images.only_below(outside), pytest.raises(ImageNotFoundError):  # both hold
            read_bytes(inside)
    assert read_bytes(outside)


def test_blocks_of_threads_end_in_any_order(tmp_path):
    first, second = image_at(tmp_path / "a/a.jpg"), image_at(tmp_path / "b/b.jpg")
    one, other = images.only_below(first.parent), images.only_below(second.parent)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert read_bytes(second)
    with pytest.raises(ImageNotFoundError, match="outside"):
        read_bytes(first)
    other.__exit__(None, None, None)
    assert read_bytes(first)


def test_addresses_are_roots_as_well():
    with images.only_below("s3://bucket/photos"):
        for url in ("s3://bucket/photos2/a.jpg", "s3://bucket/photos/../a.jpg", "/a.jpg"):
            with pytest.raises(ImageNotFoundError, match="outside"):
                read_bytes(url)


def test_a_root_must_be_there(tmp_path):
    with pytest.raises(InvalidInputError, match="no-folder: expected a folder"):
        images.only_below(tmp_path / "no-folder").__enter__()


def test_pages_show_no_image_outside(tmp_path, mean_color):
    secret = image_at(tmp_path / "home/secret.jpg")
    shown = image_at(tmp_path / "photos/a.jpg")
    retriever = Retriever(embedder=mean_color)
    retriever.add([str(secret), str(shown)], keys=["secret", "a"])
    hits = retriever.search(str(shown), k=2)
    assert hits.to_html().count("data:image/jpeg") > 2
    with images.only_below(shown.parent):
        page = hits.to_html()
    assert page.count("data:image/jpeg") == 2  # the query and one hit
    assert "secret" in page


def named_by_a_stranger(gallery, path, digest, embedder):
    """Let the item of a gallery name another file, as whoever makes a catalog can."""
    store = Retriever.open(gallery, "r+", embedder=embedder)
    (key,) = store
    item = store[key]
    store._gallery.change({key: replace(item, path=str(path), sha256=digest)})
    store.close()


@pytest.mark.parametrize("digest", [None, hashlib.sha256(b"of what they have").digest()])
def test_pages_show_no_image_that_its_gallery_does_not_know(tmp_path, mean_color, digest):
    query, secret = image_at(tmp_path / "a.jpg"), image_at(tmp_path / "home/secret.jpg")
    gallery = tmp_path / "g.imgret"
    with Retriever.open(gallery, "a", embedder=mean_color) as retriever:
        retriever.add([str(query)], keys=["a"])
    named_by_a_stranger(gallery, secret, digest, mean_color)
    with Retriever.load(gallery, embedder=mean_color) as retriever:
        hits = retriever.search(str(query), k=1)
        assert hits[0].path == str(secret)
        pages = [hits.to_html(), ItemFile.of(hits[0])]
        assert pages[0].count("data:image/jpeg") == 1  # the query
        assert "indexed" in pages[0] or "--images-below" in pages[0]
        with pytest.raises(ImageNotFoundError):
            pages[1].read()
        with images.only_below(tmp_path):  # then it is the reader's word
            assert hits.to_html().count("data:image/jpeg") == 2


def test_a_page_shows_what_was_indexed_and_nothing_later(tmp_path, mean_color):
    first = image_at(tmp_path / "a.jpg")
    retriever = Retriever(embedder=mean_color)
    retriever.add([str(first)])
    hits = retriever.search(np.full((8, 8, 3), 99, np.uint8), k=1)
    assert hits.to_html().count("data:image/jpeg") == 2
    first.write_bytes(images.encode(np.full((8, 8, 3), 10, np.uint8)))
    page = hits.to_html()
    assert page.count("data:image/jpeg") == 1
    assert "not the one that was indexed; index its folder again" in page
