"""Scores of texts are calibrated apart from those of images."""

import json
from pathlib import Path

import numpy as np
import pytest

from imgret import Embedder, Retriever
from imgret.cli import main
from imgret.errors import InvalidInputError, KeyNotFoundError, UnsupportedError
from imgret.learning import CalibrationReport

MODELS = Path(__file__).parents[1] / "data" / "models"
COLOURS = {"red": (1.0, 0.2, 0.1), "green": (0.1, 0.9, 0.2), "blue": (0.2, 0.1, 1.0)}


class Colours(Embedder):
    """Mean colour; all images have one thing more in common, which texts do not have."""

    name, dim, fingerprint, reads_text = "colours", 4, "test:colours", True

    def config(self):
        return {}

    def _embed(self, given):
        means = np.stack([image.mean(axis=(0, 1)) / 255 for image in given])
        return np.column_stack([means, np.ones(len(given))]).astype(np.float32)

    def _embed_text(self, given):
        rows = [np.sum([c for n, c in COLOURS.items() if n in text], axis=0) for text in given]
        return np.column_stack([np.stack(rows), np.zeros(len(given))]).astype(np.float32)


class Wide(Colours):
    """The same with twelve zeros."""

    dim, fingerprint = 16, "test:wide"

    def _embed_text(self, given):
        return np.pad(super()._embed_text(given), ((0, 0), (0, 12)))


def picture(name, seed):
    noise = np.random.default_rng(seed).normal(0, 60, 3)
    colour = np.clip(np.array(COLOURS[name]) * 255 + noise, 0, 255)
    return np.full((8, 8, 3), colour, dtype=np.uint8)


@pytest.fixture
def retriever():
    made = Retriever(embedder=Colours())
    for number, name in enumerate(COLOURS):
        made.add(
            [picture(name, 100 * number + n) for n in range(60)],
            labels=[name] * 60,
            keys=[f"{name}/{n}" for n in range(60)],
        )
    return made


def test_texts_and_images_have_curves_of_their_own(retriever):
    report = retriever.calibrate_text(k=180)
    assert isinstance(report, CalibrationReport)
    assert (report.queries, report.images, report.pairs) == ("texts", 3, 540)
    assert report.same == 180
    assert "540 pairs of 3 texts with images" in str(report)
    assert retriever.calibration is None
    retriever.calibrate()
    texts, images = retriever.text_calibration, retriever.calibration
    assert texts.threshold(0.9) < images.threshold(0.9) - 0.1  # another scale
    hits = retriever.search_text("a photo of a red", 180, precision=0.9)
    assert 0 < len(hits) < 100
    assert all(hit.probability >= 0.9 for hit in hits)
    assert np.mean([hit.label == "red" for hit in hits]) > 0.85
    image = picture("red", 7)
    by_image = retriever.search(image, 3)
    assert by_image[0].probability == pytest.approx(float(images.probability(by_image[0].score)))


def test_many_texts(retriever):
    retriever.calibrate_text(k=180, method="logistic")
    many = retriever.search_many_text(["red", "blue"], 180, precision=0.8)
    for text, hits in zip(["red", "blue"], many, strict=True):
        alone = retriever.search_text(text, 180, precision=0.8)
        assert [hit.key for hit in hits] == [hit.key for hit in alone]


def test_given_pairs(retriever):
    pairs = [
        (f"something {name}", f"{other}/{n}", name == other)
        for name in COLOURS
        for other in COLOURS
        for n in range(20)
    ]
    report = retriever.calibrate_text(pairs)
    assert (report.pairs, report.same, report.images) == (180, 60, 3)
    text = "something red"
    vector = retriever.embed_text([text])[0]
    item = retriever.embeddings(["red/3"])[0]
    expected = vector @ item / np.linalg.norm(vector) / np.linalg.norm(item)
    (hit,) = (hit for hit in retriever.search_text(text, 180) if hit.key == "red/3")
    assert hit.score == pytest.approx(float(expected), abs=1e-4)
    assert hit.probability == pytest.approx(
        float(retriever.text_calibration.probability(hit.score)), abs=1e-6
    )


