"""Archives read in place: what they contain, and what they may not do."""

import gzip
import io
import os
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgret.errors import (
    ImageCorruptError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageUnsupportedError,
)
from imgret.files import archives, is_archive, read_bytes, state_of

JPEG = b"\xff\xd8\xff" + bytes(range(256))


def make_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def make_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


KINDS = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.TGZ": lambda path, members: make_tar(path, members, "w:gz"),
    "a.tar.bz2": lambda path, members: make_tar(path, members, "w:bz2"),
    "a.tar.xz": lambda path, members: make_tar(path, members, "w:xz"),
}
NAMES = st.text("abcäß .-_", min_size=1, max_size=8).filter(
    lambda name: name.strip(". ") == name and name
)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=8, deadline=None)
@given(
    members=st.dictionaries(
        st.lists(NAMES, min_size=1, max_size=3).map("/".join),
        st.binary(min_size=1, max_size=2000),
        min_size=1,
        max_size=5,
    )
)
def test_members_are_read_as_they_were_written(name, members, tmp_path_factory):
    path = KINDS[name](tmp_path_factory.mktemp("archives") / name, members)
    found = archives.opened(path)
    assert {key: entry.size for key, entry in found.entries.items()} == {
        key: len(data) for key, data in members.items()
    }
    for key, data in members.items():
        assert read_bytes(path / key) == read_bytes(f"{path}/{key}") == data
        assert state_of(path / key) == (len(data), path.stat().st_mtime_ns)
    with pytest.raises(ImageNotFoundError, match="no such member"):
        read_bytes(path / "none.jpg")


def test_an_archive_that_was_replaced_is_read_again(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x.jpg": b"old"})
    assert read_bytes(path / "x.jpg") == b"old"
    make_zip(path, {"x.jpg": b"newer"})
    assert read_bytes(path / "x.jpg") == b"newer"


def test_a_folder_may_be_called_like_an_archive(tmp_path):
    (tmp_path / "a.zip").mkdir()
    (tmp_path / "a.zip" / "x.jpg").write_bytes(JPEG)
    assert read_bytes(tmp_path / "a.zip" / "x.jpg") == JPEG
    with pytest.raises(ImageNotFoundError, match="no such file"):
        read_bytes(tmp_path / "a.zip" / "y.jpg")
    assert not is_archive("a.gz")
    assert not is_archive("zip")


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../../etc/up.jpg", "/etc/abs.jpg", "a/../../x.jpg", "C:\\x.jpg"])
def test_names_that_lead_out_are_not_used(tmp_path, make, name):
    path = make(tmp_path / ("a.zip" if make is make_zip else "a.tar"), {name: JPEG, "ok.jpg": JPEG})
    found = archives.opened(path)
    bad = next(key for key in found.entries if key != "ok.jpg")
    assert "leads out of the archive" in found.entries[bad].trouble
    assert found.read("ok.jpg") == JPEG
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    path = make_tar(tmp_path / "a.tar", {"ok.jpg": JPEG})
    with tarfile.open(path, "a") as file:
        for name, kind, target in (
            ("symbolic.jpg", tarfile.SYMTYPE, str(secret)),
            ("outside.jpg", tarfile.LNKTYPE, str(secret)),
            ("copy.jpg", tarfile.LNKTYPE, "ok.jpg"),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            file.addfile(info)
    for name in ("symbolic.jpg", "outside.jpg", "pipe.jpg"):
        with pytest.raises(ImageUnsupportedError, match="link|ordinary"):
            read_bytes(path / name)
    assert read_bytes(path / "copy.jpg") == JPEG  # stored once, in the archive
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as file:
        info = zipfile.ZipInfo("link.jpg")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        file.writestr(info, str(secret))
    with pytest.raises(ImageUnsupportedError, match="link"):
        read_bytes(packed / "link.jpg")


def test_bombs_are_refused_by_what_they_declare_and_by_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_SMALL_MEMBER", 1 << 16)
    monkeypatch.setattr(archives, "_SMALL_ARCHIVE", 1 << 20)
    one = make_zip(tmp_path / "one.zip", {"bomb.jpg": bytes(1 << 18), "ok.jpg": JPEG})
    with pytest.raises(ImageTooLargeError, match="unpacks to 262,144 bytes"):
        read_bytes(one / "bomb.jpg")
    assert read_bytes(one / "ok.jpg") == JPEG
    many = make_zip(tmp_path / "many.zip", {f"{n}.jpg": bytes(1 << 18) for n in range(8)})
    packed = tmp_path / "bomb.tar.gz"
    with gzip.open(packed, "wb") as file:  # without an end
        info = tarfile.TarInfo("b.jpg")
        info.size = 1 << 40
        file.write(info.tobuf() + bytes(1 << 22))
    for path in (many, packed):
        with pytest.raises(ImageTooLargeError, match="unpacks to [0-9,]+ bytes or more"):
            archives.opened(path)
    # The directory declares 1,000 bytes, and the data would unpack to more.
    lie = make_zip(tmp_path / "lie.zip", {"lie.jpg": bytes(60_000)})
    lie.write_bytes(lie.read_bytes().replace(struct.pack("<I", 60_000), struct.pack("<I", 1000)))
    with pytest.raises(ImageCorruptError, match="damaged in the archive"):
        read_bytes(lie / "lie.jpg")


def test_an_encrypted_member_is_said_to_be(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x.jpg": JPEG}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(ImageUnsupportedError, match="encrypted; extract"):
        read_bytes(path / "x.jpg")


@pytest.mark.parametrize("name", ["a.tar", "a.TGZ"])
def test_what_is_whole_in_a_truncated_tar_is_read(tmp_path, name):
    rng = np.random.default_rng(0)
    members = {f"{n}.jpg": rng.bytes(40_000) for n in range(4)}
    path = KINDS[name](tmp_path / name, members)
    path.write_bytes(path.read_bytes()[:100_000])
    found = archives.opened(path)
    assert "damaged or cut short" in found.trouble
    assert found.read("0.jpg") == members["0.jpg"]
    with pytest.raises(ImageUnsupportedError, match="ends before"):
        found.read(list(found.entries)[-1])


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "b.zip"])
def test_what_is_no_archive(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"hello" * 100)
    if name == "b.zip":  # cut short: its directory is at the end
        make_zip(path, {"x.jpg": JPEG})
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageCorruptError, match="expected a (zip|tar) archive"):
        archives.opened(path)
    with pytest.raises(ImageNotFoundError, match="expected an archive, found none"):
        archives.opened(tmp_path / "none.zip")


def test_a_damaged_member_costs_only_itself(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x.jpg": JPEG, "y.jpg": JPEG}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    with pytest.raises(ImageCorruptError, match="CRC"):
        read_bytes(path / "x.jpg")
    assert read_bytes(path / "y.jpg") == JPEG


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_reads_with_a_position_of_its_own(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x.jpg": JPEG})
    read_bytes(path / "x.jpg")
    child = os.fork()
    if not child:
        os._exit(0 if read_bytes(path / "x.jpg") == JPEG else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_is_written_below_the_archive(tmp_path):
    path = KINDS["a.TGZ"](tmp_path / "a.TGZ", {"x.jpg": JPEG})
    read_bytes(path / "x.jpg")
    assert list(tmp_path.iterdir()) == [Path(path)]
