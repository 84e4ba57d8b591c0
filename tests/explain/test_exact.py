"""The exact method: places add up to the score, for every metric and projection."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from imgret import OnnxEmbedder, Retriever, images
from imgret.demo import samples
from imgret.errors import ModelError
from imgret.explain.decompose import decompose, heat_of, shown_area
from imgret.explain.places import pair_scores
from imgret.models.features import _Linear
from imgret.models.preprocess import Preprocess

GENERAL = OnnxEmbedder("general")


@pytest.mark.slow
@given(
    seed=st.integers(0, 10_000),
    species=st.sampled_from(["rose", "daisy", "tulip", "sunflower"]),
    size=st.tuples(st.integers(16, 300), st.integers(16, 300)),
)
@settings(max_examples=15)
def test_the_contributions_are_the_embedding(seed, species, size):
    picture = samples.draw(species, seed, size=size)
    places, rest = GENERAL.contributions(picture)
    assert places.shape == (7, 7, 1280)
    (whole,) = GENERAL.embed([picture])
    np.testing.assert_allclose(places.sum(axis=(0, 1)) + rest, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["flowers102", "flowers102-large", "flowers102-resnet"])
def test_constants_are_apart(name):
    """These add constants after the pooling, which belong to no place."""
    embedder = OnnxEmbedder(name)
    places, rest = embedder.contributions(data.coffee())
    (whole,) = embedder.embed([data.coffee()])
    np.testing.assert_allclose(places.sum(axis=(0, 1)) + rest, whole, rtol=0, atol=1e-4)
    assert np.linalg.norm(rest) > 0


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize(
    ("name", "projection"),
    [("general", None), ("flowers102", None), ("general", "pca"), ("flowers102", "lda")],
)
def test_places_add_up_to_the_score(folder, metric, projection, name):
    retriever = Retriever(embedder=name, metric=metric)
    retriever.add_folder(folder, labels="parent", progress=False)
    if projection == "pca":
        retriever.project("pca", dim=6)
    elif projection == "lda":
        retriever.adapt()
    query = folder / "rose" / "1.jpg"
    hit = retriever.search(query, 5)[4]
    found = retriever.explain_match(query, hit)
    assert (found.method, found.reason) == ("exact", "")
    assert found.score == pytest.approx(hit.score, abs=3e-3, rel=3e-3)
    # The rest is the score of an image of which only the constants are left.
    view = retriever.view()
    for heat, other, own in (
        (found.query, images.load(hit.path), images.load(query)),
        (found.hit, images.load(query), images.load(hit.path)),
    ):
        (vector,) = view.project(retriever.embed([other]))
        empty = decompose(own, retriever.embedder, view).rest
        expected = float(view.metric.scores(empty, vector))
        assert heat.rest == pytest.approx(expected, abs=1e-3, rel=1e-3)
        assert heat.values.sum() + heat.rest == pytest.approx(found.score, abs=1e-5, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_pairs_add_up_to_the_heat(folder, metric):
    retriever = Retriever(metric=metric)
    retriever.add_folder(folder, progress=False)
    view = retriever.view()
    a, b = (
        decompose(images.load(folder / "rose" / f"{n}.jpg"), retriever.embedder, view)
        for n in (0, 1)
    )
    query, hit = heat_of(a, b.whole, view), heat_of(b, a.whole, view)
    pairs = pair_scores(query, hit, view.metric)
    assert pairs.shape == (7, 7, 7, 7)
    expected = query.heat if metric != "l2" else 2 * a.vectors @ b.whole
    np.testing.assert_allclose(pairs.sum(axis=(2, 3)), expected, rtol=0, atol=1e-4)


def test_the_mean_of_tokens_is_exact(folder):
    models = folder_of_models()
    embedder = OnnxEmbedder(models / "dinov2", pooling="mean")
    picture = images.load(folder / "rose" / "0.jpg")
    places, rest = embedder.contributions(picture)
    (whole,) = embedder.embed([picture])
    np.testing.assert_allclose(places.sum(axis=(0, 1)) + rest, whole, rtol=0, atol=1e-4)
    assert np.linalg.norm(rest) > 0  # of the token of the class


def test_what_is_not_a_sum_is_refused(folder):
    embedder = OnnxEmbedder(folder_of_models() / "dinov2")  # the first token
    errors = []
    for _ in range(2):
        with pytest.raises(ModelError, match="expected an embedding") as raised:
            embedder.contributions(data.coffee())
        errors.append(raised.value)
    assert errors[0] is not errors[1]  # one that is kept would keep what its calls held
    retriever = Retriever(embedder=embedder)
    retriever.add_folder(folder / "rose", progress=False)
    with pytest.raises(ModelError, match="expected an embedding"):
        retriever.explain_match(folder / "rose" / "0.jpg", "1.jpg", method="exact")


def test_parts_that_do_not_add_up_are_refused():
    """A graph whose pooling is not what it seems."""
    embedder = OnnxEmbedder("general")
    features = embedder._features()
    features._steps = []  # forget the power
    with pytest.raises(ModelError, match="found a difference of"):
        embedder.contributions(data.coffee())
    features._steps = [_Linear(np.eye(7, dtype=np.float32))]  # as of a map with channels last
    with pytest.raises(ModelError, match="found another pooling"):
        embedder.contributions(data.coffee())


def folder_of_models():
    from pathlib import Path

    return Path(__file__).parents[1] / "data" / "models"


@pytest.mark.parametrize(
    ("resize", "short_side", "expected"),
    [
        ("squash", None, (0, 0, 1, 1)),
        ("crop", None, (0.25, 0, 0.75, 1)),
        ("crop", 448, (0.375, 0.25, 0.625, 0.75)),
        ("pad", None, (0, -0.5, 1, 1.5)),
    ],
)
def test_the_area_is_what_the_network_sees(resize, short_side, expected):
    wide = np.zeros((100, 200, 3), dtype=np.uint8)
    seen = Preprocess(size=224, scaling=None, resize=resize, short_side=short_side)
    assert shown_area(wide, seen) == pytest.approx(expected)


@pytest.mark.parametrize("x", [30, 200])
def test_heat_is_where_the_flower_is(planted, middle_of_heat, x):
    """The same flower stands elsewhere in the two images."""
    retriever = Retriever()
    retriever.add(planted(115, 75), keys="a")
    found = retriever.explain_match(planted(x, 60), planted(115, 75))
    at_x, at_y = middle_of_heat(found.query)
    # The network does not see the outermost eighth of the image.
    assert x - 20 < at_x < x + 110
    assert 40 < at_y < 170
    at_x, at_y = middle_of_heat(found.hit)
    assert 95 < at_x < 225
    assert 55 < at_y < 185
