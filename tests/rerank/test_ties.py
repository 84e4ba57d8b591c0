"""Equal scores after re-ranking, and queries alone or among others."""

import numpy as np
import pytest

from imgret import Retriever
from imgret.registry import names
from imgret.testing.data import Given


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).standard_normal((80, 16)).astype(np.float32)


@pytest.fixture(scope="module", params=["cosine", "l2"])
def gallery(vectors, request):
    """Three copies of everything; keys say in which order they were added."""
    made = Retriever(embedder=Given(16), index="flat", metric=request.param, dtype="float32")
    copies = np.concatenate([vectors] * 3)
    made.add_vectors(copies, keys=[f"{number:04d}" for number in range(len(copies))])
    return made


@pytest.mark.parametrize("name", [None, *sorted(names("rerankers"))])
def test_equal_scores_are_in_the_order_of_adding(gallery, vectors, name):
    hits = gallery.search_vectors(vectors[:20], k=7, rerank=name)
    for found in hits:
        keys = [hit.key for hit in found]
        scores = [hit.score for hit in found]
        for before, after in zip(range(6), range(1, 7), strict=True):
            if scores[before] == scores[after] and name != "mmr":  # which ranks by other things
                assert keys[before] < keys[after]
        if name != "diffusion":  # which lets some of several copies be neighbours, and not others
            copies = [int(key) for key in keys if int(key) % 80 == int(keys[0]) % 80]
            assert copies == sorted(copies)


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *sorted(names("rerankers"))])
def test_a_query_is_ranked_alone_as_among_others(gallery, vectors, name):
    queries = np.resize(vectors[:20] + 0.1, (400 if name is None else 40, 16))
    together = gallery.search_vectors(queries, k=7, rerank=name)
    for query, expected in zip(queries[:20], together, strict=False):
        (alone,) = gallery.search_vectors(query[None], k=7, rerank=name)
        assert [hit.key for hit in alone] == [hit.key for hit in expected]
        np.testing.assert_allclose(
            [hit.score for hit in alone], [hit.score for hit in expected], rtol=1e-5, atol=1e-6
        )


def test_the_copies_of_an_item_come_first_when_it_is_the_query(gallery):
    for number in (0, 85, 239):
        keys = [hit.key for hit in gallery.search_key(f"{number:04d}", k=3)]
        copies = [f"{place:04d}" for place in range(number % 80, 240, 80) if place != number]
        assert keys[:2] == copies
