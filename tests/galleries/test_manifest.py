"""The manifest, and the note beside a stored index."""

import json
import zlib
from dataclasses import replace

import pytest

from imgret.errors import (
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StoreVersionError,
)
from imgret.galleries.local.checkpoint import Checkpoint, drop_index, read_checkpoint, write_index
from imgret.galleries.local.manifest import Manifest, is_gallery
from imgret.types import Part


@pytest.fixture
def content(tmp_path, manifest):
    manifest.write(tmp_path)
    return json.loads((tmp_path / "manifest.json").read_text())


def put(tmp_path, content):
    """Write a manifest by hand."""
    if isinstance(content, dict) and "crc32" in content:
        content = {**content, "crc32": None}
    (tmp_path / "manifest.json").write_text(json.dumps(content))


def test_round_trip(tmp_path, manifest):
    manifest = replace(manifest, projection="p" * 64, created="2026-01-02", created_with="0.1")
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.copy.json",
        "manifest.json",
    ]
    assert Manifest.read(tmp_path, name="manifest.copy.json") == manifest
    assert is_gallery(tmp_path)


def test_file_says_who_wrote_it_and_when(content):
    assert content["format"] == "imgret-gallery"
    assert content["version"] == 2
    assert content["embedder"] == {"name": "colors", "config": {"offset": 1.0}}
    assert content["created"].endswith("+00:00")
    assert content["created_with"]


def test_none_there(tmp_path):
    with pytest.raises(StoreNotFoundError, match=r"found nothing; `imgret index"):
        Manifest.read(tmp_path)
    with pytest.raises(StoreNotFoundError, match=r"found nothing; `imgret index"):
        Manifest.read(tmp_path / "no")
    (tmp_path / "file").touch()
    with pytest.raises(StoreNotFoundError):
        Manifest.read(tmp_path / "file")
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        Manifest.read(tmp_path)


def test_near_names_are_suggested(tmp_path):
    for name in ("photos.imgret", "photos-2.imgret", "paintings.imgret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.jpg").touch()
    for name in ("photos", "photo.imgret", "photos.imget"):
        with pytest.raises(StoreNotFoundError, match=r"did you mean \S+/photos.imgret\?") as caught:
            Manifest.read(tmp_path / name)
        assert str(caught.value).count("did you mean") == 1
    with pytest.raises(StoreNotFoundError, match=r"found nothing; `imgret index"):
        Manifest.read(tmp_path / "mine.imgret")
    with pytest.raises(StoreNotFoundError, match=r"found nothing; `imgret index"):
        Manifest.read(tmp_path / "no" / "photos.imgret")


@pytest.mark.parametrize("text", ["", "{", "\xff\xfe", '{"format": '])
def test_no_json(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(StoreCorruptError, match=r"manifest\.json: expected JSON"):
        Manifest.read(tmp_path)
    assert not is_gallery(tmp_path)


@pytest.mark.parametrize("other", [[], 5, None, {}, {"manifest_version": 3, "name": "extension"}])
def test_another_manifest(tmp_path, other):
    put(tmp_path, other)
    with pytest.raises(StoreCorruptError, match="found another file"):
        Manifest.read(tmp_path)
    assert not is_gallery(tmp_path)


def test_newer(tmp_path, content):
    put(tmp_path, {"format": content["format"], "version": 3, "created_with": "9.0"})
    with pytest.raises(StoreVersionError, match=r"found 3 \(written by imgret 9\.0\); upgrade"):
        Manifest.read(tmp_path)
    assert is_gallery(tmp_path)  # it is one, though not for us


def test_every_field_is_needed(tmp_path, content):
    for name in content:
        put(tmp_path, {key: value for key, value in content.items() if key != name})
        with pytest.raises(StoreCorruptError, match=r"manifest\.json"):
            Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metric", "hamming"),
        ("metric", ["cosine"]),
        ("dtype", "int8"),
        ("dtype", ["float16"]),
        ("dim", 0),
        ("dim", "6"),
        ("version", "1"),
        ("version", 0),
        ("embedder", "colors"),
        ("index", {"name": "flat", "config": {}, "more": 1}),
        ("embedder", {"name": ["colors"], "config": {}}),
        ("embedder", {"name": "colors", "config": []}),
        ("cropper", {"name": "onnx", "config": "model.onnx"}),
        ("cropper_fingerprint", 5),
        ("dim", True),
        ("dim", 2**24 + 1),
        ("fingerprint", None),
        ("projection", 5),
        ("version", None),
        ("tuned", {"index": 5, "settings": {}}),
        ("tuned", {"index": "hnsw", "settings": {"ef_search": 0}}),
        ("tuned", {"index": "hnsw", "settings": {"ef_search": 1.5}}),
        ("tuned", {"index": "hnsw"}),
        ("calibration", []),
        ("text_calibration", 5),
        ("dropped", -1),
        ("dropped", True),
        ("dropped", 2**62),
        ("files", []),
        ("files", {"/a.onnx": 5}),
    ],
)
def test_bad_values(tmp_path, content, name, value):
    put(tmp_path, {**content, name: value})
    with pytest.raises(StoreCorruptError, match=r"manifest\.json"):
        Manifest.read(tmp_path)


