"""A gallery and the files of its models: replaced, moved, missing, and not needed at all."""

import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from imgret import OnnxEmbedder, Retriever, images
from imgret.abc import Cropper
from imgret.croppers import AttentionCropper, CombinedCropper, SaliencyCropper
from imgret.embedders import TwoViewEmbedder
from imgret.errors import ModelError, StoreMismatchError
from imgret.models import session
from imgret.types import Box

PLAIN = {"size": 8, "scaling": None}


@pytest.fixture
def pictures(make_picture):
    return [make_picture(n) for n in range(4)]


@pytest.fixture
def tree(tmp_path, make_onnx, pictures):
    """A folder with models/, images/ and photos.imgret, made from there by a relative path."""
    root = tmp_path / "tree"
    make_onnx(root / "models" / "m.onnx")
    (root / "images").mkdir()
    for n, picture in enumerate(pictures):
        (root / "images" / f"{n}.png").write_bytes(images.encode(picture, "png"))
    return root


def make(root, monkeypatch, *, embedder=None, **options):
    monkeypatch.chdir(root)
    embedder = OnnxEmbedder("models/m.onnx", preprocess=PLAIN) if embedder is None else embedder
    with Retriever.open("photos.imgret", "a", embedder=embedder, **options) as made:
        made.add_folder("images", progress=False)
        made.add_vectors(np.eye(2, made.embedder.dim), keys=["v", "w"], labels=["x", "y"])
    return root / "photos.imgret"


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text()) | {"crc32": None}  # to be changed


def answers(path, root, **options):
    with Retriever.open(path, **options) as opened:
        return [hit.key for hit in opened.search(root / "images" / "2.png", 1)]


# -- found again ------------------------------------------------------------------------------


def test_a_relative_path_is_found_from_everywhere(tree, monkeypatch, tmp_path):
    path = make(tree, monkeypatch)
    stored = manifest_of(path)
    assert stored["embedder"]["config"]["model"] == str(tree / "models" / "m.onnx")
    assert stored["files"] == {str(tree / "models" / "m.onnx"): "../models/m.onnx"}
    for elsewhere in (tmp_path, Path("/")):
        monkeypatch.chdir(elsewhere)
        assert answers(path, tree) == ["2.png"]


def test_a_tree_that_is_moved_stays_one(tree, monkeypatch, tmp_path, make_onnx):
    saliency = make_onnx(tree / "models" / "s.onnx", outputs=["map"])
    make(tree, monkeypatch, cropper=croppers(saliency)["saliency"])
    monkeypatch.chdir(tmp_path)
    moved = tree.rename(tmp_path / "deep").rename(tmp_path / "moved")
    assert answers(moved / "photos.imgret", moved) == ["2.png"]
    with Retriever.open(moved / "photos.imgret", "r+") as opened:
        opened.add(moved / "images" / "0.png", keys="again")
    stored = manifest_of(moved / "photos.imgret")
    there = [stored[part]["config"]["model"] for part in ("embedder", "cropper")]
    assert there == [str(moved / "models" / name) for name in ("m.onnx", "s.onnx")]
    assert stored["files"] == dict(
        zip(there, ["../models/m.onnx", "../models/s.onnx"], strict=True)
    )


def test_a_change_without_the_model_keeps_where_it_is(tree, monkeypatch, tmp_path):
    make(tree, monkeypatch)
    monkeypatch.chdir(tmp_path)
    moved = tree.rename(tmp_path / "moved")
    with Retriever.open(moved / "photos.imgret", "r+") as opened:
        opened.reindex("exact")
    assert answers(moved / "photos.imgret", moved) == ["2.png"]
    with Retriever.open(moved / "photos.imgret") as opened:
        opened.save(tmp_path / "a" / "b" / "copy.imgret")
    assert answers(tmp_path / "a" / "b" / "copy.imgret", moved) == ["2.png"]
    Retriever.load(moved / "photos.imgret").save(tmp_path / "other.imgret")
    assert manifest_of(tmp_path / "other.imgret")["files"] == {
        str(tree / "models" / "m.onnx"): "../moved/models/m.onnx"
    }


