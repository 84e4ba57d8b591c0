"""Filters that take out just what is near the query: "like this, but of another class"."""

import numpy as np
import pytest

from imgret import Retriever
from imgret.abc import VectorIndex
from imgret.testing.data import Given

N, CLASSES, K = 2400, 12, 10
# Settings so low that an index looks at far less than all that match.
INDEXES = {
    "hnsw": {"M": 8, "ef_search": 8},
    "hnsw-sq8": {"M": 8, "ef_search": 8},
    "ivf": {"nlist": 24, "nprobe": 2},
    "ivf-pq": {"nlist": 24, "nprobe": 2},
    "faiss:IVF24,SQ8": {},
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # few points for ivf


@pytest.fixture(scope="module")
def vectors():
    """Tight classes of 200, in turn: the nearest of each item are of its own."""
    rng = np.random.default_rng(5)
    centres = 3 * rng.standard_normal((CLASSES, 48))
    rows = centres[np.arange(N) % CLASSES] + rng.standard_normal((N, 48))
    return rows.astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def gallery(vectors, request):
    made = Retriever(embedder=Given(48))
    made.add_vectors(
        vectors,
        keys=[str(n) for n in range(N)],
        labels=[f"c{n % CLASSES}" for n in range(N)],
    )
    made.reindex(request.param, **INDEXES[request.param])
    return made


def true_scores(vectors, query, passing):
    unit = vectors[passing] / np.linalg.norm(vectors[passing], axis=1, keepdims=True)
    return np.sort(unit @ query / np.linalg.norm(query))[::-1][:K]


def recall(hits, vectors, query, passing):
    """Share of the true neighbours among those that pass; equal scores are as good."""
    least = true_scores(vectors, query, passing)[-1] - 1e-4
    assert len(hits) == K
    assert {int(hit.key) for hit in hits} <= set(passing.tolist())
    return np.mean([hit.score >= least for hit in hits])


def other_classes(number, some):
    """Filter and ids of ``some`` classes that are not the one of a number."""
    rng = np.random.default_rng(number)
    codes = rng.permutation([code for code in range(CLASSES) if code != number % CLASSES])[:some]
    where = {"label": {"$in": [f"c{code}" for code in codes]}}
    return where, np.flatnonzero(np.isin(np.arange(N) % CLASSES, codes))


@pytest.mark.slow
@pytest.mark.parametrize("gallery", INDEXES, indirect=True, scope="module")
@pytest.mark.parametrize("some", [CLASSES - 1, 5])
def test_what_is_farther_is_found_as_well_as_what_is_near(gallery, vectors, some):
    asked = range(0, N, 120)
    rng = np.random.default_rng(0)
    for listed in (False, True):
        shares = []
        for number in asked:
            where, passing = other_classes(number, some)
            if listed:  # a filter that is asked often goes another way
                gallery.search_vectors(rng.standard_normal((100, 48)), K, where=where)
            (hits,) = gallery.search_vectors(vectors[number][None], K, where=where)
            shares.append(recall(hits, vectors, vectors[number], passing))
        assert np.mean(shares) >= 0.99, gallery.explain(K, where=where)


@pytest.mark.parametrize("gallery", INDEXES, indirect=True, scope="module")
def test_queries_of_one_batch_are_told_apart(gallery, vectors):
    where = {"label": {"$ne": "c0"}}
    passing = np.flatnonzero(np.arange(N) % CLASSES)
    asked = [0, 1, 12, 2, 24, 13]  # half of them are of the class that is left out
    for hits, number in zip(
        gallery.search_vectors(vectors[asked], K, where=where), asked, strict=True
    ):
        assert recall(hits, vectors, vectors[number], passing) >= (0.7 if number % CLASSES else 1)


@pytest.mark.parametrize("gallery", ["hnsw", "ivf-pq"], indirect=True, scope="module")
def test_other_ways_to_ask(gallery, vectors):
    where, passing = other_classes(36, CLASSES - 1)
    hits = gallery.search_key("36", K, where=where)
    assert recall(hits, vectors, vectors[36], passing) == 1
    hits = gallery.search_key(["36", "48"], K, where=where, threshold=-1.0)
    assert len(hits) == K
    best = true_scores(vectors, vectors[36], passing)
    (hits,) = gallery.search_vectors(vectors[36][None], K, where=where, threshold=best[4] - 1e-4)
    assert len(hits) == 5


@pytest.mark.parametrize("gallery", ["hnsw", "ivf-pq"], indirect=True, scope="module")
def test_the_plan_says_so(gallery):
    plan = gallery.explain(K, where={"label": {"$ne": "c0"}})
    assert plan.way in {"index, then filter", "index, filtered"}
    assert "near a query" in plan.reason


@pytest.mark.parametrize("index", ["hnsw", "hnsw-sq8"])
def test_what_was_removed_from_a_graph_leads_nobody_astray(vectors, index):
    made = Retriever(embedder=Given(48))
    made.add_vectors(vectors, keys=[str(n) for n in range(N)])
    made.reindex(index, **INDEXES[index])
    made.index  # noqa: B018  # so that items are taken out of a graph that is there
    made.remove([str(n) for n in range(0, N, CLASSES)])
    passing = np.flatnonzero(np.arange(N) % CLASSES)
    shares = [
        recall(made.search_vectors(vectors[n][None], K)[0], vectors, vectors[n], passing)
        for n in range(0, N, 5 * CLASSES)
    ]
    assert np.mean(shares) >= 0.99


@pytest.mark.parametrize("gallery", INDEXES, indirect=True, scope="module")
def test_an_index_compares_with_everything_on_request(gallery, vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    allowed = np.arange(7, N, 3)
    for among in (None, allowed):
        true = unit[:5] @ unit[slice(None) if among is None else among].T
        found = gallery.index.search(vectors[:5], K, allowed=among, exact=True)
        expected = -np.sort(-true, axis=1)[:, :K]
        # An index that holds other vectors than it was given still knows those of the gallery.
        np.testing.assert_allclose(found.scores, expected, atol=1e-3)


# -- what an index misses ----------------------------------------------------------------------


class Line(VectorIndex):
    """Vectors on a line; the index misses what approximate ones may miss.

    Among the ids that are allowed it misses the nearest. Among all, every other one in the farther
    half of what it looks at.
    """

    name = "line"
    supports_allowed = True

    def _options(self):
        return {}

    def _add(self, vectors, ids):
        self.rows = np.concatenate([getattr(self, "rows", vectors[:0]), vectors])

    def _search(self, queries, k, allowed):
        positions = np.arange(len(self.rows)) if allowed is None else self._ids.positions(allowed)
        scores = -(np.subtract(queries, self.rows[positions, 0]) ** 2)
        order = np.argsort(-scores, axis=1)
        if allowed is None:
            order = np.concatenate([order[:, : k // 2], order[:, k // 2 :: 2]], axis=1)
        else:
            order = order[:, 1:]
        short = k - len(order[0])
        order = np.pad(order[:, :k], ((0, 0), (0, max(short, 0))))
        found = self._ids.at(positions[order])
        scores = np.take_along_axis(scores, order, axis=1)
        if short > 0:
            found[:, -short:], scores[:, -short:] = -1, -np.inf
        return found, scores

    def _reconstruct(self, ids):
        return self.rows[self._ids.positions(ids)]

    def _comparisons(self, k, n_allowed):
        return float(k)

    def _save(self, directory):
        pass

    def _load(self, directory):
        pass


def on_a_line(count):
    made = Retriever(embedder=Given(1), index=Line(1, "l2"), metric="l2", dtype="float32")
    made.add_vectors(
        np.arange(count)[:, None],
        keys=[str(n) for n in range(count)],
        metadata=[{"n": n, "third": n % 3} for n in range(count)],
    )
    return made


def test_what_a_filtered_walk_misses_is_found_by_a_wide_one():
    gallery, where = on_a_line(61), {"third": 0}
    assert gallery.explain(1, where=where).way == "index, filtered"
    asked = np.arange(0, 61, 3)
    found = gallery.search_vectors(asked[:, None], 1, where=where)
    assert [hits[0].key for hits in found] == [str(n) for n in asked]


def test_the_gaps_of_a_wide_walk_are_looked_into():
    """What passes begins where the second search has gaps; all that the first one finds fails."""
    gallery, where = on_a_line(1000), {"n": {"$gte": 301}}
    assert gallery.explain(2, where=where).way == "index, then filter"
    (hits,) = gallery.search_vectors([[0]], 5, where=where)
    assert [hit.key for hit in hits] == ["301", "302", "303", "304", "305"]
