"""The first search of an exact index compares vectors where they are stored, as every other one."""

from contextlib import closing

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import StoreCorruptError
from imgret.galleries.local import LocalGallery, live_index
from imgret.galleries.local.row_checks import RowChecks
from imgret.indexes import FlatIndex, HNSWIndex
from imgret.testing.data import Given
from imgret.testing.galleries import new_spec
from imgret.types import Item

N, DIM = 3000, 32


@pytest.fixture
def gallery(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((N, DIM)).astype(np.float32)
    vectors[7:12] = vectors[6]  # which score the same
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM)) as retriever:
        facts = [{"part": n % 3} for n in range(N)]
        retriever.add_vectors(vectors, keys=[f"{n:04}" for n in range(N)], metadata=facts)
        retriever.remove(["0008", "0500"])
    return path


@pytest.mark.slow
@pytest.mark.parametrize("where", [None, {"part": 1}, {"part": 9}, {"key": "0009"}])
@pytest.mark.parametrize("k", [1, 3, 10, 5000])
@pytest.mark.parametrize("queries", [1, 20])
def test_it_finds_what_the_next_one_finds(gallery, monkeypatch, queries, k, where):
    monkeypatch.setattr(live_index, "_SCANNED_BYTES", 4 * DIM * 170)
    rows = np.random.default_rng(1).standard_normal((queries, DIM)).astype(np.float32)
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        rows[0] = retriever.embeddings(["0006"])[0]
        first = retriever.search_vectors(rows, k=k, where=where)
        second = retriever.search_vectors(rows, k=k, where=where)
    assert first.to_dict() == second.to_dict()
    count = N - 2 if where is None else {1: 1000, 9: 0}.get(where.get("part"), 1)
    assert [len(hits) for hits in first] == [min(k, count)] * queries


def test_only_the_first_one_is_spared_an_index(gallery):
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        live = retriever._gallery.live
        for is_there in (False, True, True):
            retriever.search_vectors(np.ones((1, DIM)))
            assert (live._index is not None) is is_there


def test_adding_to_a_gallery_does_not_read_all_of_it(gallery):
    with closing(LocalGallery.open(str(gallery), writable=True)) as opened:
        opened.add([Item("new")], np.ones((1, DIM), dtype=np.float32))
        assert opened.live._index is None
        assert len(opened.index) == N - 1


@pytest.mark.parametrize("where", [None, {"part": 0}])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_the_first_item_is_found_and_the_best_k_in_order(tmp_path, where, metric):
    rows = np.eye(9, 12) * 2 + np.arange(9)[:, None] / 9 * np.eye(9, 12)[0]
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(12), metric=metric) as retriever:
        facts = [{"part": n % 2} for n in range(9)]
        retriever.add_vectors(rows, keys=[f"{n}" for n in range(9)], metadata=facts)
    stored = rows.astype(np.float16).astype(np.float64)
    query = np.eye(1, 12)[0]
    scores = {
        "ip": stored @ query,
        "cosine": stored @ query / np.linalg.norm(stored, axis=1),
        "l2": -((stored - query) ** 2).sum(axis=1),
    }[metric]
    among = [n for n in range(9) if where is None or n % 2 == 0]
    best = [str(n) for n in sorted(among, key=lambda n: -scores[n])]
    for k in (1, 2, 9):
        with Retriever.open(path, embedder=Given(12)) as retriever:
            (hits,) = retriever.search_vectors(query[None], k=k, where=where)
        assert [hit.key for hit in hits] == best[:k]
        np.testing.assert_allclose(
            [hit.score for hit in hits], [scores[int(key)] for key in best[:k]], rtol=1e-3
        )


@pytest.mark.parametrize("make", [FlatIndex, HNSWIndex])
def test_an_index_that_was_empty_grows_as_items_come(make):
    """So that little is left to do once all images are embedded."""
    index = make(DIM)
    with closing(LocalGallery.in_memory(new_spec("cosine", dim=DIM), index)) as gallery:
        for count in (20, 40):
            gallery.add([Item(str(n)) for n in range(count, count + 20)], np.eye(DIM)[:20])
            assert len(index) == count


def test_damage_is_found_by_the_first_search(gallery):
    file = gallery / "vectors.f16"
    data = bytearray(file.read_bytes())
    data[2 * DIM * 1234] ^= 64
    file.write_bytes(data)
    with (
        Retriever.open(gallery, embedder=Given(DIM)) as retriever,
        pytest.raises(StoreCorruptError, match="1234"),
    ):
        retriever.search_vectors(np.ones((1, DIM)))


@pytest.mark.parametrize("where", [None, {"part": 1}])
def test_what_was_prepared_is_as_the_gallery_is_at_the_search(gallery, where):
    """Items come, go and get other facts between the two."""
    query = np.ones((1, DIM))
    count = N - 2 if where is None else N // 3
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        ((best,),) = retriever.search_vectors(query, k=1, where=where)
    with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
        retriever.view(where).prepare()
        assert retriever._gallery.live._index is None  # so that the next search is the first one
        retriever.remove([best.key])
        retriever.update("0000", metadata={"part": 1})
        retriever.update("0001", metadata={"part": 2})
        retriever.add_vectors(query, keys=["new"], metadata=[{"part": 1}])
        (hits,) = retriever.search_vectors(query, k=5000, where=where)
    found = [hit.key for hit in hits]
    assert best.key not in found
    assert len(found) == count
    assert found[0] == "new"
    assert {"0000", "0001"} & {*found} == ({"0000", "0001"} if where is None else {"0000"})


def test_what_was_prepared_is_compared_with_its_checksums_once(gallery, monkeypatch):
    compared = []
    compare = RowChecks.compare
    monkeypatch.setattr(
        RowChecks,
        "compare",
        lambda self, ids, *rest: (compared.extend(ids), compare(self, ids, *rest))[1],
    )
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        retriever.view().prepare()
        assert len(compared) == N - 2
        retriever.search_vectors(np.ones((1, DIM)))
    assert len(compared) == N - 2


def test_damage_is_found_when_a_search_is_prepared(gallery):
    file = gallery / "vectors.f16"
    data = bytearray(file.read_bytes())
    data[2 * DIM * 1234] ^= 64
    file.write_bytes(data)
    with Retriever.open(gallery, embedder=Given(DIM)) as retriever:
        for _ in range(2):
            with pytest.raises(StoreCorruptError, match="1234"):
                retriever.view().prepare()
        with pytest.raises(StoreCorruptError, match="1234"):
            retriever.search_vectors(np.ones((1, DIM)))


def test_an_index_that_is_stored_is_read_when_a_search_is_prepared(tmp_path):
    path = tmp_path / "g.imgret"
    rows = np.random.default_rng(0).standard_normal((300, DIM))
    with Retriever.open(path, "a", embedder=Given(DIM), index="hnsw") as retriever:
        retriever.add_vectors(rows, keys=[str(n) for n in range(300)])
        assert len(retriever.index) == 300
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        retriever.view().prepare()
        assert len(retriever._gallery.live._index) == 300
