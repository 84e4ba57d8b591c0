"""What goes wrong: servers that are killed, writers that meet, and mistakes of users."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymilvus", reason="Milvus: pip install 'imgret[milvus]'")

from imgret import Retriever, registry
from imgret.errors import (
    DuplicateKeyError,
    ImgretError,
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreForkedError,
    StoreLockedError,
    StoreNotFoundError,
    StoreVersionError,
    UnsupportedError,
)
from imgret.filters import parse_filter
from imgret.galleries.milvus import MilvusGallery
from imgret.galleries.milvus import gallery as module
from imgret.testing.galleries import new_spec
from imgret.types import Item, Part

DIM = 8


def rows_of(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def items_of(count, start=0):
    return [Item(f"k{n:05d}", label="a", metadata={"n": n}) for n in range(start, start + count)]


def client_of(gallery):
    return gallery.connection._client


@pytest.fixture
def gallery(uri):
    made = MilvusGallery.create(uri, new_spec("l2"))
    yield made
    made.close()


# -- URIs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("milvus://host:99999/a", "expected a URI such as"),
        ("milvus://host/a?tls=1", "expected parameters of .*secure.*, found 'tls'"),
        ("milvus://host/a?secure=1", "secure: expected true or false, found '1'"),
        ("milvus://host/a?timeout=soon", "timeout: expected a number of seconds"),
        ("milvus://host/a-b", "collection: expected a name of .* underscores"),
        ("milvus://host/1a", "collection: expected a name of"),
        ("milvus://host/a/b", "collection: expected a name of"),
        ("milvus://host/a?collection=b", "either as the path or as the parameter"),
        ("milvus://u:hidden@host/a?token=hidden", "token: expected either"),
        ("milvus://hidden@host/a", "user and password, .* or a token"),
        ("milvus://:hidden@host/a", "user and password, .* or a token"),
        ("milvus://host/a?ca_pem_path=/nowhere/ca.pem", "no file /nowhere/ca.pem"),
        ("milvus://", "milvus:///folder/file.db"),
        ("milvus:///folder/file", "ends with .db"),
        ("milvus:///folder/file.db?token=hidden", "no 'token'"),
    ],
)
def test_a_mistake_in_the_uri(uri, message):
    for call in (
        lambda: MilvusGallery.open(uri, writable=False),
        lambda: MilvusGallery.create(uri, new_spec()),
        lambda: MilvusGallery.is_taken(uri),
    ):
        with pytest.raises(InvalidInputError, match=message) as caught:
            call()
        assert "hidden" not in str(caught.value)


def test_no_server(caplog):
    start = time.monotonic()
    with pytest.raises(StoreError, match=r"milvus://me@127.0.0.1:1/a\?timeout=1: cannot be reach"):
        MilvusGallery.open("milvus://me:hidden@127.0.0.1:1/a?timeout=1", writable=False)
    assert time.monotonic() - start < 20
    assert "hidden" not in caplog.text
    with pytest.raises(StoreNotFoundError, match="expected a folder /nowhere"):
        MilvusGallery.create("milvus:///nowhere/a.db", new_spec())


def test_the_password_is_never_shown(caplog):
    """A server that wants another password; the client shows none either."""
    with pytest.raises(StoreError) as caught:
        MilvusGallery.open("milvus://me:hidden%2Fsecret@127.0.0.1:1/a?timeout=0.5", writable=False)
    shown = f"{caught.value} {caught.value.__cause__} {caplog.text}"
    assert "hidden" not in shown
    assert "secret" not in shown


def test_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("imgret.galleries.milvus")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ImportError, match=r"pip install 'imgret\[milvus\]'"):
        registry.gallery("milvus://host/a")


def test_two_galleries_in_one_file(tmp_path):
    """They share Milvus Lite in this process, by whatever path."""
    (tmp_path / "link").symlink_to(tmp_path)
    first = MilvusGallery.create(f"milvus://{tmp_path}/a.db?collection=one", new_spec())
    other = MilvusGallery.create(f"milvus://{tmp_path}/link/a.db?collection=two", new_spec())
    first.add(items_of(3), rows_of(3))
    first.close()
    other.add(items_of(2), rows_of(2))
    assert len(other) == 2
    other.close()
    with closing(
        MilvusGallery.open(f"milvus://{tmp_path}/a.db?collection=one", writable=False)
    ) as one:
        assert len(one) == 3


def test_what_is_no_database(tmp_path):
    file = tmp_path / "photos.db"
    file.write_bytes(b"SQLite format 3\0")
    for call in (
        lambda: MilvusGallery.open(f"milvus://{file}", writable=True),
        lambda: MilvusGallery.create(f"milvus://{file}", new_spec()),
    ):
        with pytest.raises(StoreError, match="expected a database of Milvus Lite"):
            call()
    assert file.read_bytes() == b"SQLite format 3\0"


# -- galleries of others ---------------------------------------------------------------------------


def test_a_collection_of_something_else(engine, gallery):
    uri = engine.new_uri()
    address = module.Address.parse(uri)
    client = client_of(gallery)
    client.create_collection(address.collection, dimension=4, consistency_level="Strong")
    client.insert(address.collection, [{"id": 1, "vector": [1, 2, 3, 4]}])
    for writable in (False, True):
        with pytest.raises(StoreNotFoundError, match="of something else; choose another name"):
            MilvusGallery.open(uri, writable=writable)
    with pytest.raises(StoreExistsError, match="choose another name"):
        MilvusGallery.create(uri, new_spec())
    assert len(client.query(address.collection, filter="id >= 0")) == 1
    assert not client.has_collection(address.spec_collection)
    client.drop_collection(address.collection)


def test_a_newer_or_damaged_gallery(gallery, uri):
    name = gallery.connection.address.spec_collection

    def write(content):
        row = {"name": "spec", "content": content, "vector": [0.0, 1.0]}
        client_of(gallery).upsert(name, [row])

    (row,) = client_of(gallery).query(
        name, filter='name == "spec"', output_fields=["content"], consistency_level="Strong"
    )
    for content, error in (
        ('{"version": 99}', StoreVersionError),
        ('{"version": "x"}', StoreCorruptError),
        ('{"version": 1, "spec": {"dim": 8}}', StoreCorruptError),
        ("not JSON", StoreCorruptError),
    ):
        write(content)
        with pytest.raises(error, match=r"milvus://"):
            MilvusGallery.open(uri, writable=True)
    write(row["content"])
    MilvusGallery.open(uri, writable=True).close()


def test_what_milvus_has_not(uri):
    for spec, error, message in (
        (new_spec().with_(index=Part("ivf-pq")), UnsupportedError, "'hnsw', 'ivf', or 'flat'"),
        (new_spec().with_(index=Part("hnsw", {"m": 4})), InvalidInputError, "found 'm'"),
        (new_spec().with_(index=Part("hnsw", {"M": 1})), InvalidInputError, "M: expected 2 to"),
        (new_spec(dim=1), InvalidInputError, "dim: expected 2 to"),
        (new_spec(dim=40_000), InvalidInputError, "dim: expected 2 to"),
    ):
        with pytest.raises(error, match=message):
            MilvusGallery.create(uri, spec)
    assert not MilvusGallery.is_taken(uri)


# -- items it cannot keep --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Item("ü" * 1025), "key: expected at most 2,048 bytes in Milvus, found 2,050"),
        (Item("a", label="x" * 2049), "label of 'a': expected at most 2,048 bytes"),
        (Item("a", path="/" + "x" * 8192), "path of 'a': expected at most 8,192 bytes"),
        (Item("a", metadata={"t": "x" * 65536}), "metadata of 'a': expected at most 65,536 bytes"),
        (Item("a", metadata={"n": [2**63]}), "metadata of 'a': expected whole numbers of at most"),
    ],
)
def test_items_it_cannot_keep(gallery, item, message):
    gallery.add(items_of(3), rows_of(3))
    with pytest.raises(InvalidInputError, match=message):
        gallery.add([Item("new"), item], rows_of(2))
    with pytest.raises(InvalidInputError, match=message):
        gallery.change({"k00001": item})
    assert gallery.get(list(gallery)) == items_of(3)


def test_the_most_it_can_keep(gallery):
    metadata = {"t": "x" * 65527}  # 65,536 bytes as JSON
    item = Item("ü" * 1024, label="x" * 2048, path="/" + "ü" * 4095, metadata=metadata)
    gallery.add([item], rows_of(1))
    assert gallery.get([item.key]) == [item]


def test_galleries_are_read_in_pages(gallery, monkeypatch):
    items = [Item(f"k{n % 7}{n:03d}", label="ab"[n % 2], metadata={"n": n}) for n in range(60)]
    gallery.add(items, rows_of(60))
    monkeypatch.setattr(module, "PAGE", 7)
    monkeypatch.setattr(module, "_LISTED", 5)
    assert list(gallery) == [item.key for item in items]
    assert list(gallery.files()) == [(item.key, None) for item in items]
    assert gallery.get(list(gallery)) == items
    np.testing.assert_array_equal(gallery.embeddings(), rows_of(60))
    view = gallery.view(parse_filter({"label": "a", "n": {"$gte": 20}}))
    assert view.keys() == tuple(item.key for item in items[20::2])
    assert list(view.items()) == items[20::2]
    assert len(view.labels.ids) == 20
    assert [origin.label for origin in view.origins()] == ["a"] * 20
    assert gallery.remove([item.key for item in items[:50]]) == 50
    assert list(gallery) == [item.key for item in items[50:]]


def test_two_processes_create_it_at_once(uri):
    """One of them may be told that it is there; then it opens it."""
    made, barrier = [], threading.Barrier(2)

    def create():
        barrier.wait()
        try:
            made.append(MilvusGallery.create(uri, new_spec()))
        except ImgretError as error:
            made.append(error)

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(each, (MilvusGallery, StoreExistsError)) for each in made), made
    assert any(isinstance(each, MilvusGallery) for each in made)
    for each in made:
        if isinstance(each, MilvusGallery):
            each.close()
    with closing(MilvusGallery.open(uri, writable=True)) as again:
        again.add(items_of(3), rows_of(3))
        assert len(again) == 3


# -- several writers -------------------------------------------------------------------------------


def test_two_writers_add_the_same_keys(gallery, uri):
    """Each item is there once, and none is lost."""
    other = MilvusGallery.open(uri, writable=True)
    barrier, failed = threading.Barrier(2), []

    def add(mine, seed):
        for start in range(0, 200, 20):
            barrier.wait()
            try:
                mine.add(items_of(20, start), rows_of(20, seed))
            except DuplicateKeyError as error:
                failed.append(error)

    threads = [
        threading.Thread(target=add, args=(each, n)) for n, each in enumerate((gallery, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(gallery) == [item.key for item in items_of(200)]
    assert len(gallery) == 200
    view = gallery.view()
    assert len(set(view.ids.tolist())) == 200
    found = view.search(rows_of(3), 300)
    assert all(len(set(row[row >= 0].tolist())) == 200 for row in found.ids)
    other.close()


def test_what_another_handle_added_is_found(gallery, uri):
    gallery.add(items_of(3), rows_of(3))
    with closing(MilvusGallery.open(uri, writable=True)) as other:
        assert len(other.view().search(rows_of(1), 50).ids[0]) >= 3
        gallery.add(items_of(40, 3), rows_of(40, seed=1))
        found = other.view().search(rows_of(1), 43)
        assert (found.ids >= 0).sum() == 43


def test_a_large_batch_that_fails_is_undone(gallery, monkeypatch):
    gallery.add(items_of(5), rows_of(5))
    before = gallery.embeddings()
    monkeypatch.setattr(module, "_REQUEST", 2000)
    calls = itertools.count()
    upsert = gallery.connection.upsert

    def broken(columns):
        if len(columns["id"]) > 1 and next(calls) == 3:
            raise StoreError("no room")
        upsert(columns)

    monkeypatch.setattr(gallery.connection, "upsert", broken)
    with pytest.raises(StoreError, match="no room"):
        gallery.add(items_of(60), rows_of(60, seed=1), replacing=list(gallery))
    assert next(calls) > 3
    assert gallery.get(list(gallery)) == items_of(5)
    np.testing.assert_array_equal(gallery.embeddings(), before)


def test_ids_grow_and_are_never_given_twice():
    found = [id_ for count in (1, 1000, 3, 20_000) for id_ in module.new_ids(count)]
    assert found == sorted(set(found))
    assert found[0] > 0
    assert found[-1] < 2**63


# -- processes -------------------------------------------------------------------------------------

ADD = """
import sys, numpy as np
from imgret.galleries.milvus import MilvusGallery
from imgret.types import Item
gallery = MilvusGallery.open(sys.argv[1], writable=True)
print("open", flush=True)
for start in range(0, 100_000, 50):
    items = [Item(f"n{n:06d}", metadata={"n": n}) for n in range(start, start + 50)]
    rows = np.random.default_rng(start).normal(size=(50, 8)).astype(np.float32)
    gallery.add(items, rows)
    print(start + 50, flush=True)