def test_precision_needs_the_right_calibration(retriever):
    retriever.calibrate()
    with pytest.raises(InvalidInputError, match=r"scores of texts are calibrated.*calibrate_text"):
        retriever.search_text("red", precision=0.9)
    assert retriever.search_text("red", 1)[0].probability is None
    retriever.calibrate_text(k=180)
    for options in ({"negative_text": "blue"}, {"text": ["red", "green"]}):
        with pytest.raises(InvalidInputError, match="a query of several images or texts"):
            retriever.search(**{"text": "red", **options}, precision=0.9)
    with pytest.raises(InvalidInputError, match="a query of several images or texts"):
        retriever.search(picture("red", 1), text="red", precision=0.9)


def test_an_adapted_gallery_needs_pairs():
    rng = np.random.default_rng(0)
    labels = [name for name in COLOURS for _ in range(60)]
    vectors = rng.normal(0, 0.3, (len(labels), 16)).astype(np.float32)
    vectors[:, 4:8] *= 10  # what tells nothing of the class
    vectors[:, :3] += [COLOURS[name] for name in labels]
    retriever = Retriever(embedder=Wide())
    retriever.add_vectors(vectors, labels=labels, keys=[f"k{n}" for n in range(len(labels))])
    retriever.calibrate_text(k=180)
    assert retriever.adapt().applied
    assert retriever.text_calibration is None  # of other scores
    with pytest.raises(InvalidInputError, match="of another projection"):
        retriever.search_text("red", precision=0.9)
    with pytest.raises(UnsupportedError, match="give pairs of texts"):
        retriever.calibrate_text()
    pairs = [(name, f"k{n}", labels[n] == name) for name in COLOURS for n in range(180)]
    assert retriever.calibrate_text(pairs).same == 180
    assert len(retriever.search_text("red", 180, precision=0.9)) > 30


def test_it_is_kept(retriever, tmp_path):
    retriever.save(tmp_path / "g.imgret")
    with Retriever.open(tmp_path / "g.imgret", "r+", embedder=Colours()) as opened:
        opened.calibrate_text(k=180)
        least = opened.text_calibration.threshold(0.9)
    with Retriever.open(tmp_path / "g.imgret", embedder=Colours()) as again:
        assert again.text_calibration.threshold(0.9) == least
        assert again.calibration is None


def test_on_the_command_line(tmp_path, capsys):
    def ran(*words):
        with pytest.raises(SystemExit) as ended:
            main([*words])
        return ended.value.code, *capsys.readouterr()

    gallery = str(tmp_path / "g.imgret")
    made = Retriever(embedder=MODELS / "clip")
    for name in COLOURS:
        keys = [f"{name}/{n}" for n in range(12)]
        made.add([picture(name, n) for n in range(12)], labels=[name] * 12, keys=keys)
    made.save(gallery)
    code, out, _ = ran("search", gallery, "--text", "red", "--precision", "0.2")
    assert code == 1
    code, out, _ = ran("calibrate", gallery, "--text", "--template", "the {}", "--json")
    assert (code, json.loads(out)["queries"]) == (0, "texts")
    code, out, _ = ran("search", gallery, "--text", "the red", "-k", "2", "--json")
    assert code == 0
    assert all("probability" in hit for hit in json.loads(out)["hits"])
    assert ran("info", gallery, "--json")[0] == 0


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([("red", "red/0")], InvalidInputError, r"pairs\[0\]: expected \(text, key, True or False"),
        ([("red", 5, True)], InvalidInputError, r"pairs\[0\]"),
        ([("red", "none", True)], KeyNotFoundError, "none"),
        ([("red", "red/0", True)], InvalidInputError, "at least 10"),
    ],
)
def test_mistakes(retriever, pairs, error, message):
    with pytest.raises(error, match=message):
        retriever.calibrate_text(pairs)
    assert retriever.text_calibration is None


def test_an_embedder_that_reads_no_text():
    plain = Retriever()
    plain.add(picture("red", 1), labels="red")
    with pytest.raises(UnsupportedError, match="reads text"):
        plain.calibrate_text()
