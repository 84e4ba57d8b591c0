"""Recall and tuning say what holds for queries that are not in the gallery."""

import numpy as np
import pytest

from imgret import Embedder, Retriever
from imgret.errors import InvalidInputError
from imgret.evaluation import sample

pytestmark = pytest.mark.slow

N, NEW, DIM, K = 1500, 1500, 32, 10
LOW = {
    "hnsw": {"M": 8, "ef_construction": 40, "ef_search": 10},
    "hnsw-sq8": {"M": 8, "ef_construction": 40, "ef_search": 10},
    "faiss:HNSW6": {},
    "ivf": {"nlist": 24, "nprobe": 1},
    "ivf-pq": {"nlist": 24, "nprobe": 1},
}


class Given(Embedder):
    """The image's first pixels are its embedding."""

    name = "given"
    dim = DIM
    fingerprint = "given"

    def config(self):
        return {}

    def _embed(self, images):
        return np.stack([image.reshape(-1)[:DIM] for image in images]).astype(np.float32) - 128


def mixture(spread):
    """Draw items, and new queries from the same classes with a spread of their own."""
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((20, DIM))
    codes = rng.integers(20, size=N + NEW)
    spreads = np.where(np.arange(N + NEW) < N, 0.8, spread)[:, None]
    rows = centres[codes] + spreads * rng.standard_normal((N + NEW, DIM))
    return rows[:N].astype(np.float32), rows[N:].astype(np.float32)


@pytest.fixture(scope="module")
def drawn():
    return mixture(0.8)


@pytest.fixture(scope="module")
def apart():
    """The same items, and queries that are farther from them than these from each other."""
    return mixture(1.2)


def filled(vectors, index, *, metric="cosine", **options):
    made = Retriever(embedder=Given(), dtype="float32", metric=metric)
    made.add_vectors(vectors, keys=[str(n) for n in range(len(vectors))])
    made.reindex(index, **{**LOW[index], **options})
    return made


def measured(retriever, queries):
    """Recall of new queries, by comparing with everything."""
    vectors = retriever.embeddings().astype(np.float64)
    scores = queries @ vectors.T
    if retriever.metric == "l2":
        scores = 2 * scores - (vectors**2).sum(axis=1) - (queries**2).sum(axis=1)[:, None]
    elif retriever.metric == "cosine":
        scores /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(queries, axis=1)[:, None]
    least = np.partition(scores, -K, axis=1)[:, -K] - 1e-4
    found = retriever.search_vectors(queries, K)
    return np.mean(
        [[hit.score >= low for hit in hits] for hits, low in zip(found, least, strict=True)]
    )


@pytest.mark.parametrize(
    ("index", "metric"), [*((index, "cosine") for index in LOW), ("hnsw", "l2"), ("ivf", "l2")]
)
def test_the_interval_holds_the_truth(drawn, index, metric):
    gallery, new = drawn
    retriever = filled(gallery, index, metric=metric)
    true = measured(retriever, new)
    for seed in range(3):
        found = retriever.recall(K, seed=seed)
        # The truth is measured as well, and has an error of its own, up to 0.01.
        assert found.ci[0] - 0.01 <= true <= found.ci[1] + 0.01


@pytest.mark.parametrize("index", ["ivf", "ivf-pq"])
def test_cells_and_codes_of_few_items_suit_these_best(index, monkeypatch):
    """Asked by the items that they were trained on, they seem better than they are."""
    vectors = np.random.default_rng(3).standard_normal((2500, DIM)).astype(np.float32)
    gallery, new = vectors[:500], vectors[500:]
    retriever = filled(gallery, index, nlist=12, nprobe=1)
    true = measured(retriever, new)
    found = retriever.recall(K)
    assert found.ci[0] - 0.01 <= true <= found.ci[1] + 0.01
    monkeypatch.setattr(sample, "_BUILT", 100)
    flattered = retriever.recall(K)
    assert flattered.value > found.ci[1]


