"""The contract suite of vector indexes."""

from __future__ import annotations

from imgret.testing.indexes.changing import ChangingTests
from imgret.testing.indexes.keeping import KeepingTests
from imgret.testing.indexes.searching import SearchingTests

__all__ = ["VectorIndexTests"]


class VectorIndexTests(SearchingTests, ChangingTests, KeepingTests):
    """What every vector index must do.

    Subclass it as ``class TestMine(VectorIndexTests)`` and fill in `make`.

    Attributes
    ----------
    metrics : tuple of str
        The metrics to test.
    dim, count : int
        Dimension and number of the vectors; the index must be able to train on ``count``.
    recall_floor : float
        Least recall@10 against the exact answer on clustered data (1.0 where ``is_exact``).
    score_tolerance : float
        Largest difference of a score from the true score of its id, as a share of the
        largest squared norm (of 1 for metric ``"cosine"``); more for an index that compresses.
    """
