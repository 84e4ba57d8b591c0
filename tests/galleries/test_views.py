"""Views: of a gallery that has changed since, of a part of it, and what they say of it."""

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


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(4)) as retriever:
        rows = np.random.default_rng(0).standard_normal((6, 4))
        retriever.add_vectors(rows, keys=list("abcdef"), labels=[None, *"xxyyz"])
        retriever.remove("c")
    return path


def test_a_view_tells_the_origins_of_its_items_alone(path):
    with Retriever.open(path, embedder=Given(4)) as retriever:
        for where, without, there in (
            (None, [], "abdef"),
            ({"label": "y"}, [], "de"),
            (None, ["d", "a"], "bef"),
            ({"label": {"$ne": "z"}}, ["b"], "ade"),
        ):
            view = retriever.view(where)
            view = view.without(view.require(without)) if without else view
            origins = list(view.origins())
            assert [next(view.items(np.array([one.id]))).key for one in origins] == list(there)
            assert [one.label for one in origins] == [retriever[key].label for key in there]


def test_a_view_says_of_which_gallery_it_is(path):
    with Retriever.open(path, embedder=Given(4)) as retriever:
        assert retriever.view().facts()["gallery"] == str(path)
    loaded = Retriever.load(path, embedder=Given(4))
    assert loaded.view().facts()["gallery"] is None
    assert loaded.view().facts()["projection"] is None
    loaded.project("pca", dim=2)
    mapped = loaded.view().facts()["projection"]
    assert mapped == {
        "kind": "pca",
        "dim": 2,
        "fingerprint": loaded.projection.fingerprint,
    }
    names = (str(path), str(path), "gallery")
    made = Retriever(embedder=Given(4))
    for one, name in zip((retriever, loaded, made), names, strict=True):
        assert one._gallery.store.name == name


@pytest.mark.parametrize(
    ("field", "column"), [("path", "(path)"), ("size", "json_extract"), ("year", "json_extract")]
)
def test_an_index_for_filters_is_on_the_column_or_on_the_metadata(path, field, column):
    with Retriever.open(path, "r+", embedder=Given(4)) as retriever:
        retriever.create_filter_index(field)
        (sql,) = retriever._gallery.store.catalog._query(
            "SELECT sql FROM sqlite_schema WHERE name = ?", (f"filter:{field}",)
        )[0]
    assert column in sql.replace('"', "")
