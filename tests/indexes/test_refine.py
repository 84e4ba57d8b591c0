"""Compressed indexes rank what they find by true vectors, where they can be had."""

import numpy as np
import pytest

from imgret.errors import InvalidInputError
from imgret.indexes import (
    ExactIndex,
    FactoryIndex,
    FlatIndex,
    HNSWIndex,
    HNSWSQ8Index,
    IVFIndex,
    IVFPQIndex,
)
from imgret.indexes.faiss import base
from imgret.testing.data import clustered

VECTORS, IDS = clustered(3000, 16, seed=4)
VECTORS = VECTORS * np.random.default_rng(0).uniform(0.5, 3, (3000, 1)).astype(np.float32)
QUERIES = VECTORS[:60] + 0.05 * np.random.default_rng(1).standard_normal((60, 16)).astype(
    np.float32
)
TABLE = np.zeros((IDS.max() + 1, 16), dtype=np.float32)
TABLE[IDS] = VECTORS

MAKERS = {
    "ivf-pq": lambda metric: IVFPQIndex(16, metric, nlist=16, nprobe=16, refine=40),
    "hnsw-sq8": lambda metric: HNSWSQ8Index(16, metric, M=16, ef_search=64, refine=3),
    "sq4": lambda metric: FactoryIndex("SQ4", dim=16, metric=metric),
    "pca": lambda metric: FactoryIndex("PCA12,Flat", dim=16, metric=metric),
}


def filled(make, metric):
    index = make(metric)
    index.train(VECTORS)
    index.add(VECTORS, IDS)
    return index


def fetched(index):
    index.refine_by(lambda ids: TABLE[ids])


def viewed(index):
    index.refine_by(lambda ids: TABLE[ids], lambda _ids: TABLE)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("given", "cached"), [(fetched, 2**18), (viewed, 2**18), (viewed, 7000), (viewed, 1)]
)
def test_scores_are_true_and_recall_is_that_of_the_candidates(
    name, metric, given, cached, monkeypatch
):
    monkeypatch.setattr(base, "_CACHED_VALUES", cached)
    if (name, metric) == ("pca", "ip"):
        pytest.skip("PCA takes the mean away, which no inner product survives")
    exact = ExactIndex(16, metric)
    exact.add(VECTORS, IDS)
    truth = exact.search(QUERIES, 10)
    index = filled(MAKERS[name], metric)
    before = index.search(QUERIES, 10)
    given(index)
    after = index.search(QUERIES, 10)
    true = {
        (row, id_): score
        for row, (ids, scores) in enumerate(zip(*exact.search(QUERIES, 3000), strict=True))
        for id_, score in zip(ids.tolist(), scores.tolist(), strict=True)
    }
    expected = [[true[row, id_] for id_ in ids] for row, ids in enumerate(after.ids.tolist())]
    np.testing.assert_allclose(after.scores, expected, rtol=1e-4, atol=1e-4)
    assert (np.diff(after.scores, axis=1) <= 0).all()

    def recall(found):
        return np.mean([np.isin(a, b).mean() for a, b in zip(truth.ids, found.ids, strict=True)])

    assert recall(after) >= recall(before)
    assert recall(after) > 0.95


@pytest.mark.parametrize("name", MAKERS)
def test_few_allowed_are_compared_with_their_true_vectors(name):
    index = filled(MAKERS[name], "l2")
    fetched(index)
    allowed = IDS[5:25]
    found = index.search(QUERIES, 20, allowed=allowed)
    assert index.plan(20, n_allowed=20, n_queries=60).exact
    for row, query in enumerate(QUERIES):
        scores = -((TABLE[found.ids[row]] - query) ** 2).sum(axis=1)
        np.testing.assert_allclose(found.scores[row], scores, rtol=1e-4, atol=1e-4)
        assert set(found.ids[row].tolist()) == set(allowed.tolist())


def test_what_is_not_compressed_needs_no_true_vectors():
    for index in (
        FlatIndex(16),
        HNSWIndex(16),
        IVFIndex(16),
        FactoryIndex("IVF4,Flat", dim=16),
        FactoryIndex("HNSW8", dim=16),
        FactoryIndex("IVF4,SQ4,RFlat", dim=16),
    ):
        assert not index.is_compressed, index
        assert "refine" not in index.sweep()
        with pytest.raises(InvalidInputError, match="expected a search option"):
            index.configure(refine=3)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda: HNSWIndex(16), {"ef_search": 7}),
        (lambda: IVFIndex(16), {"nprobe": 3}),
        (lambda: HNSWSQ8Index(16), {"ef_search": 7, "refine": 5}),
        (lambda: IVFPQIndex(16), {"nprobe": 3, "refine": 5}),
        (lambda: FactoryIndex("IVF8,SQ8", dim=16), {"nprobe": 3}),
        (lambda: FactoryIndex("HNSW8", dim=16), {"efSearch": 9}),
    ],
)
def test_options_of_search_change_and_are_kept(make, settings, tmp_path):
    index = make()
    for name in settings:
        assert name in (*index.sweep(), "refine")
    index.configure(**settings)  # before training, too
    index.train(VECTORS)
    index.add(VECTORS, IDS)
    assert {name: index.settings()[name] for name in settings} == settings
    found = index.search(QUERIES, 5)
    index.save_state(tmp_path)
    again = type(index).from_config(index.config())
    again.load_state(tmp_path)
    assert {name: again.settings()[name] for name in settings} == settings
    np.testing.assert_array_equal(again.search(QUERIES, 5).ids, found.ids)


