"""A retriever against a dictionary: whatever is done to it, it answers as brute force does."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from imgret import Retriever
from imgret.errors import DuplicateKeyError, EmptyGalleryError, KeyNotFoundError
from imgret.galleries.local import gallery as gallery_module
from imgret.testing.data import Given

DIM = 6
LABELS = st.sampled_from([None, "a", "b", "it's"])


class RetrieverMachine(RuleBasedStateMachine):
    """Adds, removes, relabels, reindexes, saves and reopens; then compares."""

    keys = Bundle("keys")

    @initialize(
        on_disk=st.booleans(),
        index=st.sampled_from(["flat", "hnsw", "exact", "auto"]),
        metric=st.sampled_from(["cosine", "ip", "l2"]),
    )
    def start(self, on_disk, index, metric):
        self.few = gallery_module._FEW
        gallery_module._FEW = 2  # so that removals drop the rows of removed items now and then
        self.root = Path(tempfile.mkdtemp(prefix="imgret-machine-"))
        self.rng = np.random.default_rng(0)
        self.model: dict[str, tuple[np.ndarray, str | None]] = {}
        self.metric = metric
        self.made = 0
        options = {"embedder": Given(DIM), "index": index, "metric": metric}
        self.retriever = (
            Retriever.open(self.root / "g.imgret", "a", **options)
            if on_disk
            else Retriever(**options)
        )

    def teardown(self):
        if hasattr(self, "few"):
            gallery_module._FEW = self.few
        if hasattr(self, "retriever"):
            self.retriever.close()
            shutil.rmtree(self.root)

    @rule(
        target=keys, label=LABELS, odd=st.sampled_from(["", "'", "é/", '"; DROP TABLE items; --'])
    )
    def add(self, label, odd):
        self.made += 1
        key = f"{odd}{self.made}"
        vector = self.rng.standard_normal(DIM).astype(np.float16).astype(np.float32)
        self.retriever.add_vectors(vector[None], keys=[key], labels=[label])
        self.model[key] = (vector, label)
        return key

    @rule(key=keys)
    def add_a_key_that_is_taken(self, key):
        if key in self.model:
            with pytest.raises(DuplicateKeyError):
                self.retriever.add_vectors(np.ones((2, DIM)), keys=[key, "fresh"])
        assert "fresh" not in self.retriever

    @rule(key=consumes(keys))
    def remove(self, key):
        self.retriever.remove(key)
        del self.model[key]
        with pytest.raises(KeyNotFoundError):
            self.retriever.remove(key)

    @rule(key=keys, label=LABELS)
    def relabel(self, key, label):
        self.retriever.update(key, label=label)
        self.model[key] = (self.model[key][0], label)

    @rule(index=st.sampled_from(["flat", "hnsw", "exact", "auto"]))
    def reindex(self, index):
        self.retriever.reindex(index)

    @rule()
    def save_and_load(self):
        self.retriever.save(self.root / "copy.imgret")
        loaded = Retriever.load(self.root / "copy.imgret", embedder=Given(DIM))
        self.retriever.close()
        self.retriever = loaded

    @rule()
    def compact(self):
        self.retriever.compact()
        assert self.retriever._gallery.store.catalog.rows == len(self.model)

    @rule()
    def reopen(self):
        if self.retriever.path is not None:
            self.retriever.close()
            self.retriever = Retriever.open(self.root / "g.imgret", "r+", embedder=Given(DIM))

    @rule(k=st.integers(1, 12))
    def search(self, k):
        query = self.rng.standard_normal(DIM).astype(np.float32)
        if not self.model:
            with pytest.raises(EmptyGalleryError):
                self.retriever.search_vectors(query[None], k)
            return
        (hits,) = self.retriever.search_vectors(query[None], k)
        vectors = np.stack([vector for vector, _ in self.model.values()]).astype(np.float64)
        if self.metric == "l2":
            scores = -((vectors - query) ** 2).sum(axis=1)
        else:
            scores = vectors @ query
            if self.metric == "cosine":
                scores /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        expected = dict(zip(self.model, scores, strict=True))
        assert len(hits) == min(k, len(self.model))
        best = sorted(expected.values(), reverse=True)[: len(hits)]
        np.testing.assert_allclose([hit.score for hit in hits], best, rtol=1e-4, atol=1e-4)
        for hit in hits:
            assert hit.score == pytest.approx(expected[hit.key], rel=1e-4, abs=1e-4)
            assert hit.label == self.model[hit.key][1]

    @invariant()
    def it_holds_the_same(self):
        if hasattr(self, "model"):
            assert len(self.retriever) == len(self.model)
            assert list(self.retriever) == list(self.model)
            vectors = self.retriever.embeddings()
            for row, (vector, _) in zip(vectors, self.model.values(), strict=True):
                np.testing.assert_array_equal(row, vector)
            catalog = self.retriever._gallery.store.catalog
            assert catalog.rows <= max(2 * len(self.model), len(self.model) + 1)


RetrieverMachine.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestRetriever = pytest.mark.slow(RetrieverMachine.TestCase)
