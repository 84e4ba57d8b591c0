"""The test suite for galleries."""
# ruff: noqa: D102  # the name of a test is its sentence

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from imgret.abc import Gallery, GallerySpec
from imgret.errors import (
    DimensionError,
    DuplicateKeyError,
    EmptyGalleryError,
    ImgretError,
    InvalidInputError,
    KeyNotFoundError,
    StoreClosedError,
    StoreExistsError,
    StoreNotFoundError,
    StoreReadOnlyError,
    UnsupportedError,
)
from imgret.filters import parse_filter, passes
from imgret.projections import fit_pca
from imgret.search import View
from imgret.testing.data import clustered, true_scores
from imgret.types import Box, Embeddings, Item, Metric, Part

__all__ = ["GalleryTests", "check_answer", "new_spec"]

_DIM = 8
# Filters of all kinds, for the items of `_items`.
FILTERS: tuple[dict[str, Any], ...] = (
    {"label": "c1"},
    {"label": {"$in": ["c0", "c2"]}},
    {"label": {"$exists": False}},
    {"n": {"$gte": 10, "$lt": 30}},
    {"n": {"$gt": 12.5}},
    {"even": True},
    {"even": {"$ne": True}},
    {"tags": {"$contains": "a"}},
    {"place.city": "Zürich"},
    {"place.zip": {"$exists": True}},
    {"$or": [{"n": 3}, {"label": "c2"}]},
    {"$not": {"label": "c1"}},
    {"key": {"$gte": "item-010", "$lt": "item-020"}},
    {"path": {"$exists": True}},
    {"n": {"$nin": [1, 2, 3]}},
    {"label": "none has this"},
)


def new_spec(metric: Metric = "cosine", *, dim: int = _DIM) -> GallerySpec:
    """Return a spec for embeddings that come from no model."""
    return GallerySpec(
        dim=dim,
        metric=metric,
        dtype="float32",
        embedder=Part("vectors"),
        fingerprint="vectors",
        cropper=Part("none"),
        index=Part("flat"),
    )


def _items(count: int, start: int = 0) -> list[Item]:
    """Return items with fields of all kinds, every fourth without a label."""
    return [
        Item(
            f"item-{n:03d}",
            path=f"/photos/{n}.jpg" if n % 2 else None,
            sha256=n.to_bytes(32, "big") if n % 2 else None,
            size=1000 + n if n % 2 else None,
            mtime_ns=1_700_000_000_123_456_789 + n if n % 2 else None,
            box=Box(0, 1, 2 + n, 3 + n) if n % 3 else None,
            subject=n % 3 == 1,
            label=None if n % 4 == 3 else f"c{n % 4}",
            metadata=_facts(n),
            phash=n.to_bytes(8, "big") if n % 3 else None,
        )
        for n in range(start, start + count)
    ]


def _facts(n: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"n": n, "even": n % 2 == 0, "half": n / 2}
    if n % 5 == 0:
        facts |= {"tags": ["a", "b"], "place": {"city": "Zürich", "zip": None}}
    return facts


def _vectors(count: int, *, seed: int = 0) -> Embeddings:
    return clustered(count, _DIM, seed=seed)[0]


def check_answer(view: View, vectors: Embeddings, queries: Embeddings, k: int) -> None:
    """Check that a view finds as many items as it must, best first, with true scores.

    Parameters
    ----------
    view : View
    vectors : float32 array of shape (n, dim)
        Searched vectors; row i belongs to the i-th id of the view.
    queries : float32 array of shape (m, dim)
    k : int
    """
    found = view.search(view.project(queries), k)
    there = min(k, len(view))
    assert (found.ids[:, :there] >= 0).all(), "an answer has too few items"
    assert (found.ids[:, there:] == -1).all()
    assert (np.diff(found.scores[:, :there]) <= 0).all(), "not best first"
    if not there:
        return
    place = {id_: row for row, id_ in enumerate(view.ids.tolist())}
    rows = np.array([[place[id_] for id_ in row] for row in found.ids[:, :there].tolist()])
    assert all(len(set(row)) == there for row in rows.tolist()), "an item was found twice"
    true = true_scores(queries, np.repeat(vectors[None], len(queries), axis=0), view.metric)
    tolerance = 1e-3 * max(1.0, float(np.abs(true).max()))
    scored = np.take_along_axis(true, rows, axis=1)
    np.testing.assert_allclose(found.scores[:, :there], scored, rtol=0, atol=tolerance)
    if view.is_exact:
        best = -np.sort(-true, axis=1)[:, :there]
        np.testing.assert_allclose(found.scores[:, :there], best, rtol=0, atol=tolerance)


