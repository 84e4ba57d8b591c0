"""A gallery of dictionaries: the contract filled in with as little as it takes.

Several handles of one place may change it at once, as on a server.
"""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import settings

from imgret import Retriever, images, registry
from imgret.abc import Gallery, Stored
from imgret.errors import (
    DuplicateKeyError,
    StoreExistsError,
    StoreMismatchError,
    StoreNotFoundError,
    UnsupportedError,
)
from imgret.filters import passes
from imgret.projections import IdentityProjection
from imgret.search import View
from imgret.support.exact import exact_search
from imgret.testing import GalleryMachine, GalleryTests

SERVER = {}  # place -> what is there


class Place:
    def __init__(self, spec):
        self.spec = spec
        self.rows = {}  # id -> (item, embedding)
        self.ids = itertools.count(1)
        self.named = itertools.count(1)
        self.changes = 0
        self.lock = threading.RLock()


class PlainIndex:
    """Looks at as many vectors as it is told to."""

    name = "plain"
    is_exact = False
    finds_itself = False

    def __init__(self, view):
        self.view = view

    def sweep(self):
        return {"look_at": [30, 60, 120]}

    def settings(self):
        return {"look_at": self.view.look_at}

    def configure(self, *, look_at):
        self.view.look_at = look_at

    def search(self, queries, k, *, exact=False):
        blocks = self.view.blocks(self.view.ids if exact else self.view.ids[: self.view.look_at])
        return exact_search(self.view.scorable(queries), blocks, k, self.view.metric)


class PlainView(View):
    def __init__(self, spec, rows):
        super().__init__(spec.metric, IdentityProjection(spec.dim), spec.dtype)
        self.rows = rows
        self.look_at = 10**6

    @property
    def index(self):
        return PlainIndex(self)

    def _ids(self):
        return np.array(sorted(self.rows), dtype=np.int64)

    def _search(self, vectors, k):
        return exact_search(self.scorable(vectors), self.blocks(), k, self.metric)

    @property
    def is_exact(self):
        return True

    def _embeddings(self, ids):
        if len(ids):
            yield ids, self._read(ids)

    def _read(self, ids):
        rows = [self.rows[id_][1] for id_ in ids.tolist()]
        return np.array(rows, dtype=np.float32).reshape(-1, self.dim)

    def _items(self, ids):
        return {id_: self.rows[id_][0] for id_ in ids}

    def _by_key(self):
        return {item.key: id_ for id_, (item, _) in self.rows.items()}

    def _without(self, ids):
        gone = set(ids.tolist())
        return self._of(lambda id_, _: id_ not in gone)

    def _labelled(self):
        return self._of(lambda _, item: item.label is not None)

    def _of(self, keep):
        view = PlainView.__new__(PlainView)
        View.__init__(view, self.metric, self.projection, self.dtype)
        view.rows = {id_: row for id_, row in self.rows.items() if keep(id_, row[0])}
        return view


class PlainGallery(Gallery):
    shared = True
    consistent_views = True

    def __init__(self, uri, writable):
        super().__init__()
        self.uri, self._writable, self._closed = uri, writable, False

    @classmethod
    def create(cls, uri, spec, prepared=None):
        if uri in SERVER:
            raise StoreExistsError(f"{uri}: expected nothing, found a gallery")
        SERVER[uri] = Place(spec)
        return cls(uri, writable=True)

    @classmethod
    def open(cls, uri, *, writable):
        if uri not in SERVER:
            raise StoreNotFoundError(f"{uri}: expected a gallery, found nothing")
        return cls(uri, writable=writable)

    @classmethod
    def is_taken(cls, uri):
        return uri in SERVER

    @property
    def place(self):
        return SERVER[self.uri]

    name = property(lambda self: self.uri)
    spec = property(lambda self: self.place.spec)
    closed = property(lambda self: self._closed)
    writable = property(lambda self: self._writable)
    version = property(lambda self: self.place.changes)

    def _by_key(self):
        return {item.key: id_ for id_, (item, _) in self.place.rows.items()}

    def _count(self):
        return len(self.place.rows)

    def _keys(self):
        return iter([item.key for _, (item, _) in sorted(self.place.rows.items())])

    def _find(self, keys):
        ids = self._by_key()
        return {key: self.place.rows[ids[key]][0] for key in keys if key in ids}

    def _embeddings(self, keys):
        ids = self._by_key()
        wanted = list(self._keys()) if keys is None else keys
        rows = [self.place.rows[ids[key]][1] for key in wanted]
        return np.array(rows, dtype=np.float32).reshape(-1, self.spec.dim)

    def copy_of(self, sha256):
        for _, (item, embedding) in sorted(self.place.rows.items()):
            if item.sha256 == sha256:
                return Stored(item, embedding)
        return None

    def files(self):
        return iter([(item.key, item.path) for item, _ in self.place.rows.values()])

    def unused_keys(self, count):
        names = (f"image-{n}" for n in self.place.named)
        return list(itertools.islice((name for name in names if name not in self), count))

    def _add(self, items, embeddings, replacing):
        with self.place.lock:
            ids, rows = self._by_key(), dict(self.place.rows)
            for key in replacing:
                del rows[ids[key]]
            taken = {item.key for item, _ in rows.values()}
            if clash := next((item.key for item in items if item.key in taken), None):
                raise DuplicateKeyError(f"key: expected new ones, found {clash!r}")
            for item, embedding in zip(items, embeddings, strict=True):
                rows[next(self.place.ids)] = item, embedding.copy()
            self._commit(rows)

    def _remove(self, keys):
        with self.place.lock:
            ids = self._by_key()
            going = {ids[key] for key in keys}
            self._commit({id_: r for id_, r in self.place.rows.items() if id_ not in going})

    def _change(self, items):
        with self.place.lock:
            ids, rows = self._by_key(), dict(self.place.rows)
            for key, item in items.items():
                rows[ids[key]] = item, rows[ids[key]][1]
            if len({item.key for item, _ in rows.values()}) < len(rows):
                raise DuplicateKeyError("key: expected new ones")
            self._commit(rows)

    def _commit(self, rows):
        self.place.rows = rows
        self.place.changes += 1

    def _change_spec(self, changes):
        self.place.spec = self.place.spec.with_(**changes)

    def _create_filter_index(self, field):
        pass

    def view(self, where=None):
        rows = self.place.rows
        if where is not None:
            rows = {id_: row for id_, row in rows.items() if passes(row[0], where)}
        return PlainView(self.spec, rows)

    def _close(self):
        self._closed = True


