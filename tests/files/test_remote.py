"""Addresses: fsspec's memory, and a server of this machine."""

import http.server
import sys
import threading
from functools import partial

import pytest

from imgret.errors import ImageNotFoundError, InvalidInputError, MissingExtraError
from imgret.files import Url, is_url, place_of, read_bytes, remote, state_of

fsspec = pytest.importorskip("fsspec")


def is_image(name):
    return name.endswith((".jpg", ".png"))


find = partial(remote.find, is_image=is_image)


@pytest.fixture
def bucket():
    system = fsspec.filesystem("memory")
    for name in ("2019/a b.jpg", "2019/b.jpg", "2020/x/c.png", "notes.txt"):
        system.pipe(f"/bucket/{name}", name.encode())
    yield "memory://bucket"
    system.store.clear()


@pytest.fixture
def served(tmp_path):
    """The address of a server of a folder, and the folder."""
    pytest.importorskip("aiohttp")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.func.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_a_pattern_and_a_file(bucket):
    every = find(bucket)
    assert [file.name for file in every.files] == [
        "2019/a b.jpg", "2019/b.jpg", "2020/x/c.png", "notes.txt"
    ]  # fmt: skip
    assert every.files[1].url == f"{bucket}/2019/b.jpg"
    assert (every.root, every.single) == (bucket, False)
    assert [file.name for file in find(f"{bucket}/2019/*.jpg").files] == ["a b.jpg", "b.jpg"]
    assert [file.name for file in find(f"{bucket}/**/*.png").files] == ["2020/x/c.png"]
    assert find(f"{bucket}/2019/b.jpg").single
    assert find(f"{bucket}/notes.txt").single
    for file in every.files:
        assert read_bytes(file.url) == file.name.encode()
        assert state_of(file.url).size == file.size == len(file.name)
    fsspec.filesystem("memory").pipe("/bucket/new.jpg", b"new")  # seen, whatever fsspec keeps
    assert len(find(bucket).files) == 5


def test_what_is_not_there(bucket):
    for url in (f"{bucket}/none", "memory://none/x"):
        with pytest.raises(ImageNotFoundError, match="no such file or folder"):
            find(url)
    with pytest.raises(ImageNotFoundError, match="no such file"):
        read_bytes(f"{bucket}/none.jpg")
    with pytest.raises(ImageNotFoundError, match="match the pattern"):
        find(f"{bucket}/*.gif")


def test_a_server(served):
    root, folder = served
    (folder / "sub").mkdir()
    (folder / "sub" / "a b.jpg").write_bytes(b"one")
    (folder / "b.jpg").write_bytes(b"two")
    found = find(f"{root}/")
    assert [(file.url, file.name) for file in found.files] == [
        (f"{root}/b.jpg", "b.jpg"),
        (f"{root}/sub/a%20b.jpg", "sub/a b.jpg"),
    ]
    assert [read_bytes(file.url) for file in found.files] == [b"two", b"one"]
    size, mtime = state_of(f"{root}/b.jpg")
    assert size == 3
    assert abs(mtime - (folder / "b.jpg").stat().st_mtime_ns) < 1e9  # whole seconds
    with pytest.raises(ImageNotFoundError, match="no such file"):
        read_bytes(f"{root}/none.jpg")
    with pytest.raises(ImageNotFoundError, match="no such file"):
        find(f"{root}/none/")


def test_a_server_that_is_not_there():
    pytest.importorskip("aiohttp")
    for ask in (read_bytes, state_of, find):
        with pytest.raises(ImageNotFoundError, match="cannot be read.*[Cc]onnect"):
            ask("http://127.0.0.1:9/a.jpg" if ask is not find else "http://127.0.0.1:9/photos/")


def test_a_service_that_never_answers(monkeypatch, bucket):
    monkeypatch.setattr(remote, "_READ_SECONDS", 0.1)
    release = threading.Event()
    system = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(system, "cat_file", lambda *_, **__: release.wait(5))
    with pytest.raises(ImageNotFoundError, match="no answer for 0 seconds; is the network up"):
        read_bytes(f"{bucket}/a.jpg")
    release.set()


def test_missing_credentials_are_a_sentence(monkeypatch, bucket):
    class NoCredentialsError(Exception):
        pass

    def refuse(*_, **__):
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    with pytest.raises(ImageNotFoundError, match="refuses access.*environment variables"):
        read_bytes(f"{bucket}/a.jpg")


def test_what_is_no_address():
    with pytest.raises(InvalidInputError, match="of a kind that fsspec knows"):
        read_bytes("nosuch://bucket/a.jpg")
    with pytest.raises(InvalidInputError, match="several in a chain"):
        read_bytes("zip://a.jpg::memory://a.zip")
    with pytest.raises(InvalidInputError, match="without a password") as caught:
        place_of("https://me:secret@example.org/a.jpg")
    assert "secret" not in str(caught.value)
    assert not is_url("C:\\photos\\a.jpg")
    assert not is_url("photos/a://b.jpg")


def test_a_file_address_is_a_path(tmp_path):
    (tmp_path / "a b.jpg").write_bytes(b"one")
    assert read_bytes((tmp_path / "a b.jpg").as_uri()) == b"one"


def test_parts_of_an_address():
    url = Url("https://example.org/my%20photos/a%20b.jpg?size=2")
    assert (url.name, url.parent.name) == ("a b.jpg", "my photos")
    assert Url("s3://bucket/x/a.jpg").parent.name == "x"


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'imgret\[remote\]'"):
        read_bytes("s3://bucket/a.jpg")