def test_a_copied_tree_counts_on_its_own_files(tree, monkeypatch, tmp_path):
    make(tree, monkeypatch)
    copy = Path(shutil.copytree(tree, tmp_path / "copy"))
    with Retriever.open(copy / "photos.imgret", "r+") as opened:
        opened.reindex("exact")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tree)
    assert answers(copy / "photos.imgret", copy) == ["2.png"]


def test_the_fingerprint_decides_which_file_is_right(tree, monkeypatch, tmp_path, make_onnx):
    make(tree, monkeypatch)
    monkeypatch.chdir(tmp_path)
    moved = tree.rename(tmp_path / "moved")
    make_onnx(tree / "models" / "m.onnx", seed=5)  # another one where it was
    assert answers(moved / "photos.imgret", moved) == ["2.png"]


def test_an_old_manifest_with_a_relative_path(tree, monkeypatch, tmp_path):
    path = make(tree, monkeypatch)
    old = manifest_of(path)
    del old["files"], old["cropper_fingerprint"]
    old["embedder"]["config"]["model"] = "models/m.onnx"
    (path / "manifest.json").write_text(json.dumps(old))
    assert answers(path, tree) == ["2.png"]
    monkeypatch.chdir(tmp_path)
    assert answers(path, tree) == ["2.png"]  # beside the gallery
    with Retriever.open(path, "r+") as opened:
        opened.embed([tree / "images" / "0.png"])
    assert manifest_of(path)["embedder"]["config"]["model"] == str(tree / "models" / "m.onnx")


# -- not needed, and missing ------------------------------------------------------------------


@pytest.fixture
def lost(tree, monkeypatch, tmp_path):
    """A gallery whose model is gone; and the model."""
    path = make(tree, monkeypatch, cropper="center")
    return path, (tree / "models" / "m.onnx").rename(tmp_path / "else.onnx")


def test_what_needs_no_model_loads_none(lost, monkeypatch):
    path, _ = lost
    monkeypatch.setattr(session, "Session", None)
    with Retriever.open(path, "r+") as opened:
        assert len(opened.search_key("1.png", 2)) == 2
        assert len(opened.search_vectors(np.ones((1, 5)), 2)[0]) == 2
        opened.duplicates(0.99)
        opened.outliers()
        opened.clusters(2)
        opened.map2d()
        opened.neighbor_graph()
        opened.recall(1)
        opened.evaluate(n_resamples=2)
        opened.explain()
        opened.augmented(2)
        opened.update("w", label="x")
        opened.project("pca", dim=2)
        opened.project(None)
        opened.reindex("exact")
        opened.save()
        assert opened.remove("0.png") == 1
        opened.embeddings()
        assert "'onnx'" in repr(opened)
    assert len(Retriever.load(path)) == 5


def test_a_missing_model_is_named_with_the_way_on(lost, pictures):
    path, _ = lost
    fingerprint = manifest_of(path)["fingerprint"][:19]
    with Retriever.open(path) as opened:
        for call in (
            lambda: opened.search(pictures[0]),
            lambda: opened.embed(pictures),
            lambda: opened.evaluate(pictures, ["x"] * 4),
            lambda: opened.embedder,
        ):
            with pytest.raises(ModelError) as raised:
                call()
            message = str(raised.value)
            wanted = (str(path), "m.onnx", fingerprint, "embedder=", "--embedder")
            assert all(word in message for word in wanted)


@pytest.mark.parametrize("form", [str, Path, lambda at: OnnxEmbedder(at, preprocess=PLAIN)])
def test_a_model_is_given_by_its_new_path_and_kept(lost, tree, form):
    path, at = lost
    assert answers(path, tree, embedder=form(at)) == ["2.png"]
    assert manifest_of(path)["embedder"]["config"]["model"] != str(at)  # opened for reading
    Retriever.load(path, embedder=form(at)).search(tree / "images" / "0.png")
    Retriever.open(path, "r+", embedder=form(at)).close()
    assert manifest_of(path)["embedder"]["config"] == {
        "model": str(at),
        "preprocess": OnnxEmbedder(at, preprocess=PLAIN).config()["preprocess"],
    }
    assert answers(path, tree) == ["2.png"]