def test_an_interval_has_a_width_where_all_queries_find_everything(drawn):
    retriever = filled(drawn[0], "ivf", nprobe=24)
    found = retriever.recall(K, n_queries=200)
    assert found.value == 1
    assert 0.97 < found.ci[0] < 0.995  # the rule of three: 1 - 3 / 200 = 0.985
    assert found.ci[1] == 1


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_interval_of_a_graph_too_large_to_build_again(drawn, metric, monkeypatch):
    monkeypatch.setattr(sample, "_BUILT", 500)
    gallery, new = drawn
    retriever = filled(gallery, "hnsw", metric=metric)
    true = measured(retriever, new)
    own = measured(retriever, gallery[:500])  # itself among them
    for seed in range(3):
        found = retriever.recall(K, seed=seed)
        assert found.ci[0] <= true <= found.ci[1]
        assert abs(found.value - true) < 0.08
        assert found.value < own


@pytest.mark.parametrize("built", [20_000, 500])
@pytest.mark.parametrize(
    ("index", "metric"), [*((index, "cosine") for index in LOW), ("hnsw", "l2"), ("hnsw", "ip")]
)
def test_the_interval_holds_for_queries_that_are_farther(apart, index, metric, built, monkeypatch):
    monkeypatch.setattr(sample, "_BUILT", built)
    gallery, new = apart
    retriever = filled(gallery, index, metric=metric)
    true, found = measured(retriever, new), retriever.recall(K)
    assert found.ci[0] <= true <= found.ci[1]
    assert found.value <= found.ci[1]


@pytest.mark.parametrize("index", ["hnsw", "hnsw-sq8", "ivf-pq"])
def test_the_interval_stays_of_use(drawn, index):
    """By the default options of an index."""
    retriever = filled(drawn[0], index)
    retriever.reindex(index)
    found = retriever.recall(K)
    assert found.ci[0] > found.value - 0.03


@pytest.mark.parametrize("index", ["hnsw", "hnsw-sq8", "ivf"])
def test_a_target_is_reached_by_queries_that_are_farther(apart, index):
    gallery, new = apart
    retriever = filled(gallery, index)
    chosen = retriever.tune(0.95, K).chosen
    assert chosen.recall >= chosen.farther >= 0.95
    assert measured(retriever, new) >= 0.94


def test_a_graph_is_left_as_it_is(drawn):
    retriever = filled(drawn[0], "hnsw")
    before = retriever.index.settings(), len(retriever.index)
    index = retriever.index
    retriever.recall(K)
    assert (retriever.index.settings(), len(retriever.index)) == before
    assert retriever.index is index


@pytest.mark.parametrize("index", ["hnsw", "hnsw-sq8", "ivf"])
def test_a_target_is_reached_by_new_queries(drawn, index):
    gallery, new = drawn
    retriever = filled(gallery, index)
    tuning = retriever.tune(0.9, K)
    assert measured(retriever, new) >= 0.9 - 0.015
    assert measured(retriever, new) == pytest.approx(tuning.chosen.recall, abs=0.02)


def test_copies_are_as_good_as_each_other(drawn):
    gallery = np.concatenate([drawn[0][:300], np.repeat(drawn[0][:30], 4, axis=0)])
    retriever = filled(gallery, "hnsw")
    retriever.reindex("hnsw")
    assert retriever.recall(5).value > 0.99


def test_queries_that_are_given(drawn):
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (200, 4, 4, 3), dtype=np.uint8))
    gallery = rng.integers(0, 256, (N, DIM)).astype(np.float32) - 128
    retriever = filled(gallery, "hnsw")
    found = retriever.recall(K, queries=pictures)
    assert found.n_queries == 200
    queries = np.stack([image.reshape(-1)[:DIM] for image in pictures]).astype(np.float32) - 128
    assert found.value == pytest.approx(measured(retriever, queries), abs=2e-3)
    with pytest.raises(InvalidInputError, match="queries: expected at least 1, found none"):
        retriever.recall(K, queries=[])


def test_so_few_items_that_all_are_asked(drawn):
    retriever = filled(drawn[0][:30], "hnsw")
    for n in range(1, 29, 9):
        found = retriever.recall(n)
        assert found.n_queries == 30
        assert found.value == 1
