"""Names, how sure they are, and when there is none."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import Embedder, Retriever
from imgret.errors import EmptyGalleryError, InvalidInputError
from imgret.learning import Confidence, calibration_error
from imgret.learning.confidence import vote


class Corners(Embedder):
    """Embeds an image as the mean colour of its four corners."""

    dim = 12
    fingerprint = "test:corners"

    def config(self):
        return {}

    def _embed(self, images):
        return np.stack(
            [
                np.concatenate([i[0, 0], i[0, -1], i[-1, 0], i[-1, -1]]).astype(np.float32) + 1
                for i in images
            ]
        )


CODES = np.repeat(np.arange(6), 40)


def vectors_of(codes, *, seed=0, noise=1.1):
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).normal(size=(20, 12))
    return (means[codes] + rng.normal(size=(len(codes), 12)) * noise).astype(np.float32)


def gallery(codes=CODES, labels=None, **how):
    made = Retriever(embedder=Corners())
    labels = [f"class {code}" for code in codes] if labels is None else labels
    made.add_vectors(
        vectors_of(codes, **how), keys=[str(n) for n in range(len(codes))], labels=labels
    )
    return made


def named(retriever, vectors):
    namer = retriever._classify_by(10)
    return [namer.name(hits) for hits in retriever.search_vectors(vectors, 10)]


@pytest.mark.parametrize("adapted", [False, True])
def test_confidence_is_how_often_it_is_right(adapted):
    made = gallery()
    if adapted:
        assert made.adapt().applied
    codes = np.repeat(np.arange(6), 200)
    names = named(made, vectors_of(codes, seed=1))
    best = [next(iter(name.votes)) for name in names]
    right = np.array([a == f"class {b}" for a, b in zip(best, codes, strict=True)])
    confidence = np.array([name.confidence for name in names])
    assert 0.5 < right.mean() < 0.97
    assert calibration_error(confidence, right, bins=5) < 0.08
    assert confidence[right].mean() > confidence[~right].mean() + 0.05


def test_a_stranger_is_unknown_more_often():
    made = gallery()
    known = [name.label is None for name in named(made, vectors_of(CODES, seed=1))]
    strangers = np.repeat(np.arange(10, 16), 20)
    strange = [name.label is None for name in named(made, vectors_of(strangers))]
    assert np.mean(strange) > np.mean(known) + 0.3


def picture(*corners):
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    for place, color in zip([(0, 0), (0, -1), (-1, 0), (-1, -1)], corners, strict=True):
        image[place] = color
    return image


def test_classify_a_picture():
    rng = np.random.default_rng(0)
    made = Retriever(embedder=Corners())
    images, labels = [], []
    for label, color in {"red": (200, 20, 20), "blue": (20, 20, 200)}.items():
        for _ in range(20):
            images.append(picture(*np.clip(rng.normal(color, 25, size=(4, 3)), 0, 255)))
            labels.append(label)
    made.add(images, labels=labels, progress=False)
    name = made.classify(picture(*[(190, 30, 30)] * 4))
    assert name.label == "red"
    assert str(name) == f"red ({name.confidence:.2f})"
    assert sum(name.votes.values()) == pytest.approx(1)
    assert len(name.hits) == 10
    assert name.hits[9].key in name._repr_html_()
    (unknown,) = made.classify_many([picture(*[(190, 30, 30)] * 4)], threshold=1.0)
    assert unknown.label is None
    assert unknown.confidence == name.confidence
    assert str(unknown).startswith("unknown (")
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        made.classify(images[0], threshold=2)


def test_is_learned_again_when_the_gallery_has_changed():
    made = gallery()
    first = made._classify_by(10)
    assert made._classify_by(10) is first
    made.update("0", label="class 5")
    second = made._classify_by(10)
    assert second is not first
    made.remove("1")
    third = made._classify_by(10)
    assert third is not second
    made.project("pca", dim=3)
    assert made._classify_by(10) is not third


def test_the_votes_of_a_name_are_those_that_were_counted():
    made = gallery()
    namer = made._classify_by(10)
    (hits,) = made.search_vectors(vectors_of(np.array([2]), seed=3), 10)
    name = namer.name(hits)
    places = {label: place for place, label in enumerate(dict.fromkeys(h.label for h in hits))}
    codes, scores = np.array([[places[h.label] for h in hits]]), np.array([[h.score for h in hits]])
    (winner,), (share,) = vote(codes, scores, namer.confidence.temperature)
    assert len(name.votes) > 1
    assert next(iter(name.votes.items())) == (list(places)[winner], pytest.approx(share))


def test_unlabelled_neighbours_have_no_vote():
    labels = [f"class {c}" if n % 2 else None for n, c in enumerate(CODES)]
    names = named(gallery(labels=labels, noise=0.3), vectors_of(CODES, noise=0.3))
    assert all(None not in name.votes and "None" not in name.votes for name in names)


def test_a_query_far_from_everything_has_votes_too():
    """Shares depend on the differences of scores alone."""
    made = gallery()
    namer, (hits,) = made._classify_by(10), made.search_vectors(vectors_of([0]), 10)
    far = [replace(hit, score=hit.score - 1e6) for hit in hits]
    assert namer.name(far).votes == pytest.approx(namer.name(hits).votes, rel=1e-3)


@pytest.mark.parametrize("labels", [[None] * 240, ["one"] * 240])
def test_too_few_labels(labels):
    with pytest.raises(InvalidInputError, match="label more images first"):
        gallery(labels=labels).classify(picture(*[(1, 2, 3)] * 4))


def test_empty_gallery():
    with pytest.raises(EmptyGalleryError):
        Retriever(embedder=Corners()).classify(picture(*[(1, 2, 3)] * 4))


@given(
    st.lists(st.integers(-1, 3), min_size=1, max_size=8),
    st.floats(0.01, 10),
    st.integers(0, 2**32 - 1),
)
def test_a_share_is_a_share(codes, temperature, seed):
    scores = np.sort(np.random.default_rng(seed).normal(size=len(codes)))[::-1]
    (winner,), (share,) = vote(np.array([codes]), scores[None], temperature)
    if max(codes) < 0:
        assert (winner, share) == (-1, 0)
        return
    assert winner in codes
    assert 0 < share <= 1 + 1e-9
    if len({code for code in codes if code >= 0}) == 1:
        assert share == pytest.approx(1)


def test_votes_are_counted_per_row_and_in_little_memory():
    rng = np.random.default_rng(0)
    codes, scores = rng.integers(-1, 40, (3, 5000)), rng.normal(size=(3, 5000))
    tracemalloc.start()
    winners, shares = vote(codes, scores, 0.7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # 5000 x 5000 would be 200
    for row in range(3):
        voting = codes[row] >= 0
        weights = np.exp(scores[row, voting] / 0.7)
        totals = np.bincount(codes[row, voting], weights)
        assert winners[row] == totals.argmax()
        assert shares[row] == pytest.approx(totals.max() / totals.sum())


def test_all_right_is_not_certain():
    own = np.repeat([0, 1], 30)
    calibration = Confidence.learn(own, np.repeat(own[:, None], 5, axis=1), np.ones((60, 5)), 5)
    _, confidence = calibration.name(np.zeros((1, 5), dtype=np.int64), np.ones((1, 5)))
    assert confidence[0] == pytest.approx(61 / 62, abs=0.002)  # Platt's target
    assert calibration.accuracy == 1


def test_confidence_is_the_share_where_that_is_the_probability():
    rng = np.random.default_rng(0)
    votes = rng.integers(11, 21, 4000)  # of 20, for the winner
    own = np.where(rng.random(4000) < votes / 20, 0, 1)
    codes = (np.arange(20) >= votes[:, None]).astype(np.int64)
    learned = Confidence.learn(own, codes, np.ones(codes.shape), 20)
    asked = np.arange(11, 20)
    _, confidence = learned.name((np.arange(20) >= asked[:, None]).astype(int), np.ones((9, 20)))
    np.testing.assert_allclose(confidence, asked / 20, atol=0.03)


def test_more_votes_or_a_better_score_never_make_less_certain():
    """Not even where what is wrong has more of both, as here."""
    own, wrong = np.repeat([0, 1], 40), np.arange(80) % 2 == 1
    mixed = np.stack([own, own, own, 1 - own, 1 - own], axis=1)
    codes = np.where(wrong[:, None], 1 - own[:, None], mixed)
    steps = np.linspace(0.1, 0, 5)
    scores = np.where(wrong, 0.8, 0.2)[:, None] + steps + 0.01 * (np.arange(80) % 7)[:, None]
    learned = Confidence.learn(own, codes, scores, 5)
    votes, levels = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]), np.linspace(0, 1, 9)
    few, many = (
        learned.name(np.repeat(some[None], 9, axis=0), levels[:, None] + steps)[1] for some in votes
    )
    assert (many >= few).all()
    assert (np.diff(few) >= 0).all()
    assert (np.diff(many) >= 0).all()


def test_calibration_error():
    assert calibration_error([0.8] * 10, [True] * 8 + [False] * 2) == pytest.approx(0)
    assert calibration_error([1.0] * 10, [True] * 5 + [False] * 5) == pytest.approx(0.5)
    # The last bin has both its ends.
    assert calibration_error([1.0, 0.6], [False, True], bins=2) == pytest.approx(0.3)
