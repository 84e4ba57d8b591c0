"""Tests of training, adding and removing."""
# ruff: noqa: D102  # the name of a test is its sentence

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imgret.errors import (
    DimensionError,
    DuplicateKeyError,
    InvalidInputError,
    KeyNotFoundError,
    NotTrainedError,
    UnsupportedError,
)
from imgret.testing.data import clustered, true_scores
from imgret.testing.indexes.case import IndexCase
from imgret.types import Embeddings, Ids, Metric

__all__ = ["ChangingTests"]


class ChangingTests(IndexCase):
    """Tests of the effects of changes, and of what they must leave as it was."""

    def test_ids_keep_the_order_they_came_in(self, metric: Metric) -> None:
        index = self.filled(metric)
        assert len(index) == self.count
        np.testing.assert_array_equal(index.ids, self.ids)
        assert int(self.ids[0]) in index
        assert self.ids[0] in index
        assert int(self.ids.max()) + 1 not in index
        assert "0" not in index
        absent = int(self.ids.max()) + 1
        asked = np.array([absent, *self.ids[:3], absent + 7])
        np.testing.assert_array_equal(index.holds(asked), [False, True, True, True, False])
        with pytest.raises(ValueError, match="read-only"):
            index.ids[0] = 1

    def test_what_was_added_is_the_indexs_own(self, metric: Metric) -> None:
        vectors = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        index = self.trained(metric)
        index.add(vectors, self.ids)
        queries = vectors[:7].copy()
        before = index.search(queries, 3)
        vectors[:] = vectors[::-1].copy()
        after = index.search(queries, 3)
        np.testing.assert_array_equal(after.ids, before.ids)
        np.testing.assert_array_equal(after.scores, before.scores)

    def test_adding_nothing_changes_nothing(self, metric: Metric) -> None:
        index = self.filled(metric)
        index.add(np.empty((0, self.dim)), [])
        assert len(index) == self.count

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (lambda v, i: (v[:, :-1], i), DimensionError),
            (lambda v, i: (v[0], i), DimensionError),
            (lambda v, i: (v, i[:-1]), InvalidInputError),
            (lambda v, i: (v, np.where(i == i[1], i[0], i)), DuplicateKeyError),
            (lambda v, i: (v, np.where(i == i[1], -1, i)), InvalidInputError),
            (lambda v, i: (v, i + 0.5), InvalidInputError),
            (lambda v, i: (np.where(np.arange(len(v))[:, None] == 3, np.nan, v), i), ValueError),
            (lambda v, i: (np.where(np.arange(len(v))[:, None] == 3, np.inf, v), i), ValueError),
            (
                lambda v, i: (np.where(np.arange(len(v))[:, None] == 3, np.float64(1e39), v), i),
                ValueError,
            ),
            (lambda v, i: (v.astype(str), i), InvalidInputError),
        ],
        ids=[
            *("dimension", "one vector", "fewer ids", "id twice", "negative id", "id of half"),
            *("NaN", "infinity", "beyond float32", "text"),
        ],
    )
    def test_adding_is_all_or_nothing(
        self,
        spoil: Callable[[Embeddings, Ids], tuple[object, object]],
        error: type[Exception],
    ) -> None:
        metric = self.metrics[0]
        index = self.filled(metric)
        before = index.search(self.queries, 10)
        vectors, ids = clustered(9, self.dim, seed=5)
        with pytest.raises(error):
            index.add(*spoil(vectors, ids + 10 * self.count))
        assert len(index) == self.count
        np.testing.assert_array_equal(index.search(self.queries, 10).ids, before.ids)

    def test_an_id_that_is_taken_is_refused(self, metric: Metric) -> None:
        index = self.filled(metric)
        new = int(self.ids.max()) + 1
        with pytest.raises(DuplicateKeyError, match=str(self.ids[3])):
            index.add(self.vectors[:2], [new, int(self.ids[3])])
        assert new not in index
        assert len(index) == self.count

    def test_a_vector_without_direction_is_refused_for_cosine(self) -> None:
        if "cosine" not in self.metrics:
            pytest.skip("not among the metrics")
        index = self.filled("cosine")
        with pytest.raises(InvalidInputError, match="row 1"):
            index.add([self.vectors[0], 0 * self.vectors[0]], [10**6, 10**6 + 1])
        with pytest.raises(InvalidInputError, match="row 0"):
            index.search(np.zeros((1, self.dim)), 1)
        assert len(index) == self.count

    def test_vectors_of_any_length_are_scored_or_refused(self, metric: Metric) -> None:
        index = self.trained(metric)
        long = 1e25 * self.vectors[:2]
        if metric == "cosine":
            index.add(long, self.ids[:2])
            assert index.search(long[:1], 1).scores[0, 0] > 1 - max(1e-5, self.score_tolerance)
        else:
            with pytest.raises(InvalidInputError, match="length"):
                index.add(long, self.ids[:2])
            with pytest.raises(InvalidInputError, match="length"):
                index.search(long, 1)

    def test_reconstructed_vectors_score_as_found(self, metric: Metric) -> None:
        index = self.filled(metric)
        chosen = self.ids[[5, 0, 9]]
        vectors = index.reconstruct(chosen)
        assert vectors.shape == (3, self.dim)
        assert vectors.dtype == np.float32
        expected = self.vectors[[5, 0, 9]]
        if metric == "cosine":
            expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        gap = np.linalg.norm(vectors - expected, axis=1).max()
        assert gap <= max(1e-5, self.score_tolerance**0.5) * np.linalg.norm(expected, axis=1).max()
        assert index.reconstruct([]).shape == (0, self.dim)
        with pytest.raises(KeyNotFoundError, match=str(10**7)):
            index.reconstruct([int(chosen[0]), 10**7])

    # -- training ------------------------------------------------------------------------

    def test_training(self, metric: Metric) -> None:
        index = self.make(self.dim, metric)
        assert index.is_trained is not index.needs_training
        if index.needs_training:
            with pytest.raises(NotTrainedError, match="train"):
                index.add(self.vectors, self.ids)
            with pytest.raises(InvalidInputError, match="at least 1"):
                index.train(np.empty((0, self.dim)))
            assert not index.is_trained
        index.train(self.vectors)
        assert index.is_trained
        assert len(index) == 0
        index.add(self.vectors, self.ids)
        if index.needs_training:
            with pytest.raises(InvalidInputError, match="empty"):
                index.train(self.vectors)
        with pytest.raises(InvalidInputError, match="NaN"):
            index.train(np.full((2, self.dim), np.nan))

    # -- removing ------------------------------------------------------------------------

    def test_removing(self, metric: Metric) -> None:
        index = self.filled(metric)
        if not index.supports_remove:
            with pytest.raises(UnsupportedError, match="supports_remove"):
                index.remove(self.ids[:1])
            assert len(index) == self.count
            return
        gone, kept = self.ids[::3], np.setdiff1d(self.ids, self.ids[::3])
        assert index.remove(np.append(gone, 10**8)) == len(gone)
        assert index.remove(gone) == 0
        assert index.remove([]) == 0
        np.testing.assert_array_equal(index.ids, self.ids[~np.isin(self.ids, gone)])
        found = index.search(self.queries, self.count)
        self.check(found, self.queries, self.count, len(kept))
        assert set(found.ids[0, : len(kept)].tolist()) == set(kept.tolist())
        self.check_scores(index, index.search(self.queries, 10), self.queries)
        with pytest.raises(KeyNotFoundError):
            index.reconstruct(gone[:1])

    def test_removed_ids_can_come_back_as_other_vectors(self, metric: Metric) -> None:
        index = self.filled(metric)
        if not index.supports_remove:
            pytest.skip("the index cannot remove")
        index.remove(self.ids[:7])
        index.add(-self.vectors[:7], self.ids[:7])
        found = index.search(-self.vectors[:7], 1)
        true = true_scores(-self.vectors[:7], -self.vectors[:7, None], metric)
        assert (found.scores >= true - 2 * self.allowance(metric)).all()
        assert index.remove(index.ids) == self.count
        self.check(index.search(self.queries, 2), self.queries, 2, 0)
        index.add(self.vectors, self.ids)
        self.check(index.search(self.queries, 9), self.queries, 9, 9)

    def test_removals_leave_no_trace_in_what_is_added_later(
        self, metric: Metric, tmp_path: Path
    ) -> None:
        index = self.filled(metric)
        if not index.supports_remove:
            pytest.skip("the index cannot remove")
        index.save_state(tmp_path)
        other = type(index).from_config(index.config())
        other.load_state(tmp_path)
        index.remove(self.ids[5::7])
        new = self.ids[:60] + int(self.ids.max()) + 1
        vectors = self.vectors[:60] + 0.1 * self.vectors[60:120]
        for changed in (index, other):
            for row in range(0, 60, 20):  # lists that were full get new ends
                changed.add(vectors[row : row + 20], new[row : row + 20])
        np.testing.assert_array_equal(index.reconstruct(new), other.reconstruct(new))

    def test_other_ids_in_the_same_order(self, metric: Metric, tmp_path: Path) -> None:
        index = self.filled(metric)
        if not index.supports_renumber:
            with pytest.raises(UnsupportedError, match="supports_renumber"):
                index.renumber(index.ids)
            return
        if index.supports_remove:
            index.remove(self.ids[3::8])
        before, vectors = index.ids.copy(), index.reconstruct(index.ids)
        with pytest.raises(InvalidInputError, match="one for each"):
            index.renumber(before[1:])
        with pytest.raises(InvalidInputError, match="order"):
            index.renumber(before[::-1])
        new = np.searchsorted(np.sort(before), before)
        found = index.search(self.queries, 9)
        index.renumber(new)
        np.testing.assert_array_equal(index.ids, new)
        np.testing.assert_array_equal(index.reconstruct(new), vectors)
        again = index.search(self.queries, 9)
        np.testing.assert_array_equal(again.scores, found.scores)
        np.testing.assert_array_equal(np.sort(before)[again.ids], found.ids)
        few = new[: len(new) // 3]
        assert np.isin(index.search(self.queries, 5, allowed=few).ids, few).all()
        index.save_state(tmp_path)
        other = type(index).from_config(index.config())
        other.load_state(tmp_path)
        np.testing.assert_array_equal(other.search(self.queries, 9).ids, again.ids)
        other.add(self.vectors[:3], len(new) + np.arange(3))
        if other.supports_remove:
            other.remove(len(new) + np.arange(3))
            np.testing.assert_array_equal(other.search(self.queries, 9).ids, again.ids)

    def test_searching_after_many_small_removals(self, metric: Metric) -> None:
        index = self.filled(metric)
        if not index.supports_remove:
            pytest.skip("the index cannot remove")
        left = self.ids
        for start in range(8):
            index.remove(left[start::9])
            left = left[~np.isin(left, left[start::9])]
            found = index.search(self.queries, 20)
            self.check(found, self.queries, 20, 20)
            assert np.isin(found.ids, left).all()
            self.check_scores(index, found, self.queries)
