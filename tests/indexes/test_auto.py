"""The choice of an index is a function that can be relied upon."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import registry
from imgret.errors import InvalidInputError
from imgret.indexes import choose

counts = st.integers(1, 10**9)
dims = st.sampled_from([2, 32, 101, 128, 384, 1280])
LADDER = ("flat", "ivf-pq")


def rank(name):
    return LADDER.index(name)


@pytest.mark.parametrize(
    ("n", "dim", "memory", "name"),
    [
        (1, 1280, None, "flat"),
        (50_000, 1280, None, "flat"),
        (200_000, 128, None, "flat"),
        (1_000_000, 128, None, "ivf-pq"),
        (1_000_000, 128, 60_000_000, "ivf-pq"),
        (1_000_000, 101, None, "ivf-pq"),
        (20_000, 128, 4_000_000, "faiss:SQ8"),
    ],
)
def test_examples(n, dim, memory, name):
    assert choose(n, dim, memory_bytes=memory).name == name


def test_codes_get_shorter_and_more_is_ranked_where_memory_is_short():
    whole = choose(1_000_000, 128)
    short = choose(1_000_000, 128, memory_bytes=30_000_000)
    assert (whole.options["code_bytes"], short.options["code_bytes"]) == (32, 8)
    assert short.options["refine"] == 4 * whole.options["refine"]
    assert short.memory_bytes <= 30_000_000


def test_the_recall_asked_for_counts():
    assert choose(10**7, 128, recall=1).name == "flat"
    assert "requires comparing with all" in choose(10**7, 128, recall=1).reason
    usual, wide = choose(10**7, 128), choose(10**7, 128, recall=0.99)
    assert usual.name == wide.name == "ivf-pq"
    assert usual.options["nprobe"] < wide.options["nprobe"]
    for recall in (0, -1, 1.5, "all"):
        with pytest.raises(InvalidInputError, match="recall: expected a number over 0"):
            choose(10, 4, recall=recall)


@given(counts, counts, dims)
def test_more_vectors_never_get_a_simpler_index(one, other, dim):
    small, large = sorted((one, other))
    assert rank(choose(small, dim).name) <= rank(choose(large, dim).name)


@given(counts, dims, st.integers(1, 10**13), st.integers(1, 10**13))
def test_less_memory_never_gets_a_larger_index(n, dim, one, other):
    tight, roomy = sorted((one, other))
    assert (
        choose(n, dim, memory_bytes=tight).memory_bytes
        <= choose(n, dim, memory_bytes=roomy).memory_bytes
    )


@given(counts, dims, st.integers(1, 10**13))
def test_the_budget_is_kept_wherever_an_index_fits(n, dim, memory):
    choice = choose(n, dim, memory_bytes=memory)
    smallest = choose(n, dim, memory_bytes=1)
    assert choice.memory_bytes <= max(memory, smallest.memory_bytes)
    assert ("No index" in choice.reason) == (choice.memory_bytes > memory)
    assert choice.reason.endswith(".")
    assert f"{n:,}" in choice.reason


@pytest.mark.parametrize("n", [1, 2, 3, 50, 400])
@pytest.mark.parametrize("memory", [1, 2000, None])
def test_the_choice_for_few_vectors_can_be_made_of_them(n, memory):
    vectors = np.random.default_rng(0).standard_normal((n, 6))
    choice = choose(n, 6, memory_bytes=memory)
    index = registry.create("indexes", choice.name, dim=6, metric="l2", **choice.options)
    index.train(vectors)
    index.add(vectors, np.arange(n))
    assert (index.search(vectors, n).ids >= 0).all()


@pytest.mark.parametrize("arguments", [(0, 4), (4, 0), (4, 2.5)])
def test_nonsense_is_refused(arguments):
    with pytest.raises(InvalidInputError):
        choose(*arguments)


@given(st.integers(10**6, 10**9), dims, st.integers(1, 10**12))
def test_what_is_chosen_can_be_made(n, dim, memory):
    choice = choose(n, dim, memory_bytes=memory)
    index = registry.create("indexes", choice.name, dim=dim, **choice.options)
    assert len(index) == 0
