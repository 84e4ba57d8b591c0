"""Filtered searches of every index against brute force, in every order of changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from imgret import Retriever
from imgret.testing.data import Given

DIM, START = 8, 192
INDEXES = ["flat", "exact", "hnsw", "hnsw-sq8", "ivf", "ivf-pq", "faiss:SQ4", "faiss:HNSW8,SQ8"]
# Options by which an index looks at little.
LOW = {
    "hnsw": {"M": 4, "ef_search": 4},
    "hnsw-sq8": {"M": 4, "ef_search": 4},
    "ivf": {"nlist": 4, "nprobe": 1},
    "ivf-pq": {"nlist": 4, "nprobe": 1},
}
FILTERS = [
    (None, lambda n: True),
    ({"n": {"$gte": 0}}, lambda n: True),
    ({"n": {"$lt": 0}}, lambda n: False),
    ({"n": {"$lt": 5}}, lambda n: n < 5),
    ({"n": {"$lt": 40}}, lambda n: n < 40),
    ({"odd": True}, lambda n: n % 2 == 1),
    ({"odd": False, "n": {"$gte": 20}}, lambda n: n % 2 == 0 and n >= 20),
    ({"label": "it's; DROP TABLE items"}, lambda n: n % 7 == 0),
    ({"$not": {"key": "k3"}}, lambda n: n != 3),
]
# Of each number the group; the vectors of a group lie together.
GROUPS = 2
OTHERS = [({"group": {"$ne": g}}, lambda n, g=g: n % GROUPS != g) for g in range(GROUPS)]


class PlannerMachine(RuleBasedStateMachine):
    """Adds, removes, replaces, reindexes, tunes; after each the answers are those of a model."""

    @initialize(
        index=st.sampled_from(INDEXES),
        metric=st.sampled_from(["cosine", "ip", "l2"]),
        dtype=st.sampled_from(["float16", "float32"]),
    )
    def start(self, index, metric, dtype):
        self.rng = np.random.default_rng(1)
        self.metric, self.made = metric, 0
        self.model: dict[int, np.ndarray] = {}
        self.retriever = Retriever(embedder=Given(DIM), index=index, metric=metric, dtype=dtype)
        self.add(START)

    @rule(count=st.integers(1, 40))
    def add(self, count):
        numbers = range(self.made, self.made + count)
        self.made += count
        rows = self.rng.standard_normal((count, DIM))
        rows[np.arange(count), np.array(numbers) % GROUPS] += 8
        rows = rows.astype(np.float16).astype(np.float32)
        self.retriever.add_vectors(
            rows,
            keys=[f"k{n}" for n in numbers],
            labels=["it's; DROP TABLE items" if n % 7 == 0 else None for n in numbers],
            metadata=[{"n": n, "odd": n % 2 == 1, "group": n % GROUPS} for n in numbers],
        )
        self.model.update(zip(numbers, rows, strict=True))

    @rule(share=st.floats(0, 0.6))
    def remove(self, share):
        gone = [n for n in self.model if self.rng.random() < share and n != START - 1]
        if len(self.model) - len(gone) < 24:  # codes are trained on 16 at least
            return
        self.retriever.remove([f"k{n}" for n in gone])
        for n in gone:
            del self.model[n]

    @rule(index=st.sampled_from(INDEXES), low=st.booleans())
    def reindex(self, index, low):
        self.retriever.reindex(index, **LOW.get(index, {}) if low else {})

    @rule(dim=st.sampled_from([None, 8]))
    def project(self, dim):
        # A rotation: it changes the vectors in the index and no score but for cosine and ip,
        # whose mean it takes away; so for l2 alone.
        if self.metric == "l2":
            self.retriever.project(None if dim is None else "pca", dim=dim or 8)

    @rule(case=st.integers(0, len(FILTERS) - 1), k=st.integers(1, 200), n=st.integers(1, 3))
    def search(self, case, k, n):
        where, passes = FILTERS[case]
        live = [number for number in self.model if passes(number)]
        queries = self.rng.standard_normal((n, DIM)).astype(np.float32)
        plan = self.retriever.explain(k, where=where, n_queries=n)
        exact = plan.way == "exact" or self.retriever.index.is_exact
        for hits, query in zip(
            self.retriever.search_vectors(queries, k, where=where), queries, strict=True
        ):
            assert len(hits) == min(k, len(live)), plan
            true = self._scores(query, live)
            scores = [hit.score for hit in hits]
            assert scores == sorted(scores, reverse=True)
            assert len({hit.key for hit in hits}) == len(hits)
            np.testing.assert_allclose(
                scores, [true[int(hit.key[1:])] for hit in hits], rtol=1e-4, atol=1e-3
            )
            if exact:
                best = sorted(true.values(), reverse=True)[: len(hits)]
                np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-3)

    @rule(group=st.integers(0, GROUPS - 1), k=st.integers(1, 4), n=st.integers(1, 3))
    def search_against_the_query(self, group, k, n):
        """What is near is left out: what is farther is found exactly."""
        where, passes = OTHERS[group]
        live = [number for number in self.model if passes(number)]
        own = [number for number in self.model if not passes(number)]
        if len(own) < 25 or len(live) < k:  # so few may not be all that is near
            return
        queries = 0.1 * self.rng.standard_normal((n, DIM))
        queries[:, group] += 8
        queries = queries.astype(np.float32)
        for hits, query in zip(
            self.retriever.search_vectors(queries, k, where=where), queries, strict=True
        ):
            best = sorted(self._scores(query, live).values(), reverse=True)[:k]
            np.testing.assert_allclose(
                [hit.score for hit in hits],
                best,
                rtol=1e-3,
                atol=1e-2 if self.metric == "l2" else 1e-3,
            )

    def _scores(self, query, live):
        if not live:
            return {}
        vectors = np.stack([self.model[n] for n in live]).astype(np.float64)
        if self.metric == "l2":
            scores = -((vectors - query) ** 2).sum(axis=1)
        else:
            scores = vectors @ query
            if self.metric == "cosine":
                scores /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        return dict(zip(live, scores.tolist(), strict=True))

    @invariant()
    def it_holds_the_same(self):
        if hasattr(self, "retriever"):
            assert len(self.retriever) == len(self.model)


PlannerMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPlanner = pytest.mark.slow(
    pytest.mark.filterwarnings("ignore:nlist=4 needs")(PlannerMachine.TestCase)
)
