"""Galleries on disk: what is read back is what was there, and a mismatch is refused."""

import json
import shutil
import sqlite3

import numpy as np
import pytest

from imgret import HNSWIndex, Retriever, images
from imgret.errors import (
    InvalidInputError,
    StoreClosedError,
    StoreCorruptError,
    StoreExistsError,
    StoreLockedError,
    StoreMismatchError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreVersionError,
)


@pytest.fixture
def saved(mean_color, photos, tmp_path):
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(photos, labels="parent")
    path = tmp_path / "g.imgret"
    retriever.save(path)
    return path


def answers(retriever, n=5):
    vectors = retriever.embeddings()
    return [
        [(hit.key, hit.score, hit.label) for hit in hits]
        for hits in retriever.search_vectors(vectors, n)
    ]


@pytest.mark.parametrize("index", ["flat", "hnsw", "ivf", "auto", "faiss:SQ8"])
@pytest.mark.filterwarnings("ignore:.*few:UserWarning")
def test_a_round_trip_gives_the_same_answers(mean_color, photos, tmp_path, index):
    retriever = Retriever(embedder=mean_color, index=index)
    retriever.add_folder(photos, labels="parent")
    retriever.remove("lake/2.jpg")
    before = answers(retriever)
    retriever.save(tmp_path / "g.imgret")
    for again in (
        Retriever.load(tmp_path / "g.imgret", embedder=mean_color),
        Retriever.open(tmp_path / "g.imgret", embedder=mean_color),
        Retriever.open(tmp_path / "g.imgret", "r+", embedder=mean_color),
    ):
        assert answers(again) == before
        assert list(again) == list(retriever)
        assert again["sand/1.jpg"] == retriever["sand/1.jpg"]
        assert again.index.config() == retriever.index.config()
        again.close()


def test_memory_and_disk_are_one_code_path(mean_color, photos, tmp_path):
    memory = Retriever(embedder=mean_color, index="hnsw")
    with Retriever.open(tmp_path / "g.imgret", "a", embedder=mean_color, index="hnsw") as disk:
        for retriever in (memory, disk):
            retriever.add_folder(photos, labels="parent")
            retriever.remove("lake/2.jpg")
            retriever.update("lake/3.jpg", label="sea")
        assert answers(memory) == answers(disk)
    with Retriever.open(tmp_path / "g.imgret", embedder=mean_color) as again:
        assert answers(again) == answers(memory)


def test_the_files_can_be_read_by_other_means(saved, mean_color):
    manifest = json.loads((saved / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("imgret-gallery", 2)
    assert manifest["embedder"] == {"name": "mean-color", "config": {"offset": 1.0}}
    rows = np.fromfile(saved / "vectors.f16", dtype="<f2").reshape(12, 48)
    with sqlite3.connect(saved / "catalog.sqlite") as database:
        items = database.execute("SELECT id, key, label FROM items ORDER BY id").fetchall()
    database.close()
    retriever = Retriever.load(saved, embedder=mean_color)
    assert [key for _, key, _ in items] == list(retriever)
    assert (rows[[id_ for id_, _, _ in items]] == retriever.embeddings()).all()


def test_an_open_gallery_writes_as_it_goes(mean_color, photos, tmp_path):
    path = tmp_path / "g.imgret"
    writer = Retriever.open(path, "a", embedder=mean_color)
    writer.add_folder(photos / "lake")
    with Retriever.open(path, embedder=mean_color) as reader:
        assert len(reader) == 4
        writer.add_folder(photos / "sand", prefix="sand/")
        assert len(reader.search_vectors(reader.embeddings(), 10)[0]) == 4  # a snapshot
        with pytest.raises(StoreReadOnlyError, match=r"mode='r\+'"):
            reader.add(photos / "wood" / "0.jpg")
    with pytest.raises(StoreLockedError, match="other writer"):
        Retriever.open(path, "r+", embedder=mean_color)
    writer.close()
    with Retriever.open(path, "r+", embedder=mean_color) as again:
        assert len(again) == 8


def test_a_stale_index_catches_up(mean_color, photos, tmp_path):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=mean_color, index="hnsw") as retriever:
        retriever.add_folder(photos / "lake")
    kept = tmp_path / "old-index"
    shutil.copytree(path / "index", kept)
    with Retriever.open(path, "r+", embedder=mean_color) as retriever:
        retriever.add_folder(photos / "sand", prefix="sand/")
        retriever.remove("0.jpg")
        expected = answers(retriever)
    shutil.rmtree(path / "index")
    shutil.copytree(kept, path / "index")  # as if it had been killed before the checkpoint
    with Retriever.open(path, embedder=mean_color) as retriever:
        assert len(retriever.index) == 7
        assert answers(retriever) == expected
    shutil.rmtree(path / "index")
    with Retriever.open(path, embedder=mean_color) as retriever:
        assert answers(retriever) == expected


def test_a_damaged_index_is_built_anew(mean_color, photos, tmp_path):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=mean_color, index="hnsw") as retriever:
        retriever.add_folder(photos)
        expected = answers(retriever)
    for file in (path / "index").rglob("*.faiss"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0xFF
        file.write_bytes(data)
    with (
        pytest.warns(UserWarning, match="rebuilt"),
        Retriever.open(path, embedder=mean_color) as retriever,
    ):
        assert answers(retriever) == expected


def test_the_stored_index_is_used(mean_color, photos, tmp_path, monkeypatch):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=mean_color, index="hnsw") as retriever:
        retriever.add_folder(photos)

    def no_more(*_):
        raise AssertionError("the index was rebuilt")

    monkeypatch.setattr(HNSWIndex, "_add", no_more)
    with Retriever.open(path, embedder=mean_color) as retriever:
        assert len(retriever.index) == 12


