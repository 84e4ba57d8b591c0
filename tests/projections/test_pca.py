"""Principal components, with scikit-learn as the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from imgret.errors import DimensionError, EmptyGalleryError, InvalidInputError
from imgret.projections import fit_pca


def _rows(count=300, dim=24, seed=0):
    """Rows whose variance falls from direction to direction, about a mean far from zero."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dim, dim)) * np.geomspace(3, 0.1, dim)[:, None]
    return (rng.normal(size=(count, dim)) @ mix + rng.normal(size=dim) * 5).astype(np.float32)


def _blocks(rows, sizes):
    start = 0
    for size in sizes:
        yield rows[start : start + size]
        start += size
    yield rows[start:]


@pytest.mark.parametrize("whiten", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(300, 24), (20, 24), (24, 24)])
def test_agrees_with_scikit_learn(whiten, shape):
    rows = _rows(*shape)
    dim = 10
    oracle = PCA(dim, whiten=bool(whiten), svd_solver="full").fit(rows.astype(np.float64))
    projection = fit_pca([rows], dim, whiten=whiten)
    expected = oracle.transform(rows.astype(np.float64))
    found = projection.apply(rows)
    expected *= np.sign((expected * found).sum(axis=0))  # the oracle's sign is another one
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(projection.mean, oracle.mean_, rtol=1e-6)
    assert projection.info["items"] == shape[0]
    assert projection.info["explained_variance_ratio"] == pytest.approx(
        oracle.explained_variance_ratio_.sum()
    )


@pytest.mark.parametrize("is_flat", [False, True])
def test_few_components_of_wide_embeddings(is_flat):
    rows = _rows(400, 300)
    if is_flat:  # the components are too much alike to be found one by one
        rows = np.random.default_rng(0).normal(size=(5000, 300)).astype(np.float32)
    oracle = PCA(2, svd_solver="full").fit(rows.astype(np.float64))
    projection = fit_pca([rows], 2)
    expected = oracle.transform(rows.astype(np.float64))
    found = projection.apply(rows)
    expected *= np.sign((expected * found).sum(axis=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert projection.info["explained_variance_ratio"] == pytest.approx(
        oracle.explained_variance_ratio_.sum()
    )


def test_wide_embeddings_that_do_not_differ():
    with pytest.raises(InvalidInputError, match="5 equal ones"):
        fit_pca([np.ones((5, 300))], 2)


@given(sizes=st.lists(st.integers(0, 90), max_size=8), seed=st.integers(0, 5))
def test_blocks_do_not_matter(sizes, seed):
    rows = _rows(seed=seed)
    whole = fit_pca([rows], 8)
    cut = fit_pca(_blocks(rows, sizes), 8)
    np.testing.assert_allclose(cut.matrix, whole.matrix, rtol=0, atol=1e-5)
    np.testing.assert_allclose(cut.mean, whole.mean, rtol=0, atol=1e-5)
    assert cut.info["items"] == len(rows)


@given(dim=st.integers(1, 24), seed=st.integers(0, 5))
def test_components_are_orthonormal_and_uncorrelated(dim, seed):
    rows = _rows(seed=seed)
    projection = fit_pca([rows], dim)
    gram = projection.matrix.T @ projection.matrix
    np.testing.assert_allclose(gram, np.eye(dim), rtol=0, atol=1e-5)
    variances = projection.apply(rows).astype(np.float64).var(axis=0)
    assert (np.diff(variances) <= 1e-4 * variances[:-1]).all()


@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
def test_whitening_takes_a_power_of_the_variance(whiten):
    rows = _rows()
    plain = fit_pca([rows], 6).apply(rows).astype(np.float64).var(axis=0, ddof=1)
    found = fit_pca([rows], 6, whiten=whiten).apply(rows).astype(np.float64).var(axis=0, ddof=1)
    np.testing.assert_allclose(found, plain ** (1 - whiten), rtol=1e-4)


def test_sign_is_fixed_by_the_largest_weight():
    rows = _rows()
    matrix = fit_pca([rows], 8).matrix
    assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(8)] > 0).all()
    turned = fit_pca([-rows], 8).matrix  # the same variances, every deviation turned round
    np.testing.assert_allclose(turned, matrix, rtol=0, atol=1e-5)


def test_a_mean_far_away_costs_no_digits():
    rows = _rows()
    near = fit_pca([rows], 4)
    far = fit_pca([rows.astype(np.float32) + np.float32(4096)], 4)
    np.testing.assert_allclose(far.matrix, near.matrix, rtol=0, atol=2e-3)


def test_all_components_keep_all_distances():
    rows = _rows(count=60)
    projected = fit_pca([rows], 24).apply(rows)
    np.testing.assert_allclose(
        np.linalg.norm(projected[1:] - projected[0], axis=1),
        np.linalg.norm(rows[1:] - rows[0], axis=1),
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    ("rows", "dim", "error", "message"),
    [
        ([_rows(5, 8)], 6, InvalidInputError, r"dim: expected at most .*min\(5, 8\), found 6"),
        ([_rows(50, 8)], 9, InvalidInputError, r"min\(50, 8\), found 9"),
        ([_rows(50, 8)], 0, InvalidInputError, "dim: expected a whole number"),
        ([_rows(1, 8)], 1, InvalidInputError, "at least 2 rows, found 1"),
        ([np.ones((9, 8))], 2, InvalidInputError, "rows that differ, found 9 equal ones"),
        ([], 2, EmptyGalleryError, "found none"),
        ([np.empty((0, 8))], 2, EmptyGalleryError, "found none"),
        ([_rows(9, 8), _rows(9, 7)], 2, DimensionError, "dimension 8, found 7"),
        (_rows(9, 8), 2, DimensionError, r"pass a single array as \[array\]"),
        ([np.full((9, 8), np.nan)], 2, InvalidInputError, "found NaN"),
    ],
)
def test_bad_input_is_told(rows, dim, error, message):
    with pytest.raises(error, match=message):
        fit_pca(rows, dim)


@pytest.mark.parametrize("whiten", [-0.1, 1.5, float("nan"), "full", True])
def test_bad_whitening_is_told(whiten):
    with pytest.raises(InvalidInputError, match="whiten: expected a number between 0 and 1"):
        fit_pca([_rows()], 4, whiten=whiten)


def test_whitening_needs_variance_in_every_direction():
    rows = _rows(10, 24)  # ten rows span nine directions about their mean
    assert fit_pca([rows], 9, whiten=1).dim_out == 9
    assert fit_pca([rows], 10).dim_out == 10
    with pytest.raises(InvalidInputError, match="at most 9 with whitening"):
        fit_pca([rows], 10, whiten=1)
