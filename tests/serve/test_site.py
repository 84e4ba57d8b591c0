"""The gallery behind a server: replaced, changed, indexed meanwhile; batches; thumbnails."""

import hashlib
import shutil
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imgret import Embedder, Retriever, images
from imgret.errors import (
    ImageError,
    ImageNotFoundError,
    InvalidInputError,
    StoreNotFoundError,
)
from imgret.files import ItemFile
from imgret.serve import site as sites
from imgret.serve.batching import BatchingEmbedder
from imgret.serve.thumbnails import Thumbnails, thumbnails_of


def file_of(path):
    """The file of an item that was indexed as it is."""
    return ItemFile(str(path), hashlib.sha256(Path(path).read_bytes()).digest())


def soon(true, seconds=20):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


# -- replaced --------------------------------------------------------------------------------------


def test_a_gallery_that_is_replaced_is_opened_again(serve, gallery, flowers):
    client = serve(gallery)
    other = Retriever()
    other.add(sorted((flowers / "tulip").glob("*.jpg")))
    shutil.rmtree(gallery)
    assert client.get("/api/items").json()["total"] == 36  # what is open is served until then
    other.save(gallery)
    assert soon(lambda: client.get("/api/items").json()["total"] == 12)
    data = (flowers / "tulip" / "0.jpg").read_bytes()
    assert client.post("/api/search", content=data).json()["hits"][0]["score"] > 0.99


def test_a_gallery_of_another_model_in_its_place(serve, gallery, flowers, request):
    client = serve(gallery)
    model = request.path.parents[1] / "data" / "models" / "dinov2"
    other = Retriever(embedder=model)
    other.add(sorted((flowers / "tulip").glob("*.jpg")))
    shutil.rmtree(gallery)
    other.save(gallery)
    assert soon(lambda: client.get("/api/gallery").json()["dim"] == 48)
    data = (flowers / "tulip" / "0.jpg").read_bytes()
    assert client.post("/api/search", content=data).json()["hits"][0]["score"] > 0.99


def test_requests_that_run_keep_what_they_have(serve, gallery, monkeypatch):
    monkeypatch.setattr(sites, "_LEAST_SECONDS", 0.0)
    client = serve(gallery)
    with client.site.use() as before:
        with Retriever.open(gallery, "r+") as writer:
            writer.remove("rose/1.jpg")
        assert soon(lambda: client.get("/api/items").json()["total"] == 35)
        assert len(before) == 36
        assert before["rose/1.jpg"].label == "rose"
    with pytest.raises(Exception, match="closed"):
        before.view().items  # noqa: B018


# -- indexed meanwhile -----------------------------------------------------------------------------