def test_the_largest_values(tmp_path, content):
    most = {"dim": 2**24, "dropped": 2**62 - 1, "tuned": {"index": "x", "settings": {"n": 1}}}
    put(tmp_path, {**content, **most, "calibration": {}, "text_calibration": {"a": 1}})
    found = Manifest.read(tmp_path)
    assert {name: getattr(found, name) for name in most} == most
    assert (found.calibration, found.text_calibration) == ({}, {"a": 1})
    put(tmp_path, {**content, "dim": 1, "dropped": 0})
    assert Manifest.read(tmp_path).dim == 1


def test_the_file_is_read_by_people_and_summed_in_one_way(tmp_path, manifest):
    """The sum is of the fields without it, sorted by their names."""
    manifest.with_(created="2026-01-02", created_with="0.1", dropped=3).write(tmp_path)
    text = (tmp_path / "manifest.json").read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=2) + "\n"
    assert list(content)[-2:] == ["dropped", "crc32"]
    stored = content.pop("crc32")
    assert stored == zlib.crc32(json.dumps(content, sort_keys=True).encode())


def test_an_old_manifest_has_no_checksum_and_is_written_again(tmp_path, content, manifest):
    old = {**content, "version": 1}
    del old["crc32"]
    (tmp_path / "manifest.json").write_text(json.dumps(old))
    found = Manifest.read(tmp_path)
    assert found.with_(created="", created_with="") == manifest
    assert Manifest.is_older(tmp_path)
    found.upgrade(tmp_path)
    assert not Manifest.is_older(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text()) == content
    (tmp_path / "manifest.copy.json").unlink()
    found.upgrade(tmp_path)  # nothing is left to do
    assert not (tmp_path / "manifest.copy.json").exists()


def test_what_is_there_in_place_of_a_gallery(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.jpg").touch()
    for name, found in (
        ("file", "a file; choose another path"),
        ("empty", f"nothing; `imgret index FOLDER -o {tmp_path}/empty` makes one"),
        ("none", f"nothing; `imgret index FOLDER -o {tmp_path}/none` makes one"),
        (
            "images",
            (
                f"a folder of other files; if they are images, `imgret index {tmp_path}/images -o "
                f"images.imgret` makes a gallery of them"
            ),
        ),
    ):
        with pytest.raises(StoreNotFoundError) as caught:
            Manifest.read(tmp_path / name)
        assert str(caught.value) == (
            f"{tmp_path}/{name}: expected a gallery (a directory with a manifest.json), found "
            f"{found}"
        )
    (tmp_path / "images.imgret").mkdir()
    (tmp_path / "images.imgret" / "manifest.json").touch()
    (tmp_path / "image").touch()
    for name, found in (
        ("image", "a file"),
        ("images", "a folder of other files"),
        ("imagess", "nothing"),
    ):
        with pytest.raises(StoreNotFoundError) as caught:
            Manifest.read(tmp_path / name)
        assert str(caught.value).endswith(f"found {found}; did you mean {tmp_path}/images.imgret?")


def test_files_are_absolute_here_and_relative_there(tmp_path, manifest):
    model = tmp_path / "models" / "m.onnx"
    model.parent.mkdir()
    model.touch()
    config = {"parts": [{"config": {"model": str(model), "size": 8, "resize": "crop"}}]}
    absent = {"model": "/nowhere/n.onnx", "url": "https://example.org/x"}
    manifest = manifest.with_(
        embedder=Part("two", config), cropper=Part("other", absent), cropper_fingerprint="c 1"
    )
    (tmp_path / "a" / "g").mkdir(parents=True)
    manifest.write(tmp_path / "a" / "g")
    written = json.loads((tmp_path / "a" / "g" / "manifest.json").read_text())
    assert written["files"] == {str(model): "../../models/m.onnx"}
    read = Manifest.read(tmp_path / "a" / "g")
    assert (read.files, read.cropper_fingerprint) == ({str(model): str(model)}, "c 1")
    model.unlink()  # for the time being
    read.write(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["files"] == {
        str(model): "../models/m.onnx"
    }


def test_a_file_that_is_no_longer_beside_the_gallery_is_looked_for_where_it_was(tmp_path, manifest):
    """Of a tree that was copied as a whole; a file of the copy goes first."""
    here, there = tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx"
    for file in (here, there):
        file.parent.mkdir()
        file.touch()
    manifest = manifest.with_(
        embedder=Part("one", {"model": str(here)}), files={str(here): str(there)}
    )

    def written():
        manifest.write(tmp_path / "b")
        return json.loads((tmp_path / "b" / "manifest.json").read_text())["files"]

    assert written() == {str(here): "./m.onnx"}
    there.unlink()
    assert written() == {str(here): "../a/m.onnx"}
    here.unlink()
    assert written() == {str(here): "./m.onnx"}


def test_a_checksum_is_compared_in_an_old_manifest_that_has_one(tmp_path, content):
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "version": 1}))
    with pytest.raises(StoreCorruptError, match="checksum"):
        Manifest.read(tmp_path)


