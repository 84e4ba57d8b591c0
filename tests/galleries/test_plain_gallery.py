"""The contract suite, and a retriever, on a gallery of dictionaries."""

import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from imgret import Retriever, images, registry
from imgret.errors import StoreMismatchError, StoreNotFoundError, UnsupportedError
from imgret.testing import GalleryMachine, GalleryTests

_SPEC = util.spec_from_file_location(
    "plain_gallery", Path(__file__).parents[1] / "consumer" / "plain_gallery.py"
)
plain_gallery = sys.modules[_SPEC.name] = util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain_gallery)
PlainGallery, SERVER = plain_gallery.PlainGallery, plain_gallery.SERVER


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
    assert len(retriever.augmented(3)) == len(retriever.augmented(99)) == 36


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
