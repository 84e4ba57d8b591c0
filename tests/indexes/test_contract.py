"""Every adapter passes the suite that plugin authors are given."""

from pathlib import Path

import numpy as np
import pytest

from imgret.abc import VectorIndex
from imgret.indexes import (
    ExactIndex,
    FactoryIndex,
    FlatIndex,
    HNSWIndex,
    HNSWSQ8Index,
    IVFIndex,
    IVFPQIndex,
)
from imgret.testing import VectorIndexTests


class TestExactIndex(VectorIndexTests):
    def make(self, dim, metric):
        return ExactIndex(dim, metric)


class TestFlatIndex(VectorIndexTests):
    def make(self, dim, metric):
        return FlatIndex(dim, metric)


class TestHNSWIndex(VectorIndexTests):
    recall_floor = 0.95

    def make(self, dim, metric):
        # So narrow that the graph is walked although there are few vectors.
        return HNSWIndex(dim, metric, M=8, ef_construction=40, ef_search=32)


class TestIVFIndex(VectorIndexTests):
    recall_floor = 0.95

    def make(self, dim, metric):
        return IVFIndex(dim, metric, nlist=8, nprobe=4)


class TestHNSWSQ8Index(VectorIndexTests):
    recall_floor = 0.9
    score_tolerance = 0.02

    def make(self, dim, metric):
        return HNSWSQ8Index(dim, metric, M=8, ef_construction=40, ef_search=32)


class TestIVFPQIndex(VectorIndexTests):
    recall_floor = 0.5
    score_tolerance = 0.5

    def make(self, dim, metric):
        return IVFPQIndex(dim, metric, nlist=8, nprobe=4, code_bytes=4)


class TestSQ8(VectorIndexTests):
    recall_floor = 0.95
    score_tolerance = 0.02

    def make(self, dim, metric):
        return FactoryIndex("SQ8", dim=dim, metric=metric)


class TestPQ(VectorIndexTests):
    recall_floor = 0.5
    score_tolerance = 0.5

    def make(self, dim, metric):
        return FactoryIndex("PQ8x4np", dim=dim, metric=metric)


class TestIVFPQ(VectorIndexTests):
    recall_floor = 0.5
    score_tolerance = 0.5

    def make(self, dim, metric):
        return FactoryIndex("IVF8,PQ8x4np", dim=dim, metric=metric, parameters="nprobe=4")


class TestFastScan(VectorIndexTests):
    recall_floor = 0.5
    score_tolerance = 0.5

    def make(self, dim, metric):
        return FactoryIndex("PQ8x4fs", dim=dim, metric=metric)


class TestFastScanOfLists(VectorIndexTests):
    recall_floor = 0.5
    score_tolerance = 0.5

    def make(self, dim, metric):
        return FactoryIndex("IVF8,PQ8x4fs", dim=dim, metric=metric, parameters="nprobe=4")


class TestHNSWOfCodes(VectorIndexTests):
    recall_floor = 0.9
    score_tolerance = 0.02

    def make(self, dim, metric):
        return FactoryIndex("HNSW8,SQ8", dim=dim, metric=metric, parameters="efSearch=32")


class TestRefined(VectorIndexTests):
    recall_floor = 0.9

    def make(self, dim, metric):
        parameters = "nprobe=4,k_factor_rf=4"
        return FactoryIndex("IVF8,SQ4,RFlat", dim=dim, metric=metric, parameters=parameters)


class TestTransformed(VectorIndexTests):
    metrics = ("cosine", "l2")
    recall_floor = 0.8
    score_tolerance = 0.3

    def make(self, dim, metric):
        return FactoryIndex("PCAR14,IVF8,SQ8", dim=dim, metric=metric, parameters="nprobe=8")


class Plain(VectorIndex):
    """A plugin with the fewest hooks: no removal, no filter, and often short answers."""

    def _options(self):
        return {}

    def _add(self, vectors, ids):  # the base class keeps them
        self.rows = np.concatenate([getattr(self, "rows", vectors[:0]), vectors])

    def _search(self, queries, k, allowed):
        assert allowed is None, "supports_allowed is False"
        if self.metric == "l2":
            gaps = queries[:, None] - self.rows
            scores = -np.vecdot(gaps, gaps)
        else:
            scores = np.vecdot(queries[:, None], self.rows)
        order = np.argsort(-scores, axis=1)[:, :k]
        ids = self.ids[order]
        ids[::2, k // 2 :] = -1  # every other answer comes back short
        return ids, np.take_along_axis(scores, order, axis=1)

    def _reconstruct(self, ids):
        return self.rows[self._ids.positions(ids)]

    def _save(self, directory: Path):
        np.save(directory / "rows.npy", getattr(self, "rows", np.empty((0, self.dim), "f4")))

    def _load(self, directory: Path):
        self.rows = np.load(directory / "rows.npy")


class TestPlain(VectorIndexTests):
    score_tolerance = 1e-4

    def make(self, dim, metric):
        return Plain(dim, metric)


def test_a_hook_that_returns_another_shape_is_told():
    class Wrong(Plain):
        def _search(self, queries, k, allowed):  # it is wrong anyway
            return np.zeros((len(queries), k + 1), dtype=np.int64), np.zeros((len(queries), k + 1))

    index = Wrong(2, "l2")
    index.add(np.eye(2), [0, 1])
    with pytest.raises(Exception, match=r"Wrong._search: expected shape \(1, 1\)"):
        index.search([[0, 1]], 1)
