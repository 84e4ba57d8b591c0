"""What cropping does to retrieval."""

import json

import numpy as np
import pytest

from imgret import Retriever, images
from imgret.abc import Cropper
from imgret.cli import main
from imgret.croppers import CenterCrop, NoCrop
from imgret.errors import EmptyGalleryError, InvalidInputError, KeyNotFoundError
from imgret.types import Box

CLASSES = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 200)}
INNER = Box(30, 30, 66, 66)


class Inner(Cropper):
    """Knows where the subject of the images below is."""

    name = "inner"

    def config(self):
        return {}

    def _detect(self, images_):
        return [INNER for _ in images_]


class Corner(Inner):
    """Looks where the subject is not."""

    name = "corner"

    def _detect(self, images_):
        return [Box(0, 0, 20, 20) for _ in images_]


@pytest.fixture
def framed(tmp_path):
    """Small subjects in the colour of their class, on grounds of any colour."""
    rng = np.random.default_rng(5)
    for label, color in CLASSES.items():
        (tmp_path / "framed" / label).mkdir(parents=True)
        for n in range(5):
            ground = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            picture = images.resize(ground, 96, 96).copy()
            picture[INNER.y0 : INNER.y1, INNER.x0 : INNER.x1] = color
            data = images.encode(picture, "png")
            (tmp_path / "framed" / label / f"{n}.png").write_bytes(data)
    return tmp_path / "framed"


@pytest.fixture
def gallery(framed, mean_color):
    made = Retriever(embedder=mean_color, dtype="float32")
    made.add_folder(framed, labels="parent", progress=False)
    return made


def test_a_good_crop_is_recommended(gallery):
    report = gallery.crop_report(Inner())
    assert report.views["crop"].metrics["top1"] == 1
    assert report.views["whole"].metrics["top1"] < 1
    assert report.recommended == "crop"
    assert report.wrong == report.worst == report.left_out == ()
    assert {crop.box for crop in report.crops} == {INNER}
    assert all(crop.found for crop in report.crops)
    assert len(gallery) == 15
    assert gallery.cropper.crops is False  # as it was


def test_a_bad_crop_is_not_and_the_labels_tell(gallery):
    report = gallery.crop_report(Corner(), n_worst=3)
    assert report.recommended == "whole"
    assert report.views["crop"].metrics["top1"] < report.views["whole"].metrics["top1"]
    expected = {crop.key for crop in report.crops if crop.wrong}
    assert set(report.wrong) == expected != set()
    costs = [crop.whole - crop.crop for crop in report.worst]
    assert costs == sorted(costs, reverse=True)
    assert len(costs) == 3
    assert costs[0] == max(crop.whole - crop.crop for crop in report.crops) > 0


def test_views_are_what_galleries_of_their_own_would_give(gallery, framed, mean_color):
    report = gallery.crop_report(CenterCrop(0.4))
    for view, cropper in (("whole", NoCrop()), ("crop", CenterCrop(0.4))):
        alone = Retriever(embedder=mean_color, cropper=cropper, dtype="float32")
        alone.add_folder(framed, labels="parent", progress=False)
        expected = alone.evaluate(k=(1, 5))
        for name, values in expected.values.items():
            np.testing.assert_allclose(report.views[view].values[name], values, err_msg=name)
    row = report.per_class["red"]
    assert row["n_queries"] == 5
    assert row["whole"] == report.views["whole"].per_class["red"]["map5"]["min_k_r"]


def test_everything_is_told(gallery, framed, tmp_path):
    (framed / "red" / "0.png").write_bytes(b"broken")
    gallery.add_vectors(np.ones((1, 48)), keys=["no file"], labels=["red"])
    report = gallery.crop_report(Corner())
    assert report.left_out == ("no file", "red/0.png")
    assert "recommended: whole" in str(report)
    assert "cannot be read: 2" in str(report)
    assert json.loads(report.to_json())["recommended"] == "whole"
    report.save(tmp_path / "crops.html")
    page = (tmp_path / "crops.html").read_text(encoding="utf-8")
    assert "Crops that cost most" in page
    assert page.count("<figure>") == len(report.worst)


