"""A retriever on Milvus: the same calls as on a directory."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("pymilvus", reason="Milvus: pip install 'imgret[milvus]'")

from pymilvus import MilvusClient

from imgret import Retriever, images
from imgret.errors import (
    ImgretError,
    InvalidInputError,
    StoreMismatchError,
    StoreNotFoundError,
    UnsupportedError,
)
from imgret.filters import parse_filter
from imgret.galleries.milvus import MilvusGallery, gallery, view
from imgret.galleries.milvus.address import Address
from imgret.galleries.milvus.connection import MilvusConnection
from imgret.testing.galleries import new_spec
from imgret.types import Item, Part

COLORS = {"red": (200, 30, 40), "green": (40, 190, 30), "blue": (20, 50, 210)}


@pytest.fixture
def photos(tmp_path):
    """Twelve images of each of three colours, in a folder each."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for n in range(12):
            image = np.clip(np.array(color) + rng.normal(0, 25, (24, 32, 3)), 0, 255)
            data = images.encode(image.astype(np.uint8), "png")
            (folder / name / f"{n:02d}.png").write_bytes(data)
    return folder


@pytest.fixture
def retriever(uri, photos, mean_color):
    with Retriever.open(uri, "a", embedder=mean_color) as made:
        report = made.add_folder(photos, labels="parent")
        assert len(report.ok) == 36
        yield made


def test_a_folder_is_searched(retriever, photos):
    query = photos / "red" / "03.png"
    hits = retriever.search(query, k=5)
    assert hits[0].key == "red/03.png"
    assert hits[0].score == pytest.approx(1, abs=1e-3)
    assert {hit.label for hit in hits} == {"red"}
    assert "red/03.png" not in [hit.key for hit in retriever.search_key("red/03.png", k=5)]
    where = {"label": {"$in": ["green", "blue"]}}
    assert len(retriever.search(query, k=30, where=where)) == 24
    many = retriever.search_many([query, photos / "blue" / "01.png"], k=3)
    assert [hits.label for hits in many] == ["red", "blue"]
    assert len(retriever.search_vectors(retriever.embeddings(["blue/01.png"]), k=40)[0]) == 36
    assert len(retriever.search(query, negatives=photos / "red" / "04.png", k=3)) == 3
    assert len(retriever.search(query, k=3, rerank="average-qe")) == 3
    with pytest.raises(InvalidInputError, match="'lable'.*did you mean 'label'"):
        retriever.search(query, where={"lable": "red"})


def test_a_folder_is_followed(retriever, photos):
    assert retriever.add_folder(photos, labels="parent").summary().startswith("36 unchanged; ")
    (photos / "red" / "03.png").rename(photos / "red" / "new.png")
    (photos / "red" / "04.png").unlink()
    copy = (photos / "blue" / "01.png").read_bytes()
    (photos / "blue" / "copy.png").write_bytes(copy)
    report = retriever.add_folder(photos, labels="parent", prune=True)
    assert [line.key for line in report.renamed] == ["red/new.png"]
    assert "red/04.png" not in retriever
    assert retriever["red/new.png"].label == "red"
    same = retriever.embeddings(["blue/01.png", "blue/copy.png"])
    np.testing.assert_array_equal(same[0], same[1])


def test_items_are_changed(retriever, photos):
    retriever.update("red/01.png", label="scarlet", metadata={"year": 2020})
    assert retriever["red/01.png"].label == "scarlet"
    found = retriever.search_key("red/02.png", where={"year": 2020})
    assert [hit.key for hit in found] == ["red/01.png"]
    retriever.update("red/01.png", image=photos / "blue" / "00.png")
    assert retriever.search_key("red/01.png", k=1)[0].label == "blue"
    retriever.add(np.zeros((8, 8, 3), np.uint8))
    (name,) = [key for key in retriever if key.startswith("image-")]
    assert retriever.remove([name, "red/01.png"]) == 2
    assert len(retriever) == 35


def test_the_gallery_as_a_whole(retriever, photos):
    assert retriever.evaluate().metrics["top1"] == 1
    assert retriever.classify(photos / "green" / "03.png").label == "green"
    assert retriever.recall(10).value == 1
    retriever.calibrate(k=30)
    assert retriever.search(photos / "red" / "03.png", k=3, precision=0.9)
    assert retriever.duplicates(threshold=0.9999) is not None
    assert retriever.clusters(3).sizes.tolist() == [12, 12, 12]
    assert retriever.outliers(k=3)
    assert retriever.mislabelled(k=3) == []
    assert len(retriever.augmented(3)) == 36


def test_what_it_cannot_do_is_refused(retriever, tmp_path):
    for call in (
        lambda: retriever.project("pca", dim=3),
        retriever.adapt,
        lambda: retriever.reindex("hnsw"),
        retriever.explain,
        lambda: retriever.index,
        lambda: retriever.save(tmp_path / "copy.imgret"),
        retriever.check,
        retriever.compact,
    ):
        with pytest.raises(UnsupportedError, match=r"milvus://.*server"):
            call()
    assert retriever.projection is None