@pytest.mark.parametrize("name", ["nprobe", "M", "dim", "efSearch"])
def test_unknown_options_of_search_are_refused(name):
    index = filled(lambda metric: HNSWIndex(16, metric), "l2")
    before = index.config()
    with pytest.raises(
        InvalidInputError, match=rf"expected a search option \(ef_search\), found '{name}'"
    ):
        index.configure(ef_search=3, **{name: 4})
    with pytest.raises(InvalidInputError, match="ef_search: expected a whole number of at least 1"):
        index.configure(ef_search=0)
    assert index.config() == before


def test_wider_options_of_search_find_more():
    for make in (lambda m: HNSWIndex(16, m, M=4), lambda m: IVFIndex(16, m, nlist=30)):
        index = filled(make, "l2")
        exact = ExactIndex(16, "l2")
        exact.add(VECTORS, IDS)
        truth = exact.search(QUERIES, 10).ids
        (name, values), reached = next(iter(index.sweep().items())), []
        for value in (values[0], values[-1]):
            index.configure(**{name: value})
            found = index.search(QUERIES, 10).ids
            reached.append(
                np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)])
            )
        assert reached[0] < reached[1]
        assert reached[1] > 0.99


@pytest.mark.parametrize("code_bytes", [9, 16, 0, 1.5])
def test_more_codes_than_the_dimension_has_are_refused(code_bytes):
    with pytest.raises(InvalidInputError, match="code_bytes: expected"):
        IVFPQIndex(16, code_bytes=code_bytes)


@pytest.mark.parametrize(("dim", "code_bytes"), [(15, None), (16, 3), (13, 5), (2, 1), (1, None)])
def test_codes_fit_every_dimension(dim, code_bytes, tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2000, dim)).astype(np.float32)
    index = IVFPQIndex(dim, "l2", nlist=4, nprobe=4, code_bytes=code_bytes, refine=60)
    index.train(rows)
    index.add(rows, np.arange(2000))
    held = index.reconstruct(np.arange(2000))
    assert ((held - rows) ** 2).mean() < 0.7 * (rows**2).mean()
    index.refine_by(lambda ids: rows[ids])
    found = index.search(rows[:50], 1)
    assert (found.ids[:, 0] == np.arange(50)).mean() > 0.95
    index.save_state(tmp_path)
    again = IVFPQIndex.from_config(index.config())
    again.load_state(tmp_path)
    np.testing.assert_array_equal(again.reconstruct(np.arange(100)), held[:100])


@pytest.mark.parametrize("n", [1, 3, 17])
def test_few_vectors_can_be_indexed_by_codes(n):
    index = IVFPQIndex(16, "l2")
    index.train(VECTORS[:n])
    index.add(VECTORS[:n], IDS[:n])
    assert (index.search(QUERIES, n).ids >= 0).all()


def test_plans_of_a_filter():
    index = filled(lambda metric: HNSWIndex(16, metric, M=8, ef_search=16), "l2")
    assert index.plan(10, n_allowed=4).exact
    assert "so few" in index.plan(10, n_allowed=4).reason
    most = index.plan(10, n_allowed=2500)
    assert not most.exact
    assert most.compared < 2500
    assert FactoryIndex("HNSW8,SQ8", dim=16).plan(10, n_allowed=0).exact  # takes no filter
    assert FlatIndex(16).plan(3).exact


def test_a_list_that_comes_again_is_looked_through_anew_after_a_change():
    index = filled(lambda metric: FlatIndex(16, metric), "l2")
    allowed = np.sort(IDS[:40])
    allowed.flags.writeable = False
    assert (index.search(QUERIES[:1], 50, allowed=allowed).ids >= 0).sum() == 40
    index.remove(allowed[:10])
    assert (index.search(QUERIES[:1], 50, allowed=allowed).ids >= 0).sum() == 30
    index.add(VECTORS[:1], [int(allowed[0])])
    assert (index.search(QUERIES[:1], 50, allowed=allowed).ids >= 0).sum() == 31


def test_another_table_is_ranked_by_its_own_lengths():
    index = filled(MAKERS["ivf-pq"], "cosine")
    viewed(index)
    before = index.search(QUERIES, 10)
    other = TABLE * np.random.default_rng(2).uniform(0.5, 3, (len(TABLE), 1)).astype(np.float32)
    index.refine_by(lambda ids: other[ids], lambda _ids: other)
    after = index.search(QUERIES, 10)
    np.testing.assert_allclose(after.scores, before.scores, rtol=1e-4, atol=1e-4)


def test_another_vector_under_an_old_id_is_ranked_by_its_own_length():
    """Lengths of the rows of a table are kept, until the index changes."""
    table = TABLE.copy()
    index = filled(MAKERS["ivf-pq"], "cosine")
    index.refine_by(lambda ids: table[ids], lambda _ids: table)
    index.search(QUERIES, 10)
    some = IDS[:50]
    index.remove(some)
    table[some] = 7 * VECTORS[-50:]
    index.add(table[some], some)
    exact = ExactIndex(16)
    exact.add(table[IDS], IDS)
    found, truth = index.search(QUERIES, 10), exact.search(QUERIES, 10)
    np.testing.assert_allclose(found.scores, truth.scores, rtol=1e-4, atol=1e-4)
