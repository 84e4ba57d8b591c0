"""Views of a gallery that has changed since."""

import numpy as np
import pytest

from imgret import Retriever
from imgret.search import StaleViewError
from imgret.testing.data import Given


@pytest.mark.parametrize("where", [None, {"key": {"$ne": "k3"}}])
def test_a_view_of_an_earlier_projection_is_not_searched(where):
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    retriever = Retriever(embedder=Given(8))
    retriever.add_vectors(rows, keys=[f"k{n}" for n in range(40)])
    view = retriever.view(where=where)
    vectors = view.project(rows[:1])
    assert len(view.search(vectors, 3).ids[0]) == 3
    retriever.project("pca", dim=8)  # as many numbers, of another space
    with pytest.raises(StaleViewError, match="projection"):
        view.search(vectors, 3)
    now = retriever.view(where=where)
    assert len(now.search(now.project(rows[:1]), 3).ids[0]) == 3