"""


def test_a_writer_is_killed(engine):
    """What was reported is there, and the batch that was being added is whole or not there."""
    uri = engine.new_uri()
    if "collection=" in uri:  # Milvus Lite is for one process: a file of its own
        uri = f"milvus://{Path(engine.file).parent}/killed.db"
    MilvusGallery.create(uri, new_spec("l2")).close()
    with subprocess.Popen(
        [sys.executable, "-c", ADD, uri], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        done = 0
        while done < 300:
            done = int(process.stdout.readline())
        if "127.0.0.1" not in uri:
            with pytest.raises(StoreLockedError, match="in use by another process"):
                MilvusGallery.open(uri, writable=False)
        os.kill(process.pid, signal.SIGKILL)
        lines = process.stdout.read().split()
        done = int(lines[-1]) if lines else done
    with closing(MilvusGallery.open(uri, writable=True)) as again:
        assert len(again) in {done, done + 50}
        assert sorted(again) == [f"n{n:06d}" for n in range(len(again))]
        expected = np.concatenate(
            [
                np.random.default_rng(start).normal(size=(50, 8)).astype(np.float32)
                for start in range(0, len(again), 50)
            ]
        )
        np.testing.assert_array_equal(again.embeddings(), expected)
        again.add([Item("more")], rows_of(1))
        assert "more" in again


def test_the_server_is_killed_and_comes_back(standalone):
    """Changes and searches wait for the server; what was reported is there."""
    uri = standalone.new_uri() + "?timeout=60"
    gallery = MilvusGallery.create(uri, new_spec("l2"))
    gallery.add(items_of(20), rows_of(20, 0))
    done, searches, failed, stop = [20], [], [], threading.Event()

    def add():
        gallery.add(items_of(20, done[-1]), rows_of(20, done[-1]))
        done.append(done[-1] + 20)

    def search():
        view = gallery.view()
        searches.append(view.search(rows_of(1), 5))

    def repeated(work):
        try:
            while not stop.is_set():
                work()
        except ImgretError as error:
            failed.append(error)

    threads = [threading.Thread(target=repeated, args=(work,)) for work in (add, search)]
    for thread in threads:
        thread.start()
    _until(lambda: done[-1] >= 100)
    standalone.kill()
    time.sleep(1)
    standalone.start()
    reached, asked = done[-1], len(searches)
    _until(lambda: failed or (done[-1] >= reached + 60 and len(searches) > asked + 5))
    stop.set()
    for thread in threads:
        thread.join()
    gallery.close()
    assert all(isinstance(error, StoreError) for error in failed), failed
    with closing(MilvusGallery.open(uri, writable=True)) as again:
        assert len(again) >= done[-1]
        assert sorted(again) == [item.key for item in items_of(len(again))]
        rows = np.concatenate([rows_of(20, start) for start in range(0, len(again), 20)])
        np.testing.assert_array_equal(again.embeddings(), rows)


def _until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_the_server_stays_away(standalone):
    gallery = MilvusGallery.create(standalone.new_uri() + "?timeout=2", new_spec("l2"))
    gallery.add(items_of(5), rows_of(5))
    standalone.kill()
    try:
        for call in (
            lambda: gallery.add(items_of(5, 5), rows_of(5)),
            lambda: len(gallery),
            lambda: gallery.get(["k00001"]),
        ):
            start = time.monotonic()
            with pytest.raises(StoreError, match=r"milvus://.*(cannot be reached|no answer)"):
                call()
            assert time.monotonic() - start < 30
    finally:
        standalone.start()
    gallery.close()


def test_a_wrong_password(standalone, caplog):
    """Users are checked after a restart of the server; the first one is ``root:Milvus``."""
    server = standalone.server
    standalone.stop()
    server.config.set("common.security.authorizationEnabled", "true")
    standalone.start()
    try:
        uri = standalone.new_uri().replace("127", "root:Milvus@127")
        with closing(MilvusGallery.create(uri, new_spec())) as gallery:
            assert gallery.name == uri.replace(":Milvus", "")
        for wrong in (uri.replace("Milvus@", "hidden@"), uri.replace("root:Milvus@", "")):
            with pytest.raises(StoreError, match="does not accept the user or") as caught:
                MilvusGallery.open(wrong, writable=False)
            assert "hidden" not in f"{caught.value} {caplog.text}"
    finally:
        standalone.stop()
        server.config.set("common.security.authorizationEnabled", "false")
        standalone.start()


def test_a_fork(gallery):
    gallery.add(items_of(2), rows_of(2))
    gallery.connection._pid -= 1  # as it is in a child
    for call in (lambda: len(gallery), lambda: gallery.add(items_of(1, 9), rows_of(1))):
        with pytest.raises(StoreForkedError, match="open it in each process"):
            call()
    gallery.connection._pid += 1
    assert len(gallery) == 2


def test_another_embedders_gallery(uri, mean_color, other_embedder):
    Retriever.open(uri, "a", embedder=mean_color).close()
    with pytest.raises(StoreError, match="expected the embedder"):
        Retriever.open(uri, "a", embedder=other_embedder)
