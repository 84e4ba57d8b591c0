"""The linear map and its file."""

import hashlib
import io
import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret.errors import (
    DimensionError,
    InvalidInputError,
    StoreCorruptError,
    StoreVersionError,
)
from imgret.projections import LinearProjection


@pytest.fixture
def projection():
    rng = np.random.default_rng(1)
    return LinearProjection(
        rng.normal(size=(5, 3)), rng.normal(size=5), kind="pca", info={"items": 7}
    )


def test_applies_the_map_it_was_given():
    projection = LinearProjection([[1, 0], [0, 2], [1, 1]], [1, 2, 3], kind="given")
    applied = projection.apply([[2, 4, 3], [1, 2, 3]])
    np.testing.assert_array_equal(applied, np.array([[1, 4], [0, 0]], dtype=np.float32))
    assert applied.dtype == np.float32
    assert applied.flags.c_contiguous
    assert (projection.dim_in, projection.dim_out) == (3, 2)


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(2)
    mean = np.full(64, 1000, dtype=np.float32)
    matrix = rng.normal(size=(64, 8)).astype(np.float32)
    rows = mean + rng.normal(size=(10, 64)).astype(np.float32)
    exact = (rows.astype(np.float64) - mean) @ matrix.astype(np.float64)
    applied = LinearProjection(matrix, mean, kind="given").apply(rows)
    np.testing.assert_allclose(applied, exact, rtol=0, atol=1e-4)


def test_no_rows_give_no_rows(projection):
    assert projection.apply(np.empty((0, 5))).shape == (0, 3)


def test_wrong_width_is_told(projection):
    with pytest.raises(DimensionError, match=r"embeddings: expected .* dimension 5, found 4"):
        projection.apply(np.zeros((2, 4)))


def test_arrays_are_its_own_and_read_only():
    matrix = np.ones((2, 2), dtype=np.float32)
    projection = LinearProjection(matrix, np.zeros(2), kind="given", info={"n": 1})
    matrix[0, 0] = 9
    projection.info["n"] = 2
    assert projection.matrix[0, 0] == 1
    assert projection.info == {"n": 1}
    with pytest.raises(ValueError, match="read-only"):
        projection.matrix[0, 0] = 9


@pytest.mark.parametrize(
    ("matrix", "mean", "options", "message"),
    [
        (np.ones(3), np.ones(3), {}, r"matrix: expected .* found shape \(3,\)"),
        (np.ones((3, 0)), np.ones(3), {}, "matrix: expected"),
        (np.ones((3, 2)), np.ones(2), {}, r"mean: expected .* shape \(3,\).* found shape \(2,\)"),
        (np.full((3, 2), np.nan), np.ones(3), {}, "matrix: expected finite"),
        (np.ones((3, 2)), [1, np.inf, 1], {}, "mean: expected finite"),
        (np.ones((3, 2)), np.ones(3), {"kind": ""}, "kind: expected"),
        (np.ones((3, 2)), np.ones(3), {"info": {"a": np.ones(2)}}, "info: expected JSON"),
        (np.ones((3, 2)), np.ones(3), {"info": {"a": float("nan")}}, "info: expected JSON"),
    ],
)
def test_bad_parts_are_told(matrix, mean, options, message):
    with pytest.raises(InvalidInputError, match=message):
        LinearProjection(matrix, mean, **{"kind": "given", **options})


def test_fingerprint_follows_the_arrays(projection):
    twin = LinearProjection(projection.matrix, projection.mean, kind="other")
    assert twin.fingerprint == projection.fingerprint
    moved = LinearProjection(projection.matrix, projection.mean + 1, kind="pca")
    assert moved.fingerprint != projection.fingerprint
    tall = LinearProjection(np.ones((4, 1)), np.ones(4), kind="given")
    wide = LinearProjection(np.ones((2, 3)), np.ones(2), kind="given")  # the same 8 numbers
    assert tall.fingerprint != wide.fingerprint
    by_hand = hashlib.sha256(b"2 1 " + struct.pack("<4f", 1, 2, 3, 4)).hexdigest()
    assert LinearProjection([[1], [2]], [3, 4], kind="given").fingerprint == by_hand


