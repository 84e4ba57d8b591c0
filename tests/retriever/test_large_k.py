"""A ``k`` far above the number of items costs what a ``k`` of that number costs."""

import sys
import time
import tracemalloc

import numpy as np
import pytest

from imgret import ExactIndex, Retriever
from imgret.errors import InvalidInputError
from imgret.rerank import Diffusion, Diversity, KReciprocal, QueryExpansion

N = 40
LARGE = [10**8, 2**31, sys.maxsize, 2**63, 10**30]
INDEXES = ["flat", "exact", "hnsw", "hnsw-sq8", "ivf", "ivf-pq", "faiss:SQ8"]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # few points for ivf


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).standard_normal((N, 48)).astype(np.float32)


@pytest.fixture
def made(mean_color, vectors):
    def make(index="flat"):
        retriever = Retriever(embedder=mean_color, index=index)
        retriever.add_vectors(
            vectors, keys=[str(n) for n in range(N)], labels=["ab"[n % 2] for n in range(N)]
        )
        return retriever

    return make


@pytest.fixture(autouse=True)
def bounds():
    """No test may take memory or time by k: 10**8 neighbours are 1.2 GB and seconds."""
    tracemalloc.start()
    started = time.perf_counter()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("k", LARGE)
@pytest.mark.parametrize("index", INDEXES)
def test_searches(made, vectors, index, k):
    retriever = made(index)
    assert [len(hits) for hits in retriever.search_vectors(vectors[:2], k)] == [N, N]
    assert len(retriever.search_key("3", k)) == N - 1
    assert len(retriever.search_key(["3", "4"], k, negatives="5")) == N - 3
    for where, passing in (({"label": "a"}, N // 2), ({"key": {"$ne": "1"}}, N - 1)):
        assert len(retriever.search_vectors(vectors[:1], k, where=where)[0]) == passing
        assert len(retriever.search_key("0", k, where=where)) == passing - 1
    assert not retriever.search_vectors(vectors[:1], k, where={"label": "c"})[0]
    assert retriever.explain(k).compared <= 2 * N


@pytest.mark.parametrize("k", LARGE)
def test_pictures(mean_color, photos, k):
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(photos, labels="parent")
    query = photos / "sand" / "2.jpg"
    assert len(retriever.search(query, k)) == 12
    assert len(retriever.search([query, photos / "lake" / "1.jpg"], k, negatives=query)) == 12
    assert [len(hits) for hits in retriever.search_many([query] * 3, k)] == [12] * 3


@pytest.mark.parametrize("k", LARGE)
@pytest.mark.parametrize(
    "rerank",
    ["average-qe", "alpha-qe", "k-reciprocal", "diffusion", "mmr", ("alpha-qe", "mmr")],
)
def test_rerankers(made, vectors, rerank, k):
    retriever = made()
    assert [len(hits) for hits in retriever.search_vectors(vectors[:2], k, rerank=rerank)] == [N, N]
    assert len(retriever.search_key("0", k, where={"label": "a"}, rerank=rerank)) == N // 2 - 1


@pytest.mark.parametrize("many", [10**8, 10**30])
def test_options_of_rerankers(made, vectors, many):
    retriever = made()
    for rerank in (
        QueryExpansion(k=many),
        Diversity(candidates=many),
        KReciprocal(candidates=many, k1=many, k2=many),
        Diffusion(candidates=many, k=many, k_query=many),
    ):
        assert len(retriever.search_vectors(vectors[:1], 3, rerank=rerank)[0]) == 3


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_an_evaluation_names_the_k_that_was_asked_for(made, index):
    retriever = made(index)
    deep = retriever.evaluate(k=(1, N, 10**8, 10**30))
    flat = retriever.evaluate(k=(1, N))
    for many in (10**8, 10**30):
        for name in ("top", "recall", "map", "ndcg"):
            assert deep.metrics[f"{name}{many}"] == flat.metrics[f"{name}{N}"]
        assert deep.metrics[f"precision{many}"] == pytest.approx((N // 2 - 1) / many)
        assert f"top{many}" in str(deep)
    assert deep.metrics["map_r"] == flat.metrics["map_r"]
    assert list(deep.values)[-2:] == ["map_r", "mrr"]
    assert any(f"k = {10**30} goes beyond" in warning for warning in deep.warnings)
    assert f"top{10**8}" in deep.to_html()


@pytest.mark.parametrize("k", LARGE)
def test_the_gallery_as_a_whole(made, k):
    retriever = made()
    assert retriever.neighbor_graph(k).indices.shape == (N, N - 1)
    assert len(retriever.outliers(k, k=k)) == N
    assert isinstance(retriever.mislabelled(k=k), list)
    assert len(retriever.augmented(k)) == N
    retriever.calibrate(k=k, n_queries=k)
    for measure in (retriever.recall, lambda k: retriever.tune(0.5, k)):
        with pytest.raises(InvalidInputError, match=r"expected (fewer|a gallery)"):
            measure(k)


@pytest.mark.parametrize("k", LARGE)
def test_an_index_by_itself_refuses_more_padding_than_memory_holds(vectors, k):
    index = ExactIndex(48)
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"ask for min\(k, (1|40)\)"):
            index.search(vectors[:2], k)
        if not len(index):
            index.add(vectors, np.arange(N))
    assert index.search(vectors[:2], N + 100).ids.shape == (2, N + 100)