class GalleryTests:
    """Tests that every gallery must pass.

    Subclass it as ``class TestMine(GalleryTests)``, set `kind` and implement `new_uri`.

    Attributes
    ----------
    kind : type
        Subclass of `Gallery` to test.
    metrics : tuple of str
        Metrics to test.
    """

    kind: ClassVar[type[Gallery]]
    metrics: ClassVar[tuple[Metric, ...]] = ("cosine", "ip", "l2")

    def new_uri(self, folder: Path) -> str:
        """Return an unused path or URI; ``folder`` is empty and used by this test only."""
        raise NotImplementedError(f"{type(self).__name__}.new_uri: expected to return a URI")

    def create(self, uri: str, spec: GallerySpec) -> Gallery:
        """Create an empty gallery."""
        return self.kind.create(uri, spec)

    def again(self, gallery: Gallery, uri: str) -> Gallery:
        """Close a gallery and reopen it."""
        gallery.close()
        return self.kind.open(uri, writable=True)

    @staticmethod
    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        """Run every test that takes ``metric`` for each of ``metrics``."""
        if "metric" in metafunc.fixturenames and metafunc.cls is not None:
            metafunc.parametrize("metric", metafunc.cls.metrics)

    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        """Return the path or URI of the test's gallery."""
        return self.new_uri(tmp_path)

    @pytest.fixture
    def make(self, uri: str) -> Iterator[Callable[..., Gallery]]:
        """Return a function that makes a gallery with some items; closed after the test."""
        made = []

        def build(count: int = 40, metric: Metric = "cosine") -> Gallery:
            gallery = self.create(uri, new_spec(metric))
            made.append(gallery)
            if count:
                gallery.add(_items(count), _vectors(count))
                gallery.catch_up()
            return gallery

        yield build
        for gallery in made:
            gallery.close()

    # -- what is in it -----------------------------------------------------------------------

    def test_an_empty_gallery(self, make: Any) -> None:
        gallery = make(0)
        assert len(gallery) == 0
        assert list(gallery) == []
        assert "a" not in gallery
        assert gallery.embeddings().shape == (0, _DIM)
        assert gallery.find(["a"]) == {}
        with pytest.raises(KeyNotFoundError, match="'a'"):
            gallery.get(["a"])
        with pytest.raises(EmptyGalleryError), gallery.viewed():
            pass

    def test_items_come_back_as_they_were_given(self, make: Any, uri: str) -> None:
        gallery = make(40)
        for _ in range(2):
            assert list(gallery) == [item.key for item in _items(40)]
            assert gallery.get(["item-007", "item-001"]) == [_items(40)[7], _items(40)[1]]
            assert gallery.get(list(gallery)) == _items(40)
            np.testing.assert_allclose(gallery.embeddings(), _vectors(40), atol=1e-6)
            some = gallery.embeddings(["item-003", "item-002"])
            np.testing.assert_allclose(some, _vectors(40)[[3, 2]], atol=1e-6)
            gallery = self.again(gallery, uri)
        gallery.close()

    @pytest.mark.parametrize(
        "key",
        ["a'b", 'a"b', "a\\b", "a/b.jpg", "%", "_", "ü", "日本", "🌷", " ", "a\nb", "x" * 900],
    )
    def test_keys_of_all_letters(self, make: Any, key: str) -> None:
        gallery = make(2)
        item = Item(key, label=key, metadata={key: key})
        gallery.add([item], _vectors(1))
        assert gallery.get([key]) == [item]
        assert key in gallery
        where = parse_filter({"key": key})
        assert gallery.view(where).keys() == (key,)
        assert gallery.remove([key]) == 1
        assert key not in gallery

    def test_another_spelling_of_a_key(self, make: Any) -> None:
        gallery = make(2)
        gallery.add([Item("caf\u00e9")], _vectors(1))
        assert gallery.find(["cafe\u0301"]) == {}
        assert gallery.get(["cafe\u0301"]) == [Item("caf\u00e9")]
        assert gallery.remove(["cafe\u0301"]) == 1

    def test_facts_of_all_kinds(self, make: Any) -> None:
        gallery = make(1)
        facts = {
            "text": 'it\'s "so" 日本 🌷',
            "int": 2**53 - 1,
            "float": 0.1,
            "small": 1e-300,
            "yes": True,
            "none": None,
            "list": [1, [2, {"a": "b"}], []],
            "empty": {},
            "deep": {"a.b": {"$c": 1}},
        }
        gallery.add([Item("facts", metadata=facts)], _vectors(1))
        assert gallery.get(["facts"])[0].metadata == facts

    def test_many_at_once(self, make: Any) -> None:
        gallery = make(0)
        gallery.add([Item(str(n)) for n in range(3000)], _vectors(3000))
        assert len(gallery) == 3000
        assert list(gallery) == [str(n) for n in range(3000)]
        assert gallery.remove([str(n) for n in range(0, 3000, 2)]) == 1500
        assert list(gallery) == [str(n) for n in range(1, 3000, 2)]

    def test_copies_are_found_by_their_bytes(self, make: Any) -> None:
        gallery = make(10)
        twin = Item("twin", sha256=_items(10)[3].sha256)
        gallery.add([twin], _vectors(1, seed=1))
        found = gallery.copy_of(_items(10)[3].sha256)
        assert found.item == _items(10)[3]  # the older
        np.testing.assert_allclose(found.embedding, _vectors(10)[3], atol=1e-6)
        assert gallery.copy_of(bytes(32)[::-1] + b"") is None or bytes(32) == _items(1)[0].sha256
        gallery.remove(["item-003"])
        assert gallery.copy_of(twin.sha256).item == twin

    def test_files(self, make: Any) -> None:
        assert sorted(make(10).files()) == [(item.key, item.path) for item in _items(10)]

    def test_unused_keys(self, make: Any) -> None:
        gallery = make(3)
        keys = gallery.unused_keys(3)
        assert len({*keys, *gallery}) == 6
        gallery.add([Item(key) for key in keys], _vectors(3))
        gallery.remove(keys)
        assert not {*keys} & {*gallery.unused_keys(3)}
        taken = gallery.unused_keys(2)[1]
        gallery.add([Item(taken)], _vectors(1))
        assert taken not in gallery.unused_keys(2)

    # -- changing ----------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("items", "rows", "error"),
        [
            ([Item("new"), Item("item-003")], None, DuplicateKeyError),
            ([Item("new"), Item("new")], None, DuplicateKeyError),
            ([Item("new"), Item("")], None, InvalidInputError),
            ([Item("new"), Item("b", metadata={"a": {1}})], None, InvalidInputError),
            ([Item("new"), Item("b", label=5)], None, InvalidInputError),  # type: ignore[arg-type]
            ([Item("new"), Item("b")], np.ones((1, _DIM)), InvalidInputError),
            ([Item("new"), Item("b")], np.ones((2, _DIM + 1)), DimensionError),
            ([Item("new"), Item("b")], np.full((2, _DIM), np.nan), InvalidInputError),
            ([Item("new"), Item("b")], np.zeros((2, _DIM)), InvalidInputError),
        ],
    )
    def test_adding_is_all_or_nothing(
        self, make: Any, uri: str, items: list[Item], rows: Any, error: type[ImgretError]
    ) -> None:
        gallery = make(10)
        with pytest.raises(error):
            gallery.add(items, np.float32(_vectors(2) if rows is None else rows))
        for _ in range(2):
            assert list(gallery) == [item.key for item in _items(10)]
            np.testing.assert_allclose(gallery.embeddings(), _vectors(10), atol=1e-6)
            gallery = self.again(gallery, uri)
        gallery.close()

    def test_replacing(self, make: Any, uri: str) -> None:
        gallery = make(10)
        new = [Item("item-003", label="other"), Item("new")]
        gallery.add(new, _vectors(2, seed=5), replacing=["item-003", "item-004"])
        kept = [key for key in (item.key for item in _items(10)) if key[-1] not in "34"]
        for _ in range(2):
            assert list(gallery) == [*kept, "item-003", "new"]
            assert gallery.get(["item-003", "new"]) == new
            found = gallery.embeddings(["item-003"])
            np.testing.assert_allclose(found, _vectors(2, seed=5)[:1], atol=1e-6)
            gallery = self.again(gallery, uri)
        gallery.close()

    def test_removing(self, make: Any, uri: str) -> None:
        gallery = make(10)
        with pytest.raises(KeyNotFoundError, match="'nobody'"):
            gallery.remove(["item-001", "nobody"])
        assert len(gallery) == 10
        assert gallery.remove([]) == 0
        assert gallery.remove(["item-001", "item-008", "item-001"]) == 2
        gallery.add([Item("item-001")], _vectors(1, seed=3))
        kept = [item.key for item in _items(10) if item.key not in {"item-001", "item-008"}]
        gallery = self.again(gallery, uri)
        assert list(gallery) == [*kept, "item-001"]
        gallery.close()

    def test_new_facts_of_an_item(self, make: Any, uri: str) -> None:
        gallery = make(10)
        old = _items(10)
        now = {
            "item-001": replace(old[1], key="renamed", label="c9", metadata={"n": -1}),
            "item-002": replace(old[2], label=None),
        }
        gallery.change(now)
        for _ in range(2):
            assert list(gallery) == ["item-000", "renamed", *(item.key for item in old[2:])]
            assert gallery.get(["renamed", "item-002"]) == list(now.values())
            np.testing.assert_allclose(gallery.embeddings(), _vectors(10), atol=1e-6)
            assert gallery.view(parse_filter({"label": "c9"})).keys() == ("renamed",)
            gallery = self.again(gallery, uri)
        gallery.close()

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"item-001": Item("item-001", label="x"), "nobody": Item("n")}, KeyNotFoundError),
            ({"item-001": Item("item-001", label="x"), "item-002": Item("item-003")}, None),
            ({"item-001": Item("item-001", label="x"), "item-002": Item("")}, InvalidInputError),
        ],
    )
    def test_changing_is_all_or_nothing(self, make: Any, changes: Any, error: Any) -> None:
        gallery = make(10)
        with pytest.raises(error or DuplicateKeyError):
            gallery.change(changes)
        assert gallery.get(list(gallery)) == _items(10)

    def test_the_spec_is_kept(self, make: Any, uri: str) -> None:
        gallery = make(3, metric="l2")
        gallery.change_spec(calibration={"a": [1, 2.5]})
        for _ in range(2):
            spec = gallery.spec
            assert (spec.dim, spec.metric, spec.embedder) == (_DIM, "l2", Part("vectors"))
            assert (spec.fingerprint, spec.calibration) == ("vectors", {"a": [1, 2.5]})
            gallery = self.again(gallery, uri)
        gallery.close()

    def test_the_version_tells_a_change(self, make: Any) -> None:
        gallery = make(10)
        seen = [gallery.version]
        assert gallery.version == seen[0]
        gallery.add([Item("new")], _vectors(1))
        seen.append(gallery.version)
        gallery.change({"new": Item("new", label="c1")})
        seen.append(gallery.version)
        gallery.remove(["new"])
        seen.append(gallery.version)
        assert len(set(seen)) == 4

    # -- searching -----------------------------------------------------------------------------

    @pytest.mark.parametrize("k", [1, 5, 40, 60])
    def test_search(self, make: Any, metric: Metric, k: int) -> None:
        gallery = make(40, metric=metric)
        check_answer(gallery.view(), _vectors(40), _vectors(5, seed=9), k)

    @pytest.mark.parametrize("where", FILTERS, ids=str)
    def test_search_with_a_filter(self, make: Any, where: dict[str, Any]) -> None:
        gallery = make(40)
        parsed = parse_filter(where)
        kept = [n for n, item in enumerate(_items(40)) if passes(item, parsed)]
        view = gallery.view(parsed)
        assert view.keys() == tuple(f"item-{n:03d}" for n in kept)
        assert len(view) == len(kept)
        if kept:
            check_answer(view, _vectors(40)[kept], _vectors(3, seed=9), 10)

    def test_a_search_sees_what_was_changed(self, make: Any, uri: str) -> None:
        gallery = make(40)
        gallery.remove([f"item-{n:03d}" for n in range(0, 40, 3)])
        gallery.add(_items(5, start=40), _vectors(5, seed=4))
        left = np.array([n for n in range(40) if n % 3])
        vectors = np.concatenate([_vectors(40)[left], _vectors(5, seed=4)])
        for _ in range(2):
            check_answer(gallery.view(), vectors, _vectors(5, seed=9), 50)
            gallery = self.again(gallery, uri)
        gallery.close()

    def test_what_a_view_tells(self, make: Any) -> None:
        gallery = make(40)
        with gallery.viewed() as view:
            assert len(view) == 40
            assert (np.diff(view.ids) > 0).all()
            assert view.keys() == tuple(item.key for item in _items(40))
            assert list(view.items()) == _items(40)
            assert list(view.items(view.ids[[5, 2]])) == [_items(40)[5], _items(40)[2]]
            assert view.require(["item-007", "item-002"]).tolist() == view.ids[[7, 2]].tolist()
            with pytest.raises(KeyNotFoundError):
                view.require(["nobody"])
            origins = [(origin.path, origin.sha256, origin.label) for origin in view.origins()]
            assert origins == [(item.path, item.sha256, item.label) for item in _items(40)]
            np.testing.assert_allclose(view.embeddings(view.ids[[3, 1]]), _vectors(40)[[3, 1]])
            blocks = list(view.embedding_blocks())
            assert np.concatenate([ids for ids, _ in blocks]).tolist() == view.ids.tolist()
            np.testing.assert_allclose(np.concatenate([rows for _, rows in blocks]), _vectors(40))
            ids, codes, names = view.labels
            labels = [item.label for item in _items(40)]
            assert ids.tolist() == view.ids[[n for n in range(40) if labels[n]]].tolist()
            assert [names[code] for code in codes] == [label for label in labels if label]
            assert view.labelled().keys() == tuple(i.key for i in _items(40) if i.label)

    def test_keys_are_those_of_the_view(self, make: Any) -> None:
        view = make(40).view(parse_filter({"label": "c1"}))
        assert view.require(["item-001"]).tolist() == view.ids[:1].tolist()
        with pytest.raises(KeyNotFoundError, match="item-002"):
            view.require(["item-001", "item-002"])

    def test_a_view_without_some_items(self, make: Any) -> None:
        view = make(40).view()
        rest = view.without(view.ids[[4, 0, 17]])
        kept = [n for n in range(40) if n not in {0, 4, 17}]
        assert rest.keys() == tuple(f"item-{n:03d}" for n in kept)
        check_answer(rest, _vectors(40)[kept], _vectors(40)[[0, 4]], 40)

    def test_an_item_that_asks_leaves_itself_out(self, make: Any) -> None:
        view = make(40).view()
        for part, found in view.nearest_others(view.ids[:10], 5):
            assert (found.ids != view.ids[:10][part, None]).all()
            assert (found.ids >= 0).all()

    def test_a_view_that_is_held_stays_as_it_is(self, make: Any, uri: str) -> None:
        gallery = make(20)
        if not (self.kind.shared and self.kind.consistent_views):
            pytest.skip("the gallery is not shared, or its views are not consistent")
        other = self.kind.open(uri, writable=True)
        with gallery.viewed() as view:
            other.add([Item("new")], _vectors(1))
            other.remove(["item-003"])
            assert view.keys() == tuple(item.key for item in _items(20))
            check_answer(view, _vectors(20), _vectors(3, seed=9), 20)
        other.close()
        assert "new" in gallery
        assert "item-003" not in gallery

    # -- several at once -----------------------------------------------------------------------

    def test_two_writers(self, make: Any, uri: str) -> None:
        if not self.kind.shared:
            pytest.skip("the gallery is not shared")
        gallery = make(5)
        other = self.kind.open(uri, writable=True)
        other.add([Item("theirs")], _vectors(1, seed=1))
        gallery.add([Item("ours")], _vectors(1, seed=2))
        with pytest.raises(DuplicateKeyError):
            other.add([Item("ours")], _vectors(1, seed=2))
        assert set(other) == set(gallery) == {*(item.key for item in _items(5)), "theirs", "ours"}
        other.close()

    def test_searches_beside_a_writer(self, make: Any) -> None:
        gallery = make(40)
        errors: list[BaseException] = []
        done: list[bool] = []

        def ask() -> None:
            try:
                while not done:
                    view = gallery.view()
                    found = view.search(view.project(_vectors(2, seed=9)), 5)
                    assert (found.ids >= 0).all()
            except BaseException as error:  # noqa: BLE001  # shown below
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for n in range(10):
            gallery.add(_items(5, start=40 + 5 * n), _vectors(5, seed=n))
            gallery.remove([f"item-{40 + 5 * n:03d}"])
        done.append(True)
        for thread in threads:
            thread.join()
        assert not errors, errors
        assert len(gallery) == 40 + 10 * 4

    # -- what flags announce -------------------------------------------------------------------

    def test_a_projection(self, make: Any, uri: str) -> None:
        gallery = make(40)
        projection = fit_pca(iter([_vectors(40)]), 3)
        if not self.kind.supports_projection:
            with pytest.raises(UnsupportedError):
                gallery.project(projection)
            return
        gallery.project(projection)
        queries = _vectors(5, seed=9)
        for _ in range(2):
            assert gallery.projection == projection or gallery.projection is not None
            assert gallery.spec.projection == projection.fingerprint
            view = gallery.view()
            assert view.dim == 3
            found = view.search(view.project(queries), 40)
            mapped = projection.apply(_vectors(40))
            rows = np.searchsorted(view.ids, found.ids)
            true = true_scores(projection.apply(queries), mapped[rows], "cosine")
            np.testing.assert_allclose(found.scores, true, atol=1e-3)
            gallery = self.again(gallery, uri)
        gallery.project(None)
        check_answer(gallery.view(), _vectors(40), queries, 40)
        gallery.close()

    def test_another_index(self, make: Any) -> None:
        gallery = make(40)
        if not self.kind.supports_index:
            with pytest.raises(UnsupportedError):
                gallery.reindex("hnsw", {})
            with pytest.raises(UnsupportedError):
                gallery.explain(5, None, 1)
            return
        gallery.reindex("hnsw", {"M": 8})
        assert gallery.spec.index == Part("hnsw", {"M": 8})
        assert len(gallery.index) == 40
        check_answer(gallery.view(), _vectors(40), _vectors(5, seed=9), 10)
        assert gallery.explain(5, None, 1).index == "hnsw"

    # -- opening and closing -------------------------------------------------------------------

    def test_what_is_there_is_not_made_again(self, make: Any, uri: str) -> None:
        make(3)
        assert self.kind.is_taken(uri)
        with pytest.raises(StoreExistsError):
            self.kind.create(uri, new_spec())

    def test_what_is_not_there_is_not_opened(self, uri: str) -> None:
        assert not self.kind.is_taken(uri)
        with pytest.raises(StoreNotFoundError):
            self.kind.open(uri, writable=False)

    def test_opened_for_reading(self, make: Any, uri: str) -> None:
        make(5).close()
        reader = self.kind.open(uri, writable=False)
        assert not reader.writable
        assert len(reader) == 5
        for change in (
            lambda: reader.add([Item("new")], _vectors(1)),
            lambda: reader.remove(["item-001"]),
            lambda: reader.change({"item-001": Item("x")}),
            lambda: reader.change_spec(calibration=None),
        ):
            with pytest.raises(StoreReadOnlyError):
                change()
        assert len(reader) == 5
        reader.close()

    def test_closed(self, make: Any) -> None:
        gallery = make(5)
        gallery.close()
        gallery.close()
        assert gallery.closed
        for call in (
            lambda: len(gallery),
            lambda: list(gallery),
            lambda: gallery.get(["item-001"]),
            lambda: gallery.add([Item("new")], _vectors(1)),
            lambda: gallery.remove(["item-001"]),
            gallery.embeddings,
        ):
            with pytest.raises(StoreClosedError):
                call()
