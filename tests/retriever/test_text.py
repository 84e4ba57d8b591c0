"""Searching by words."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever, images
from imgret.demo import samples
from imgret.errors import InvalidInputError, StoreMismatchError, UnsupportedError

MODELS = Path(__file__).parents[1] / "data" / "models"
SPECIES = ("rose", "daisy", "tulip")


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flowers")
    for species in SPECIES:
        (folder / species).mkdir()
        for n in range(4):
            data = images.encode(samples.draw(species, n, size=(80, 60)))
            (folder / species / f"{n}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def retriever(flowers):
    made = Retriever(embedder=MODELS / "clip")
    made.add_folder(flowers, labels="parent", progress=False)
    return made


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def scores_of(retriever, query):
    """Cosines of a query with the items, by key."""
    kept = unit(retriever.embeddings())
    found = kept @ (query / np.linalg.norm(query))
    return dict(zip(retriever, found.tolist(), strict=True))


def test_a_text_finds_what_lies_nearest(retriever):
    hits = retriever.search_text("a red rose", k=12)
    expected = scores_of(retriever, retriever.embed_text(["a red rose"])[0])
    assert {hit.key: hit.score for hit in hits} == pytest.approx(expected, abs=1e-3)
    assert hits.text == ("a red rose",)
    assert hits.query is None
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_image_and_text_are_one_query(retriever, flowers):
    image = flowers / "rose" / "0.jpg"
    hits = retriever.search(image, 12, text="at night", negative_text="snow", negative_weight=0.5)
    picture = unit(retriever.embed([image]))
    words = unit(retriever.embed_text(["at night", "snow"]))
    query = (picture[0] + words[0]) / 2 - 0.5 * words[1]
    expected = scores_of(retriever, query)
    assert {hit.key: hit.score for hit in hits} == pytest.approx(expected, abs=2e-3)
    assert hits.negative_text == ("snow",)
    heavy = retriever.search(image, 12, text="at night", weights=[1, 0])
    assert heavy[0].key == "rose/0.jpg"


def test_each_text_by_itself(retriever):
    texts = ["a red rose", "snow on the mountains"]
    found = retriever.search_many_text(texts, k=4)
    for text, hits in zip(texts, found, strict=True):
        alone = retriever.search_text(text, k=4)
        assert [hit.key for hit in hits] == [hit.key for hit in alone]
        assert hits.text == (text,)


def test_filters_and_reranking_work_as_ever(retriever):
    where = {"label": {"$ne": "rose"}}
    assert {hit.label for hit in retriever.search_text("a rose", 8, where=where)} <= {
        "daisy",
        "tulip",
    }
    assert len(retriever.search_text("a rose", 5, rerank="average-qe")) == 5
    assert len(retriever.search_text(["a rose", "a flower"], 3)) == 3


def test_a_page_shows_the_words(retriever):
    page = retriever.search_text("<b>rose</b>", 2, negative_text="snow").to_html()
    assert "&lt;b&gt;rose&lt;/b&gt;" in page
    assert "snow" in page
    assert "unlike words" in page


def test_precision_is_of_images(retriever, flowers):
    calibrated = Retriever(embedder=MODELS / "clip")
    for repeat in range(3):
        calibrated.add_folder(flowers, labels="parent", prefix=f"{repeat}/", progress=False)
    calibrated.calibrate(k=20)
    assert calibrated.search(flowers / "rose" / "0.jpg", k=1)[0].probability is not None
    assert calibrated.search_text("a rose", k=1)[0].probability is None
    with pytest.raises(InvalidInputError, match="precision"):
        calibrated.search(flowers / "rose" / "0.jpg", text="at night", precision=0.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.search(), "image: expected"),
        (lambda r: r.search_text([]), "text: expected at least one"),
        (lambda r: r.search_text(5), "text: expected"),
        (lambda r: r.search(text="a", weights=[1, 2]), "weights: expected 1"),
        (lambda r: r.search(text="a", box=(0, 0, 2, 2)), "box: expected a single image"),
        (lambda r: r.search_many_text(None), "texts"),
    ],
)
def test_mistakes(retriever, call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(retriever)


def test_an_embedder_without_text(flowers):
    retriever = Retriever()
    retriever.add(flowers / "rose" / "0.jpg")
    for call in (
        lambda: retriever.search_text("a rose"),
        lambda: retriever.search(flowers / "rose" / "0.jpg", text="a rose"),
        lambda: retriever.classify(flowers / "rose" / "0.jpg", labels=["rose"]),
        lambda: retriever.clusters(1, words=["rose"]),
    ):
        with pytest.raises(UnsupportedError, match="general: expected an embedder that reads text"):
            call()


# -- names alone -----------------------------------------------------------------------------------


def test_zero_shot_names(retriever, flowers):
    image = flowers / "rose" / "0.jpg"
    name = retriever.classify(image, labels=["rose", "tulip", "car"])
    vectors = unit(retriever.embed_text([f"a photo of a {n}" for n in ("rose", "tulip", "car")]))
    cosines = vectors @ unit(retriever.embed([image]))[0]
    shares = np.exp(cosines / 0.01) / np.exp(cosines / 0.01).sum()
    assert name.label == ("rose", "tulip", "car")[int(cosines.argmax())]
    assert name.votes[name.label] == pytest.approx(shares.max(), abs=1e-3)
    assert sum(name.votes.values()) == pytest.approx(1)
    assert retriever.classify(image, labels=["rose", "tulip"], threshold=1.0).label is None
    two = retriever.classify(image, labels=["rose", "tulip"], template=["a {}", "the {}"])
    assert set(two.votes) == {"rose", "tulip"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": []}, "labels: expected at least one"),
        ({"labels": ["a", "a"]}, "each name once"),
        ({"labels": ["a"], "template": "a photo"}, "template: expected text with {}"),
        ({"labels": ["a"], "template": []}, "template: expected at least one"),
    ],
)
def test_zero_shot_mistakes(retriever, flowers, options, message):
    with pytest.raises(InvalidInputError, match=message):
        retriever.classify(flowers / "rose" / "0.jpg", **options)


def test_clusters_get_names(retriever):
    clusters = retriever.clusters(3, words=["rose", "daisy", "tulip", "car"])
    assert len(clusters.names) == 3
    assert set(clusters.names) <= {"rose", "daisy", "tulip", "car"}
    assert clusters.to_dict()["names"] == list(clusters.names)
    assert retriever.clusters(3).names == ()


# -- galleries ----------------------------------------------------------------------------------


def test_a_gallery_finds_its_text_tower_again(flowers, tmp_path):
    model = tmp_path / "clip"
    shutil.copytree(MODELS / "clip", model)
    with Retriever.open(tmp_path / "g.imgret", "a", embedder=model) as made:
        made.add_folder(flowers, progress=False)
        before = [hit.key for hit in made.search_text("a rose", 5)]
    with Retriever.open(tmp_path / "g.imgret") as again:
        assert [hit.key for hit in again.search_text("a rose", 5)] == before
    shutil.move(model, tmp_path / "elsewhere")
    with Retriever.open(tmp_path / "g.imgret", embedder=tmp_path / "elsewhere") as moved:
        assert [hit.key for hit in moved.search_text("a rose", 5)] == before
    tokenizer = tmp_path / "elsewhere" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"Lowercase"', '"NFC"'))
    with pytest.raises(StoreMismatchError, match="expected the embedder it was made with"):
        Retriever.open(tmp_path / "g.imgret", embedder=tmp_path / "elsewhere")


def test_a_text_tower_may_come_later(flowers, tmp_path):
    model = tmp_path / "clip"
    shutil.copytree(MODELS / "clip", model)
    (model / "onnx" / "text_model.onnx").rename(tmp_path / "text_model.onnx")
    with Retriever.open(tmp_path / "g.imgret", "a", embedder=model) as made:
        made.add_folder(flowers, progress=False)
    (tmp_path / "text_model.onnx").rename(model / "onnx" / "text_model.onnx")
    with Retriever.open(tmp_path / "g.imgret") as again:
        assert len(again.search_text("a rose", 5)) == 5


def test_two_folders_are_a_pair(flowers, tmp_path):
    images_, texts = tmp_path / "images", tmp_path / "texts"
    images_.mkdir()
    texts.mkdir()
    for name in (
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ):
        shutil.copy(MODELS / "clip" / name, images_ if name.startswith("pre") else texts)
    shutil.copy(MODELS / "clip" / "config.json", images_)
    shutil.copy(MODELS / "clip" / "onnx" / "vision_model.onnx", images_ / "model.onnx")
    shutil.copy(MODELS / "clip" / "onnx" / "text_model.onnx", texts / "model.onnx")
    retriever = Retriever(embedder=(images_, texts))
    retriever.add_folder(flowers, progress=False)
    assert len(retriever.search_text("a rose", 3)) == 3
    retriever.save(tmp_path / "g.imgret")
    assert len(Retriever.load(tmp_path / "g.imgret").search_text("a rose", 3)) == 3