def test_a_given_model_that_is_another_is_refused_at_once(lost, make_onnx, tmp_path):
    path, _ = lost
    other = make_onnx(tmp_path / "other.onnx", seed=3)
    before = manifest_of(path)
    for form in (str, Path, lambda at: OnnxEmbedder(at, preprocess=PLAIN)):
        for mode in ("r", "r+"):
            with pytest.raises(StoreMismatchError, match="expected the embedder it was made with"):
                Retriever.open(path, mode, embedder=form(other))
    assert manifest_of(path) == before


@pytest.mark.parametrize("name", ["M.ONNX", "noext", "model.v2"])
def test_a_model_file_of_another_suffix(tree, monkeypatch, name):
    target = (tree / "models" / "m.onnx").rename(tree / name)
    path = make(tree, monkeypatch, embedder=OnnxEmbedder(target, preprocess=PLAIN))
    monkeypatch.chdir(tree)
    assert answers(path, tree) == ["2.png"]
    assert answers(path, tree, embedder=name) == ["2.png"]
    with pytest.raises(ModelError, match="facts about its input"):  # so it was found
        Retriever(embedder=name)


# -- replaced ---------------------------------------------------------------------------------


def test_a_replaced_model_is_refused_when_the_gallery_is_opened(tree, monkeypatch, make_onnx):
    path = make(tree, monkeypatch)
    make_onnx(tree / "models" / "m.onnx", seed=1)
    for opened in (Retriever.open, Retriever.load, lambda at: Retriever.open(at, "r+")):
        with pytest.raises(StoreMismatchError, match="reembed"):
            opened(path)


def test_replaced_weights_in_a_second_file_are_refused(tree, monkeypatch, make_onnx, pictures):
    model = make_onnx(tree / "models" / "m.onnx", external="m.onnx.data")
    path = make(tree, monkeypatch)
    graph = model.read_bytes()
    assert answers(path, tree) == ["2.png"]
    make_onnx(model, seed=1, external="m.onnx.data")
    model.write_bytes(graph)  # the same graph, other weights
    with pytest.raises(StoreMismatchError, match="expected the embedder it was made with"):
        Retriever.load(path)
    model.with_name("m.onnx.data").unlink()
    with (
        Retriever.open(path) as opened,
        pytest.raises(ModelError, match=r"m\.onnx\.data.*none there"),
    ):
        opened.search(pictures[0])


def croppers(model):
    saliency = SaliencyCropper(model, preprocess=PLAIN, output="map")
    return {
        "saliency": saliency,
        "combined": CombinedCropper([saliency, "center"], how="intersection"),
    }


@pytest.mark.parametrize("kind", ["saliency", "combined"])
def test_a_replaced_cropper_is_refused(tree, monkeypatch, make_onnx, pictures, kind):
    model = make_onnx(tree / "crop" / "sal.onnx", outputs=["map"])
    path = make(tree, monkeypatch, cropper=croppers(model)[kind])
    assert manifest_of(path)["cropper_fingerprint"] == croppers(model)[kind].fingerprint
    assert answers(path, tree) == ["2.png"]
    make_onnx(model, seed=1, outputs=["map"])
    message = r"expected the cropper.*its file has changed.*reembed"
    with pytest.raises(StoreMismatchError, match=message), Retriever.open(path) as opened:
        opened.search(pictures[0])
    with pytest.raises(StoreMismatchError, match="expected the cropper"):
        Retriever.open(path, cropper=croppers(model)[kind])


