"""A store in memory, one on disk and a dictionary go through the same changes."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from imgret.errors import DuplicateKeyError, StoreReadOnlyError
from imgret.galleries.local.store import Store
from imgret.types import Item

_MEMORY = "/dev/shm"  # noqa: S108  # made by tempfile
KEYS = st.sampled_from(["a", "b", "ü", "x/y.jpg", "'", "0"])
BATCHES = st.dictionaries(KEYS, st.integers(1, 1000), min_size=1, max_size=4)


class Machine(RuleBasedStateMachine):
    manifest = None

    def __init__(self):
        super().__init__()
        # In memory where that is possible, as every step waits for the disk several times.
        self.folder = TemporaryDirectory(dir=_MEMORY if Path(_MEMORY).is_dir() else None)
        self.path = Path(self.folder.name) / "g.imgret"
        self.disk = Store.create(self.path, self.manifest)
        self.memory = Store.in_memory(self.manifest)
        self.model = {}  # key -> (value, label), in the order they were added
        self.rows = 0  # ids given out, also before a copy or a compaction

    def teardown(self):
        self.disk.close()
        self.memory.close()
        self.folder.cleanup()

    def rows_of(self, values):
        return np.array(values, np.float32)[:, None] * np.ones(self.manifest.dim, np.float32)

    @rule(batch=BATCHES)
    def add(self, batch):
        """New keys are added, live ones replaced; or, where they are not said to be, nothing."""
        rows, items = self.rows_of(list(batch.values())), [Item(key) for key in batch]
        live = [key for key in batch if key in self.model]
        for store in (self.disk, self.memory):
            if live:
                with pytest.raises(DuplicateKeyError):
                    store.add(rows, items)
            first = self.rows - store.manifest.dropped
            ids = store.add(rows, items, replaced=store.catalog.require(live))
            assert ids == range(first, first + len(batch))
        self.rows += len(batch)
        for key, value in batch.items():
            self.model.pop(key, None)
            self.model[key] = value, None

    @rule(keys=st.sets(KEYS))
    def remove(self, keys):
        going = [key for key in keys if key in self.model]
        for store in (self.disk, self.memory):
            store.remove(store.catalog.require(going))
        for key in going:
            del self.model[key]

    @rule(key=KEYS, label=st.sampled_from(["one", "two"]))
    def label(self, key, label):
        for store in (self.disk, self.memory):
            for id_ in store.catalog.ids_of([key]).values():
                store.catalog.replace(id_, replace(store.catalog.items([id_])[id_], label=label))
        if key in self.model:
            self.model[key] = self.model[key][0], label

    @rule()
    def reopen(self):
        self.disk.close()
        self.disk = Store.open(self.path, writable=True)

    @rule(of_disk=st.booleans())
    def drop_removed(self, of_disk):
        name = "disk" if of_disk else "memory"
        before = getattr(self, name)
        live = before.catalog.live_ids()
        store, ids = before.without_removed(None)
        assert ids.tolist() == live.tolist()
        assert store.catalog.rows == len(store.catalog) == len(live)
        # What was opened before can be read, and no longer changed.
        assert np.array_equal(before.read(live), store.read(np.arange(len(live))))
        assert list(before.catalog) == list(store.catalog)
        with pytest.raises(StoreReadOnlyError):
            before.remove([0])
        before.close()
        setattr(self, name, store)

    @rule(whole=st.booleans())
    def save_and_load(self, whole):
        """Each takes the place of the other."""
        other = self.path.with_name("other.imgret")
        self.memory.save(other, projection=None, index=None)
        self.disk.save(other, projection=None, index=None)
        self.memory.close()
        self.memory = Store.load(other)
        if whole:
            self.disk.close()
            self.memory.save(self.path, projection=None, index=None)
            self.disk = Store.open(self.path, writable=True)

    @invariant()
    def all_agree(self):
        with closing(Store.open(self.path, writable=False)) as reader:
            for store in (self.disk, self.memory, reader):
                catalog = store.catalog
                assert list(catalog) == list(self.model)
                assert len(catalog) == len(self.model)
                assert store.manifest.dropped + catalog.rows == self.rows
                gone = catalog.removed_since(0)
                assert sorted([*gone, *catalog.live_ids()]) == list(range(catalog.rows))
                ids = catalog.live_ids()
                assert catalog.require(list(self.model)) == ids.tolist()
                labels = [item.label for item in catalog.items(ids).values()]
                assert labels == [label for _, label in self.model.values()]
                values = [value for value, _ in self.model.values()]
                if values:
                    assert np.array_equal(store.read(ids), self.rows_of(values))
                    blocks = [rows for _, rows in store.blocks(ids)]
                    assert np.array_equal(np.concatenate(blocks), self.rows_of(values))
            changes = self.disk.catalog.changes
            assert self.memory.catalog.changes == reader.catalog.changes == changes


@pytest.mark.slow
def test_disk_memory_and_a_dictionary_agree(manifest):
    machine = type("Machine", (Machine,), {"manifest": manifest})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=30, stateful_step_count=20, deadline=None)
    )
