"""Searching with a filter: as if the gallery held nothing else."""

import json
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import EmptyGalleryError, InvalidInputError, StoreReadOnlyError
from imgret.filters import parse_filter
from imgret.filters.sqlite import compile_filter
from imgret.galleries.local.catalog import Catalog
from imgret.types import Item

N, DIM = 120, 48  # as wide as the embedder of the tests
LABELS = ("lake", "sand", "wood", None)
QUERIES = np.random.default_rng(8).standard_normal((3, DIM)).astype(np.float32)


def fill(retriever, numbers=range(N)):
    rows = np.random.default_rng(7).standard_normal((N, DIM))[list(numbers)]
    retriever.add_vectors(
        rows,
        keys=[f"k{n}" for n in numbers],
        labels=[LABELS[n % 4] for n in numbers],
        metadata=[{"n": n, "tags": [f"t{n % 3}"]} for n in numbers],
    )
    return retriever


def keys(hits):
    return [hit.key for hit in hits]


def elsewhere(change):
    """Begin a change in another thread; its end may have to wait for the search under way."""
    thread = threading.Thread(target=change)
    thread.start()
    thread.join(0.2)


WHERES = [
    ({}, lambda n: True),
    ({"label": "lake"}, lambda n: n % 4 == 0),
    ({"label": None, "n": {"$lt": 50}}, lambda n: n % 4 == 3 and n < 50),
    ({"key": {"$in": ["k3", "k5", "none"]}}, lambda n: n in {3, 5}),
    ({"tags": {"$contains": "t1"}}, lambda n: n % 3 == 1),
    ({"$or": [{"n": 1}, {"$not": {"n": {"$lte": 115}}}]}, lambda n: n == 1 or n > 115),
    ({"n": {"$gte": 0}}, lambda n: True),
    ({"n": -1}, lambda n: False),
]