def test_a_folder_is_indexed_and_served(serve, flowers, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(flowers, folder)
    (folder / "broken.jpg").write_bytes(b"no image")
    client = serve(folder=folder)
    assert soon(lambda: client.get("/api/indexing").json()["state"] == "done")
    facts = client.get("/api/indexing").json()
    assert (facts["total"], facts["failed"], facts["folder"]) == (37, 1, "photos")
    assert soon(lambda: client.get("/api/items").json()["total"] == 36)
    assert (tmp_path / "photos.imgret" / "manifest.json").is_file()


def test_labels_are_the_folders_where_all_images_are_in_folders(serve, flowers, tmp_path):
    shutil.copytree(flowers, tmp_path / "photos")
    client = serve(folder=tmp_path / "photos")
    assert soon(lambda: client.get("/api/indexing").json()["state"] == "done")
    assert soon(lambda: client.get("/api/gallery").json()["labels"] == 3)


def test_a_folder_is_chosen(serve, flowers, tmp_path):
    shutil.copytree(flowers, tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    shutil.copy(flowers / "rose" / "0.jpg", tmp_path / ".hidden")
    client = serve(among=tmp_path)
    assert client.get("/healthz").json()["status"] == "waiting"
    assert client.get("/api/gallery").status_code == 409
    offered = client.get("/api/indexing").json()
    assert offered["state"] == "none"
    names = {each["name"]: each for each in offered["choices"]}
    assert set(names) == {tmp_path.name, "photos"}
    assert names["photos"]["images"] == 36
    for wrong in ("9", "..%2Fother", "/etc"):
        assert client.post(f"/api/indexing/{wrong}").status_code in {400, 404}
    assert client.post(f"/api/indexing/{names['photos']['id']}").status_code == 202
    assert client.post(f"/api/indexing/{names['photos']['id']}").status_code == 400
    assert soon(lambda: client.get("/api/indexing").json()["state"] == "done")
    assert soon(lambda: client.get("/healthz").json()["status"] == "ok")


def test_indexing_that_fails_says_why(serve, flowers, tmp_path):
    shutil.copytree(flowers, tmp_path / "photos")
    client = serve(folder=tmp_path / "photos", embedder="none-such")
    assert soon(lambda: client.get("/api/indexing").json()["state"] == "failed")
    assert "none-such" in client.get("/api/indexing").json()["message"]
    assert client.get("/api/search?like=a").status_code == 409


def test_mistakes(tmp_path):
    with pytest.raises(StoreNotFoundError):
        sites.Site(tmp_path / "none.imgret")
    with pytest.raises(InvalidInputError, match="expected a folder of images"):
        sites.Site(folder=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="expected a folder of images, found no image"):
        sites.Site(folder=tmp_path / "empty")
    assert not (tmp_path / "empty.imgret").exists()


# -- batches ---------------------------------------------------------------------------------------


class Slow(Embedder):
    """Takes a while for each batch, and remembers their sizes."""

    name, dim, fingerprint = "slow", 3, "test:slow"

    def __init__(self, batch_size):
        self.batch_size, self.sizes = batch_size, []

    def config(self):
        return {}

    def _embed(self, given):
        if any(image[0, 0, 0] == 255 for image in given):
            raise ImageError("not this one")
        self.sizes.append(len(given))
        time.sleep(0.02)
        return np.stack([image.mean(axis=(0, 1)) + 1 for image in given]).astype(np.float32)


def plain(level):
    return np.full((4, 4, 3), level, np.uint8)


@pytest.mark.parametrize("size", [1, 8])
def test_calls_are_answered_together_and_rightly(size):
    inner, told = Slow(size), []
    batching = BatchingEmbedder(inner, observe=told.append)
    found = {}

    def ask(level):
        found[level] = batching.embed([plain(level)])[0]

    threads = [threading.Thread(target=ask, args=(level,)) for level in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {level: row.tolist() for level, row in found.items()} == {
        level: [level + 1] * 3 for level in range(40)
    }
    assert sum(told) == 40
    assert max(told) <= max(size, 1)
    if size > 1:
        assert len(told) < 20  # of 40 calls


def test_images_of_one_call_are_embedded_together():
    few, many = Slow(1), Slow(8)
    for inner in (few, many):
        found = BatchingEmbedder(inner).embed([plain(level) for level in range(10)])
        assert found[:, 0].tolist() == list(range(1, 11))
    assert few.sizes == [4, 4, 2]  # a CPU is faster with a few than with one at a time
    assert many.sizes == [8, 2]


@pytest.mark.parametrize("size", [1, 4])
def test_small_batches_run_side_by_side(size, monkeypatch):
    monkeypatch.setattr("imgret.serve.batching.worker_count", lambda: 2)
    both = threading.Barrier(2)  # passed only if two batches run at once

    class Meeting(Slow):
        def _embed(self, given):
            both.wait(timeout=20)
            return super()._embed(given)

    batching = BatchingEmbedder(Meeting(size))
    threads = [
        threading.Thread(target=batching.embed, args=([plain(level) for level in levels],))
        for levels in (range(4), range(4, 8))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken


def test_the_same_image_again_is_remembered():
    inner = Slow(4)
    batching = BatchingEmbedder(inner, remembered=2)
    for level in (1, 2, 1, 1):
        assert batching.embed([plain(level)])[0, 0] == level + 1
    assert sum(inner.sizes) == 2
    batching.embed([plain(3)])
    assert batching.embed([plain(2), plain(1)]).tolist() == [[3] * 3, [2] * 3]
    assert sum(inner.sizes) == 4  # 2 was the oldest


def test_an_error_is_of_its_own_call():
    batching = BatchingEmbedder(Slow(1))
    with pytest.raises(ImageError, match="not this one"):
        batching.embed([plain(255)])
    assert batching.embed([plain(1)]).shape == (1, 3)


# -- thumbnails ------------------------------------------------------------------------------------


def test_thumbnails_are_made_once(flowers, tmp_path, monkeypatch):
    photo = tmp_path / "a.jpg"
    shutil.copy(flowers / "rose" / "0.jpg", photo)
    thumbs = Thumbnails(thumbnails_of(tmp_path / "g.imgret"), max_pixels=10**8)
    first = thumbs.get(file_of(photo), 96)
    assert images.load(first).shape == (72, 96, 3)
    assert thumbnails_of(tmp_path / "g.imgret").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", lambda *_, **__: pytest.fail("made again"))
        assert thumbs.get(file_of(photo), 96) == first
        fresh = Thumbnails(thumbnails_of(tmp_path / "g.imgret"), max_pixels=10**8)
        assert fresh.get(file_of(photo), 96) == first
    shutil.copy(flowers / "tulip" / "0.jpg", photo)  # another image by now
    assert thumbs.get(file_of(photo), 96) != first


def test_a_disk_that_cannot_be_written(flowers, tmp_path, caplog):
    taken = tmp_path / "file"
    taken.write_text("no folder")
    thumbs = Thumbnails(taken / "thumbs", max_pixels=10**8)
    path = file_of(flowers / "rose" / "0.jpg")
    assert thumbs.get(path, 96) == thumbs.get(path, 96)
    assert "kept in memory" in caplog.text
    assert len(caplog.records) == 1


def test_no_partial_files_stay(flowers, tmp_path, monkeypatch):
    thumbs = Thumbnails(tmp_path / "thumbs", max_pixels=10**8)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert thumbs.get(file_of(flowers / "rose" / "0.jpg"), 96)
    monkeypatch.undo()
    assert [file for file in (tmp_path / "thumbs").rglob("*") if file.is_file()] == []


def test_thumbnails_of_members_and_addresses(flowers, tmp_path):
    system = pytest.importorskip("fsspec").filesystem("memory")
    path = next(flowers.rglob("*.jpg"))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(path, "x/y.jpg")
    system.pipe("/bucket/x.jpg", path.read_bytes())
    thumbs = Thumbnails(tmp_path / "thumbs", max_pixels=10**8)
    file = file_of(path)
    same = thumbs.get(file, 64)
    try:
        assert thumbs.get(file._replace(path=str(archive / "x" / "y.jpg")), 64) == same
        assert thumbs.get(file._replace(path="memory://bucket/x.jpg"), 64) == same
        with pytest.raises(ImageNotFoundError, match="no such member"):
            thumbs.get(file._replace(path=str(archive / "none.jpg")), 64)
        with pytest.raises(ImageNotFoundError, match="no such file"):
            thumbs.get(file._replace(path="memory://bucket/none.jpg"), 64)
    finally:
        system.store.clear()
    assert (
        thumbs.get(file._replace(path="memory://bucket/x.jpg"), 64) == same
    )  # kept, the service may be away
