"""Codes of the directions in which vectors differ."""

import numpy as np
import pytest

from imgret.indexes import IVFPQIndex
from imgret.indexes.faiss import directions, ivf

DIM, PIECES = 256, 32


def spread_over(n, weights, mean=0.0, seed=0):
    """Unit vectors around a mean that differ by so much in each of some directions."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(np.random.default_rng(9).standard_normal((DIM, DIM)))
    rows = (rng.standard_normal((n, DIM)) * weights) @ axes.T
    rows[:, 0] += mean * np.linalg.norm(weights)
    return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))


FEW = 1 / np.arange(1, DIM + 1) ** 0.75
ALL = np.ones(DIM)


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_directions_that_matter_are_coded(mean):
    vectors = spread_over(4000, FEW, mean)
    rows = directions.directions(vectors, PIECES)
    assert rows.shape[1] == DIM
    assert len(rows) in {PIECES, 2 * PIECES, 3 * PIECES}
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-5)
    kept = vectors @ rows.T
    inner, coded = vectors[:100] @ vectors.T, kept[:100] @ kept.T
    assert abs(inner - coded).mean() < 0.1 * inner.std()
    assert abs((inner - coded).mean()) < 0.01


def test_all_are_coded_if_all_matter():
    assert directions.directions(spread_over(4000, ALL), PIECES) is None


def test_too_few_vectors_tell_nothing():
    assert directions.directions(spread_over(2 * DIM - 1, FEW), PIECES) is None
    assert directions.directions(spread_over(2 * DIM, FEW), PIECES) is not None
    assert directions.directions(spread_over(4000, FEW), DIM) is None  # a piece for each


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_more_is_found_by_codes_as_short(monkeypatch, tmp_path, metric):
    vectors, queries = spread_over(8000, FEW, 1.0), spread_over(100, FEW, 1.0, seed=1)
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    shares = []
    for given in (directions.directions, lambda *_: None):
        monkeypatch.setattr(ivf, "directions", given)
        index = IVFPQIndex(DIM, metric, code_bytes=PIECES // 2, refine=1)
        index.train(vectors)
        index.add(vectors, np.arange(len(vectors)))
        index.configure(nprobe=index.nlist, refine=1)
        found = index.find(queries, 40)
        shares.append(
            np.mean([np.isin(a, b).mean() for a, b in zip(truth, found.ids, strict=True)])
        )
        index.save_state(tmp_path)
        again = IVFPQIndex.from_config(index.config())
        again.load_state(tmp_path)
        assert np.array_equal(again.find(queries, 40).ids, found.ids)
        [file.unlink() for file in tmp_path.iterdir()]
    assert shares[0] > 0.9 > shares[1]
