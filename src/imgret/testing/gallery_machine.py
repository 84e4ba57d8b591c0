"""A state machine that compares a gallery with a dictionary."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from imgret.abc import Gallery, GallerySpec
from imgret.errors import DuplicateKeyError, KeyNotFoundError
from imgret.filters import parse_filter, passes
from imgret.testing.galleries import check_answer, new_spec
from imgret.testing.strategies import vectors
from imgret.types import Embeddings, Item, Metric

__all__ = ["GalleryMachine"]

_DIM = 3
_KEYS = st.sampled_from(["a", "b", "ü", "x/y.jpg", "'", "0", "日"])
_LABELS = st.sampled_from([None, "rose", "daisy"])
_FACTS = st.fixed_dictionaries({"n": st.integers(-3, 3)}, optional={"tags": st.just(["t"])})
_FILTERS = st.sampled_from(
    [
        {"label": "rose"},
        {"label": {"$exists": False}},
        {"n": {"$gte": 0}},
        {"$not": {"n": {"$lt": 1}}},
        {"$or": [{"tags": {"$contains": "t"}}, {"key": "a"}]},
    ]
)


class GalleryMachine(RuleBasedStateMachine):
    """Adds, replaces, changes, removes, searches and reopens, in any order.

    Subclass it, set ``kind``, implement `new_uri`, and give its ``TestCase`` to pytest::

        class MyMachine(GalleryMachine):
            kind = MyGallery

            def new_uri(self, folder):
                return f"mine://{folder}/gallery"

        TestMyMachine = MyMachine.TestCase

    Attributes
    ----------
    kind : type
        Subclass of `Gallery` to test.
    metric : {"cosine", "ip", "l2"}
    """

    kind: ClassVar[type[Gallery]]
    metric: ClassVar[Metric] = "l2"

    def new_uri(self, folder: Path) -> str:
        """Return an unused path or URI; ``folder`` is empty."""
        raise NotImplementedError(f"{type(self).__name__}.new_uri: expected to return a URI")

    def create(self, uri: str, spec: GallerySpec) -> Gallery:
        """Create an empty gallery."""
        return self.kind.create(uri, spec)

    def again(self, gallery: Gallery, uri: str) -> Gallery:
        """Close a gallery and reopen it."""
        gallery.close()
        return self.kind.open(uri, writable=True)

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._uri = self.new_uri(Path(self._folder.name))
        self.gallery = self.create(self._uri, new_spec(self.metric, dim=_DIM))
        self.model: dict[str, tuple[Item, Embeddings]] = {}  # in the order they were added

    def teardown(self) -> None:
        """Close the gallery and remove its folder."""
        self.gallery.close()
        self._folder.cleanup()

    def _new(self, data: st.DataObject, keys: list[str]) -> tuple[list[Item], Embeddings]:
        items = [Item(key, label=data.draw(_LABELS), metadata=data.draw(_FACTS)) for key in keys]
        return items, data.draw(vectors(count=len(keys), dim=_DIM))

    @rule(data=st.data(), keys=st.lists(_KEYS, min_size=1, max_size=5, unique=True))
    def add(self, data: st.DataObject, keys: list[str]) -> None:
        """Add items; existing keys are first refused, then replaced."""
        items, rows = self._new(data, keys)
        there = [key for key in keys if key in self.model]
        if there:
            with pytest.raises(DuplicateKeyError):
                self.gallery.add(items, rows)
        self.gallery.add(items, rows, replacing=there)
        for item, row in zip(items, rows, strict=True):
            self.model.pop(item.key, None)
            self.model[item.key] = item, row

    @rule(keys=st.lists(_KEYS, max_size=4))
    def remove(self, keys: list[str]) -> None:
        """Remove items; if one of them does not exist, none is removed."""
        if any(key not in self.model for key in keys):
            with pytest.raises(KeyNotFoundError):
                self.gallery.remove(keys)
            return
        assert self.gallery.remove(keys) == len(set(keys))
        for key in set(keys):
            del self.model[key]

    @rule(data=st.data(), key=_KEYS, name=_KEYS)
    def change(self, data: st.DataObject, key: str, name: str) -> None:
        """Give an item new contents, and perhaps another key."""
        new = Item(name, label=data.draw(_LABELS), metadata=data.draw(_FACTS))
        if key not in self.model:
            with pytest.raises(KeyNotFoundError):
                self.gallery.change({key: new})
        elif name != key and name in self.model:
            with pytest.raises(DuplicateKeyError):
                self.gallery.change({key: new})
        else:
            self.gallery.change({key: new})
            self.model = {
                (name if old == key else old): (new if old == key else item, row)
                for old, (item, row) in self.model.items()
            }

    @rule()
    def open_again(self) -> None:
        """Reopen the gallery and continue with it."""
        self.gallery = self.again(self.gallery, self._uri)

    @rule(data=st.data(), k=st.integers(1, 9), where=st.none() | _FILTERS)
    def search(self, data: st.DataObject, k: int, where: dict[str, Any] | None) -> None:
        """Search all items, or those that match a filter."""
        fields = {name for item, _ in self.model.values() for name in item.metadata}
        if where is not None and "tags" in str(where) and "tags" not in fields:
            return  # a field that no item has is an error
        if not self.model:
            return
        parsed = None if where is None else parse_filter(where)
        kept = [
            (item, row)
            for item, row in self.model.values()
            if parsed is None or passes(item, parsed)
        ]
        view = self.gallery.view(parsed)
        assert view.keys() == tuple(item.key for item, _ in kept)
        if kept:
            queries = data.draw(vectors(count=2, dim=_DIM))
            check_answer(view, np.stack([row for _, row in kept]), queries, k)

    @rule(key=_KEYS)
    def facts(self, key: str) -> None:
        """Look up one item, and compare the labels of the view."""
        if key not in self.model:
            return
        item = self.model[key][0]
        assert self.gallery.get([key]) == [replace(item)]
        labelled = [held.label for held, _ in self.model.values() if held.label is not None]
        ids, codes, names = self.gallery.view().labels
        assert [names[code] for code in codes] == labelled
        assert len(ids) == len(labelled)

    @invariant()
    def holds_the_same_items(self) -> None:
        """Compare keys, items and embeddings, in order."""
        assert len(self.gallery) == len(self.model)
        assert list(self.gallery) == list(self.model)
        assert self.gallery.get(list(self.model)) == [item for item, _ in self.model.values()]
        if self.model:
            rows = np.stack([row for _, row in self.model.values()])
            np.testing.assert_array_equal(self.gallery.embeddings(), rows)
