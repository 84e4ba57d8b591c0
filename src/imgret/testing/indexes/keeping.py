"""Tests of configs and files."""
# ruff: noqa: D102  # the name of a test is its sentence

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imgret import registry
from imgret.abc import VectorIndex
from imgret.errors import InvalidInputError, StoreCorruptError, StoreMismatchError
from imgret.testing.indexes.case import IndexCase
from imgret.types import Metric

__all__ = ["KeepingTests"]


class KeepingTests(IndexCase):
    """Tests that an index is the same after its config or its directory is read back."""

    def twin(self, index: VectorIndex) -> VectorIndex:
        """Make an empty index from the config of another, converted to JSON and back."""
        return type(index).from_config(json.loads(json.dumps(index.config())))

    def test_config_makes_a_twin(self, metric: Metric) -> None:
        index = self.make(self.dim, metric)
        twin = self.twin(index)
        assert twin.config() == index.config()
        assert (twin.dim, twin.metric, len(twin)) == (self.dim, metric, 0)
        assert str(self.dim) in repr(twin)
        if index.name:
            made = registry.create("indexes", index.name, **index.config())
            assert type(made) is type(index)
            assert made.config() == index.config()

    def test_saved_and_loaded(self, metric: Metric, tmp_path: Path) -> None:
        index = self.filled(metric)
        if index.supports_remove:
            index.remove(self.ids[:9])
        index.save_state(tmp_path)
        loaded = self.twin(index)
        loaded.load_state(tmp_path)
        np.testing.assert_array_equal(loaded.ids, index.ids)
        for allowed in (None, self.ids[5:60]):
            expected = index.search(self.queries, 10, allowed=allowed)
            found = loaded.search(self.queries, 10, allowed=allowed)
            np.testing.assert_array_equal(found.ids, expected.ids)
            np.testing.assert_array_equal(found.scores, expected.scores)
        loaded.add(self.vectors[:2], [10**6, 10**6 + 1])
        assert len(loaded) == len(index) + 2
        assert {10**6} <= set(loaded.search(self.vectors[:1], len(loaded)).ids[0].tolist())
        with pytest.raises(InvalidInputError, match="empty"):
            loaded.load_state(tmp_path)

    def test_saved_and_loaded_while_empty(self, metric: Metric, tmp_path: Path) -> None:
        for number, index in enumerate((self.make(self.dim, metric), self.trained(metric))):
            directory = tmp_path / str(number)
            directory.mkdir()
            index.save_state(directory)
            loaded = self.twin(index)
            loaded.load_state(directory)
            assert loaded.is_trained == index.is_trained
            loaded.train(self.vectors)
            loaded.add(self.vectors, self.ids)
            self.check(loaded.search(self.queries, 5), self.queries, 5, 5)

    def test_damaged_files_are_noticed(self, tmp_path: Path) -> None:
        index = self.filled(self.metrics[0])
        index.save_state(tmp_path)
        for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
            whole = path.read_bytes()
            for damaged in _damage(whole):
                if damaged is None:
                    path.unlink()
                else:
                    path.write_bytes(damaged)
                loaded = self.twin(index)
                with pytest.raises((StoreCorruptError, StoreMismatchError)):
                    loaded.load_state(tmp_path)
                assert len(loaded) == 0
            path.write_bytes(whole)
        loaded.load_state(tmp_path)
        assert len(loaded) == self.count

    def test_files_of_another_index_are_refused(self, tmp_path: Path) -> None:
        index = self.filled(self.metrics[0])
        index.save_state(tmp_path)
        other = self.make(2 * self.dim, self.metrics[0])
        with pytest.raises(StoreMismatchError, match=str(2 * self.dim)):
            other.load_state(tmp_path)


def _damage(whole: bytes) -> Iterator[bytes | None]:
    """Damage a file in several ways; None means that the file is removed."""
    middle = len(whole) // 2
    yield whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    yield whole[:-1] + bytes([whole[-1] ^ 0x80])
    yield whole[:middle]
    yield b""
    yield None