@pytest.mark.slow
def test_without_a_cropper_it_is_that_of_the_gallery(framed, mean_color):
    made = Retriever(embedder=mean_color, cropper=CenterCrop(0.5))
    made.add_folder(framed, labels="parent", progress=False)
    assert made.crop_report().cropper == {"name": "center", "config": {"fraction": 0.5}}


def test_what_cannot_be_measured_is_told(mean_color, photos):
    empty = Retriever(embedder=mean_color)
    with pytest.raises(EmptyGalleryError):
        empty.crop_report("center")
    empty.add_vectors(np.ones((2, 48)), keys=["a", "b"], labels=["x", "y"])
    with pytest.raises(InvalidInputError, match="expected labelled items that come from files"):
        empty.crop_report("center")
    with pytest.raises(InvalidInputError, match="n_worst"):
        empty.crop_report("center", n_worst=0)


def test_items_are_kept_whole(framed, mean_color, tmp_path):
    made = Retriever(embedder=mean_color, cropper=Corner(), dtype="float32")
    made.add_folder(framed, labels="parent", progress=False)
    before = made.embeddings()
    keys = list(made)
    report = made.keep_whole(["red/0.png", "blue/2.png"])
    assert report.ok == ["red/0.png", "blue/2.png"]
    assert len(made) == 15
    assert made["red/0.png"].box == Box(0, 0, 96, 96)
    assert made["red/0.png"].label == "red"
    assert made["red/1.png"].box == Box(0, 0, 20, 20)
    whole = mean_color.embed([images.load(framed / "red" / "0.png")])[0]
    np.testing.assert_allclose(made.embeddings(["red/0.png"])[0], whole, atol=1e-6)
    same = [key for key in keys if key not in {"red/0.png", "blue/2.png"}]
    rows = [keys.index(key) for key in same]
    np.testing.assert_array_equal(made.embeddings(same), before[rows])
    again = made.add_folder(framed, labels="parent", progress=False)
    assert len(again.skipped) == 15  # and stay as they are
    assert made["red/0.png"].box == Box(0, 0, 96, 96)


def test_keeping_whole_what_is_not_there_changes_nothing(gallery):
    with pytest.raises(KeyNotFoundError, match="grey/1"):
        gallery.keep_whole(["red/0.png", "grey/1"])
    gallery.add_vectors(np.ones((1, 48)), keys=["no file"])
    with pytest.raises(InvalidInputError, match="expected items that come from files.*'no file'"):
        gallery.keep_whole(["red/0.png", "no file"])


@pytest.mark.slow
def test_the_command(framed, tmp_path, capsys):
    made = Retriever()
    made.add_folder(framed, labels="parent", progress=False)
    made.save(tmp_path / "x.imgret")
    page = tmp_path / "crops.html"
    gallery = str(tmp_path / "x.imgret")
    assert _run("crop-report", gallery, "--cropper", "center", "--html", page) == 0
    assert "recommended: " in capsys.readouterr().out
    assert page.is_file()
    assert _run("crop-report", gallery, "--cropper", "center", "--json") == 0
    assert json.loads(capsys.readouterr().out)["cropper"]["name"] == "center"
    assert _run("crop-report", gallery, "--cropper", "centre") == 1
    assert "Did you mean 'center'" in capsys.readouterr().err
    assert _run("crop-report", gallery, "--html", tmp_path / "no" / "x.html") == 2


def _run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_an_item_that_cannot_be_read_again_stays(framed, mean_color):
    made = Retriever(embedder=mean_color, cropper=Corner(), dtype="float32")
    made.add_folder(framed, labels="parent", progress=False)
    before = made.embeddings(["red/0.png"])
    (framed / "red" / "0.png").write_bytes(b"broken")
    report = made.keep_whole(["red/0.png", "red/1.png"])
    assert report.ok == ["red/1.png"]
    assert [line.key for line in report.failed] == ["red/0.png"]
    np.testing.assert_array_equal(made.embeddings(["red/0.png"]), before)
    assert made["red/0.png"].box == Box(0, 0, 20, 20)
