"""Inner products of vectors of unequal length in inverted files."""

import json

import numpy as np
import pytest

from imgret import registry
from imgret.errors import StoreCorruptError

DIM = 32


def spread(sigma, count=6000, seed=0):
    """Vectors of lengths spread lognormally, and queries of length 1."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((60, DIM))
    made = centres[rng.integers(0, 60, count)] + rng.standard_normal((count, DIM))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    made = made.astype(np.float32)
    queries, vectors = made[:200], made[200:]
    lengths = rng.lognormal(0, sigma, len(vectors))[:, None].astype(np.float32)
    return vectors * lengths, queries


def filled(name, vectors, **options):
    index = registry.create("indexes", name, dim=DIM, metric="ip", **options)
    index.train(vectors)
    half = len(vectors) // 2
    index.add(vectors[:half], np.arange(half))
    index.add(vectors[half:], np.arange(half, len(vectors)))
    index.refine_by(vectors.__getitem__)
    return index


def found(index, vectors, queries):
    best = np.argmax(queries @ vectors.T, axis=1)
    return np.mean(index.search(queries, 10).ids[:, 0] == best)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ivf", {}),
        ("ivf-pq", {}),
        ("faiss:IVF64,Flat", {"parameters": "nprobe=16"}),
        ("faiss:RR32,IVF64,PQ16x4fsr", {"parameters": "nprobe=16"}),
    ],
)
def test_the_best_is_found_whatever_the_lengths(name, options, sigma):
    vectors, queries = spread(sigma)
    index = filled(name, vectors, **options)
    assert found(index, vectors, queries) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ivf", "ivf-pq"])
def test_as_much_is_found_as_of_equal_lengths(name):
    for sigma in (0.25, 1.0, 2.0):
        vectors, queries = spread(sigma)
        assert found(filled(name, vectors), vectors, queries) >= 0.97


@pytest.mark.parametrize("name", ["ivf", "ivf-pq", "faiss:IVF32,SQ8"])
def test_what_is_removed_and_added_again_is_found(name):
    vectors, queries = spread(0.5)
    index = filled(name, vectors, **({"parameters": "nprobe=12"} if "faiss" in name else {}))
    best = np.unique(np.argmax(queries @ vectors.T, axis=1))
    assert index.remove(best) == len(best)
    assert not np.isin(index.search(queries, 10).ids, best).any()
    index.add(vectors[best], best)
    assert found(index, vectors, queries) >= 0.94
    np.testing.assert_array_equal(
        index.search(queries[:5], len(vectors)).ids >= 0, np.ones((5, len(vectors)), bool)
    )


@pytest.mark.parametrize("name", ["ivf", "ivf-pq", "faiss:IVF32,SQ8"])
def test_lists_are_saved_and_added_to_after_loading(name, tmp_path):
    vectors, queries = spread(0.5)
    index = registry.create("indexes", name, dim=DIM, metric="ip")
    index.train(vectors)
    index.add(vectors[:3000], np.arange(3000))
    index.save_state(tmp_path)
    loaded = registry.create("indexes", name, **json.loads(json.dumps(index.config())))
    loaded.load_state(tmp_path)
    for each in (index, loaded):
        each.add(vectors[3000:], np.arange(3000, len(vectors)))
    np.testing.assert_array_equal(loaded.search(queries, 5).ids, index.search(queries, 5).ids)


@pytest.mark.parametrize("name", ["ivf", "ivf-pq", "faiss:IVF32,Flat"])
def test_lists_that_were_laid_otherwise_are_not_taken(name, tmp_path):
    vectors, _ = spread(0.5, count=1500)
    index = registry.create("indexes", name, dim=DIM, metric="ip")
    index.train(vectors)
    write = index._write
    index._write = lambda directory, *_: write(directory)  # the name of releases before 0.2
    index.save_state(tmp_path)
    again = type(index).from_config(index.config())
    with pytest.raises(StoreCorruptError, match=r"lists\.faiss"):
        again.load_state(tmp_path)


def test_other_metrics_keep_their_files(tmp_path):
    vectors, _ = spread(0.0, count=1500)
    index = registry.create("indexes", "ivf", dim=DIM, metric="cosine")
    index.train(vectors)
    index.save_state(tmp_path)
    assert (tmp_path / "index.faiss").exists()
