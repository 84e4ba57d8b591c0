"""A folder of Parquet shards: filled like a gallery, imported, and read by others."""

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import StoreExistsError, StoreLockedError, UnsupportedError
from imgret.ingest import writer
from imgret.transfer import import_items

pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'tables'")


@pytest.fixture
def folder(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_COMMIT_ITEMS", 1)
    with Retriever.open(f"shards://{tmp_path / 'shards'}", "a") as shards:
        shards.add_folder(photos, labels="parent", threads=1, progress=False)
    return tmp_path / "shards"


def test_they_are_tables_of_a_stated_schema(folder):
    files = sorted(folder.glob("*.parquet"))
    assert len(files) >= 2
    schema = pq.read_schema(files[0])
    assert str(schema.field("embedding").type) == "fixed_size_list<element: halffloat>[1280]"
    assert {"key", "path", "sha256", "box", "label", "metadata"} <= set(schema.names)
    assert sum(pq.read_metadata(file).num_rows for file in files) == 12


def test_what_is_imported_is_what_indexing_makes(folder, photos, tmp_path):
    done = import_items(folder, str(tmp_path / "a.imgret"))
    assert (done.added, done.total) == (12, 12)
    assert import_items(folder, str(tmp_path / "a.imgret")).unchanged == 12
    here = Retriever()
    here.add_folder(photos, labels="parent", progress=False)
    with Retriever.open(tmp_path / "a.imgret") as found:
        assert [found[key] for key in found] == [here[key] for key in here]
        np.testing.assert_array_equal(found.embeddings(), here.embeddings())


def test_they_go_on_and_add_nothing_twice(folder, photos):
    (photos / "lake" / "new.jpg").write_bytes((photos / "lake" / "1.jpg").read_bytes())
    (folder / ".part-000099.parquet.killed").write_bytes(b"half")
    with Retriever.open(f"shards://{folder}", "a") as shards:
        report = shards.add_folder(photos, labels="parent", progress=False)
        assert (len(report.skipped), len(shards)) == (12, 13)
        with pytest.raises(StoreLockedError):
            Retriever.open(f"shards://{folder}", "a")


def test_they_are_not_a_gallery(folder, photos, tmp_path):
    with Retriever.open(f"shards://{folder}", "r+") as shards:
        for call in (
            lambda: shards.search_vectors(np.ones((1, 1280))),
            lambda: shards.remove("lake/1.jpg"),
            lambda: shards.update("lake/1.jpg", label="x"),
            shards.embeddings,
        ):
            with pytest.raises(UnsupportedError, match="`imgret import"):
                call()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises((StoreExistsError, FileNotFoundError)):
        Retriever.open(f"shards://{tmp_path / 'mine'}", "a")