@pytest.mark.parametrize(("index", "option"), [("hnsw", "ef_search"), ("ivf", "nprobe")])
def test_its_index_is_measured_and_tuned(uri, mean_color, index, option):
    rows = np.random.default_rng(0).normal(size=(600, 48))
    with Retriever.open(uri, "a", embedder=mean_color, index=index) as retriever:
        tenth = [{"tenth": n % 10 == 0} for n in range(600)]
        retriever.add_vectors(rows, keys=[str(n) for n in range(600)], metadata=tenth)
        assert retriever.recall(3).value > 0.9
        tuning = retriever.tune(0.9, 3)
        assert option in tuning.chosen.settings
        found = retriever.search_vectors(rows[:50], k=600)
        assert {len(hits) for hits in found} == {600}  # never short
        # What a filter lets through is found as well as all.
        queries = np.random.default_rng(1).normal(size=(50, 48))
        near = queries @ (rows[::10] / np.linalg.norm(rows[::10], axis=1, keepdims=True)).T
        best = np.argsort(-near, axis=1)[:, :3] * 10
        found = retriever.search_vectors(queries, k=3, where={"tenth": True})
        right = [
            {int(hit.key) for hit in hits} & set(row)
            for hits, row in zip(found, best.tolist(), strict=True)
        ]
        assert sum(map(len, right)) / best.size >= 0.9
    with Retriever.open(uri, embedder=mean_color) as retriever:
        assert retriever._gallery.view().index.settings() == tuning.chosen.settings


@pytest.mark.parametrize(
    ("index", "option"), [("hnsw", {"ef_search": 10}), ("ivf", {"nlist": 64, "nprobe": 4})]
)
def test_a_filter_loses_no_recall(lite, index, option):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 48))
    rows = centres[rng.integers(40, size=4000)] + rng.normal(size=(4000, 48))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = centres[rng.integers(40, size=100)] + rng.normal(size=(100, 48))
    uri = lite.new_uri()
    made = MilvusGallery.create(uri, new_spec("cosine", dim=48).with_(index=Part(index, option)))
    made.add([Item(str(n), metadata={"n": n % 200}) for n in range(4000)], rows.astype("f4"))
    built(uri)
    for below in (1, 2, 20, 40, 100):  # of 200
        view = made.view(parse_filter({"n": {"$lt": below}}))
        there = np.flatnonzero(np.arange(4000) % 200 < below)
        best = there[np.argsort(-queries @ rows[there].T, axis=1)[:, :10]]
        found = view.search(queries, 10)
        keys = [item.key for item in view.items(found.ids.ravel())]
        hits = np.array(keys, dtype=int).reshape(100, 10)
        right = sum(len(set(h) & set(b)) for h, b in zip(hits, best, strict=True))
        assert right / best.size >= 0.97, (below, right / best.size)
    made.close()


def test_items_are_counted_again_after_a_change_by_others(uri, monkeypatch):
    rows = np.eye(6, dtype=np.float32)
    made = MilvusGallery.create(uri, new_spec(dim=6).with_(index=Part("hnsw")))
    made.add([Item(str(n), label="a") for n in range(3)], rows[:3])
    other = MilvusGallery.open(uri, writable=False)
    monkeypatch.setattr(gallery, "_FRESH", 0.0)
    asked, count = [], MilvusGallery.count
    monkeypatch.setattr(
        MilvusGallery, "count", lambda self, *a, **b: asked.append(a) or count(self, *a, **b)
    )
    where = parse_filter({"label": "a"})
    for _ in range(2):
        assert (other.view(where).search(rows, 3).ids >= 0).all()
    assert len(asked) == 2  # those that pass, and all
    made.add([Item("new", label="a")], rows[3:4])
    until = time.monotonic() + 10  # a server shows changes by others after a while
    text = other.compiled(where).text
    while (counted := other.passing(text)) < 4 and time.monotonic() < until:
        time.sleep(0.1)
    assert counted == other.passing("") == 4
    made.close()
    other.close()


def built(uri):
    """Wait for the index, which is built of what was written to files."""
    address = Address.parse(uri)
    client = MilvusClient(address.target)
    client.flush(address.collection)
    client.release_collection(address.collection)
    client.load_collection(address.collection)
    client.close()


def test_many_queries_with_a_filter_are_several_requests(uri, mean_color, monkeypatch):
    """One of them alone could take longer than a request may."""
    rows = np.random.default_rng(0).normal(size=(3000, 48))
    queries = np.random.default_rng(1).normal(size=(40, 48))
    with Retriever.open(uri, "a", embedder=mean_color, index="hnsw") as retriever:
        half = [{"half": n % 2 == 0} for n in range(3000)]
        retriever.add_vectors(rows, keys=[str(n) for n in range(3000)], metadata=half)
        list(retriever.search_vectors(queries[:1], k=3, where={"half": True}))  # counts
        widths, ask = [], MilvusConnection.ask

        def noting(self, method, *args, **kwargs):
            if method == "search":
                widths.append((len(kwargs["data"]), kwargs["search_params"]["params"]["ef"]))
            return ask(self, method, *args, **kwargs)

        monkeypatch.setattr(MilvusConnection, "ask", noting)
        monkeypatch.setattr(view, "_COST", 2**13)
        found = retriever.search_vectors(queries, k=3, where={"half": True})
        assert [len(hits) for hits in found] == [3] * 40
    assert sum(count for count, _ in widths) == 40
    assert len(widths) > 1
    assert all(count * ef <= 2**13 for count, ef in widths)