def test_a_cropper_that_moved(tree, monkeypatch, make_onnx, tmp_path):
    model = make_onnx(tree / "crop" / "sal.onnx", outputs=["map"])
    path = make(tree, monkeypatch, cropper=croppers(model)["combined"])
    at = model.rename(tmp_path / "else.onnx")
    with Retriever.open(path) as opened, pytest.raises(ModelError, match=r"sal\.onnx.*--cropper"):
        opened.search(tree / "images" / "0.png")
    assert answers(path, tree, cropper=str(at)) == ["2.png"]
    Retriever.open(path, "r+", cropper=at).close()
    assert str(at) in json.dumps(manifest_of(path)["cropper"])
    assert answers(path, tree) == ["2.png"]


def test_a_two_view_embedder_over_files(tree, monkeypatch, make_onnx, tmp_path, pictures):
    model = make_onnx(tree / "crop" / "sal.onnx", outputs=["map"])
    embedder = TwoViewEmbedder(
        OnnxEmbedder(tree / "models" / "m.onnx", preprocess=PLAIN), croppers(model)["saliency"]
    )
    path = make(tree, monkeypatch, embedder=embedder)
    monkeypatch.chdir(tmp_path)
    moved = tree.rename(tmp_path / "moved")
    path = moved / "photos.imgret"
    assert answers(path, moved) == ["2.png"]
    at = (moved / "crop" / "sal.onnx").rename(tmp_path / "s.onnx")
    assert answers(path, moved, embedder=str(at)) == ["2.png"]
    old = manifest_of(path)
    (path / "manifest.json").write_text(
        json.dumps(old | {"fingerprint": embedder.former_fingerprint})
    )  # as older versions wrote it: the cropper's path stands in it
    (moved / "crop").mkdir(exist_ok=True)
    (tree / "crop").mkdir(parents=True)
    at.rename(tree / "crop" / "sal.onnx")
    assert answers(path, moved) == ["2.png"]
    (path / "manifest.json").write_text(json.dumps(old))
    make_onnx(tree / "crop" / "sal.onnx", seed=1, outputs=["map"])
    with Retriever.open(path) as opened, pytest.raises(StoreMismatchError, match="embedder"):
        opened.search(pictures[0])


def test_fingerprints_of_croppers_tell_what_changes_a_box(make_onnx, tmp_path):
    model = make_onnx(tmp_path / "a.onnx", outputs=["map"])
    copy = shutil.copy(model, tmp_path / "b.onnx")
    with_ = {"preprocess": PLAIN, "output": "map"}
    same = [
        SaliencyCropper(model, **with_),
        SaliencyCropper(copy, **with_),
        SaliencyCropper(model, **with_, batch_size=7, providers=["CPUExecutionProvider"]),
    ]
    others = [
        SaliencyCropper(model, **with_, threshold=0.7),
        SaliencyCropper(model, **with_, largest=True),
        SaliencyCropper(model, **with_ | {"preprocess": PLAIN | {"resize": "squash"}}),
        SaliencyCropper(make_onnx(tmp_path / "c.onnx", seed=1, outputs=["map"]), **with_),
        SaliencyCropper("spectral"),
        SaliencyCropper("spectral", margin=0.3),
        AttentionCropper("general"),
        AttentionCropper("general", size=256),
        CombinedCropper([same[0], "center"], how="intersection"),
        CombinedCropper([same[0], "center"], how="mean"),
        CombinedCropper([same[0], "spectral"], how="mean"),
    ]
    assert len({one.fingerprint for one in same}) == 1
    assert len({one.fingerprint for one in (*others, same[0])}) == len(others) + 1


class Left(Cropper):
    """A plugin that says nothing of fingerprints."""

    def __init__(self, part=0.5):
        self.part = part

    def config(self):
        return {"part": self.part}

    def _detect(self, given):
        return [Box(0, 0, max(1, int(one.shape[1] * self.part)), one.shape[0]) for one in given]


