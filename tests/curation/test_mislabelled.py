"""Wrong labels are found by the neighbours' votes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret.curation.mislabelled import _vote
from imgret.errors import InvalidInputError


def _plainly(codes, scores, own):
    """Dudani's vote of one item: the share of each label."""
    span = scores[0] - scores[-1]
    weights = [(score - scores[-1]) / span if span else 1.0 for score in scores]
    shares = {}
    for code, weight in zip(codes, weights, strict=True):
        shares[code] = shares.get(code, 0) + weight / sum(weights)
    return max((share for code, share in shares.items() if code != own), default=0), shares


@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 4), st.integers(0, 999))
def test_the_vote_is_that_of_counting(n, k, classes, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, (n, k))
    own = rng.integers(0, classes, n)
    scores = -np.sort(rng.integers(0, 4, (n, k)), axis=1).astype(np.float32)
    rivals, margins = _vote(codes, scores, own)
    for row in range(n):
        best, shares = _plainly(codes[row].tolist(), scores[row].tolist(), own[row])
        assert margins[row] == pytest.approx(best - shares.get(own[row], 0))
        if margins[row] > 0:
            assert rivals[row] != own[row]
            assert shares[rivals[row]] == pytest.approx(best)


def _swapped(codes, rate, seed=0):
    rng = np.random.default_rng(seed)
    wrong = np.sort(rng.choice(len(codes), round(rate * len(codes)), replace=False))
    given_ = codes.copy()
    given_[wrong] = (codes[wrong] + 1 + rng.integers(0, codes.max(), len(wrong))) % (
        codes.max() + 1
    )
    return given_, wrong


def _as_dict(issues):
    return {issue.key: issue.confidence for issue in issues}


def test_swapped_labels_are_found(gallery_of, clustered):
    vectors, codes = clustered(n=600, spread=0.7)
    labels, wrong = _swapped(codes, 0.05)
    gallery = gallery_of(vectors, [f"class {code}" for code in labels])
    found = gallery.mislabelled()
    assert {int(issue.key) for issue in found} == set(wrong.tolist())
    for issue in found:
        assert issue.label == f"class {labels[int(issue.key)]}"
        assert issue.suggested == f"class {codes[int(issue.key)]}"
        assert 0.5 <= issue.confidence <= 1
    confidences = [issue.confidence for issue in found]
    assert confidences == sorted(confidences, reverse=True)
    assert gallery.mislabelled(threshold=0.9) == [i for i in found if i.confidence >= 0.9]
    assert len(gallery.mislabelled(threshold=0)) >= len(found)


def test_what_has_no_label_has_no_vote(gallery_of, clustered):
    vectors, codes = clustered(n=200, spread=0.3)
    labels, wrong = _swapped(codes, 0.05)
    named = [str(code) for code in labels]
    # Each of the labelled is surrounded by copies that have none.
    many = np.concatenate([vectors, *([vectors + 1e-3] * 15)])
    gallery = gallery_of(many, named + [None] * (15 * 200))
    found = gallery.mislabelled(k=8)
    assert {int(issue.key) for issue in found} == set(wrong.tolist())
    alone = gallery_of(vectors, named).mislabelled(k=8)
    assert _as_dict(found) == pytest.approx(_as_dict(alone), abs=1e-3)


def test_a_label_of_one_item_is_no_mistake(gallery_of):
    vectors = [[1, 0], [1, 0.01], [1, 0.02], [1, 0.2], [0, 1], [0.1, 1]]
    alone = gallery_of(vectors, ["a", "a", "a", "b", "c", "c"]).mislabelled()
    assert alone == []
    found = gallery_of(vectors, ["a", "a", "a", "b", "c", "b"]).mislabelled(k=3)
    assert ("3", "b", "a") in [(one.key, one.label, one.suggested) for one in found]


def test_mistakes_are_told(gallery_of):
    with pytest.raises(InvalidInputError, match="found 0 on 0 of the gallery's 3 items"):
        gallery_of(np.eye(3)).mislabelled()
    gallery = gallery_of(np.eye(3), ["a", "a", None])
    with pytest.raises(InvalidInputError, match="found 1 on 2 of the gallery's 3 items"):
        gallery.mislabelled()
    with pytest.raises(InvalidInputError, match="threshold"):
        gallery.mislabelled(threshold=2)
    with pytest.raises(InvalidInputError, match="k: expected"):
        gallery.mislabelled(k=0)
