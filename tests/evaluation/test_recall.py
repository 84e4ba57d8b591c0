"""How many of the true nearest neighbours an index finds."""

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import EmptyGalleryError, InvalidInputError
from imgret.evaluation import sample


def _gallery(mean_color, *, metric="cosine", index="flat", n=400, seed=0, **options):
    rng = np.random.default_rng(seed)
    made = Retriever(embedder=mean_color, metric=metric, index=index, dtype="float32", **options)
    made.add_vectors(rng.normal(size=(n, 48)), keys=[str(i) for i in range(n)])
    return made


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_an_exact_index_reaches_all(mean_color, metric):
    gallery = _gallery(mean_color, metric=metric)
    gallery.remove([str(i) for i in range(0, 400, 7)])
    found = gallery.recall(k=10, n_queries=100)
    assert found.value == 1
    assert found.ci == (1, 1)
    assert (found.k, found.n_queries, found.index) == (10, 100, "flat")
    assert "recall@10 1.0000" in str(found)
    assert found.to_dict()["ci"] == [1, 1]


def test_a_coarse_index_reaches_what_counting_says(mean_color, monkeypatch):
    monkeypatch.setattr(sample, "_BUILT", 100)  # so many items say what they find themselves
    gallery = _gallery(mean_color)
    gallery.reindex("ivf", nlist=8, nprobe=1)
    found = gallery.recall(k=5, n_queries=400)
    vectors = gallery.embeddings()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    truth = np.argsort(-cosines, axis=1)[:, :5]
    answers = gallery.search_vectors(vectors, k=6)
    shares = [
        len({hit.key for hit in hits} & {str(j) for j in row}) / 5
        for hits, row in zip(answers, truth, strict=True)
    ]
    assert found.value == pytest.approx(np.mean(shares), abs=1e-9)
    assert 0.05 < found.value < 0.9
    assert found.ci[0] < found.value < found.ci[1]


def test_equals_are_as_good_as_each_other(mean_color):
    gallery = Retriever(embedder=mean_color, dtype="float32")
    gallery.add_vectors(np.ones((30, 48)), keys=[str(i) for i in range(30)])
    assert gallery.recall(k=3).value == 1


def test_it_is_measured_after_a_projection(mean_color):
    gallery = _gallery(mean_color)
    gallery.project("pca", dim=8)
    assert gallery.recall(k=10, n_queries=50).value == 1


def test_mistakes_are_told(mean_color):
    empty = Retriever(embedder=mean_color)
    with pytest.raises(EmptyGalleryError):
        empty.recall()
    few = _gallery(mean_color, n=5)
    with pytest.raises(InvalidInputError, match="k: expected fewer than the gallery's 5 items"):
        few.recall(k=5)
    with pytest.raises(InvalidInputError, match="n_queries"):
        few.recall(k=2, n_queries=0)