@pytest.mark.parametrize("index", ["flat", "exact", "hnsw", "faiss:PCA8,Flat"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_finds_as_many_as_there_are_and_the_best(mean_color, index, metric):
    retriever = Retriever(embedder=mean_color, index=index, metric=metric, dtype="float32")
    fill(retriever)
    retriever.remove(["k0", "k5", "k116"])
    live = [n for n in range(N) if n not in {0, 5, 116}]
    exact = index in {"flat", "exact"}
    for where, passes in WHERES:
        numbers = [n for n in live if passes(n)]
        alone = Retriever(embedder=mean_color, metric=metric, dtype="float32")
        fill(alone, numbers)
        for k in (1, 7, N):
            found = retriever.search_vectors(QUERIES, k, where=where)
            for hits, row in zip(found, QUERIES, strict=True):
                assert len(hits) == min(k, len(numbers))
                assert {hit.key for hit in hits} <= {f"k{n}" for n in numbers}
                assert len({hit.key for hit in hits}) == len(hits)
                if exact and numbers:
                    assert keys(hits) == keys(alone.search_vectors(row[None], k)[0])


def test_pictures_are_searched_with_a_filter(mean_color, photos):
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(photos, labels="parent", progress=False)
    query = photos / "lake" / "0.jpg"
    assert retriever.search(query, 1)[0].label == "lake"
    hits = retriever.search(query, 20, where={"label": {"$ne": "lake"}})
    assert sorted(keys(hits)) == sorted(key for key in retriever if not key.startswith("lake"))
    below = {"path": {"$contains": "sand"}}
    many = retriever.search_many([query, query], 2, where=below, threshold=-1.0)
    assert [{hit.label for hit in hits} for hits in many] == [{"sand"}] * 2


def test_a_mistake_is_told_before_a_picture_is_read(mean_color):
    retriever = fill(Retriever(embedder=mean_color))
    with pytest.raises(InvalidInputError, match="did you mean 'n'"):
        retriever.search("nowhere.jpg", where={"nn": 1})
    with pytest.raises(EmptyGalleryError):
        Retriever(embedder=mean_color).search_vectors(QUERIES, where={"nn": 1})


# -- what is remembered is forgotten in time -------------------------------------------------


def test_every_change_shows_in_the_next_search(mean_color):
    retriever = fill(Retriever(embedder=mean_color), range(10))

    def found(where):
        return sorted(keys(retriever.search_vectors(QUERIES[:1], 99, where=where)[0]))

    rose, all_ = {"label": "rose"}, {"n": {"$gte": 0}}
    assert (found(rose), len(found(all_))) == ([], 10)
    retriever.update("k3", label="rose")
    assert found(rose) == ["k3"]
    retriever.update("k3", metadata={"n": -5})
    assert len(found(all_)) == 9
    retriever.update("k3", metadata={"n": 3})
    retriever.add_vectors(QUERIES[:1], keys=["new"], labels=["rose"], metadata=[{"n": -1}])
    assert (found(rose), len(found(all_))) == (["k3", "new"], 10)
    retriever.remove(["k3"])
    assert (found(rose), len(found(all_))) == (["new"], 9)


def test_fields_are_known_as_long_as_an_item_has_them(mean_color):
    retriever = fill(Retriever(embedder=mean_color), range(4))
    retriever.add_vectors(QUERIES[:2], keys=["x", "y"], metadata=[{"f": 1}, {"f": "one"}])
    assert keys(retriever.search_vectors(QUERIES[:1], where={"f": {"$gt": 0}})[0]) == ["x"]
    retriever.remove("x")
    with pytest.raises(InvalidInputError, match="compared with text"):
        retriever.search_vectors(QUERIES[:1], where={"f": {"$gt": 0}})
    assert keys(retriever.search_vectors(QUERIES[:1], where={"f": "one"})[0]) == ["y"]
    retriever.remove("y")
    with pytest.raises(InvalidInputError, match="found 'f'"):
        retriever.search_vectors(QUERIES[:1], where={"f": "one"})


def test_a_reader_sees_labels_of_a_writer_at_once_and_its_items_not(mean_color, tmp_path):
    path = tmp_path / "g.imgret"
    fill(Retriever(embedder=mean_color), range(8)).save(path)
    with (
        Retriever.open(path, embedder=mean_color) as reader,
        Retriever.open(path, "r+", embedder=mean_color) as writer,
    ):

        def found(where):
            return sorted(keys(reader.search_vectors(QUERIES[:1], 99, where=where)[0]))

        assert found({"label": "lake"}) == ["k0", "k4"]
        writer.remove("k0")
        fill(writer, [8])
        assert found({"label": "lake"}) == ["k0", "k4"]  # as when it opened
        writer.update("k4", label="sand")
        assert found({"label": "lake"}) == ["k0"]
        assert found({"n": {"$gte": 0}}) == [f"k{n}" for n in range(8)]


def test_answers_are_remembered_and_cannot_be_spoiled():
    with closing(Catalog()) as catalog:
        catalog.add([Item(f"k{n}", metadata={"n": n}) for n in range(5)], [0] * 5)
        asked = []
        catalog._db.set_trace_callback(asked.append)
        first = catalog.matching({"n": {"$gt": 2}})
        del asked[:]
        assert catalog.matching({"n": {"$gt": 2}}) is first
        assert asked == ["PRAGMA data_version"]
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 7
        assert catalog.matching({"n": {"$gt": 3}}).tolist() == [4]


@pytest.mark.parametrize(
    ("step", "where", "passing"),
    [
        ("share_matching", {"n": {"$gte": 0}}, 10),
        ("passing", {"n": {"$gte": 0}}, 10),
        ("matching", {"n": {"$in": [2, 3, 4]}}, 3),
    ],
)
def test_what_comes_in_during_a_search_is_filtered_too(
    mean_color, monkeypatch, step, where, passing
):
    retriever = fill(Retriever(embedder=mean_color), range(10))
    catalog = retriever._gallery.store.catalog
    plain, added = getattr(catalog, step), []

    def step_and_more(*given):
        result = plain(*given)
        if not added:
            added.append("nearest")
            elsewhere(lambda: retriever.add_vectors(QUERIES[:1], keys=added, metadata=[{"n": -1}]))
        return result

    monkeypatch.setattr(catalog, step, step_and_more)
    for _ in range(2):
        (hits,) = retriever.search_vectors(QUERIES[:1], 20, where=where)
        assert len(hits) == passing
        assert "nearest" not in keys(hits)
    deadline = time.monotonic() + 10
    while "nearest" not in retriever and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "nearest" in retriever


def test_what_goes_during_a_search_makes_it_no_shorter(mean_color, monkeypatch):
    retriever = fill(Retriever(embedder=mean_color))
    catalog, where = retriever._gallery.store.catalog, {"n": {"$gte": 0}}
    (before,) = retriever.search_vectors(QUERIES[:1], 40, where=where)
    passing = catalog.passing

    def passing_of_less(*given):
        gone = [key for key in keys(before)[:20] if key in retriever]
        elsewhere(lambda: retriever.remove(gone))
        return passing(*given)

    monkeypatch.setattr(catalog, "passing", passing_of_less)
    (hits,) = retriever.search_vectors(QUERIES[:1], 40, where=where)
    assert len(hits) == 40
    assert keys(hits)[:20] == keys(before)[20:]


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_an_item_that_is_replaced_after_a_search_was_planned_is_found(
    mean_color, monkeypatch, index
):
    """As it was or as it is: the plan is made again, as it lists the one that is gone."""
    retriever = fill(Retriever(embedder=mean_color, index=index))
    where, live = {"n": {"$lt": 20}}, retriever._gallery.live
    (before,) = retriever.search_vectors(QUERIES[:1], 40, where=where)
    first, choose, gone = before[0].key, live._choice, []

    def late(*given):
        plan = choose(*given)
        if not gone:
            gone.append(first)
            retriever._gallery.add([retriever[first]], QUERIES[:1], replacing=gone)
            live.sync()
        return plan

    monkeypatch.setattr(live, "_choice", late)
    (hits,) = retriever.search_vectors(QUERIES[:1], 40, where=where)
    assert keys(hits) == keys(before)
    assert hits[0].score == pytest.approx(1, abs=1e-3)


def test_only_some_answers_are_remembered(monkeypatch):
    from imgret.galleries.local import matching

    with closing(Catalog()) as catalog:
        catalog.add([Item(f"k{n}") for n in range(50)], [0] * 50)
        kept = catalog._matcher._kept
        for n in range(200):
            where = {"key": f"none-{n}"}
            catalog.matching(where)
            catalog.share_matching(where, np.arange(50))
            catalog.is_listed({"key": f"other-{n}"}, asked=0)
            assert len(catalog._matcher._shares) <= matching._KEPT
            assert len(catalog._matcher._asked) <= matching._KEPT
        assert len(kept) == matching._KEPT
        monkeypatch.setattr(matching, "_KEPT_BYTES", 1000)
        for n in range(10):
            assert len(catalog.matching({"key": {"$ne": f"none-{n}"}})) == 50
        assert sum(ids.nbytes for ids in kept.values()) <= 1000


def test_the_answer_that_was_used_last_is_kept_longest(monkeypatch):
    from imgret.galleries.local import matching

    monkeypatch.setattr(matching, "_KEPT", 3)
    with closing(Catalog()) as catalog:
        catalog.add([Item(f"k{n}") for n in range(9)], [0] * 9)
        for n in (0, 1, 2, 0, 3):  # 1 is the one that was not used for longest
            assert catalog.matching({"key": f"k{n}"}).tolist() == [n]
        listed = [n for n in range(5) if catalog.is_listed({"key": f"k{n}"}, asked=0)]
        assert listed == [0, 2, 3]
        monkeypatch.setattr(matching, "_KEPT_BYTES", 7)  # less than one takes
        for n in range(2):
            assert catalog.matching({"key": f"k{n}"}) is catalog.matching({"key": f"k{n}"})
        assert len(catalog._matcher._kept) == 1
        monkeypatch.setattr(matching, "_KEPT_BYTES", 16)  # what two take
        for n in (2, 3, 4):
            catalog.matching({"key": f"k{n}"})
        listed = [n for n in range(5) if catalog.is_listed({"key": f"k{n}"}, asked=0)]
        assert listed == [3, 4]


@pytest.mark.parametrize(("items", "expected"), [(250, True), (251, False)])
def test_what_passes_is_listed_once_it_pays(items, expected):
    with closing(Catalog()) as catalog:
        catalog.add([Item(f"k{n}") for n in range(items)], [0] * items)
        where = {"key": "k1"}
        assert catalog.is_listed(where, asked=1) is expected
        assert catalog.is_listed(where, asked=1)  # two by now
        assert not catalog.is_listed({"key": "k2"}, asked=0)
        catalog.remove([0])
        assert not catalog.is_listed(where, asked=0)  # they are counted again


def test_queries_are_counted_for_some_filters_at_once(monkeypatch):
    from imgret.galleries.local import matching

    monkeypatch.setattr(matching, "_KEPT", 2)
    with closing(Catalog()) as catalog:
        catalog.add([Item(f"k{n}") for n in range(500)], [0] * 500)
        one, two, three = ({"key": f"k{n}"} for n in range(3))
        assert not catalog.is_listed(one, asked=1)
        assert not catalog.is_listed(two, asked=1)
        assert catalog.is_listed(one, asked=1)
        assert catalog.is_listed(two, asked=1)
        assert not catalog.is_listed(three, asked=1)  # they are counted again
        assert not catalog.is_listed(one, asked=1)


def test_a_share_is_that_of_the_sample_with_two_more_that_fail():
    with closing(Catalog()) as catalog:
        catalog.add([Item(f"k{n}", metadata={"n": n}) for n in range(20)], [0] * 20)
        for where, share in (({"n": {"$lt": 5}}, 5 / 12), ({"n": {"$gte": 0}}, 10 / 12)):
            assert catalog.share_matching(where, np.arange(10)) == share
            assert catalog.share_matching(where, np.arange(3)) == share  # as before
        assert catalog.share_matching({"n": {"$lt": 5}}, np.arange(3)) == 5 / 12  # still
        catalog.remove([0])
        assert catalog.share_matching({"n": {"$lt": 5}}, np.arange(10)) == 4 / 12


@pytest.mark.parametrize("count", [17, 18])
def test_twenty_known_fields_are_told(count):
    from imgret.filters.tree import COLUMNS

    names = [f"field-{n:02}" for n in range(count)]
    with closing(Catalog()) as catalog:
        catalog.add([Item("k", metadata=dict.fromkeys(names, 1))], [0])
        known = [*COLUMNS, *names]
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        with pytest.raises(InvalidInputError) as caught:
            catalog.matching({"qqq": 1})
        assert str(caught.value).endswith(f"known fields: {shown}")


# -- indexes on fields -------------------------------------------------------------------------


def plan(catalog, where):
    condition = compile_filter(parse_filter(where))
    rows = catalog._query(
        f"EXPLAIN QUERY PLAN SELECT id FROM items WHERE removed_at IS NULL AND {condition.sql}",  # noqa: S608  # what is tested
        condition.parameters,
    )
    return " ".join(row[3] for row in rows)


def test_few_of_many_are_found_by_an_index():
    with closing(Catalog()) as catalog:
        assert "items_label" in plan(catalog, {"label": "rose"})
        assert "items_label" in plan(catalog, {"label": {"$in": ["rose", "daisy"]}})
        assert "items_key" in plan(catalog, {"key": {"$gte": "a", "$lt": "b"}})
        assert "SCAN items" in plan(catalog, {"o'x.year": 2020})
        for _ in range(2):
            for field in ("o'x.year", "path", "label"):
                catalog.create_filter_index(field)
        for test in (2020, "2020", True, {"$gt": 5}, {"$in": [1, 2]}, None):
            assert "filter:o'x.year" in plan(catalog, {"o'x.year": test})
        assert "filter:path" in plan(catalog, {"path": "a.jpg"})
        assert "filter:o'x.year" in plan(catalog, {"label": {"$ne": "a"}, "o'x.year": 2020})


def test_filter_index_is_kept_and_needs_a_writer(mean_color, tmp_path):
    path = tmp_path / "g.imgret"
    retriever = fill(Retriever(embedder=mean_color), range(8))
    retriever.create_filter_index("n")
    retriever.save(path)
    with Retriever.open(path, embedder=mean_color) as reader:
        assert "filter:n" in plan(reader._gallery.store.catalog, {"n": 5})
        assert keys(reader.search_vectors(QUERIES[:1], where={"n": 5})[0]) == ["k5"]
        with pytest.raises(StoreReadOnlyError):
            reader.create_filter_index("tags")


# -- from the command line ---------------------------------------------------------------------


@pytest.fixture
def command(capsys, monkeypatch):
    from imgret.cli import main

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.mark.slow
def test_command_indexes_metadata_and_filters(command, photos, tmp_path):
    table, where = tmp_path / "m.csv", '{"stars": {"$gte": 3}}'
    table.write_text("file,stars\nlake/0.jpg,3\nsand/1.jpg,5\nsand/2.jpg,1\ngone.jpg,4\n")
    made = tmp_path / "g.imgret"
    code, out, err = command("index", photos, "-o", made, "--metadata", table, "--exif")
    assert (code, out.strip()) == (0, f"{made}: 12 images")
    assert "metadata without an image: gone.jpg" in err
    assert "9 images without a row of metadata" in err
    query = photos / "wood" / "0.jpg"
    code, out, _ = command("search", made, query, "--where", where, "--json")
    assert code == 0
    assert {hit["key"] for hit in json.loads(out)["hits"]} == {"lake/0.jpg", "sand/1.jpg"}
    code, _, err = command("search", made, query, "--where", '{"star": 3}')
    assert code == 1
    assert "did you mean 'stars'?" in err
    code, _, err = command("search", made, query, "--where", "stars > 3")
    assert (code, "expected JSON, such as" in " ".join(err.split())) == (2, True)
    code, _, err = command("index", photos, "-o", tmp_path / "h", "--metadata", tmp_path / "no.csv")
    assert code == 2
    assert not (tmp_path / "h").exists()