def test_load_gives_back_what_was_saved(projection, tmp_path):
    path = tmp_path / "projection.npz"
    projection.save(path)
    loaded = LinearProjection.load(path)
    np.testing.assert_array_equal(loaded.matrix, projection.matrix)
    np.testing.assert_array_equal(loaded.mean, projection.mean)
    assert loaded.kind == "pca"
    assert loaded.info == {"items": 7}
    assert loaded.fingerprint == projection.fingerprint
    assert [entry.name for entry in tmp_path.iterdir()] == ["projection.npz"]


def test_the_file_is_a_plain_archive_of_arrays(projection, tmp_path):
    projection.save(tmp_path / "map")  # no suffix is added
    with zipfile.ZipFile(tmp_path / "map") as archive:
        assert sorted(archive.namelist()) == ["header.npy", "matrix.npy", "mean.npy"]
        matrix = np.lib.format.read_array(
            io.BytesIO(archive.read("matrix.npy")), allow_pickle=False
        )
        header = np.lib.format.read_array(
            io.BytesIO(archive.read("header.npy")), allow_pickle=False
        )
    np.testing.assert_array_equal(matrix, projection.matrix)
    assert json.loads(header.item())["format"] == 1


def test_saving_again_replaces(projection, tmp_path):
    path = tmp_path / "p.npz"
    projection.save(path)
    LinearProjection(np.ones((2, 2)), np.ones(2), kind="given").save(path)
    assert LinearProjection.load(path).dim_in == 2


def _write(path, *, header=None, **changes):
    """Write a file as `save` does, with some entries changed or (None) left out."""
    projection = LinearProjection(np.ones((3, 2)), np.zeros(3), kind="given")
    facts = {
        "format": 1,
        "kind": "given",
        "info": {},
        "fingerprint": projection.fingerprint,
        **(header or {}),
    }
    arrays = {"header": np.array(json.dumps(facts)), "matrix": np.ones((3, 2), np.float32)}
    arrays |= {"mean": np.zeros(3, np.float32)} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"matrix": None},
        {"mean": None},
        {"header": None},
        {"matrix": np.ones((3, 2, 1), np.float32)},
        {"mean": np.zeros(2, np.float32)},
        {"mean": np.array([0, np.nan, 0], np.float32)},
        {"matrix": np.full((3, 2), 2, np.float32)},
        {"matrix": np.array([[None, {}]] * 3, dtype=object)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_load_refuses_arrays_that_are_not_right(changes, tmp_path):
    path = tmp_path / "p.npz"
    _write(path)
    LinearProjection.load(path)
    if changes.get("header", ...) is None:
        np.savez(path, matrix=np.ones((3, 2)), mean=np.zeros(3))
    else:
        _write(path, **changes)
    with pytest.raises(StoreCorruptError, match=r"p\.npz: expected .*; fit the projection again"):
        LinearProjection.load(path)


def test_load_refuses_a_newer_format(tmp_path):
    _write(tmp_path / "p.npz", header={"format": 2})
    with pytest.raises(StoreVersionError, match="format 1 or older, found format 2"):
        LinearProjection.load(tmp_path / "p.npz")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 nearly", None])
def test_load_refuses_what_is_no_projection(content, tmp_path):
    path = tmp_path / "p.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"p\.npz"):
        LinearProjection.load(path)


@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    projection = LinearProjection(np.ones((3, 2)), np.arange(3), kind="pca")
    projection.save(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        loaded = LinearProjection.load(path)
    except (StoreCorruptError, StoreVersionError):
        return
    assert loaded.fingerprint == projection.fingerprint
