"""What the adapters of Faiss add to the contract."""

import threading
import time

import faiss
import numpy as np
import pytest

from imgret import registry
from imgret.errors import ImgretError, InvalidInputError, UnsupportedError
from imgret.indexes import ExactIndex, FactoryIndex, FlatIndex, HNSWIndex, IVFIndex
from imgret.testing.data import clustered


@pytest.fixture(scope="module")
def many():
    return clustered(3000, 16, seed=2)


def recall(index, vectors, ids, *, k=10, allowed=None):
    exact = ExactIndex(index.dim, index.metric)
    exact.add(vectors, ids)
    expected = exact.search(vectors[:50], k, allowed=allowed).ids
    found = index.search(vectors[:50], k, allowed=allowed).ids
    return np.mean([np.isin(a, b).mean() for a, b in zip(expected, found, strict=True)])


# -- threads -------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_of_the_caller_is_left_alone(many, threads):
    vectors, ids = many
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        for index in (FlatIndex(16), HNSWIndex(16), IVFIndex(16, nlist=4)):
            index.train(vectors)
            index.add(vectors[:100], ids[:100])
            index.search(vectors[:1], 3)
            index.search(vectors[:50], 3, allowed=ids[:10])
            index.remove(ids[:3])
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_queries_of_a_long_scan_begin_with_a_cache_line(many, metric, monkeypatch):
    few, _ = many
    index = FlatIndex(16, metric)
    index.add(np.resize(few, (130_000, 16)), np.arange(130_000))
    begin = []
    search = index._faiss.search

    def spy(queries, k, **options):
        begin.append(queries.ctypes.data % 64)
        return search(queries, k, **options)

    monkeypatch.setattr(index._faiss, "search", spy)
    for count in (1, 3, 30):
        buffer = np.empty(count * 16 + 16, dtype=np.float32)
        start = (4 - buffer.ctypes.data // 4) % 16  # 16 bytes after the beginning of one
        queries = buffer[start : start + count * 16].reshape(count, 16)
        queries[:] = few[:count]
        expected, _ = search(index._checked(queries, "queries"), 5)
        found = index.search(queries, 5).scores
        np.testing.assert_allclose(found, -expected if metric == "l2" else expected, atol=1e-4)
    assert begin == [0, 0, 0]


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize(("dim", "sizes"), [(24, (2, 19, 20, 40)), (6_800, (18, 19, 20))])
def test_a_batch_of_any_size_gets_the_hits_of_its_queries_alone(metric, dim, sizes):
    # Faiss multiplies matrices from 20 queries on, or from 128,000 values of queries.
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.standard_normal((40, dim), dtype=np.float32), 5, axis=0)
    index = FlatIndex(dim, metric)
    index.add(vectors, rng.permutation(len(vectors)))
    queries = rng.standard_normal((max(sizes), dim), dtype=np.float32)
    for k in (1, 3, 7, len(vectors)):  # within the copies of a vector, and all
        alone = [index.search(query[None], k) for query in queries]
        for size in sizes:
            ids, scores = index.search(queries[:size], k)
            np.testing.assert_array_equal(ids, np.concatenate([a.ids for a in alone[:size]]))
            np.testing.assert_array_equal(scores, np.concatenate([a.scores for a in alone[:size]]))


