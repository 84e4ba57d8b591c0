"""The labels of a catalog, and noticing that they have changed."""

from dataclasses import replace

import numpy as np

from imgret import Retriever
from imgret.filters import parse_filter
from imgret.galleries.local.catalog import Catalog
from imgret.testing.data import Given
from imgret.types import Item


def test_labelled_items_in_order():
    catalog = Catalog()
    labels = ["rose", None, "daisy", "rose", "tulip", ""]
    catalog.add([Item(str(n), label=label) for n, label in enumerate(labels)], [0] * 6)
    catalog.remove([4])
    ids, codes, names = catalog.labelled()
    assert ids.dtype == codes.dtype == np.int64
    assert ids.tolist() == [0, 2, 3, 5]
    assert [names[code] for code in codes] == ["rose", "daisy", "rose", ""]
    assert len(set(names)) == len(names) == 3


def test_nothing_labelled():
    catalog = Catalog()
    catalog.add([Item("a")], [0])
    ids, codes, names = catalog.labelled()
    assert len(ids) == len(codes) == len(names) == 0


def test_every_commit_is_a_new_version(tmp_path):
    catalog = Catalog(tmp_path / "c.sqlite")
    seen = [catalog.version]
    catalog.add([Item("a", label="rose")], [0])
    seen.append(catalog.version)
    (item,) = catalog.items([0]).values()
    catalog.replace(0, replace(item, label="daisy"))
    seen.append(catalog.version)
    other = Catalog(tmp_path / "c.sqlite")
    assert catalog.version == seen[-1]
    other.replace(0, replace(item, label="tulip"))
    other.close()
    seen.append(catalog.version)
    assert len(set(seen)) == 4
    assert catalog.version == seen[-1]
    catalog.close()


def test_labels_of_a_part():
    retriever = Retriever(embedder=Given(2))
    labels = ["rose", "daisy", None, "rose"]
    retriever.add_vectors(np.eye(4, 2) + 1, keys=list("abcd"), labels=labels)
    with retriever._gallery.viewed() as view:
        for part, expected in (
            (view, {0: "rose", 1: "daisy", 3: "rose"}),
            (view.without(np.array([0])), {1: "daisy", 3: "rose"}),
        ):
            ids, codes, names = part.labels
            assert {int(i): names[code] for i, code in zip(ids, codes, strict=True)} == expected
    ids, codes, names = retriever._gallery.view(parse_filter({"label": "rose"})).labels
    assert [(int(i), names[code]) for i, code in zip(ids, codes, strict=True)] == [
        (0, "rose"),
        (3, "rose"),
    ]