def test_a_change_by_hand_says_so(tmp_path, content):
    changed = {**content, "metric": "l2"}
    (tmp_path / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(StoreCorruptError, match=r"checksum.*by hand, set its 'crc32' to null"):
        Manifest.read(tmp_path)
    put(tmp_path, changed)
    assert Manifest.read(tmp_path).metric == "l2"
    Manifest.read(tmp_path).write(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["crc32"] > 0


def test_the_order_of_the_fields_does_not_matter(tmp_path, content):
    (tmp_path / "manifest.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert Manifest.read(tmp_path).metric == content["metric"]


def test_what_is_not_said_is_not_written(content):
    assert not {"cropper_fingerprint", "files", "tuned", "calibration"} & set(content)


def test_an_interrupted_write_leaves_the_old_one(tmp_path, manifest, monkeypatch):
    manifest.write(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(TypeError):
        manifest.with_(index=Part("flat", {"bad": object()})).write(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2  # with the copy


# -- the note beside the index -------------------------------------------------------------------

CHECKPOINT = Checkpoint(12, 3, Part("hnsw", {"M": 32}), None, 10)


def keep(tmp_path):
    write_index(tmp_path, CHECKPOINT, lambda state: (state / "graph").write_bytes(b"g"))


def test_index_round_trip(tmp_path):
    assert read_checkpoint(tmp_path) is None
    keep(tmp_path)
    keep(tmp_path)  # replaces it
    checkpoint, state = read_checkpoint(tmp_path)
    assert checkpoint == CHECKPOINT
    assert (state / "graph").read_bytes() == b"g"
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    drop_index(tmp_path)
    drop_index(tmp_path)
    assert read_checkpoint(tmp_path) is None


def test_the_note_is_read_by_people_and_summed_in_one_way(tmp_path):
    keep(tmp_path)
    text = (tmp_path / "index" / "checkpoint.json").read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=2) + "\n"
    stored = content.pop("crc32")
    assert stored == zlib.crc32(json.dumps(content, sort_keys=True).encode())
    assert list(content) != sorted(content)


def test_what_a_killed_writer_left_of_an_index_goes(tmp_path):
    keep(tmp_path)
    (tmp_path / "index").rename(tmp_path / "index.old")  # killed between the two renames
    (tmp_path / "index.tmp").mkdir()
    assert read_checkpoint(tmp_path) is None
    keep(tmp_path)
    assert read_checkpoint(tmp_path)[0] == CHECKPOINT
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_index_that_cannot_be_written(tmp_path):
    keep(tmp_path)

    def fail(state):
        (state / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_index(tmp_path, CHECKPOINT, fail)
    assert read_checkpoint(tmp_path)[0] == CHECKPOINT
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_damaged_checkpoint_counts_as_none(tmp_path):
    keep(tmp_path)
    path = tmp_path / "index" / "checkpoint.json"
    whole = path.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x01
        path.write_bytes(damaged)
        found = read_checkpoint(tmp_path)
        assert found is None or found[0] == CHECKPOINT, damaged
    for text in ("", "[]", "5", "{}", '{"crc32": 0, "part": []}', '{"crc32": 0, "part": {}}'):
        path.write_text(text)
        assert read_checkpoint(tmp_path) is None