@pytest.mark.slow
def test_searching_while_another_thread_changes_a_graph(many):
    vectors, ids = many
    index = HNSWIndex(16, "l2", M=8, ef_construction=20, ef_search=16)
    by_id = np.zeros((ids.max() + 1, 16), dtype=np.float32)
    by_id[ids] = vectors
    fixed, moving = slice(0, 300), slice(300, 1500)
    index.add(vectors[fixed], ids[fixed])
    stop = time.monotonic() + 2.0
    wrong, searches, changes = [], [], []

    def change():
        parts = [slice(start, start + 100) for start in range(moving.start, moving.stop, 100)]
        while time.monotonic() < stop:
            for part in parts:
                index.add(vectors[part], ids[part])
            for part in parts:
                index.remove(ids[part])
            changes.append(1)

    def search():
        while time.monotonic() < stop:
            found = index.search(vectors[:8], 5)
            true = -((vectors[:8, None] - by_id[found.ids]) ** 2).sum(axis=2)
            if (found.ids < 0).any() or not np.allclose(found.scores, true, atol=1e-3):
                wrong.append(found)
            searches.append(1)

    workers = [threading.Thread(target=change), *(threading.Thread(target=search) for _ in "123")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert searches
    assert changes
    np.testing.assert_array_equal(np.sort(index.ids), np.sort(ids[fixed]))


# -- all or nothing ------------------------------------------------------------------------


def failing_after(method):
    def failing(self, *arguments):
        method(self, *arguments)
        raise MemoryError

    return failing


@pytest.mark.parametrize(
    "make",
    [
        lambda: FlatIndex(16, "l2"),
        lambda: HNSWIndex(16, "l2"),
        lambda: IVFIndex(16, "l2", nlist=4),
        lambda: FactoryIndex("SQ8", dim=16, metric="l2"),
    ],
)
def test_rows_that_came_in_before_a_failure_are_not_seen(many, make, monkeypatch):
    vectors, ids = many
    index = make()
    index.train(vectors)
    index.add(vectors[:200], ids[:200])
    kind = type(index._faiss)
    for name in ("add", "add_with_ids"):
        monkeypatch.setattr(kind, name, failing_after(getattr(kind, name)))
    with pytest.raises(MemoryError):
        index.add(vectors[200:300], ids[200:300])
    monkeypatch.undo()
    assert len(index) == 200
    assert np.isin(index.search(vectors[200:300], 150).ids, ids[:200]).all()
    index.add(vectors[300:400], ids[300:400])
    found = index.search(vectors[300:400], 1).ids[:, 0]
    assert (found == ids[300:400]).mean() > 0.95


# -- HNSW ----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_hnsw_finds_nearly_all_with_any_filter(many, metric):
    vectors, ids = many
    index = HNSWIndex(16, metric, M=8, ef_construction=80, ef_search=32)
    index.add(vectors, ids)
    for k in (1, 10, 60):
        assert recall(index, vectors, ids, k=k) > 0.9
    for count in (20, 200, 1000, 2500):
        assert recall(index, vectors, ids, allowed=ids[:count]) > 0.9


@pytest.mark.parametrize(
    "index", [FlatIndex(16, "l2"), HNSWIndex(16, "l2", ef_construction=20, ef_search=200)]
)
def test_many_allowed_are_scanned_exactly(many, index):
    vectors, ids = many
    exact = ExactIndex(16, "l2")
    for part in (index, exact):
        part.add(vectors, ids)
        part.remove(ids[:100])
    allowed = ids[50:2500]
    expected = exact.search(vectors[:1], 20, allowed=allowed)
    found = index.search(vectors[:1], 20, allowed=allowed)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_hnsw_builds_its_graph_anew_once_a_quarter_is_gone(many):
    vectors, ids = many
    index = HNSWIndex(16, "l2", M=8, ef_construction=40, ef_search=32)
    index.add(vectors[:1000], ids[:1000])
    index.remove(ids[:250])
    assert index._faiss.ntotal == 1000
    index.remove(ids[250:251])
    assert index._faiss.ntotal == len(index) == 749
    assert recall(index, vectors[251:1000], ids[251:1000]) > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [({"M": 1}, "at least 2"), ({"M": 0}, "M"), ({"ef_search": 0}, "ef_search")],
)
def test_hnsw_options_are_checked(options, message):
    with pytest.raises(InvalidInputError, match=message):
        HNSWIndex(16, **options)


# -- IVF -----------------------------------------------------------------------------------


def test_ivf_takes_as_many_lists_as_the_training_vectors_allow(many):
    vectors, _ = many
    index = IVFIndex(16)
    assert index.nlist is None
    index.train(vectors)
    assert index.nlist == 3000 // 39
    assert index.nprobe == 8
    index.train(vectors[:5])
    assert index.nlist == 1


def test_ivf_warns_of_fewer_lists_than_asked_for(many):
    vectors, _ = many
    index = IVFIndex(16, nlist=64)
    with pytest.warns(UserWarning, match=r"nlist=64 needs at least 2496 .* found 1000"):
        index.train(vectors[:1000])
    assert index.nlist == 1000 // 39
    assert index.config()["nlist"] == 64
    index.train(vectors)
    assert index.nlist == 64


def test_ivf_visits_more_lists_when_it_comes_back_short(many, monkeypatch):
    vectors, ids = many
    index = IVFIndex(16, "l2", nlist=32, nprobe=1)
    index.train(vectors)
    index.add(vectors, ids)
    monkeypatch.setattr(index, "_search_exactly", None)  # must not be needed
    assert (index.search(vectors[:20], 2000).ids >= 0).all()
    few = np.sort(ids[:7])
    found, _ = index._search(vectors[:20], 7, few)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(few, (20, 1)))


