"""Checksums tell every change of the files of an index."""

import json

import pytest

from imgret.errors import StoreCorruptError
from imgret.support.state import read_state, write_state


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.bin").write_bytes(b"one")
    (tmp_path / "two.bin").write_bytes(b"")
    write_state(tmp_path, {"name": "flat", "config": {"dim": 2}})
    return tmp_path


def test_what_was_written_is_read(directory):
    state = read_state(directory)
    assert state["name"] == "flat"
    assert set(state["sha256"]) == {"parts/one.bin", "two.bin"}
    assert state == json.loads((directory / "state.json").read_text())


@pytest.mark.parametrize(
    ("name", "content"),
    [("parts/one.bin", b"One"), ("two.bin", b"\0"), ("three.bin", b""), ("two.bin", None)],
)
def test_a_file_that_was_changed_added_or_removed_is_named(directory, name, content):
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    with pytest.raises(StoreCorruptError, match=name):
        read_state(directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sha256": 3}', "null", "\udcff"])
def test_facts_that_cannot_be_read(directory, text):
    (directory / "state.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreCorruptError):
        read_state(directory)


def test_no_facts_at_all(tmp_path):
    with pytest.raises(StoreCorruptError, match=r"state\.json"):
        read_state(tmp_path)
