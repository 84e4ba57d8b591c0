"""Tests of searching, among all ids and among some."""
# ruff: noqa: D102  # the name of a test is its sentence

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgret.errors import InvalidInputError
from imgret.support.checks import check_scorable
from imgret.testing.indexes.case import IndexCase
from imgret.types import Metric

__all__ = ["SearchingTests"]


class SearchingTests(IndexCase):
    """Tests of searches."""

    @pytest.mark.parametrize("k", [1, 2, 10, 100])
    def test_answers_are_whole_ordered_and_truly_scored(self, metric: Metric, k: int) -> None:
        index = self.filled(metric)
        found = index.search(self.queries, k)
        self.check(found, self.queries, k, k)
        self.check_scores(index, found, self.queries)

    def test_recall(self, metric: Metric) -> None:
        index = self.filled(metric)
        assert self.recall(index) >= (1.0 if index.is_exact else self.recall_floor)

    def test_one_query_is_answered_as_in_a_batch(self, metric: Metric) -> None:
        index = self.filled(metric)
        few = self.queries[:5]
        for count in (5, 20, 700):
            # With a filter, an approximate index may search differently: see `VectorIndex.plan`.
            for allowed in (None, *([self.ids[: self.count // 2]] if index.is_exact else [])):
                batch = index.search(np.resize(self.queries, (count, self.dim)), 5, allowed=allowed)
                for row, query in enumerate(few):
                    alone = index.search(query[None, :], 5, allowed=allowed)
                    if index.is_compressed:  # codes are compared with the rotated query
                        atol = 1e-5 * max(1.0, float(np.abs(alone.scores).max()))
                        np.testing.assert_allclose(batch.scores[row], alone.scores[0], atol=atol)
                        continue
                    np.testing.assert_array_equal(batch.ids[row], alone.ids[0])
                    np.testing.assert_array_equal(batch.scores[row], alone.scores[0])

    def test_equal_scores_are_ordered_by_id(self, metric: Metric) -> None:
        index = self.trained(metric)
        copies = np.concatenate([self.vectors[:40]] * 5)
        ids = np.random.default_rng(5).permutation(4 * len(copies))[: len(copies)]
        for start in range(0, len(copies), 90):
            index.add(copies[start : start + 90], ids[start : start + 90])
        queries = np.resize(self.vectors[:40], (700, self.dim))
        few = np.sort(ids)[::2]
        for allowed, there in ((None, len(ids)), (few, len(few))):
            everything = index.search(queries[:40], there, allowed=allowed)
            for k in (1, 2, 7, 23, there):
                for count in (1, 3, 700):
                    found = index.search(queries[:count], k, allowed=allowed)
                    same = found.scores[:, 1:] == found.scores[:, :-1]
                    assert (found.ids[:, 1:] > found.ids[:, :-1])[same].all()
                    if index.is_exact:
                        rows = np.arange(count) % 40
                        np.testing.assert_array_equal(found.ids, everything.ids[rows, :k])
            equal = everything.scores[:, 1:] == everything.scores[:, :-1]
            assert equal.mean() > (0.75 if allowed is None else 0.5), "equal vectors score alike"

    def test_more_neighbours_than_vectors_are_padded(self, metric: Metric) -> None:
        index = self.filled(metric)
        found = index.search(self.queries[:3], self.count + 7)
        self.check(found, self.queries[:3], self.count + 7, self.count)

    def test_equal_vectors_are_all_found(self, metric: Metric) -> None:
        index = self.trained(metric)
        index.add(np.repeat(self.vectors[:2], 60, axis=0), np.arange(120))
        found = index.search(self.vectors[:1], 100)
        self.check(found, self.vectors[:1], 100, 100)

    def test_one_vector(self, metric: Metric) -> None:
        index = self.trained(metric)
        index.add(self.vectors[:1], [2**40])
        found = index.search(self.queries, 3)
        self.check(found, self.queries, 3, 1)
        assert (found.ids[:, 0] == 2**40).all()

    def test_an_empty_index_answers_with_padding(self, metric: Metric) -> None:
        for index in (self.make(self.dim, metric), self.trained(metric)):
            assert len(index) == 0
            self.check(index.search(self.queries, 4), self.queries, 4, 0)
            self.check(index.search(self.queries, 4, allowed=[1, 2]), self.queries, 4, 0)

    def test_no_queries(self, metric: Metric) -> None:
        nothing = np.empty((0, self.dim), dtype=np.float32)
        self.check(self.filled(metric).search(nothing, 4), nothing, 4, 4)

    @pytest.mark.parametrize("k", [0, -1, 1.5, True, None, "3"])
    def test_k_must_be_a_whole_number_of_at_least_one(self, k: object) -> None:
        index = self.filled(self.metrics[0])
        with pytest.raises(InvalidInputError, match="k: expected"):
            index.search(self.queries, k)  # type: ignore[arg-type]  # that is the test

    def test_arguments_are_left_alone(self, metric: Metric) -> None:
        index = self.trained(metric)
        vectors, ids, queries = self.vectors.copy(), self.ids.copy(), self.queries.copy()
        index.add(vectors, ids)
        before = index.search(queries, 5)
        np.testing.assert_array_equal(vectors, self.vectors)
        np.testing.assert_array_equal(queries, self.queries)
        vectors[:] = 0
        ids[:] = 0
        np.testing.assert_array_equal(index.search(queries, 5).ids, before.ids)

    def test_lists_and_other_number_types_are_taken(self, metric: Metric) -> None:
        index, same = self.trained(metric), self.trained(metric)
        index.add(self.vectors, self.ids)
        same.add(np.asfortranarray(self.vectors.astype(np.float64)), self.ids.tolist())
        # Results are not compared: two approximate indexes of the same vectors may differ.
        np.testing.assert_allclose(
            same.reconstruct(self.ids.astype(np.uint32)), index.reconstruct(self.ids), rtol=1e-6
        )
        expected = same.search(self.queries, 3, allowed=self.ids)
        found = same.search(self.queries.tolist(), 3, allowed=self.ids.astype(np.uint32).tolist())
        np.testing.assert_array_equal(found.ids, expected.ids)

    def test_several_threads_get_the_answer_of_one(self, metric: Metric) -> None:
        index = self.filled(metric)
        expected = index.search(self.queries, 10)
        few = np.sort(self.ids[:50])
        expected_of_few = index.search(self.queries, 10, allowed=few)

        def ask(_: int) -> None:
            found = index.search(self.queries, 10)
            np.testing.assert_array_equal(found.ids, expected.ids)
            found = index.search(self.queries, 10, allowed=few)
            np.testing.assert_array_equal(found.ids, expected_of_few.ids)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(12)))

    # -- searching among some ids --------------------------------------------------------

    @pytest.mark.parametrize("share", [0.005, 0.05, 0.3, 0.9, 1.0])
    def test_only_allowed_ids_are_found_and_never_too_few(
        self, metric: Metric, share: float
    ) -> None:
        index = self.filled(metric)
        allowed = np.random.default_rng(3).permutation(self.ids)[: int(share * self.count)]
        for k in (1, 10, len(allowed), self.count):
            found = index.search(self.queries, k, allowed=allowed)
            expected = min(k, len(allowed))
            self.check(found, self.queries, k, expected)
            assert np.isin(found.ids[:, :expected], allowed).all()
        self.check_scores(index, index.search(self.queries, 1, allowed=allowed), self.queries)

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
    def test_the_index_itself_keeps_to_allowed_ids(self, metric: Metric, share: float) -> None:
        # Searches with few allowed ids bypass the index: see `VectorIndex.plan`.
        index = self.filled(metric)
        if not index.supports_allowed:
            pytest.skip("the index takes no filter")
        allowed = np.random.default_rng(3).permutation(self.ids)[: int(share * self.count)]
        queries = check_scorable(self.queries, self.dim, metric, "queries")
        found, scores = index._search(queries, 5, allowed)  # noqa: SLF001  # the hook
        there = found >= 0
        assert np.isin(found[there], allowed).all()
        assert np.isfinite(scores[there]).all()
        assert there.any()

    def test_recall_among_allowed_ids(self, metric: Metric) -> None:
        index = self.filled(metric)
        floor = 1.0 if index.is_exact else self.recall_floor
        for allowed in (self.ids[:30], self.ids[: self.count // 2]):
            assert self.recall(index, allowed) >= floor

    def test_ids_that_are_not_there_are_passed_over(self, metric: Metric) -> None:
        index = self.filled(metric)
        stranger = int(self.ids.max()) + 5
        found = index.search(self.queries, 3, allowed=[int(self.ids[0]), stranger])
        self.check(found, self.queries, 3, 1)
        self.check(index.search(self.queries, 3, allowed=[stranger]), self.queries, 3, 0)
        self.check(index.search(self.queries, 3, allowed=[]), self.queries, 3, 0)

    @pytest.mark.parametrize("allowed", [[1, 1], [-1], [0.5], [[1]]])
    def test_allowed_must_be_ids(self, allowed: object) -> None:
        index = self.filled(self.metrics[0])
        with pytest.raises(InvalidInputError, match="allowed: expected"):
            index.search(self.queries, 3, allowed=allowed)