def test_ivf_keeps_ids_that_lie_far_apart(many):
    vectors, _ = many
    ids = np.arange(len(vectors)) * 10**12
    index = IVFIndex(16, "l2")
    index.train(vectors)
    index.add(vectors, ids)
    assert recall(index, vectors, ids, allowed=ids[::3]) > 0.9
    assert index.remove(ids[::2]) == 1500
    assert not np.isin(index.search(vectors[:50], 10).ids, ids[::2]).any()


# -- factory strings -----------------------------------------------------------------------


def test_a_factory_index_is_made_again_from_its_name_and_config():
    index = registry.create("indexes", "faiss:IVF64,Flat", dim=8, metric="l2")
    assert index.name == "faiss:IVF64,Flat"
    for again in (
        registry.create("indexes", index.name, **index.config()),
        FactoryIndex.from_config(index.config()),
    ):
        assert again.config() == index.config()
        assert again.name == index.name
    with pytest.raises(InvalidInputError, match=r"'IVF64,Flat', found 'SQ8'"):
        registry.create("indexes", index.name, **{**index.config(), "factory": "SQ8"})


@pytest.mark.parametrize(
    ("factory", "flags"),
    [
        ("Flat", (False, True, True)),
        ("SQ8", (True, True, True)),
        ("PQ4x4np", (True, True, False)),
        ("PQ4x4fs", (True, True, False)),
        ("HNSW8", (False, False, False)),
        ("IVF4,PQ4x4fs", (True, True, True)),
        ("IVF4,Flat,RFlat", (True, False, False)),
        ("PCA4,Flat", (True, True, True)),
    ],
)
def test_flags_follow_the_kind_of_index(factory, flags):
    index = FactoryIndex(factory, dim=8, metric="l2")
    assert (index.needs_training, index.supports_remove, index.supports_allowed) == flags


@pytest.mark.parametrize(
    ("factory", "metric", "error", "message"),
    [
        ("", "l2", InvalidInputError, "such as 'IVF64,Flat'"),
        (None, "l2", InvalidInputError, "found None"),
        ("Bogus", "l2", InvalidInputError, "'Bogus'.*parse"),
        ("IVF99999999999,Flat", "l2", InvalidInputError, "parse"),
        ("PQ7", "l2", InvalidInputError, "subquantizers 7 divides, found 16"),
        ("IVF4,PQ5np", "l2", InvalidInputError, "subquantizers 5 divides, found 16"),
        ("HNSW0", "l2", InvalidInputError, "at least 1"),
        ("IVF0,Flat", "l2", InvalidInputError, "at least 1"),
        ("HNSW1", "l2", InvalidInputError, "at least 2 neighbours"),
        ("NSG16,Flat", "l2", UnsupportedError, "NSG"),
        ("HNSW8,PQ4np", "ip", UnsupportedError, "metric 'ip', only for 'l2'"),
        ("IDMap,Flat", "l2", UnsupportedError, "IndexIDMap"),
        ("LSH", "l2", UnsupportedError, "IndexLSH"),
        ("LSH", "ip", InvalidInputError, "rejects"),
    ],
)
def test_a_factory_string_that_will_not_do(factory, metric, error, message):
    with pytest.raises(error, match=message):
        FactoryIndex(factory, dim=16, metric=metric)


@pytest.mark.parametrize(
    ("factory", "count", "message"),
    [
        ("PQ4np", 100, "at least 256 training vectors.*found 100"),
        ("IVF64,Flat", 50, "at least 64 training vectors.*found 50"),
        ("PCA12,Flat", 5, "at least 12 training vectors"),
    ],
)
def test_too_few_training_vectors_tell_how_many_it_takes(many, factory, count, message):
    index = FactoryIndex(factory, dim=16)
    with pytest.raises(InvalidInputError, match=message):
        index.train(many[0][:count])
    assert not index.is_trained


def test_search_parameters_are_those_of_faiss(many):
    vectors, ids = many
    found = []
    for parameters in (None, "nprobe=16"):
        index = FactoryIndex("IVF32,Flat", dim=16, metric="l2", parameters=parameters)
        index.train(vectors)
        index.add(vectors, ids)
        found.append(recall(index, vectors, ids, k=30))
    assert found[0] < found[1]
    for parameters in ("efSearch=3", "nprobe=0", "nprobe", "nonsense=2"):
        with pytest.raises(InvalidInputError, match="nprobe=16"):
            FactoryIndex("IVF32,Flat", dim=16, parameters=parameters)


def test_errors_of_indexes_are_imgret_errors_and_builtins():
    with pytest.raises(ImgretError) as caught:
        FactoryIndex("Bogus", dim=4)
    assert isinstance(caught.value, ValueError)
