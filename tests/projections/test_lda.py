"""Discriminant projection, with scikit-learn as the oracle."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from imgret.errors import InvalidInputError
from imgret.projections import Discriminant


def _labelled(classes=6, each=40, dim=16, seed=0, offset=5.0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), each)
    means = rng.normal(size=(classes, dim)) + offset
    mix = rng.normal(size=(dim, dim)) * np.geomspace(3, 0.2, dim)[:, None]
    rows = means[codes] + rng.normal(size=(len(codes), dim)) @ mix
    order = rng.permutation(len(codes))
    return rows[order].astype(np.float32), codes[order]


def _distances(rows):
    return ((rows[:, None] - rows[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize(("classes", "dim"), [(6, 16), (30, 8), (2, 5)])
def test_agrees_with_scikit_learn(classes, dim):
    rows, codes = _labelled(classes=classes, dim=dim)
    projection = Discriminant([(rows, codes)], classes).projection(0.0)
    oracle = LinearDiscriminantAnalysis(solver="svd").fit(rows.astype(np.float64), codes)
    # The oracle divides the within-class scatter by n, not by its degrees of freedom.
    expected = oracle.transform(rows.astype(np.float64)) * np.sqrt(1 - classes / len(rows))
    assert projection.dim_out == min(classes - 1, dim) == expected.shape[1]
    expected, found = _distances(expected[:50]), _distances(projection.apply(rows[:50]))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert projection.kind == "lda"
    assert projection.info == {"items": len(rows), "classes": classes, "shrinkage": 0.0}


@pytest.mark.parametrize("shrinkage", [0.1, 1.0])
def test_shrunk_within_class_covariance_becomes_the_identity(shrinkage):
    rows, codes = _labelled()
    rest = rows.astype(np.float64)
    for code in range(6):
        rest[codes == code] -= rest[codes == code].mean(axis=0)
    within = rest.T @ rest / (len(rows) - 6)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / 16 * np.eye(16)
    matrix = Discriminant([(rows, codes)], 6).projection(shrinkage).matrix
    np.testing.assert_allclose(matrix.T @ shrunk @ matrix, np.eye(5), atol=1e-4)


@given(st.lists(st.integers(0, 240), max_size=4))
def test_blocks_make_no_difference(cuts):
    rows, codes = _labelled()
    edges = [0, *sorted(cuts), len(rows)]
    blocks = [(rows[a:b], codes[a:b]) for a, b in pairwise(edges)]
    whole = Discriminant([(rows, codes)], 6).projection(0.2)
    np.testing.assert_allclose(
        Discriminant(blocks, 6).projection(0.2).matrix, whole.matrix, rtol=1e-3, atol=1e-4
    )


def test_fewer_items_than_dimensions_and_classes_of_one():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, 40)).astype(np.float32)
    codes = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 5])
    fit = Discriminant([(rows, codes)], 6)
    assert fit.projection(0.3).dim_out == 5
    assert fit.projection(0.3, 2).dim_out == 2
    with pytest.raises(InvalidInputError, match="shrinkage: expected a larger number .* found 0;"):
        fit.projection(0)


@pytest.mark.parametrize(
    ("rows", "codes", "classes", "message"),
    [
        (np.eye(4), [0, 0, 0, 0], 1, "at least 2, found 1"),
        (np.eye(4), [0, 0, 1, 1], 3, "none for 1 of them"),
        (np.eye(4), [0, 1, 2, 3], 4, "one each"),
        (np.ones((4, 3)), [0, 0, 1, 1], 2, "different embeddings within a class, found only equal"),
        (np.eye(4), [0, 0, 1, 2], 2, "from 0 to 1"),
        (np.full((4, 3), np.nan), [0, 0, 1, 1], 2, "NaN"),
    ],
)
def test_refuses_what_cannot_be_fitted(rows, codes, classes, message):
    with pytest.raises(InvalidInputError, match=message):
        Discriminant([(rows.astype(np.float32), np.array(codes))], classes)


@pytest.mark.parametrize("value", [-0.1, 1.5, True])
def test_refuses_another_shrinkage(value):
    rows, codes = _labelled()
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        Discriminant([(rows, codes)], 6).projection(value)


def test_refuses_more_dimensions_than_classes_give():
    rows, codes = _labelled()
    with pytest.raises(InvalidInputError, match="at most 5"):
        Discriminant([(rows, codes)], 6).projection(0.1, 6)
