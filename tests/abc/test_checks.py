"""What comes in is refused or made uniform, and never repaired."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imgret.errors import DimensionError, DuplicateKeyError, InvalidInputError
from imgret.support.checks import (
    check_count,
    check_ids,
    check_images,
    check_scorable,
    check_vectors,
)
from imgret.testing import strategies

CHECKS = {
    metric: lambda values, dim, name, metric=metric: check_scorable(values, dim, metric, name)
    for metric in ("cosine", "ip", "l2")
}
finite = st.floats(-(2.0**100), 2.0**100, width=32)


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(3)])
def test_counts(value):
    assert check_count(value, "k") == value
    assert type(check_count(value, "k")) is int


@pytest.mark.parametrize("value", [0, -3, 1.0, "1", None, True, [1], np.float32(2)])
def test_what_is_no_count(value):
    with pytest.raises(InvalidInputError, match="k: expected a whole number of at least 1, found"):
        check_count(value, "k")


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(3)), elements=finite))
def test_finite_vectors_pass_through(vectors):
    for given_as in (vectors, np.asfortranarray(vectors), vectors.astype(np.float64)):
        checked = check_vectors(given_as, 3, "vectors")
        assert checked.dtype == np.float32
        assert checked.flags.c_contiguous
        np.testing.assert_array_equal(checked, vectors)


@given(
    vectors=strategies.vectors(count=st.integers(1, 9), dim=4),
    place=st.tuples(st.integers(0, 8), st.integers(0, 3)),
    bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e39, -1e300]),
    huge=st.booleans(),
)
def test_one_bad_value_anywhere_is_found_and_its_row_told(vectors, place, bad, huge):
    row = place[0] % len(vectors)
    values = vectors.astype(np.float64) * (1e30 if huge else 1.0)  # squares leave float32
    values[row, place[1]] = bad
    for check in (check_vectors, CHECKS["cosine"], CHECKS["ip"], CHECKS["l2"]):
        with pytest.raises(InvalidInputError, match=f"NaN or infinity in row {row} "):
            check(values, 4, "vectors")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.zeros(3), DimensionError),
        (np.zeros((2, 4)), DimensionError),
        (np.zeros((2, 3, 1)), DimensionError),
        (np.zeros((2, 3), dtype=complex), InvalidInputError),
        (np.zeros((2, 3), dtype=bool), InvalidInputError),
        ([["a", "b", "c"]], InvalidInputError),
        ([[1.0, 2.0], [3.0]], InvalidInputError),
        (None, InvalidInputError),
    ],
)
def test_what_are_no_vectors(values, error):
    with pytest.raises(error, match="vectors: expected"):
        check_vectors(values, 3, "vectors")


@given(
    strategies.vectors(count=st.integers(0, 9), dim=5),
    st.sampled_from([1e-30, 1e-18, 1.0, 1e18, 1e37]),
)
def test_for_cosine_vectors_of_any_scale_get_unit_length(vectors, scale):
    unit = check_scorable(vectors * np.float32(scale), 5, "cosine", "vectors")
    assert unit.dtype == np.float32
    assert unit.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1, rtol=1e-5)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, expected, atol=1e-5)


@given(
    strategies.vectors(count=st.integers(1, 5), dim=4),
    st.sampled_from([1.0, 1e10, 1e17, 1e19, 1e25]),
    st.sampled_from(["ip", "l2"]),
)
def test_vectors_whose_scores_leave_float32_are_refused(vectors, scale, metric):
    scaled = vectors * np.float32(scale)
    if np.linalg.norm(scaled.astype(np.float64), axis=1).max() > 9e18:
        with pytest.raises(InvalidInputError, match="length 9e"):
            check_scorable(scaled, 4, metric, "vectors")
    else:
        np.testing.assert_array_equal(check_scorable(scaled, 4, metric, "vectors"), scaled)
        assert np.isfinite(((scaled - -scaled) ** 2).sum(axis=1)).all()


def test_a_vector_of_zeros_has_no_direction():
    with pytest.raises(InvalidInputError, match="only zeros in row 1"):
        check_scorable([[1.0, 0.0], [0.0, 0.0]], 2, "cosine", "vectors")


@given(strategies.ids(count=st.integers(0, 30)))
def test_ids_pass_through(ids):
    for given_as in (ids, ids.tolist(), ids.astype(np.uint64)):
        checked = check_ids(given_as, "ids")
        assert checked.dtype == np.int64
        np.testing.assert_array_equal(checked, ids)


@given(strategies.ids(count=st.integers(1, 30)), st.data())
def test_an_id_given_twice_is_found(ids, data):
    twice = data.draw(st.sampled_from(ids.tolist()))
    place = data.draw(st.integers(0, len(ids)))
    with pytest.raises(DuplicateKeyError, match=f"found {twice} twice"):
        check_ids(np.insert(ids, place, twice), "ids")


@pytest.mark.parametrize(
    "values", [[-1], [1.5], [[1]], 3, ["1"], [True], np.array([2**63], dtype=np.uint64), None]
)
def test_what_are_no_ids(values):
    with pytest.raises(InvalidInputError, match="ids: expected"):
        check_ids(values, "ids")


@given(st.lists(strategies.pictures(), max_size=3))
def test_pictures_pass_through(images):
    assert check_images(images) is images


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2), "u1"), np.zeros((2, 2, 4), "u1"), np.zeros((2, 2, 3)), "a.jpg", None]
)
def test_what_is_no_picture_is_told_by_its_place(image):
    with pytest.raises(InvalidInputError, match=r"images\[1\]: expected uint8"):
        check_images([np.zeros((1, 1, 3), dtype=np.uint8), image])


@given(strategies.vectors(count=st.integers(1, 80), dim=6), st.integers(0, 80))
def test_what_has_unit_length_is_passed_on_as_it_is(vectors, place):
    unit = (vectors / np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]).astype("f4")
    assert check_scorable(unit, 6, "cosine", "vectors") is unit
    unit[place % len(unit)] *= np.float32(1 + 1e-5)  # of one row alone
    again = check_scorable(unit, 6, "cosine", "vectors")
    np.testing.assert_allclose(np.linalg.norm(again.astype(np.float64), axis=1), 1, atol=3e-7)


@pytest.mark.parametrize("count", [1, 64, 65, 200])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_a_row_that_is_not_finite_is_named(count, value, metric):
    rows = np.eye(count, 8, dtype=np.float32) + 1
    rows[count // 2, 3] = value
    with pytest.raises(InvalidInputError, match=f"NaN or infinity in row {count // 2} "):
        check_scorable(rows, 8, metric, "vectors")