def test_damaged_vectors_are_found_out(saved, mean_color):
    data = bytearray((saved / "vectors.f16").read_bytes())
    data[2 * 48 * 5 + 7] ^= 0x10
    (saved / "vectors.f16").write_bytes(data)
    message = r"1 stored vectors are damaged.*'sand/1.jpg'"
    with pytest.raises(StoreCorruptError, match=message):
        Retriever.load(saved, embedder=mean_color)
    # Opening looks at no vector, and a search at all of them.
    with Retriever.open(saved, embedder=mean_color) as retriever:
        for _ in range(2):
            with pytest.raises(StoreCorruptError, match=message):
                retriever.search(np.zeros((8, 8, 3), dtype=np.uint8))


def test_another_embedder_is_refused(saved, other_embedder):
    for opening in (Retriever.load, Retriever.open):
        with pytest.raises(StoreMismatchError, match=r"fingerprint.*Retriever\.reembed"):
            opening(saved, embedder=other_embedder)


def test_an_embedder_that_is_not_registered_must_be_given(saved):
    from imgret.errors import UnknownNameError

    with pytest.raises(UnknownNameError, match="no 'mean-color'"):
        Retriever.load(saved)


def test_what_is_asked_must_agree_with_what_is_there(saved, mean_color):
    for options, message in (
        ({"cropper": "center"}, "cropper"),
        ({"index": "hnsw"}, "reindex"),
        ({"metric": "l2"}, "metric"),
        ({"dtype": "float32"}, "dtype"),
    ):
        with pytest.raises(StoreMismatchError, match=message):
            Retriever.open(saved, "a", embedder=mean_color, **options)
    with Retriever.open(
        saved, "a", embedder=mean_color, cropper="none", index="flat", metric="cosine"
    ) as retriever:
        assert len(retriever) == 12
    with pytest.raises(InvalidInputError, match="'r', 'r\\+' or 'a'"):
        Retriever.open(saved, "w", embedder=mean_color)


def test_a_newer_format_is_refused(saved, mean_color):
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "version": 3}))
    with pytest.raises(StoreVersionError, match="upgrade imgret"):
        Retriever.load(saved, embedder=mean_color)


def test_nothing_there(tmp_path, mean_color):
    for mode in ("r", "r+"):
        with pytest.raises(StoreNotFoundError, match=r"imgret index FOLDER"):
            Retriever.open(tmp_path / "none.imgret", mode, embedder=mean_color)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreNotFoundError):
        Retriever.load(tmp_path / "file", embedder=mean_color)
    (tmp_path / "stuff").mkdir()
    (tmp_path / "stuff" / "x").touch()
    with pytest.raises(StoreNotFoundError):
        Retriever.open(tmp_path / "stuff", "a", embedder=mean_color)


def test_saving_over_other_things(saved, mean_color, tmp_path):
    retriever = Retriever.load(saved, embedder=mean_color)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(StoreExistsError, match="choose another"):
        retriever.save(other)
    assert (other / "thesis.txt").read_text() == "precious"
    with pytest.raises(InvalidInputError, match="path"):
        retriever.save()
    retriever.remove("lake/0.jpg")
    retriever.save(saved)  # a gallery is replaced
    assert len(Retriever.load(saved, embedder=mean_color)) == 11
    with Retriever.open(saved, "r+", embedder=mean_color), pytest.raises(StoreLockedError):
        retriever.save(saved)
    assert not list(tmp_path.glob(".*"))