class TestPlain(GalleryTests):
    kind = PlainGallery

    def new_uri(self, folder):
        return f"plain://{folder}"


class PlainMachine(GalleryMachine):
    kind = PlainGallery
    metric = "cosine"

    def new_uri(self, folder):
        return f"plain://{folder}"


TestPlainMachine = PlainMachine.TestCase
TestPlainMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


# -- a retriever on it ---------------------------------------------------------------------------


@pytest.fixture
def plugin(monkeypatch):
    """As if a package had been installed that keeps galleries at ``plain://``."""
    known = registry.gallery
    monkeypatch.setattr(
        registry, "gallery", lambda uri: PlainGallery if uri.startswith("plain:") else known(uri)
    )
    SERVER.clear()


COLORS = {"red": (200, 30, 40), "green": (40, 190, 30), "blue": (20, 50, 210)}


@pytest.fixture
def photos(tmp_path):
    """Twelve images of each of three colours, in a folder each."""
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (tmp_path / name).mkdir()
        for n in range(12):
            image = np.clip(np.array(color) + rng.normal(0, 25, (24, 32, 3)), 0, 255)
            data = images.encode(image.astype(np.uint8), "png")
            (tmp_path / name / f"{n:02d}.png").write_bytes(data)
    return tmp_path


@pytest.fixture
def retriever(plugin, photos, mean_color):
    with Retriever.open("plain://colors", "a", embedder=mean_color) as made:
        report = made.add_folder(photos, labels="parent")
        assert len(report.ok) == 36
        yield made


def test_a_folder_is_searched(retriever, photos):
    hits = retriever.search(photos / "red" / "03.png", k=5)
    assert hits[0].key == "red/03.png"
    assert {hit.label for hit in hits} == {"red"}
    assert [hit.key for hit in retriever.search_key("red/03.png", k=5)] != hits[0].key
    where = {"label": {"$in": ["green", "blue"]}}
    assert len(retriever.search(photos / "red" / "03.png", k=30, where=where)) == 24
    many = retriever.search_many([photos / "red" / "03.png", photos / "blue" / "01.png"], k=3)
    assert [hits.label for hits in many] == ["red", "blue"]
    assert len(retriever.search_vectors(retriever.embeddings(["blue/01.png"]), k=40)[0]) == 36
    mixed = retriever.search(photos / "red" / "03.png", negatives=photos / "red" / "04.png", k=3)
    assert len(mixed) == 3
    assert len(retriever.search(photos / "red" / "03.png", k=3, rerank="average-qe")) == 3


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
    assert [hit.key for hit in retriever.search_key("red/02.png", where={"year": 2020})] == [
        "red/01.png"
    ]
    retriever.update("red/01.png", image=photos / "blue" / "00.png")
    assert retriever.search_key("red/01.png", k=1)[0].label == "blue"
    retriever.add(np.zeros((8, 8, 3), np.uint8))
    assert "image-1" in retriever
    assert retriever.remove(["image-1", "red/01.png"]) == 2
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
    ):
        with pytest.raises(UnsupportedError, match=r"plain://colors: .*server"):
            call()
    assert retriever.projection is None
    assert retriever.index_reason is None


def test_an_engine_of_its_own_is_measured_and_tuned(plugin, mean_color):
    rows = np.random.default_rng(0).normal(size=(120, 48))
    with Retriever.open("plain://many", "a", embedder=mean_color) as retriever:
        retriever.add_vectors(rows, keys=[str(n) for n in range(120)])
        assert retriever.recall(3).value == 1
        tuning = retriever.tune(0.99, 3)
        assert [each.settings["look_at"] for each in tuning.tries] == [30, 60, 120]
        assert tuning.tries[0].recall < 0.5
        assert tuning.chosen.settings == {"look_at": 120}
    assert SERVER["plain://many"].spec.tuned["settings"] == {"look_at": 120}


def test_it_is_opened_again(retriever, plugin, mean_color, other_embedder, photos):
    with Retriever.open("plain://colors", embedder=mean_color) as reader:
        assert len(reader) == 36
        assert reader.path is None
        assert "plain://colors" in repr(reader)
    with pytest.raises(StoreMismatchError, match="plain://colors: expected the embedder"):
        Retriever.open("plain://colors", embedder=other_embedder)
    with pytest.raises(StoreNotFoundError):
        Retriever.open("plain://nowhere", embedder=mean_color)
    remade = Retriever.reembed("plain://colors", embedder=other_embedder)
    assert len(remade) == 36
    assert remade["red/03.png"].label == "red"
