"""The test suite for vector indexes."""

from __future__ import annotations

from imgret.testing.indexes.changing import ChangingTests
from imgret.testing.indexes.keeping import KeepingTests
from imgret.testing.indexes.searching import SearchingTests

__all__ = ["VectorIndexTests"]


class VectorIndexTests(SearchingTests, ChangingTests, KeepingTests):
    """Tests that every vector index must pass.

    Subclass it as ``class TestMine(VectorIndexTests)`` and implement `make`.

    Attributes
    ----------
    metrics : tuple of str
        Metrics to test.
    dim, count : int
        Dimension and number of the vectors; the index must be able to train on ``count``.
    recall_floor : float
        Minimum recall@10 against exact search on clustered data (1.0 if ``is_exact``).
    score_tolerance : float
        Maximum difference of a score from the true score of its id, relative to the largest
        squared norm (to 1 for metric ``"cosine"``); set it higher for a compressing index.
    """