def test_a_cropper_of_others_is_told_by_its_options(mean_color, tmp_path):
    path = tmp_path / "g.imgret"
    Retriever.open(path, "a", embedder=mean_color, cropper=Left()).close()
    Retriever.open(path, embedder=mean_color, cropper=Left()).close()
    with pytest.raises(StoreMismatchError, match="expected the cropper"):
        Retriever.open(path, embedder=mean_color, cropper=Left(0.4))


class OfFile(Left):
    """A plugin that is made of a file of its own kind."""

    def __init__(self, weights):
        super().__init__(float(Path(weights).read_text()))
        self.weights = str(weights)

    def config(self):
        return {"weights": self.weights}


def test_a_file_of_a_plugin_counts_by_what_is_in_it(mean_color, tmp_path):
    (tmp_path / "w.txt").write_text("0.5")
    path = tmp_path / "g.imgret"
    Retriever.open(path, "a", embedder=mean_color, cropper=OfFile(tmp_path / "w.txt")).close()
    at = (tmp_path / "w.txt").rename(tmp_path / "v.txt")
    Retriever.open(path, "r+", embedder=mean_color, cropper=OfFile(at)).close()
    assert manifest_of(path)["cropper"]["config"] == {"weights": str(at)}
    at.write_text("0.25")
    with pytest.raises(StoreMismatchError, match="expected the cropper"):
        Retriever.open(path, embedder=mean_color, cropper=OfFile(at))


def test_galleries_without_a_fingerprint_of_their_cropper_are_accepted(
    tree, monkeypatch, make_onnx
):
    model = make_onnx(tree / "crop" / "sal.onnx", outputs=["map"])
    path = make(tree, monkeypatch, cropper=croppers(model)["saliency"])
    old = manifest_of(path)
    del old["cropper_fingerprint"], old["files"]
    old["cropper"]["config"]["model"] = "crop/sal.onnx"
    (path / "manifest.json").write_text(json.dumps(old))
    assert answers(path, tree) == ["2.png"]
    assert answers(path, tree, cropper=croppers(model)["saliency"]) == ["2.png"]
    with pytest.raises(StoreMismatchError, match="expected the cropper"):
        Retriever.open(path, cropper="center")


# -- paths that are not UTF-8 -----------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
@pytest.mark.parametrize("index", ["flat", "hnsw", "ivf", "faiss:SQ8"])
def test_a_gallery_whose_path_is_not_utf8(tmp_path, mean_color, index):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/gal\xff.imgret")
    vectors = np.random.default_rng(0).standard_normal((300, 48)).astype(np.float32)
    with Retriever.open(path, "a", embedder=mean_color, index=index) as made:
        made.add_vectors(vectors, keys=map(str, range(300)))
        made.project("pca", dim=8)
    for opened in (
        Retriever.open(path, embedder=mean_color),
        Retriever.load(path, embedder=mean_color),
    ):
        assert opened.search_key("7", 3)[0].key != "7"
        assert [hits[0].key for hits in opened.search_vectors(vectors[:3], 1)] == ["0", "1", "2"]
        opened.close()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_model_whose_path_is_not_utf8(tree, monkeypatch):
    name = os.fsdecode(b"m\xff.onnx")
    at = (tree / "models" / "m.onnx").rename(tree / name)
    path = make(tree, monkeypatch, embedder=OnnxEmbedder(at, preprocess=PLAIN))
    monkeypatch.chdir("/")
    assert answers(path, tree) == ["2.png"]


# -- opened once ------------------------------------------------------------------------------


def test_threads_that_need_the_model_at_once_load_it_once(tree, monkeypatch, pictures):
    path = make(tree, monkeypatch)
    loaded = []
    load = session.Session.__init__

    def slowly(self, *arguments, **options):
        loaded.append(1)
        time.sleep(0.05)
        load(self, *arguments, **options)

    monkeypatch.setattr(session.Session, "__init__", slowly)
    with Retriever.open(path) as opened, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: opened.search(one, 1)[0].key, pictures))
    assert len(found) == 4
    assert len(loaded) == 1
