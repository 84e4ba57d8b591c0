"""Oxford 102 Flowers, from a server of this computer that has a small set in its place."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from imgret import Retriever, images
from imgret.datasets import download, flowers, flowers102
from imgret.datasets.mat import read_mat
from imgret.datasets.names import FLOWERS
from imgret.datasets.splits import stratified
from imgret.errors import DatasetError, InvalidInputError

N = 40
LABELS = [1 + n % 4 for n in range(N)]  # of the images 1 to 40


class Site(ThreadingHTTPServer):
    """A server that can misbehave."""

    files: dict[str, bytes]
    asked: list[tuple[str, str | None]]
    break_after: list[int]  # bytes after which the next answers end
    status: list[int]  # of the next answers
    ranges = True


class Answer(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self):
        site, name = self.server, self.path.strip("/")
        wanted = self.headers["Range"]
        site.asked.append((name, wanted))
        if site.status or name not in site.files:
            self.send_error(site.status.pop(0) if site.status else 404)
            return
        data, start = site.files[name], 0
        if wanted and site.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        part = data[start:]
        self.wfile.write(part[: site.break_after.pop(0)] if site.break_after else part)

    def log_message(self, *_):
        pass


def mat(**arrays: object) -> bytes:
    file = io.BytesIO()
    savemat(file, arrays, do_compression=True)
    return file.getvalue()


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as opened:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture(scope="module")
def small():
    """The three files, with 40 noisy images of four classes."""
    rng = np.random.default_rng(0)
    pictures = {
        f"jpg/image_{n:05d}.jpg": images.encode(
            rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), "jpeg"
        )
        for n in range(1, N + 1)
    }
    numbers = np.arange(1, N + 1, dtype=np.uint16)
    return {
        "102flowers.tgz": archive(pictures),
        "imagelabels.mat": mat(labels=np.array(LABELS, np.uint8)),
        "setid.mat": mat(trnid=numbers[8:16], valid=numbers[:8], tstid=numbers[16:]),
    }


@pytest.fixture
def site(small, monkeypatch):
    """A server with the files; the module takes it for the official one."""
    with Site(("127.0.0.1", 0), Answer) as server:
        server.files, server.asked, server.break_after, server.status = dict(small), [], [], []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(flowers, "_SITE", f"http://127.0.0.1:{server.server_port}/")
        digests = {name: hashlib.md5(data).hexdigest() for name, data in small.items()}  # noqa: S324  # what is published
        monkeypatch.setattr(flowers, "_MD5", digests)
        monkeypatch.setattr(download, "_PAUSE", 0.001)
        yield server
        server.shutdown()


def content(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_the_official_split_is_downloaded_once(site, tmp_path):
    root = tmp_path / "new" / "flowers"
    data = flowers102(root, download=True, progress=False)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [8, 8, 24]
    assert data.train.paths[0] == root / "jpg" / "image_00009.jpg"
    assert data.train.labels[:4] == list(FLOWERS[:4])
    assert data.names[0] == "pink primrose"
    assert data.names[101] == "blackberry lily"
    assert len({name for name, _ in site.asked}) == len(site.asked) == 3
    assert not [name for name in content(root) if name.endswith(".part")]
    again = flowers102(root)  # needs no network
    assert again == data
    assert len(site.asked) == 3


def test_what_it_returns_goes_into_a_gallery(site, tmp_path):
    data = flowers102(tmp_path, download=True, progress=False)
    retriever = Retriever()
    retriever.add(data.train.paths, labels=data.train.labels)
    assert len(retriever) == 8
    assert "top1" in retriever.evaluate(data.valid.paths, data.valid.labels, k=(1,)).metrics


def test_the_stratified_split_needs_no_setid(site, tmp_path):
    site.files.pop("setid.mat")
    data = flowers102(tmp_path, split="stratified", download=True, progress=False)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [33, 3, 4]


def test_a_folder_with_the_files_needs_no_download(site, small, tmp_path):
    for name, content_ in small.items():
        (tmp_path / name).write_bytes(content_)
    assert len(flowers102(tmp_path).test) == 24
    assert site.asked == []


def test_a_missing_file_says_how_to_get_it(site, tmp_path):
    with pytest.raises(DatasetError, match=r"imagelabels.mat: expected .* download=True.*http://"):
        flowers102(tmp_path)
    assert site.asked == []


def test_a_broken_connection_is_gone_on_with(site, small, tmp_path):
    site.break_after = [10_000_000, 10_000_000, 1000, 500]  # the small files come whole
    flowers102(tmp_path, download=True, progress=False)
    ranges = [wanted for name, wanted in site.asked if name == "102flowers.tgz"]
    assert ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert (tmp_path / "102flowers.tgz").read_bytes() == small["102flowers.tgz"]


def test_the_next_call_goes_on_where_this_one_gave_up(site, tmp_path):
    site.break_after = [10_000_000, 10_000_000] + 5 * [100]
    with pytest.raises(DatasetError, match=r"5 tries.*goes on after the 500 bytes"):
        flowers102(tmp_path, download=True, progress=False)
    del site.asked[:]
    flowers102(tmp_path, download=True, progress=False)
    assert site.asked == [("102flowers.tgz", "bytes=500-")]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_a_different_file_is_not_kept(site, small, tmp_path, ranges):
    site.ranges = ranges
    (tmp_path / "imagelabels.mat.part").write_bytes(b"x" * 20)
    (tmp_path / "setid.mat.part").write_bytes(small["setid.mat"])  # complete, and not yet renamed
    flowers102(tmp_path, download=True, progress=False)
    assert (tmp_path / "imagelabels.mat").read_bytes() == small["imagelabels.mat"]


def test_a_wrong_checksum_leaves_nothing_behind(site, tmp_path):
    site.files["setid.mat"] = b"<html>please log in</html>"
    with pytest.raises(DatasetError, match=r"setid.mat: expected .* MD5 \w+, found \w+ \(26 bytes"):
        flowers102(tmp_path, download=True, progress=False)
    assert content(tmp_path) == {"imagelabels.mat"}


@pytest.mark.parametrize("name", ["setid.mat", "102flowers.tgz"])
def test_a_damaged_file_in_the_folder_is_named(site, small, tmp_path, name):
    for each, data in small.items():
        (tmp_path / each).write_bytes(data[:-1] if each == name else data)
    with pytest.raises(DatasetError, match=rf"{name}: expected the published file.*delete it"):
        flowers102(tmp_path)


def test_errors_of_the_server(site, tmp_path):
    site.status = [503, 429]
    flowers102(tmp_path / "a", download=True, progress=False)  # are tried again
    site.status = [403]
    with pytest.raises(DatasetError, match=r"found HTTP status 403.*elsewhere and put it into"):
        flowers102(tmp_path / "b", download=True, progress=False)


def test_no_server(site, tmp_path, monkeypatch):
    monkeypatch.setattr(flowers, "_SITE", "http://127.0.0.1:1/")
    with pytest.raises(DatasetError, match="cannot be downloaded.*refused"):
        flowers102(tmp_path, download=True, progress=False)


def test_a_folder_that_is_a_file(site, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="cannot be"):
        flowers102(tmp_path / "file", download=True)


def test_a_name_that_is_taken_by_a_folder_keeps_what_arrived(site, small, tmp_path):
    (tmp_path / "setid.mat" / "inside").mkdir(parents=True)
    url, digest = f"{flowers._SITE}setid.mat", flowers._MD5["setid.mat"]
    with pytest.raises(DatasetError, match=r"setid\.mat: cannot be written"):
        download.fetch(url, tmp_path / "setid.mat", md5=digest)
    assert (tmp_path / "setid.mat.part").read_bytes() == small["setid.mat"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(site, tmp_path):
    (tmp_path / "imagelabels.mat.part").symlink_to("/dev/full")
    with pytest.raises(DatasetError, match="the disk is full; make room and call again"):
        flowers102(tmp_path, download=True, progress=False)


def test_too_little_room_is_known_beforehand(site, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        DatasetError, match=r"^[^()]+: expected room for \d+ bytes of imagelabels.mat, found 10"
    ):
        flowers102(tmp_path, download=True, progress=False)


def test_an_archive_with_other_things_writes_only_images(site, small, tmp_path, monkeypatch):
    """Also where it is the published one, as far as the checksum tells."""
    with tarfile.open(fileobj=io.BytesIO(small["102flowers.tgz"])) as opened:
        members = {each.name: opened.extractfile(each).read() for each in opened}
    first = "jpg/image_00001.jpg"
    wicked = {"../evil.jpg": b"x", "/evil/1.jpg": b"x", "jpg/../../image_00002.jpg": b"x"}
    site.files["102flowers.tgz"] = archive(wicked | members)
    digest = hashlib.md5(site.files["102flowers.tgz"]).hexdigest()  # noqa: S324
    monkeypatch.setitem(flowers._MD5, "102flowers.tgz", digest)
    root = tmp_path / "a" / "b"
    flowers102(root, download=True, progress=False)
    assert sum(name.endswith(".jpg") for name in content(tmp_path)) == N
    assert (root / first).read_bytes() == members[first]


def test_an_archive_that_lacks_an_image(site, small, tmp_path, monkeypatch):
    for data, message in (
        (archive({"jpg/image_00001.jpg": b"x"}), "expected 40 images, found 39 .* image_00002.jpg"),
        (small["102flowers.tgz"][:2000], "the archive is damaged"),
    ):
        site.files["102flowers.tgz"] = data
        monkeypatch.setitem(flowers._MD5, "102flowers.tgz", hashlib.md5(data).hexdigest())  # noqa: S324
        with pytest.raises(DatasetError, match=message):
            flowers102(tmp_path / str(len(data)), download=True, progress=False)


def test_folders_by_number(site, tmp_path):
    data = flowers102(tmp_path, download=True, progress=False)
    for path, label in zip(data.train.paths, data.train.labels, strict=True):
        place = tmp_path / "copy" / "train" / str(FLOWERS.index(label) + 1) / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    copy = flowers102(tmp_path / "copy", split="folders")
    assert copy.train.labels == data.train.labels
    assert [path.name for path in copy.train.paths] == [path.name for path in data.train.paths]
    assert len(copy.valid) == len(copy.test) == 0
    (tmp_path / "copy" / "test").mkdir()
    (tmp_path / "copy" / "test" / "image_00001.jpg").touch()
    with pytest.raises(DatasetError, match="folders 1 to 102 .* found 'image_00001.jpg'"):
        flowers102(tmp_path / "copy", split="folders")
    with pytest.raises(DatasetError, match="expected folders train/1 to train/102"):
        flowers102(tmp_path, split="folders")


def test_arranged_for_training(site, tmp_path):
    data = flowers102(tmp_path / "flowers", download=True, progress=False)
    root = data.arrange(tmp_path / "folders")
    assert data.arrange(root) == root
    assert sorted(path.name for path in (root / "train").iterdir()) == sorted(FLOWERS[:4])
    assert len(content(root)) == N
    assert (root / "train" / "pink primrose" / "image_00009.jpg").samefile(data.train.paths[0])


def test_an_unknown_split(tmp_path):
    with pytest.raises(InvalidInputError, match="expected one of 'official', .* found 'random'"):
        flowers102(tmp_path, split="random")


@given(st.lists(st.integers(1, 102), min_size=1, max_size=400))
def test_the_stratified_split_divides_every_class_alike(labels):
    parts = stratified(labels)
    assert sorted(number for part in parts for number in part) == list(range(1, len(labels) + 1))
    assert len(parts[1]) == len(labels) * 818 // 8189
    assert len(parts[2]) == len(labels) * 819 // 8189
    assert stratified(labels) == parts
    all_of = Counter(labels)
    for part in parts:
        found = Counter(labels[number - 1] for number in part)
        for label, size in all_of.items():
            assert abs(found[label] - size * len(part) / len(labels)) <= 2


def test_the_sizes_of_the_real_one():
    labels = [1 + n % 102 for n in range(8189)]
    assert [len(part) for part in stratified(labels)] == [6552, 818, 819]


@pytest.mark.parametrize("compressed", [True, False])
def test_mat_files_of_scipy(tmp_path, compressed):
    arrays = {
        "labels": np.arange(1, 300, dtype=np.uint16),
        "few": np.array([[1, 2], [3, 4]], np.int8),
        "x": np.array([0.5, -1e9]),
        "n": np.int64(7),
        "text": "words",
        "cell": np.array([1, "a"], object),
        "complex": np.array([1 + 2j]),
    }
    path = tmp_path / "a.mat"
    savemat(path, arrays, do_compression=compressed)
    found = read_mat(path)
    assert set(found) == {"labels", "few", "x", "n"}
    for name, values in found.items():
        assert np.array_equal(values, np.atleast_2d(arrays[name])), name


@given(data=st.binary(max_size=200), at=st.integers(0, 500))
def test_damaged_mat_files_are_an_error_or_arrays(tmp_path_factory, data, at):
    good = mat(labels=np.arange(60, dtype=np.uint8), other=np.arange(3.0))
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    path.write_bytes(good[:at] + data + good[at + len(data) :])
    try:
        found = read_mat(path)
    except DatasetError:
        return
    assert all(isinstance(values, np.ndarray) for values in found.values())