def test_a_closed_gallery_says_so(saved, mean_color, photos):
    retriever = Retriever.open(saved, "r+", embedder=mean_color)
    assert repr(retriever).startswith(f"<Retriever of 12 items at {str(saved)!r}: embedder")
    retriever.close()
    retriever.close()
    assert repr(retriever) == f"<Retriever closed, at {str(saved)!r}>"
    assert "of 0 items in memory: " in repr(Retriever(embedder=mean_color))
    for use in (
        lambda: len(retriever),
        lambda: "x" in retriever,
        lambda: list(retriever),
        lambda: retriever.search(photos / "lake" / "0.jpg"),
        lambda: retriever.add(photos / "lake" / "0.jpg"),
        lambda: retriever.remove("x"),
        retriever.save,
        lambda: retriever.reindex("flat"),
        lambda: retriever.index,
    ):
        with pytest.raises(StoreClosedError, match="open it again"):
            use()


def test_a_projection_is_kept(saved, mean_color):
    with Retriever.open(saved, "r+", embedder=mean_color) as retriever:
        retriever.project("pca", dim=5, whiten=0.5)
        expected = answers(retriever)
    with Retriever.open(saved, embedder=mean_color) as retriever:
        assert retriever.projection.dim_out == 5
        assert answers(retriever) == expected
        assert retriever.embeddings().shape == (12, 48)
    again = Retriever.load(saved, embedder=mean_color)
    assert answers(again) == expected
    again.save(saved)
    assert answers(Retriever.load(saved, embedder=mean_color)) == expected
    (saved / "projection.npz").unlink()
    with pytest.raises(StoreCorruptError, match="projection"):
        Retriever.load(saved, embedder=mean_color)


def test_a_projection_change_that_was_killed_halfway(saved, mean_color):
    with Retriever.open(saved, "r+", embedder=mean_color) as retriever:
        retriever.project("pca", dim=5)
        first = (saved / "projection.npz").read_bytes()
        retriever.project("pca", dim=6)
        expected = answers(retriever)
    (saved / "projection.npz").rename(saved / "projection.npz.tmp")
    (saved / "projection.npz").write_bytes(first)  # the manifest was written, the rename not
    with Retriever.open(saved, embedder=mean_color) as retriever:
        assert answers(retriever) == expected


def test_reembedding(saved, photos, mean_color, other_embedder):
    made = Retriever.reembed(saved, embedder=other_embedder)
    assert list(made) == list(Retriever.load(saved, embedder=mean_color))
    assert made["sand/1.jpg"].label == "sand"
    assert made.search(photos / "sand" / "1.jpg", k=1)[0].key == "sand/1.jpg"
    (photos / "sand" / "1.jpg").unlink()
    with pytest.raises(InvalidInputError, match=r"1 of 12.*'sand/1.jpg'"):
        Retriever.reembed(saved, embedder=other_embedder)


def test_two_galleries_in_one_directory_do_not_meet(saved, mean_color, tmp_path, make_picture):
    with Retriever.open(saved, "r+", embedder=mean_color) as retriever:
        retriever.save(tmp_path / "copy.imgret")
        retriever.add(make_picture(5), keys="only here")
    assert "only here" not in Retriever.load(tmp_path / "copy.imgret", embedder=mean_color)


def test_an_interrupted_ingest_keeps_what_it_had(mean_color, photos, tmp_path, make_picture):
    class Interrupted(type(mean_color)):
        left = 7  # one image, then batches of 8: the first two runs are through

        def _embed(self, given):
            if Interrupted.left == 0:
                raise KeyboardInterrupt
            Interrupted.left -= 1
            return super()._embed(given)

    for n in range(60):
        (photos / f"more-{n:02}.jpg").write_bytes(images.encode(make_picture(500 + n), "jpeg"))
    path = tmp_path / "g.imgret"
    with pytest.raises(KeyboardInterrupt), Retriever.open(path, "a", embedder=Interrupted()) as r:
        r.add_folder(photos, threads=1)
    with Retriever.open(path, "r+", embedder=mean_color) as retriever:
        kept = len(retriever)
        assert kept == 33
        report = retriever.add_folder(photos)
        assert (len(report.skipped), len(report.ok)) == (kept, 72 - kept)
