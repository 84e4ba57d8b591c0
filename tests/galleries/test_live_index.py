"""The index in use and the plan of a search: when it is built again, what is chosen, and why."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import (
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreReadOnlyError,
)
from imgret.galleries.local import LocalGallery, database, live_index, planner
from imgret.galleries.local.checkpoint import Checkpoint, read_checkpoint
from imgret.galleries.local.store import Store
from imgret.galleries.local.stored_index import fits
from imgret.galleries.local.writer_lock import WriterLock
from imgret.indexes import FlatIndex, HNSWIndex
from imgret.indexes.faiss import IVFIndex
from imgret.support.plan import Plan
from imgret.testing.data import Given
from imgret.testing.galleries import new_spec
from imgret.types import Item, Neighbors, Part

DIM = 8


def rows(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def filled(index, n=40, **how):
    retriever = Retriever(embedder=Given(DIM), index=index, **how)
    retriever.add_vectors(rows(n), keys=[f"k{k}" for k in range(n)])
    return retriever


# -- when it is built again ------------------------------------------------------------------------


@pytest.mark.parametrize(("trained_on", "again"), [(40, True), (41, False), (0, True)])
def test_a_trained_index_is_built_again_at_four_times_the_items(trained_on, again):
    retriever = filled(IVFIndex(DIM, nlist=1), 160)
    live = retriever._gallery.live
    before, live._trained_on = live.sync(), trained_on
    assert (live.sync() is not before) is again
    assert live._trained_on == (160 if again else trained_on)


def test_a_graph_is_never_outgrown():
    live = filled("hnsw", 160)._gallery.live
    before, live._trained_on = live.sync(), 1
    assert live.sync() is before


@pytest.mark.parametrize(
    ("trained_on", "chosen", "again"),
    [
        (20, "hnsw", True),
        (21, "hnsw", False),  # not twice as many
        (40, "hnsw", False),
        (41, "hnsw", True),  # fewer
        (20, "flat", False),  # what it is
        (41, "flat", False),
    ],
)
def test_what_auto_chose_is_asked_again_at_twice_the_items_or_fewer(
    monkeypatch, trained_on, chosen, again
):
    live = filled("auto")._gallery.live
    before, live._trained_on = live.sync(), trained_on
    asked = []
    monkeypatch.setattr(
        live_index,
        "auto_choice",
        lambda part, n, dim: asked.append((part, n, dim)) or SimpleNamespace(name=chosen),
    )
    assert (live.sync() is not before) is again
    assert not asked or asked[0] == (Part("auto"), 40, DIM)


def test_training_takes_a_sample_of_so_many(monkeypatch):
    monkeypatch.setattr(live_index, "_TRAINING_ITEMS", 100)
    trained, train = [], IVFIndex.train

    def noted(self, vectors, **options):
        trained.append((len(np.unique(vectors, axis=0)), options))
        train(self, vectors, **options)

    monkeypatch.setattr(IVFIndex, "train", noted)
    for n in (100, 101):
        retriever = Retriever(embedder=Given(DIM))
        retriever.add_vectors(rows(n), keys=[str(k) for k in range(n)])
        retriever.reindex("ivf", nlist=1)
        assert trained.pop() == (100, {"expected": n})
        assert len(retriever.index) == n


def test_an_option_in_the_manifest_that_is_none(tmp_path):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM)) as retriever:
        retriever.add_vectors(rows(3), keys=list("abc"))
        retriever._gallery.store.change_manifest(index=Part("flat", {"nothing": 1}))
    with (
        Retriever.open(path, embedder=Given(DIM)) as retriever,
        pytest.raises(InvalidInputError) as caught,
    ):
        retriever.search_vectors(rows(1))
    assert str(caught.value).startswith(f"{path}: its index cannot be made: ")
    assert str(caught.value).endswith("; give it another with reindex()")


def test_a_child_forgets_an_index_that_was_being_changed(tmp_path):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM), index="hnsw") as retriever:
        retriever.add_vectors(rows(20), keys=[str(k) for k in range(20)])
        live = retriever._gallery.live
        index, seeing = live.sync(), live._seeing
        live.renew()
        assert (live._index, live._seeing) == (index, seeing)  # nothing was
        for half_changed in (index, seeing):
            if half_changed is index:
                index._lock.abandoned = True
            else:
                seeing.abandoned = True
            live.renew()
            assert live._index is None
            assert not live._seeing.abandoned
            assert live.is_there
            (hits,) = retriever.search_vectors(rows(20)[7:8], k=1)
            assert hits[0].key == "7"
            seeing = live._seeing


def test_a_child_has_nothing_to_forget_of_a_gallery_that_was_not_searched():
    live = Retriever(embedder=Given(DIM))._gallery.live
    live.renew()
    assert not live.is_there


def test_the_index_beside_a_gallery_is_written_when_it_has_changed(tmp_path, monkeypatch):
    path, written, write = tmp_path / "g.imgret", [], Store.write_index
    monkeypatch.setattr(
        Store, "write_index", lambda self, *how: written.append(how[0]) or write(self, *how)
    )
    with Retriever.open(path, "a", embedder=Given(DIM), index="hnsw") as retriever:
        retriever.add_vectors(rows(20), keys=[str(k) for k in range(20)])
    assert [(each.rows, each.changes, each.trained_on) for each in written] == [(20, 1, 0)]
    for change, expected in (
        (lambda r: r.search_vectors(rows(1)), None),
        (lambda r: r.remove(["3"]), (20, 2)),
        (lambda r: r.add_vectors(rows(1), keys=["new"]), (21, 3)),
        (lambda r: r.remove(list(r)), None),
    ):
        written.clear()
        with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
            change(retriever)
            retriever.save(path)
        assert [(each.rows, each.changes) for each in written] == ([expected] if expected else [])


@pytest.mark.parametrize("removed", [[], ["3"], ["19"]])
@pytest.mark.parametrize("index", ["hnsw", "flat", "faiss:SQ4"])
def test_a_copy_has_the_index_of_its_items(tmp_path, removed, index):
    path = tmp_path / "copy.imgret"
    retriever = Retriever(embedder=Given(DIM), index=index)
    retriever.add_vectors(rows(20), keys=[str(k) for k in range(20)])
    retriever.remove(removed)
    (hits,) = retriever.search_vectors(rows(20)[7:8], k=5)
    live = retriever._gallery.live
    found = live.to_copy(retriever._gallery.store.catalog.live_ids())
    if index != "flat":  # written as it is where the ids stay, which needs no second copy
        assert (found[1] == live._index.save_state) is (removed != ["3"])
        assert found[0].rows == 20 - len(removed)
    retriever.save(path)
    assert (path / "index").exists() == (index != "flat")
    with Retriever.open(path, embedder=Given(DIM)) as copy:
        assert copy.check().ok
        (again,) = copy.search_vectors(rows(20)[7:8], k=5)
        assert [(hit.key, hit.score) for hit in again] == [(hit.key, hit.score) for hit in hits]
        assert len(copy.index) == 20 - len(removed)


@pytest.mark.parametrize("why", ["numbered", "not numbered", "other items", "not in use"])
def test_an_index_is_taken_along_where_it_can_be_numbered_again(tmp_path, monkeypatch, why):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM), index="hnsw") as retriever:
        retriever.add_vectors(rows(20), keys=[str(k) for k in range(20)])
        retriever.remove(["3", "4"])
    with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
        live = retriever._gallery.live
        before = live.sync()
        if why == "not numbered":
            monkeypatch.setattr(HNSWIndex, "supports_renumber", False)
        elif why == "other items":
            before.remove(np.array([9]))
        elif why == "not in use":
            live._index = None
        assert retriever.compact() == 2
        assert (path / "index").exists()
        assert (retriever.index is before) is (why == "numbered")
        assert len(retriever.index) == 18
        for key in (0, 9, 19):
            (hits,) = retriever.search_vectors(rows(20)[key : key + 1], k=1)
            assert hits[0].key == str(key)


def test_the_best_of_two_answers_without_what_is_in_both():
    nothing = -np.inf
    a = Neighbors(np.array([[4, 2, -1], [0, 1, 2]]), np.float32([[9, 5, nothing], [3, 2, 1]]))
    b = Neighbors(np.array([[2, 7, 3], [-1, -1, -1]]), np.float32([[5, 4, 3], [nothing] * 3]))
    ids, scores = live_index._united(a, b)
    assert ids.tolist() == [[4, 2, 7], [0, 1, 2]]
    assert scores.tolist() == [[9, 5, 4], [3, 2, 1]]
    ids, _ = live_index._united(b, b)
    assert ids.tolist() == [[2, 7, 3], [-1, -1, -1]]


@pytest.mark.parametrize("make", [FlatIndex, HNSWIndex])
@pytest.mark.parametrize("below", [0, 1, 5, 60])
@pytest.mark.parametrize("first", [0, 100])
def test_what_is_not_yet_seen_is_not_found(make, below, first):
    index = make(DIM, metric="cosine")
    index.add(rows(60), np.arange(60) + first)
    query = rows(61)[below : below + 1]  # the nearest one is the first that is not seen
    scores = rows(60) @ query[0] / np.linalg.norm(rows(60), axis=1)
    best = (np.argsort(-scores[:below], kind="stable") + first)[:3].tolist()
    found = live_index._search_below(first + below, index, query, 3)
    assert found.ids[0].tolist() == (best + [-1] * 3)[: found.ids.shape[1]]
    assert found.ids.shape[1] >= min(below, 3)


@pytest.mark.parametrize("index", ["hnsw", "ivf", "faiss:SQ4", "flat"])
@pytest.mark.parametrize("added", [0, 2])
def test_a_reader_turns_the_index_back_to_what_it_sees(tmp_path, index, added):
    path, n = tmp_path / "g.imgret", 200
    with Retriever.open(path, "a", embedder=Given(DIM)) as retriever:
        retriever.add_vectors(rows(n), keys=[str(k) for k in range(n)])
        retriever.reindex(index, **({"nlist": 2, "nprobe": 2} if index == "ivf" else {}))
    with Retriever.open(path, embedder=Given(DIM)) as reader:
        with Retriever.open(path, "r+", embedder=Given(DIM)) as writer:
            writer.remove(["0", "5"])
            writer.add_vectors(rows(n)[5 : 5 + added], keys=[f"new{k}" for k in range(added)])
        assert len(reader.index) == n
        for key in (0, 5, 199):
            (hits,) = reader.search_vectors(rows(n)[key : key + 1], k=3)
            assert hits[0].key == str(key)
            assert not any(hit.key.startswith("new") for hit in hits)


def test_items_that_an_index_cannot_take_yet_are_stored():
    retriever = Retriever(embedder=Given(DIM), index="ivf-pq")
    with pytest.warns(UserWarning, match="^the items are stored, but cannot be searched yet: "):
        retriever.add_vectors(rows(3), keys=list("abc"))
    assert list(retriever) == ["a", "b", "c"]


@pytest.mark.parametrize("index", ["flat", "hnsw"])
@pytest.mark.parametrize("where", [None, {"odd": True}])
@pytest.mark.parametrize("without", [[], ["k1", "k30"], ["k1", "k3", "k4"]])
def test_a_view_is_of_its_items_alone(index, where, without):
    n = 40
    retriever = Retriever(embedder=Given(DIM), index=index, metric="ip")
    retriever.add_vectors(
        rows(n),
        keys=[f"k{k}" for k in range(n)],
        labels=[None if k % 5 == 0 else f"l{k % 3}" for k in range(n)],
        metadata=[{"odd": k % 2 == 1} for k in range(n)],
    )
    retriever.remove("k7")
    ids = [k for k in range(n) if k != 7 and (where is None or k % 2)]
    view = retriever.view(where)
    gone = [int(key[1:]) for key in without if int(key[1:]) in ids]
    for id_ in gone:  # one after the other
        view = view.without(np.array([id_]))
    ids = [id_ for id_ in ids if id_ not in gone]
    assert len(view) == len(ids)
    assert view.ids.tolist() == ids
    assert [item.key for item in view.items()] == [f"k{k}" for k in ids]
    assert view.keys() == tuple(f"k{k}" for k in ids)
    assert list(view.require([f"k{k}" for k in ids[::-1]])) == ids[::-1]
    for key in [*without, "k7", *([] if where is None else ["k2"])]:
        with pytest.raises(KeyError):
            view.require([key])
    labelled = [k for k in ids if k % 5]
    labels = view.labels
    assert labels.ids.tolist() == labelled
    assert [labels.names[code] for code in labels.codes] == [f"l{k % 3}" for k in labelled]
    assert view.labelled().ids.tolist() == labelled
    scores = rows(n) @ rows(1, seed=1)[0]
    best = sorted(ids, key=lambda k: -scores[k])
    for k in (1, 4, len(ids)):
        found = view.search(view.project(rows(1, seed=1)), k)
        assert found.ids[0].tolist() == best[:k]
    assert np.allclose(view.embeddings(view.ids[:3]), rows(n)[ids[:3]], atol=1e-2)


# -- which stored index fits -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "tuned", "projection", "expected"),
    [
        (Part("hnsw"), None, None, True),
        (Part("hnsw", {"M": 32}), None, None, True),
        (Part("hnsw", {"M": 16}), None, None, False),
        (Part("hnsw", {"M": 32, "ef": 1}), None, None, False),
        (Part("hnsw", {"M": 16}), {"index": "hnsw", "settings": {"M": 16}}, None, True),
        (Part("hnsw", {"M": 16}), {"index": "hnsw", "settings": {"ef": 16}}, None, False),
        (Part("flat"), None, None, False),
        (Part("auto"), None, None, True),
        (Part("auto"), None, "p", False),
        (Part("hnsw"), None, "p", False),
    ],
)
def test_a_stored_index_fits_where_it_is_what_the_manifest_names(
    manifest, named, tuned, projection, expected
):
    stored = Checkpoint(5, 3, Part("hnsw", {"M": 32, "ef": 64}), None, 4)
    assert fits(manifest.with_(index=named, tuned=tuned, projection=projection), stored) is expected


# -- plans -----------------------------------------------------------------------------------------


class Indexed:
    """What a plan is made of."""

    name = "named"

    def __init__(self, ids, *, exact=False, few=5):
        self.ids, self.is_exact, self.few, self.asked = ids, exact, few, []

    def __len__(self):
        return len(self.ids)

    def settings(self):
        return {"ef_search": 8}

    def plan(self, k, *, n_allowed=None, n_queries):
        self.asked.append((k, n_allowed, n_queries))
        exact = n_allowed is not None and n_allowed <= self.few
        return Plan(exact, 17, "as they are few" if exact else "it is far quicker")


def listing(share, matching, *, listed=False):
    return SimpleNamespace(
        share_matching=lambda where, ids: share,
        is_listed=lambda where, asked: listed,
        matching=lambda where: np.array(matching, dtype=np.int64),
    )


FEW = "about 50% match, so searching for a few more finds enough"
REST = "; if too few near a query match, more or all that match are compared"


@pytest.mark.parametrize(
    ("share", "exact", "listed", "matching", "way", "reason"),
    [
        (0.5, False, False, 8, "index, then filter", FEW + REST),
        (0.5, True, False, 8, "index, then filter", FEW),
        (0.5, True, True, 8, "index, then filter", FEW),
        (0.5, False, True, 8, "index, filtered", "it is far quicker" + REST),
        (0.49, False, False, 8, "index, filtered", "it is far quicker" + REST),
        (0.49, True, False, 8, "index, filtered", "it is far quicker"),
        (0.49, False, False, 5, "exact", "as they are few"),
        (0.0, False, False, 0, "exact", "as they are few"),
    ],
)  # fmt: skip
def test_the_way_of_a_search(share, exact, listed, matching, way, reason):
    index = Indexed(np.arange(20), exact=exact)
    catalog = listing(share, range(matching), listed=listed)
    plan = planner.explain(index, catalog, rows=20, k=30, where={}, n_queries=2)
    expected = 10 if way == "index, then filter" else matching
    assert plan.to_dict() == {
        "way": way,
        "index": "named",
        "settings": {"ef_search": 8},
        "k": 30,
        "n_queries": 2,
        "items": 20,
        "matching": expected,
        "compared": 17,
        "reason": reason,
    }
    assert index.asked == [(20, None if way == "index, then filter" else matching, 2)]


def test_a_plan_is_of_what_is_seen_alone():
    index = Indexed(np.arange(20))
    for rows_, count in ((7, 7), (8, 8), (6, 6), (0, 0)):
        choice = planner.choose_way(
            index, listing(0.1, range(8)), rows=rows_, k=3, where={}, n_queries=1
        )
        assert choice.allowed.tolist() == list(range(count))
        assert choice.share == count / 20
    choice = planner.choose_way(Indexed([]), None, rows=0, k=3, where=None, n_queries=1)
    assert choice[:3] == ("index", 1.0, None)


@pytest.mark.parametrize(
    ("n", "k", "asked"), [(0, 3, 1), (1, 1, 1), (1, 3, 1), (9, 1, 1), (9, 99, 9)]
)
def test_an_index_is_asked_for_one_neighbour_at_least_and_no_more_than_it_has(n, k, asked):
    for where, passing in ((None, None), ({}, n))[: 1 + n]:  # nothing is filtered where nothing is
        index = Indexed(np.arange(n))
        choice = planner.choose_way(
            index, listing(0.1, range(n)), rows=n, k=k, where=where, n_queries=1
        )
        assert index.asked == [(asked, passing, 1)]
        assert choice.share == 1


# -- what a gallery tells --------------------------------------------------------------------------


def test_names_that_are_taken_are_left_out():
    with closing(LocalGallery.in_memory(new_spec("cosine", dim=DIM))) as gallery:
        assert gallery.unused_keys(0) == []
        assert gallery.unused_keys(2) == ["image-000001", "image-000002"]
        keys = ["image-000004", "image-000005", "image-000007"]
        gallery.add([Item(key) for key in keys], rows(3))
        assert gallery.unused_keys(3) == ["image-000006", "image-000008", "image-000009"]


def test_a_place_is_a_path_or_an_address(tmp_path):
    assert LocalGallery.place("file:///a%20b/g") == Path("/a b/g")
    assert LocalGallery.place("/a%20b/g") == Path("/a%20b/g")
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    taken = {
        name: LocalGallery.is_taken(str(tmp_path / name)) for name in ("file", "empty", "full")
    }
    assert taken == {"file": True, "empty": False, "full": True}
    assert not LocalGallery.is_taken(str(tmp_path / "none"))


def test_a_version_changes_with_every_commit_and_with_the_index():
    retriever = filled("hnsw")
    gallery, seen = retriever._gallery, []
    for change in (
        lambda: None,
        lambda: retriever.update("k1", label="x"),
        lambda: retriever.remove("k2"),
        lambda: retriever.add_vectors(rows(1), keys=["new"]),
        lambda: retriever.reindex("hnsw"),
        retriever.compact,
    ):
        change()
        seen.append(gallery.version)
        assert gallery.version == seen[-1]
    assert len(set(seen)) == len(seen)


def test_who_asks_while_a_gallery_is_compacted_gets_the_answer_of_after():
    retriever = filled("hnsw")
    gallery, before = retriever._gallery, retriever._gallery.live
    retriever.remove("k2")
    retriever.compact()
    after, gallery.live = gallery.live, before
    explain = before.explain

    def meanwhile(*given):
        gallery.live = after  # by another thread
        return explain(*given)

    before.explain = meanwhile
    assert retriever.explain(k=3).items == 39


def test_a_gallery_shows_where_it_is_and_its_index(tmp_path):
    assert "of 40 items in memory: " in repr(filled("hnsw")._gallery)
    assert ", index 'hnsw', " in repr(filled("hnsw")._gallery)
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM)) as retriever:
        assert f"of 0 items at {str(path)!r}: " in repr(retriever._gallery)


def test_a_gallery_that_cannot_be_opened_is_not_locked(tmp_path):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM)) as retriever:
        retriever.add_vectors(rows(20), keys=[str(k) for k in range(20)])
        retriever.project("pca", dim=2)
    (path / "projection.npz").unlink()
    with pytest.raises(StoreCorruptError, match="projection") as caught:
        Retriever.open(path, "r+", embedder=Given(DIM))
    WriterLock(path / "lock").release()
    assert caught.value.__traceback__ is not None  # which refers to what was opened


def test_what_was_loaded_needs_no_files(tmp_path, monkeypatch):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM), index="hnsw") as retriever:
        retriever.add_vectors(rows(20), keys=[str(k) for k in range(20)])
    monkeypatch.setattr(HNSWIndex, "_add", None)  # its index is read
    loaded = Retriever.load(path, embedder=Given(DIM))
    shutil.rmtree(path)
    assert loaded.search_vectors(rows(20)[7:8], k=1)[0][0].key == "7"


def test_saving_in_place_is_for_the_writer_and_has_all_items(tmp_path):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM)) as retriever:
        retriever.add_vectors(rows(50), keys=[str(k) for k in range(50)])
        retriever.reindex("ivf", nlist=1)
        retriever._gallery.add([Item("new")], rows(1, seed=1))
        retriever.save(path)
        assert read_checkpoint(path)[0].rows == 51
        with (
            Retriever.open(path, embedder=Given(DIM)) as reader,
            pytest.raises(StoreReadOnlyError),
        ):
            reader.save(path)


def test_a_damaged_index_of_sqlite_names_no_other_item(tmp_path, monkeypatch):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM)) as retriever:
        retriever.add_vectors(rows(2), keys=list("ab"))
        catalog = retriever._gallery.store.catalog
        monkeypatch.setattr(catalog, "ids_of", lambda _: {"a": 1})
        with pytest.raises(StoreCorruptError) as caught:
            retriever["a"]
    assert str(caught.value) == (
        f"{path}: expected item 'a' where the catalog's index says it is, found 'b'; run "
        f"`imgret check {path} --repair`"
    )


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_ERROR, StoreCorruptError),
        (sqlite3.SQLITE_CORRUPT, StoreCorruptError),
        (sqlite3.SQLITE_CORRUPT | 3 << 8, StoreCorruptError),
        (sqlite3.SQLITE_NOTADB, StoreCorruptError),
        (sqlite3.SQLITE_READONLY, StoreReadOnlyError),
        (sqlite3.SQLITE_PERM, StoreReadOnlyError),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreReadOnlyError),
        (sqlite3.SQLITE_READONLY_ROLLBACK, StoreLockedError),
        (sqlite3.SQLITE_BUSY, StoreLockedError),
        (sqlite3.SQLITE_FULL, StoreError),
        (sqlite3.SQLITE_IOERR, StoreError),
        (None, StoreCorruptError),
    ],
)
@pytest.mark.parametrize("path", [None, Path("/g/c.sqlite")])
def test_an_error_of_sqlite_becomes_one_that_says_what_to_do(code, kind, path):
    error = sqlite3.DatabaseError("said")
    if code is not None:
        error.sqlite_errorcode = code
    with pytest.raises(kind) as caught, database.explained(path):
        raise error
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{path or 'gallery'}: ")
    if kind is StoreCorruptError:
        assert f"`imgret check {'GALLERY' if path is None else '/g'} --repair`" in str(caught.value)
