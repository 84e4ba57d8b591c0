"""Common base of the index tests: data, and checks of search results."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from imgret.abc import VectorIndex
from imgret.indexes.exact import ExactIndex
from imgret.support.lazy import cached_property
from imgret.testing.data import clustered, true_scores
from imgret.types import Embeddings, Ids, Metric, Neighbors

__all__ = ["IndexCase"]


class IndexCase:
    """Base class of the index suites; see `imgret.testing.VectorIndexTests`."""

    metrics: ClassVar[tuple[Metric, ...]] = ("cosine", "ip", "l2")
    dim: ClassVar[int] = 16
    count: ClassVar[int] = 400
    recall_floor: ClassVar[float] = 0.9
    score_tolerance: ClassVar[float] = 1e-5

    def make(self, dim: int, metric: Metric) -> VectorIndex:
        """Make an empty index."""
        raise NotImplementedError(f"{type(self).__name__}.make: expected to return an index")

    @staticmethod
    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        """Run every test that takes ``metric`` for each of ``metrics``."""
        if "metric" in metafunc.fixturenames and metafunc.cls is not None:
            metafunc.parametrize("metric", metafunc.cls.metrics)

    @cached_property
    def _data(self) -> tuple[Embeddings, Ids]:
        return clustered(self.count, self.dim)

    @property
    def vectors(self) -> Embeddings:
        """Vectors of a filled index: float32, shape (count, dim)."""
        return self._data[0]

    @property
    def ids(self) -> Ids:
        """Ids of the vectors, unsorted and with gaps."""
        return self._data[1]

    @cached_property
    def queries(self) -> Embeddings:
        """Vectors near those of the index: float32, shape (20, dim)."""
        noise = np.random.default_rng(7).standard_normal((20, self.dim))
        return self.vectors[::20][:20] + (0.1 * noise[: len(self.vectors[::20])]).astype(np.float32)

    def trained(self, metric: Metric) -> VectorIndex:
        """Make an empty index that vectors can be added to."""
        index = self.make(self.dim, metric)
        index.train(self.vectors)
        return index

    def filled(self, metric: Metric) -> VectorIndex:
        """Make an index of all vectors, added in two parts."""
        index = self.trained(metric)
        half = self.count // 2
        index.add(self.vectors[:half], self.ids[:half])
        index.add(self.vectors[half:], self.ids[half:])
        return index

    def check(self, found: Neighbors, queries: Embeddings, k: int, expected: int) -> None:
        """Check everything about a result that does not depend on which ids are best."""
        shape = (len(queries), k)
        assert found.ids.shape == shape
        assert found.scores.shape == shape
        assert found.ids.dtype == np.int64
        assert found.scores.dtype == np.float32
        assert (found.ids[:, :expected] >= 0).all(), "an answer has too few ids"
        assert (found.ids[:, expected:] == -1).all()
        assert np.isneginf(found.scores[:, expected:]).all()
        scores = found.scores[:, :expected]
        assert np.isfinite(scores).all()
        assert (scores[:, 1:] <= scores[:, :-1]).all(), "not best first"
        for row in found.ids[:, :expected]:
            assert len(set(row.tolist())) == expected, "an id was found twice"

    def allowance(self, metric: Metric) -> float:
        """Return the maximum allowed error of a score."""
        squares = np.einsum("ij,ij->i", self.vectors, self.vectors)
        return self.score_tolerance * (1.0 if metric == "cosine" else float(squares.max()))

    def check_scores(self, index: VectorIndex, found: Neighbors, queries: Embeddings) -> None:
        """Check that each score is the true score of its id (no padding)."""
        place = {int(id_): row for row, id_ in enumerate(self.ids)}
        rows = np.array([[place[int(id_)] for id_ in row] for row in found.ids])
        expected = true_scores(queries, self.vectors[rows], index.metric)
        atol = self.allowance(index.metric)
        np.testing.assert_allclose(found.scores, expected, rtol=0, atol=atol)

    def recall(self, index: VectorIndex, allowed: Ids | None = None) -> float:
        """Return recall@10 against `ExactIndex`."""
        exact = ExactIndex(self.dim, index.metric)
        exact.add(self.vectors, self.ids)
        expected = exact.search(self.queries, 10, allowed=allowed).ids
        found = index.search(self.queries, 10, allowed=allowed).ids
        hits = [np.intersect1d(a, b).size for a, b in zip(expected, found, strict=True)]
        return sum(hits) / expected.size
