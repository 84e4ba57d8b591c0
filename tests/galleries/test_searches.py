"""What a search asks of the index in use, and what it sees while the gallery changes."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from imgret import Retriever
from imgret.galleries.local import LocalGallery, live_index
from imgret.indexes import FlatIndex, HNSWIndex
from imgret.search import StaleViewError
from imgret.testing.data import Given
from imgret.testing.galleries import new_spec
from imgret.types import Item, Part

DIM = 8


def rows(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def fill(retriever, n=60):
    facts = [{"n": n, "half": n % 2} for n in range(n)]
    retriever.add_vectors(rows(n), keys=[f"k{n}" for n in range(n)], metadata=facts)
    return retriever


def keys_of(retriever, number, **how):
    (hits,) = retriever.search_vectors(rows(60)[number : number + 1], **how)
    return [hit.key for hit in hits]


# -- what is asked ---------------------------------------------------------------------------------


MOST, FEW = {"n": {"$gte": 10}}, {"n": {"$lt": 10}}


@pytest.mark.parametrize(
    ("index", "where", "way", "expected"),
    [
        ("flat", None, None, [(3, None)]),
        ("hnsw", None, None, [(3, None)]),
        ("flat", MOST, None, [("more", None)]),
        ("hnsw", FEW, "exact", [(3, 10)]),
        ("flat", FEW, "index, filtered", [(3, 10)]),
        ("hnsw", FEW, "index, filtered", [(3, 10), ("more", None)]),
    ],
)
def test_an_index_is_asked_no_more_than_the_plan_says(monkeypatch, index, where, way, expected):
    """An approximate one is asked twice where it is filtered, as each way misses some."""
    retriever = fill(Retriever(embedder=Given(DIM), index=index))
    retriever.add_vectors(rows(1, seed=9), keys=["later"], metadata=[{"n": 99}])
    in_use, asked, plans = retriever.index, [], []
    find, choose = in_use.find, live_index.planning.choose_way

    def noted(vectors, k, *, allowed=None, **how):
        asked.append((k if k == 3 else "more", None if allowed is None else len(allowed)))
        return find(vectors, k, allowed=allowed, **how)

    def chosen(*given, **how):
        plan = choose(*given, **how)
        plans.append(plan)
        return plan if way is None else plan._replace(way=way)

    monkeypatch.setattr(in_use, "find", noted)
    monkeypatch.setattr(live_index.planning, "choose_way", chosen)
    number = 1 if where == FEW else 20
    assert keys_of(retriever, number, k=3, where=where)[0] == f"k{number}"
    assert asked == expected
    assert len(plans) == (where is not None)  # once


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_stored_index_is_read_once_and_not_built(tmp_path, monkeypatch, mode):
    path, read, found = tmp_path / "g.imgret", live_index.read_index, []
    fill(Retriever.open(path, "a", embedder=Given(DIM), index="hnsw")).close()
    monkeypatch.setattr(live_index, "read_index", lambda *given: found.append(1) or read(*given))
    monkeypatch.setattr(HNSWIndex, "_add", None)
    with Retriever.open(path, mode, embedder=Given(DIM)) as retriever:
        for where in (None, {"half": 1}, None):
            assert keys_of(retriever, 5, k=1, where=where) == ["k5"]
        assert len(retriever.index) == 60
    assert found == [1]


def test_what_was_removed_after_the_index_was_stored_is_not_found(tmp_path):
    path = tmp_path / "g.imgret"
    fill(Retriever.open(path, "a", embedder=Given(DIM), index="hnsw")).close()
    shutil.copytree(path / "index", tmp_path / "index")
    with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
        retriever.remove("k5")
    shutil.rmtree(path / "index")
    shutil.copytree(tmp_path / "index", path / "index")  # as if it had been killed
    for where in (None, {"half": 1}):
        with Retriever.open(path, embedder=Given(DIM)) as retriever:
            assert len(keys_of(retriever, 5, k=60, where=where)) == (59 if where is None else 29)
            assert "k5" not in keys_of(retriever, 5, k=60, where=where)


def test_adding_to_a_gallery_whose_index_is_stored_goes_on_with_that(tmp_path):
    path = tmp_path / "g.imgret"
    fill(Retriever.open(path, "a", embedder=Given(DIM), index="hnsw")).close()
    with closing(LocalGallery.open(str(path), writable=True)) as gallery:
        gallery.add([Item("new")], rows(1, seed=9))
        assert len(gallery.live._index) == 61
        gallery.add([Item("newer")], rows(1, seed=8))
        assert len(gallery.live._index) == 62


@pytest.mark.parametrize(
    ("index", "kept"), [("flat", True), ("hnsw", True), ("faiss:HNSW8", False)]
)
def test_what_is_removed_leaves_an_index_that_can_remove(index, kept):
    retriever = fill(Retriever(embedder=Given(DIM), index=index))
    before = retriever.index
    assert before.supports_remove is kept
    retriever.remove("k5")
    assert (retriever.index is before) is kept
    assert len(retriever.index) == 59
    assert "k5" not in keys_of(retriever, 5, k=60)


def test_an_index_is_built_beside_the_one_in_use_where_removing_would(monkeypatch):
    retriever = fill(Retriever(embedder=Given(DIM), index="hnsw"))
    before = retriever.index
    monkeypatch.setattr(before, "_removal_rebuilds", lambda count: count == 2)
    retriever.remove("k5")
    assert retriever.index is before
    retriever.remove(["k6", "k7"])
    assert retriever.index is not before
    assert (len(before), len(retriever.index)) == (59, 57)


# -- while it changes ------------------------------------------------------------------------------


def test_a_search_adds_what_was_only_stored():
    """An index that is trained is not added to as items come."""
    with closing(LocalGallery.in_memory(new_spec("cosine", dim=DIM))) as gallery:
        gallery.add([Item(f"k{n}") for n in range(60)], rows(60))
        gallery.reindex("ivf", {"nlist": 1})
        gallery.add([Item("new")], rows(1, seed=9))
        index = gallery.live._index
        assert len(index) == 60
        view = gallery.view()
        found = view.search(view.project(rows(1, seed=9)), 1)
        assert [item.key for item in view.items(found.ids[0])] == ["new"]
        assert gallery.live._index is index
        other = threading.Thread(target=gallery.catch_up, daemon=True)  # nothing stays locked
        other.start()
        other.join(20)
        assert not other.is_alive()


def test_a_search_does_not_wait_for_who_adds():
    with closing(LocalGallery.in_memory(new_spec("cosine", dim=DIM))) as gallery:
        gallery.add([Item(f"k{n}") for n in range(60)], rows(60))
        gallery.reindex("ivf", {"nlist": 1})
        gallery.add([Item("new")], rows(1, seed=9))
        found = []

        def search():
            view = gallery.view()
            found.append(view.search(view.project(rows(1, seed=9)), 60).ids[0].tolist())

        searching = threading.Thread(target=search, daemon=True)
        with gallery.live._syncing:  # as another thread does that adds
            searching.start()
            searching.join(20)
            assert not searching.is_alive()
        assert sorted(found[0]) == list(range(60))


@pytest.mark.parametrize("changes", [1, 3])
def test_a_search_is_planned_again_where_the_gallery_has_changed_meanwhile(monkeypatch, changes):
    retriever = fill(Retriever(embedder=Given(DIM), index="hnsw"))
    retriever.index  # noqa: B018  # it is made
    choose, plans = live_index.planning.choose_way, []

    def chosen(*given, **how):
        plan = choose(*given, **how)
        plans.append(plan)
        if len(plans) <= changes:
            retriever.remove(f"k{len(plans)}")
        return plan

    monkeypatch.setattr(live_index.planning, "choose_way", chosen)
    found = keys_of(retriever, 1, k=9, where={"n": {"$lt": 9}})
    assert sorted(found) == [f"k{n}" for n in range(9) if n not in range(1, changes + 1)]
    assert len(plans) == changes + 1


def test_a_search_whose_projection_changes_each_time_it_is_planned_is_refused(monkeypatch):
    retriever = fill(Retriever(embedder=Given(DIM), index="hnsw"))
    view = retriever.view({"n": {"$lt": 9}})
    choose, plans = live_index.planning.choose_way, []

    def chosen(*given, **how):
        plan = choose(*given, **how)
        plans.append(plan)
        if len(plans) < 3:
            retriever.remove(f"k{len(plans)}")
        elif len(plans) == 3:
            monkeypatch.undo()
            retriever.project("pca", dim=DIM)
        return plan

    monkeypatch.setattr(live_index.planning, "choose_way", chosen)
    with pytest.raises(StaleViewError, match="projection"):
        view.search(view.project(rows(1)), 3)
    assert len(plans) == 3


def test_a_view_of_before_a_gallery_was_compacted_has_no_index():
    retriever = fill(Retriever(embedder=Given(DIM), index="hnsw"))
    view = retriever.view()
    assert len(view.index) == 60
    retriever.remove("k5")
    assert retriever.compact() == 1
    with pytest.raises(StaleViewError, match="removed"):
        view.index  # noqa: B018  # it raises


# -- in pieces -------------------------------------------------------------------------------------


class Clock:
    """Time that passes as vectors are added to a flat index, at a rate."""

    def __init__(self, monkeypatch, seconds_per_item):
        self.now, self.each, self.pieces, self.sleeps = 5.0, seconds_per_item, [], []
        add = FlatIndex.add

        def noted(index, vectors, ids):
            self.pieces.append(len(ids))
            self.now += self.each * len(ids)
            add(index, vectors, ids)

        monkeypatch.setattr(FlatIndex, "add", noted)
        monkeypatch.setattr(
            live_index, "time", SimpleNamespace(perf_counter=lambda: self.now, sleep=self.sleep)
        )

    def sleep(self, seconds):
        self.sleeps.append(seconds)


def more(retriever, n, start):
    keys = [f"m{start + number}" for number in range(n)]
    retriever.add_vectors(rows(n, seed=start), keys=keys)


def test_items_are_added_in_pieces_that_take_a_twentieth_of_a_second(monkeypatch):
    clock = Clock(monkeypatch, 2**-10)
    retriever = Retriever(embedder=Given(DIM), index="flat")
    more(retriever, 800, 0)
    assert clock.pieces == [256, 256, 51, 51, 51, 51, 51, 33]  # as one is read ahead
    clock.each, clock.pieces = 2**-13, []
    more(retriever, 1500, 1000)
    assert clock.pieces == [51, 51, 102, 204, 408, 409, 275]  # twice as many at most
    clock.each, clock.pieces = 2**-6, []
    more(retriever, 340, 3000)
    assert clock.pieces == [340]
    more(retriever, 60, 4000)
    assert clock.pieces == [340, 16, 16, 16, 12]  # not even fewer
    assert clock.sleeps == []
    assert len(retriever.index) == 2700


def test_who_adds_lets_searches_go_on_as_long_as_they_waited(monkeypatch):
    clock = Clock(monkeypatch, 2**-13)
    retriever = Retriever(embedder=Given(DIM), index="flat")
    more(retriever, 10, 500)
    index, find = retriever.index, retriever.index.find
    searching, ended = threading.Event(), threading.Event()

    def slow(*given, **how):
        searching.set()
        ended.wait(5)
        return find(*given, **how)

    def sleep(seconds):
        clock.sleeps.append(seconds)
        ended.set()
        search.join(5)

    monkeypatch.setattr(index, "find", slow)
    monkeypatch.setattr(live_index.time, "sleep", sleep)
    retriever._gallery.live._piece = 40
    search = threading.Thread(target=retriever.search_vectors, args=[rows(1)], daemon=True)
    search.start()
    assert searching.wait(5)
    more(retriever, 90, 0)
    search.join(5)
    assert clock.pieces == [10, 40, 40, 10]
    assert clock.sleeps == [40 / 2**13]


# -- other indexes, other settings -----------------------------------------------------------------


def tuned(retriever, ef):
    retriever._gallery.configure({"index": "hnsw", "settings": {"ef_search": ef}})


def test_settings_stay_as_long_as_the_index_is_the_same_one(tmp_path):
    path = tmp_path / "g.imgret"
    with fill(Retriever.open(path, "a", embedder=Given(DIM), index="hnsw")) as retriever:
        retriever.index  # noqa: B018  # it is made
        tuned(retriever, 33)
        assert retriever.index.settings() == {"ef_search": 33}
        for change in (retriever.reindex, lambda: retriever.project("pca", dim=4)):
            before = retriever.index
            change()
            assert retriever.index is not before
            assert retriever.index.settings() == {"ef_search": 33}
    with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
        assert retriever.index.settings() == {"ef_search": 33}
        retriever.remove("k5")
        retriever.compact()
        assert retriever.index.settings() == {"ef_search": 33}
        retriever.reindex("hnsw", M=16)
        assert retriever.index.settings() != {"ef_search": 33}
        assert retriever._gallery.spec.tuned is None
        assert retriever._gallery.spec.index == Part("hnsw", {"M": 16})


def test_settings_of_another_index_are_not_for_this_one():
    retriever = fill(Retriever(embedder=Given(DIM), index="auto"))
    retriever._gallery.store.change_manifest(tuned={"index": "hnsw", "settings": {"ef_search": 33}})
    retriever.reindex()
    assert retriever.index.name == "flat"
    assert keys_of(retriever, 5, k=1) == ["k5"]


def test_a_stored_index_goes_with_what_it_was_made_for(tmp_path):
    path = tmp_path / "g.imgret"
    with fill(Retriever.open(path, "a", embedder=Given(DIM), index="hnsw")) as retriever:
        retriever.save(path)
        assert (path / "index").exists()
        retriever.project("pca", dim=4)
        assert not (path / "index").exists()
        retriever.save(path)
        assert (path / "index").exists()
        retriever.reindex("flat")
        assert not (path / "index").exists()


def test_an_index_that_does_not_keep_its_ids_in_order_is_not_stored(tmp_path, monkeypatch):
    """A plugin may; who reads a stored index beside a writer relies on the order."""
    path = tmp_path / "g.imgret"
    with fill(Retriever.open(path, "a", embedder=Given(DIM), index="hnsw")) as retriever:
        retriever.index  # noqa: B018  # it is made
        order = np.array([0, 2, 1, *range(3, 60)])
        monkeypatch.setattr(HNSWIndex, "ids", property(lambda _: order))
        retriever.save(path)
        assert not (path / "index").exists()
        monkeypatch.undo()
        retriever.save(path)
        assert (path / "index").exists()


@pytest.mark.parametrize("dim", [None, 4])
@pytest.mark.parametrize("metric", ["cosine", "ip"])
def test_a_compressed_index_is_scored_by_the_vectors_that_are_searched(dim, metric):
    """Those of the projection, where there is one."""
    retriever = Retriever(embedder=Given(DIM), index="hnsw-sq8", dtype="float32", metric=metric)
    fill(retriever)
    if dim is not None:
        retriever.project("pca", dim=dim)
    view = retriever.view()
    query = view.project(rows(1, seed=9))
    found = view.search(query, 5)
    vectors = view.project(rows(60))
    scores = vectors @ query[0]
    assert found.ids[0].tolist() == np.argsort(-scores)[:5].tolist()
    np.testing.assert_allclose(found.scores[0], np.sort(scores)[::-1][:5], rtol=1e-5)


# -- what it is called -----------------------------------------------------------------------------


def test_an_index_says_what_it_is_and_why(tmp_path, monkeypatch):
    monkeypatch.setattr(
        live_index,
        "auto_choice",
        lambda part, n, dim: SimpleNamespace(name="flat", reason=f"as {n} are few"),
    )

    def told(retriever):
        live = retriever._gallery.live
        return live.describe(), retriever._gallery.index_reason

    assert told(fill(Retriever(embedder=Given(DIM), index="hnsw"))) == ("'hnsw'", None)
    retriever = Retriever(embedder=Given(DIM), index="auto")
    assert told(retriever) == ("'auto'", None)
    assert told(fill(retriever)) == ("'auto' (flat)", "as 0 are few")  # it has grown since
    path = tmp_path / "g.imgret"
    fill(Retriever.open(path, "a", embedder=Given(DIM), index="auto")).close()
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        assert told(retriever) == ("'auto' (flat)", "as 60 are few")  # not made yet
    with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
        retriever.reindex("hnsw")
        retriever._gallery.store.change_manifest(index=Part("auto"))
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        assert told(retriever) == ("'auto' (hnsw)", "as 60 are few")  # as it is stored
    with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
        retriever._gallery.store.change_manifest(index=Part("ivf"))
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        assert told(retriever) == ("'ivf'", None)


def test_a_log_says_when_an_index_was_built_and_when_it_has_changed(caplog):
    caplog.set_level("DEBUG", logger="imgret.galleries.local.live_index")

    def said():
        found = [record.getMessage().partition(" vectors")[0] for record in caplog.records]
        caplog.clear()
        return found

    retriever = fill(Retriever(embedder=Given(DIM), index="hnsw"))
    assert said() == ["brought index hnsw up to date: 60"]  # an empty one is not worth a word
    retriever.remove("k5")
    assert said() == ["brought index hnsw up to date: 59"]
    retriever.index  # noqa: B018  # it is up to date
    assert said() == []
    retriever.reindex("flat")
    assert said() == ["built index flat of 59"]
