"""A state machine that compares an index with an exact one."""

from __future__ import annotations

import tempfile
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from imgret.abc import VectorIndex
from imgret.errors import DuplicateKeyError, UnsupportedError
from imgret.indexes.exact import ExactIndex
from imgret.testing.strategies import ids, vectors
from imgret.types import Embeddings, Ids, Neighbors

__all__ = ["IndexMachine"]


class IndexMachine(RuleBasedStateMachine):
    """Adds, removes, searches, saves and loads, in any order that Hypothesis tries.

    Subclass it, implement `make`, and give its ``TestCase`` to pytest::

        class MyMachine(IndexMachine):
            def make(self):
                return MyIndex(4, "l2")

        TestMyMachine = MyMachine.TestCase

    An exact index must return the scores of `ExactIndex`, with ties in any order. Every index
    must find as many vectors as `ExactIndex`, and return their true scores.

    Attributes
    ----------
    training_count : int
        Number of training vectors for an index that needs training.
    score_tolerance : float
        Tolerance of scores, as in `VectorIndexTests`, for values up to 8.
    """

    training_count: ClassVar[int] = 400
    score_tolerance: ClassVar[float] = 1e-5

    def make(self) -> VectorIndex:
        """Make an empty index."""
        raise NotImplementedError(f"{type(self).__name__}.make: expected to return an index")

    def __init__(self) -> None:
        super().__init__()
        self.index = self.make()
        self.model = ExactIndex(self.index.dim, self.index.metric)
        if self.index.needs_training:
            rng = np.random.default_rng(0)
            self.index.train(rng.uniform(-8, 8, (self.training_count, self.index.dim)))

    def _some(self, data: st.DataObject) -> Ids:
        """Draw some ids of the index, in order, and perhaps one that it does not hold."""
        held = self.model.ids
        chosen = np.array(
            data.draw(st.lists(st.booleans(), min_size=len(held), max_size=len(held))), dtype=bool
        )
        strangers = np.setdiff1d(data.draw(ids(count=st.integers(0, 1))), held)
        return np.concatenate([held[chosen], strangers])

    @rule(data=st.data(), count=st.integers(0, 40))
    def add(self, data: st.DataObject, count: int) -> None:
        """Add vectors under new ids."""
        new = np.setdiff1d(data.draw(ids(count=count)), self.model.ids)
        values = data.draw(vectors(count=len(new), dim=self.index.dim))
        self.index.add(values, new)
        self.model.add(values, new)

    @rule(data=st.data())
    def add_what_is_there(self, data: st.DataObject) -> None:
        """Try to add a new id together with one that is taken."""
        if not len(self.model):
            return
        taken = data.draw(st.sampled_from(self.model.ids.tolist()))
        new = np.setdiff1d(data.draw(ids(count=1)), self.model.ids)
        values = data.draw(vectors(count=len(new) + 1, dim=self.index.dim))
        with pytest.raises(DuplicateKeyError):
            self.index.add(values, np.append(new, taken))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove some ids, or be refused."""
        chosen = self._some(data)
        if self.index.supports_remove:
            assert self.index.remove(chosen) == self.model.remove(chosen)
        else:
            with pytest.raises(UnsupportedError):
                self.index.remove(chosen)

    @rule(data=st.data(), k=st.integers(1, 50), restricted=st.booleans())
    def search(self, data: st.DataObject, k: int, restricted: bool) -> None:  # noqa: FBT001  # drawn
        """Search among all ids, or among some."""
        allowed = self._some(data) if restricted else None
        queries = data.draw(vectors(count=st.integers(1, 3), dim=self.index.dim))
        self._compare(queries, k, allowed)

    @rule()
    def save_and_load(self) -> None:
        """Save the index, load it, and continue with the loaded one."""
        with tempfile.TemporaryDirectory() as directory:
            self.index.save_state(directory)
            loaded = type(self.index).from_config(self.index.config())
            loaded.load_state(directory)
        self.index = loaded

    @invariant()
    def holds_the_same_ids(self) -> None:
        """Compare the ids, in order."""
        assert len(self.index) == len(self.model)
        np.testing.assert_array_equal(self.index.ids, self.model.ids)

    def _compare(self, queries: Embeddings, k: int, allowed: Ids | None) -> None:
        found = self.index.search(queries, k, allowed=allowed)
        expected = self.model.search(queries, k, allowed=allowed)
        there = expected.ids >= 0
        np.testing.assert_array_equal(found.ids >= 0, there)
        assert np.isneginf(found.scores[~there]).all()
        close: dict[str, Any] = {"rtol": 0, "atol": self.score_tolerance * 64 * self.index.dim}
        if self.index.is_exact:
            np.testing.assert_allclose(found.scores[there], expected.scores[there], **close)
        for row, query in enumerate(queries):
            best = found.ids[row][there[row]]
            if allowed is not None:
                assert np.isin(best, allowed).all()
            if len(best):
                true = _scores_by_id(self.model.search(query[None, :], len(self.model)))
                scores = [true[int(id_)] for id_ in best]
                np.testing.assert_allclose(found.scores[row][there[row]], scores, **close)


def _scores_by_id(found: Neighbors) -> dict[int, float]:
    return dict(zip(found.ids[0].tolist(), found.scores[0].tolist(), strict=True))
