"""Many copies of one vector, which graphs keep once."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgret import registry
from imgret.indexes import ExactIndex
from imgret.indexes.faiss.nodes import Nodes, _hashes, distinct
from imgret.testing.data import clustered

GRAPHS = ["hnsw", "hnsw-sq8", "faiss:HNSW32", "faiss:HNSW16,SQ8", "faiss:HNSW16,SQ4,RFlat"]
DIM = 32


def make(name, metric="cosine", vectors=None, **options):
    index = registry.create("indexes", name, dim=DIM, metric=metric, **options)
    index.train(clustered(600, DIM)[0] if vectors is None else vectors)
    return index


@pytest.fixture(scope="module")
def some():
    """Vectors that lie as embeddings do: most of what tells them apart is in few dimensions."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((1500, DIM)) * 0.9 ** np.arange(DIM)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("order", ["first", "last", "shuffled"])
def test_copies_of_one_hide_no_other(some, name, order):
    copies = np.repeat(some[:1], 2000, axis=0)
    vectors = np.concatenate([copies, some] if order == "first" else [some, copies])
    place = np.arange(len(vectors))
    if order == "shuffled":
        place = np.random.default_rng(0).permutation(len(vectors))
        vectors = vectors[place]
    index = make(name, vectors=vectors)
    alone = make(name, vectors=vectors)
    alone.add(some, np.arange(len(some)))
    for start in range(0, len(vectors), 700):
        part = slice(start, start + 700)
        index.add(vectors[part], place[part])
    first = 2000 if order == "first" else 0
    asked = np.arange(1, 301)
    found = (index.search(some[asked], 10).ids == asked[:, None] + first).any(axis=1)
    before = (alone.search(some[asked], 10).ids == asked[:, None]).any(axis=1)
    assert found.sum() >= before.sum()


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_all_copies_are_found_in_the_order_of_their_ids(some, name, metric):
    index = make(name, metric, some)
    index.add(some[:400], np.arange(400))
    index.add(np.repeat(some[7:8], 90, axis=0), 1000 + np.arange(90)[::-1])
    index.add(some[[7, 400, 7, 401]], [3000, 3001, 3002, 3003])
    copies = [7, *range(1000, 1090), 3000, 3002]
    query = some[7:8]
    for k in (1, 20, 93):
        found = index.search(query, k).ids[0].tolist()
        assert found == copies[:k]
    for k in (94, 300, 495, 600):
        ids = index.search(query, k).ids[0]
        ids = ids[ids >= 0]
        assert len(ids) == min(k, len(index))
        assert len(set(ids.tolist())) == len(ids)
    allowed = np.array([3002, 1005, 12, 1001, 3000])
    assert set(index.search(query, 9, allowed=allowed).ids[0, :5].tolist()) == set(allowed.tolist())


@pytest.mark.parametrize("name", ["hnsw", "hnsw-sq8"])
def test_removing_a_copy_leaves_the_others(some, name):
    index = make(name, "l2", some, M=8)
    index.add(some, np.arange(1500))
    index.add(np.repeat(some[3:4], 50, axis=0), 2000 + np.arange(50))
    assert index._faiss.ntotal == 1500
    index.remove([3, *range(2000, 2040)])
    assert index.search(some[3:4], 10).ids[0].tolist() == list(range(2040, 2050))
    index.remove(np.arange(2040, 2050))
    assert not np.isin(index.search(some[3:4], 50).ids, [3, *range(2000, 2050)]).any()
    index.add(some[[3, 3]], [5000, 4000])  # the node that nothing was left of comes back
    assert index._faiss.ntotal == 1500
    assert index.search(some[3:4], 2).ids[0].tolist() == [4000, 5000]
    index.remove(np.arange(4, 700))  # so many that the graph is built again
    assert index._faiss.ntotal == 1500 - 696
    assert index.search(some[3:4], 2).ids[0].tolist() == [4000, 5000]
    found = index.search(some[800:900], 3).ids
    assert (found == np.arange(800, 900)[:, None]).any(axis=1).all()


@pytest.mark.parametrize("name", GRAPHS)
def test_nodes_are_saved_and_loaded(some, name, tmp_path):
    index = make(name, vectors=some)
    index.add(np.concatenate([some[:300], np.repeat(some[:1], 40, axis=0)]), np.arange(340))
    index.save_state(tmp_path)
    loaded = type(index).from_config(index.config())
    loaded.load_state(tmp_path)
    for both in (index, loaded):
        both.add(some[[0, 300]], [400, 401])
    for allowed in (None, np.arange(20, 330)):
        for k in (5, 60):
            expected = index.search(some[:30], k, allowed=allowed)
            np.testing.assert_array_equal(
                loaded.search(some[:30], k, allowed=allowed).ids, expected.ids
            )
    assert loaded._faiss.ntotal == index._faiss.ntotal <= 301


def write_as_before(index, vectors, directory: Path):
    """Save a graph in which each copy has a node of its own, as releases before 0.2 did."""
    graph = index._faiss
    graph.add(vectors)
    index._ids.append(np.arange(len(vectors)))
    index._write(directory)
    index._nodes = Nodes(total=len(vectors))
    write = index._write
    index._write = lambda directory, *_: write(directory)
    index.save_state(directory)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("copies", [5, 400])