def test_lite_reads_what_passes_a_filter_once(lite, monkeypatch):
    """It goes through the metadata of all items at each request, and these take it seconds."""
    rows = np.random.default_rng(0).normal(size=(6000, 8)).astype(np.float32)
    spec = new_spec("ip", dim=8).with_(index=Part("hnsw", {"ef_search": 400}))
    made = MilvusGallery.create(lite.new_uri(), spec)
    made.add([Item(str(n), metadata={"n": n}) for n in range(6000)], rows)
    some = made.view(parse_filter({"n": {"$lt": 1200}}))
    some.search(rows[:1], 3)  # counts
    asked, ask = [], MilvusConnection.ask

    def noting(self, method, *args, **kwargs):
        asked.append(method)
        return ask(self, method, *args, **kwargs)

    monkeypatch.setattr(MilvusConnection, "ask", noting)
    monkeypatch.setattr(gallery, "_FRESH", 3600.0)
    found = some.search(rows[:300], 3)
    assert asked == ["query"]
    best = np.argsort(-rows[:300] @ rows[:1200].T, axis=1)[:, :3]
    keys = [int(item.key) for item in some.items(found.ids.ravel())]
    assert np.array_equal(np.reshape(keys, best.shape), best)
    made.close()


def test_a_search_is_one_request(retriever, monkeypatch):
    monkeypatch.setattr(gallery, "_FRESH", 3600.0)  # seconds until items are counted again
    vector = retriever.embeddings(["blue/01.png"])
    retriever.search_vectors(vector, k=3)
    asked, ask = [], MilvusConnection.ask

    def noting(self, method, *args, **kwargs):
        asked.append(method)
        return ask(self, method, *args, **kwargs)

    monkeypatch.setattr(MilvusConnection, "ask", noting)
    (hits,) = retriever.search_vectors(vector, k=3)
    assert [hit.label for hit in hits] == ["blue"] * 3
    assert asked == ["search"]


def test_it_is_opened_again(retriever, uri, mean_color, other_embedder, photos):
    with Retriever.open(uri, embedder=mean_color) as reader:
        assert len(reader) == 36
        assert reader.path is None
        assert "milvus://" in repr(reader)
    with pytest.raises(StoreMismatchError, match=r"milvus://.*: expected the embedder"):
        Retriever.open(uri, embedder=other_embedder)
    with pytest.raises(StoreNotFoundError, match="imgret index FOLDER -o milvus://"):
        Retriever.open(uri + "x", embedder=mean_color)
    remade = Retriever.reembed(uri, embedder=other_embedder)
    assert len(remade) == 36
    assert remade["red/03.png"].label == "red"


def test_the_command_line(lite, photos, tmp_path):
    uri = f"milvus://{tmp_path}/new.db"

    def run(*arguments):
        command = [sys.executable, "-m", "imgret", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert "pymilvus" not in done.stderr
        return done.stdout

    run("index", photos, "-o", uri, "--labels", "parent", "--cropper", "none")
    assert {path.name for path in tmp_path.iterdir()} == {"new.db", "photos"}
    found = json.loads(run("search", uri, photos / "red" / "03.png", "-k", "3", "--json"))
    assert "red/03.png" in str(found)
    assert uri in run("info", uri)


def test_many_open_a_file_at_once(tmp_path, photos, mean_color, monkeypatch):
    database = pytest.importorskip("milvus_lite.db", reason="Milvus Lite")
    uri = f"milvus://{tmp_path}/shared.db"
    with Retriever.open(uri, "a", embedder=mean_color) as retriever:
        retriever.add_folder(photos)
    read, opened = database.load_schema, []

    def slow(path):
        opened.append(path)
        time.sleep(0.05)  # in which Milvus Lite opens a collection again for who asks for it
        return read(path)

    monkeypatch.setattr(database, "load_schema", slow)

    def count(_):
        with Retriever.open(uri, embedder=mean_color) as retriever:
            return len(retriever)

    with Retriever.open(uri.replace("shared.db", "shared.db?collection=other"), "a"):
        opened.clear()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(count, range(4))) == [36] * 4
    assert len(opened) == len(set(opened)) == 2  # the items, and what the gallery is made of


def test_two_add_the_same_folder_at_once(uri, photos, mean_color):
    Retriever.open(uri, "a", embedder=mean_color).close()
    failed = []

    def add():
        try:
            with Retriever.open(uri, "r+", embedder=mean_color) as retriever:
                retriever.add_folder(photos, labels="parent")
        except ImgretError as error:
            failed.append(error)

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    with Retriever.open(uri, embedder=mean_color) as retriever:
        assert len(retriever) == 36
        assert len(set(retriever)) == 36
        assert retriever.evaluate().metrics["top1"] == 1