def test_graphs_stored_with_a_node_for_each_copy_are_mended(some, name, copies, tmp_path):
    vectors = np.concatenate([np.repeat(some[:1], copies, axis=0), some[:500]])
    old = make(name, "l2", some)
    write_as_before(old, vectors, tmp_path)
    index = type(old).from_config(old.config())
    index.load_state(tmp_path)
    count = copies + 500
    assert len(index) == count
    assert index._faiss.ntotal == (count if copies == 5 else 500)
    assert np.sort(index.search(some[:1], count).ids[0]).tolist() == list(range(count))
    found = index.search(some[100:200], 5).ids - copies
    assert (found == np.arange(100, 200)[:, None]).any(axis=1).all()


def test_negative_zeros_are_zeros(some):
    index = make("hnsw", "l2")
    vectors = some[:2].copy()
    vectors[:, 3] = 0.0
    index.add(vectors, [0, 1])
    vectors[:, 3] = -0.0
    index.add(vectors, [2, 3])
    assert index._faiss.ntotal == 2


def test_searches_beside_adding_and_removing_copies(some):
    index = make("hnsw", "l2", some, M=8)
    index.add(some[:500], np.arange(500))
    stop, wrong = threading.Event(), []

    def search():
        while not stop.is_set():
            found = index.search(some[:20], 30)
            true = -((some[:20, None] - some[np.where(found.ids < 500, found.ids, 0)]) ** 2).sum(2)
            if (found.ids < 0).any() or not np.allclose(found.scores, true, atol=1e-3):
                wrong.append(found)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        index.add(np.repeat(some[:1], 30, axis=0), 500 + np.arange(30))
        index.remove(500 + np.arange(30))
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_for_distinct_vectors_is_what_finding_copies_takes(some):
    index = make("hnsw", "l2")
    index.add(some, np.arange(1500))
    index.search(some[:3], 3)
    assert index._nodes.of is None
    assert index._nodes._groups is None
    pieces = index._nodes._known._pieces
    assert sum(hashes.nbytes + nodes.nbytes for hashes, nodes in pieces) == 12 * 1500


# -- finding copies ------------------------------------------------------------------------

rows = st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), max_size=30)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(rows, min_size=1, max_size=4), collide=st.booleans())
def test_rows_share_a_node_where_they_are_equal(parts, collide):
    patch = pytest.MonkeyPatch()
    if collide:  # every hash is the same: rows that differ must not share a node
        patch.setattr(
            "imgret.indexes.faiss.nodes._hashes", lambda codes: np.zeros(len(codes), np.uint64)
        )
    nodes, stored, seen = Nodes(), np.empty((0, 3), dtype=np.uint8), []
    for part in parts:
        codes = np.array(part, dtype=np.uint8).reshape(-1, 3)
        placed = nodes.find(codes, lambda stored=stored: stored)
        stored = np.concatenate([stored, codes[placed.fresh]])
        nodes.added(placed)
        seen += part
    patch.undo()
    of = nodes.at(np.arange(len(seen)))
    np.testing.assert_array_equal(stored[of], np.array(seen, dtype=np.uint8).reshape(-1, 3))
    assert nodes.total == len(stored)
    if not collide:
        assert len(np.unique(stored, axis=0)) == len(stored)
        assert nodes.shared == (len(seen) > len(stored))


@pytest.mark.parametrize("values", [2, 3])
def test_hashes_of_round_numbers_differ(values):
    rng = np.random.default_rng(0)
    vectors = np.unique(rng.integers(0, values, (20_000, 16)), axis=0).astype(np.float32)
    assert len(np.unique(_hashes(vectors.view(np.uint8)))) == len(vectors)


def test_few_copies_are_left_where_they_are():
    codes = np.repeat(np.arange(10, dtype=np.uint8), 20).reshape(-1, 1)
    assert distinct(codes, np.arange(200)) is None
    nodes, of = distinct(np.append(codes, codes[:1], axis=0), np.arange(201))
    assert len(nodes) == 10
    np.testing.assert_array_equal(of, [*np.repeat(np.arange(10), 20), 0])


@pytest.mark.parametrize("name", ["hnsw", "hnsw-sq8"])
def test_as_in_an_exact_index_whatever_comes_and_goes(name):
    rng = np.random.default_rng(5)
    values = rng.standard_normal((12, DIM)).astype(np.float32)
    index, exact = make(name, "l2", M=4, ef_construction=16, ef_search=8), ExactIndex(DIM, "l2")
    free = list(range(400))
    for _ in range(60):
        if rng.random() < 0.6 or not len(exact):
            new = np.array([free.pop(rng.integers(len(free))) for _ in range(9)])
            vectors = values[rng.integers(0, len(values), 9)]
            for each in (index, exact):
                each.add(vectors, new)
        else:
            gone = rng.permutation(exact.ids)[: rng.integers(1, 12)]
            free += gone.tolist()
            for each in (index, exact):
                each.remove(gone)
        k = int(rng.integers(1, 60))
        allowed = rng.permutation(400)[:200] if rng.random() < 0.5 else None
        expected = exact.search(values, k, allowed=allowed)
        found = index.search(values, k, allowed=allowed)
        np.testing.assert_array_equal(found.ids >= 0, expected.ids >= 0)
        if name == "hnsw":
            there = expected.ids >= 0
            np.testing.assert_allclose(found.scores[there], expected.scores[there], atol=1e-4)
