"""What the user gave becomes named sources; what cannot be, is said at once."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from imgret.errors import DuplicateKeyError, ImageNotFoundError, InvalidInputError
from imgret.galleries.local import LocalGallery
from imgret.ingest import folder_sources, list_sources, one_each, path_of, vector_items
from imgret.ingest.folder import find_images, walk_folder
from imgret.types import Item

NAMES = ["6.jpg", "7.jpe", "a/1.jpg", "a/2.JPG", "a/b/3.jpeg", "c/4.jpg", "c/5.jpg"]


# -- finding -------------------------------------------------------------------------------------


def names_of(folder):
    walk = walk_folder(folder)
    return walk.images, sum(walk.ignored.values())


def test_pictures_below_a_folder(folder):
    assert names_of(folder) == (NAMES, 2)


def test_hidden_ones_are_passed_over(folder):
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.jpg").touch()
    (folder / "a" / ".x.jpg").touch()
    assert names_of(folder) == (NAMES, 2)
    pictures, _ = find_images(folder / ".hidden")  # unless they are asked for
    assert [path.name for path in pictures] == ["x.jpg"]


def test_endings(tmp_path):
    for name in ("a.jpg", "b.PNG", "c.WebP", "d.gif", "e.TIFF", "f.bmp", "g.heic", "h.avif"):
        (tmp_path / name).touch()
    for name in ("i.jpg.txt", "jpg", ".jpg", "k.mp4", "l.", "m"):
        (tmp_path / name).touch()
    names, ignored = names_of(tmp_path)
    assert [name[0] for name in names] == list("abcdefgh")
    assert ignored == 5


def test_order_is_that_of_the_parts(tmp_path):
    for name in ("b.jpg", "a/z.jpg", "a-b/c.jpg", "a.jpg", "B.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names_of(tmp_path)[0] == ["B.jpg", "a/z.jpg", "a-b/c.jpg", "a.jpg", "b.jpg"]


def test_links_and_pipes(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jpg").touch()
    (folder / "link").symlink_to(tmp_path / "elsewhere")  # to a folder: followed
    (folder / "link.jpg").symlink_to(tmp_path / "elsewhere")  # once
    (folder / "to-file.jpg").symlink_to(tmp_path / "elsewhere" / "x.jpg")
    (folder / "to-nothing.jpg").symlink_to(tmp_path / "nothing")
    (folder / "folder.jpg").mkdir()
    if sys.platform != "win32":
        os.mkfifo(folder / "pipe.jpg")  # to read it would block
    names, _ = names_of(folder)
    assert sorted(set(names) - set(NAMES)) == [
        "link/x.jpg",
        "to-file.jpg",
        "to-nothing.jpg",
    ]


def test_no_folder(tmp_path, folder):
    with pytest.raises(ImageNotFoundError, match="found nothing"):
        find_images(tmp_path / "no")
    with pytest.raises(ImageNotFoundError, match="found a file"):
        find_images(folder / "6.jpg")
    (tmp_path / "empty").mkdir()
    assert find_images(tmp_path / "empty") == ([], 0)


# -- the images of a folder --------------------------------------------------------------------


def test_keys_paths_and_labels(folder, store, monkeypatch):
    sources, failed, _, ignored, *_ = folder_sources(folder, "parent", "", LocalGallery(store))
    assert [source.key for source in sources] == NAMES
    assert [source.path for source in sources] == [folder / name for name in NAMES]
    assert [source.label for source in sources] == [None, None, "a", "a", "b", "c", "c"]
    assert (failed, ignored) == ([], {"": 1, ".txt": 1})
    monkeypatch.chdir(folder.parent)
    relative, *_ = folder_sources(Path("photos"), "parent", "", LocalGallery(store))
    assert [(s.key, s.path, s.label) for s in relative] == [
        (s.key, s.path, s.label) for s in sources
    ]


def test_other_labels(folder, store):
    def labels_of(labels, prefix=""):
        return [
            source.label
            for source in folder_sources(folder, labels, prefix, LocalGallery(store))[0]
        ]

    assert labels_of(None) == [None] * 7
    assert labels_of(lambda path: path.stem if path.parent.name == "c" else None) == (
        [None] * 5 + ["4", "5"]
    )
    assert labels_of({"6.jpg": "six"}) == ["six"] + [None] * 6
    assert labels_of({"p/6.jpg": "six"}, "p/") == ["six"] + [None] * 6
    with pytest.raises(InvalidInputError, match="label of '6.jpg'.*found 5"):
        labels_of(lambda _: 5)
    with pytest.raises(InvalidInputError, match="labels: expected 'parent', a callable"):
        labels_of("folder")


def test_prefix(folder, store):
    sources, *_ = folder_sources(folder, None, "summer/", LocalGallery(store))
    assert [source.key for source in sources] == [f"summer/{name}" for name in NAMES]


def test_what_the_gallery_knows(folder, store):
    held = Item("a/1.jpg", path=str(folder / "a" / "1.jpg"), label="kept")
    gone = Item("c/4.jpg", path="/no/longer/there.jpg")
    store.catalog.add([held, gone], [0, 0])
    sources, failed, *_ = folder_sources(folder, None, "", LocalGallery(store))
    known = {source.key: source.known.item for source in sources if source.known}
    assert known == {"a/1.jpg": held, "c/4.jpg": gone}  # the folder may have been moved
    assert failed == []


def test_rivals_for_a_key(folder, store, tmp_path):
    other = tmp_path / "other.jpg"
    other.touch()
    (folder / "c" / "4.jpg").unlink()
    (folder / "c" / "4.jpg").symlink_to(tmp_path / "nothing")
    store.catalog.add(
        [
            Item("a/1.jpg", path=str(other)),
            Item("c/5.jpg"),
            Item("c/4.jpg", path=str(other)),
            Item("6.jpg", path=str(folder / "a" / ".." / "6.jpg")),
        ],
        [0] * 4,
    )
    sources, failed, *_ = folder_sources(folder, None, "", LocalGallery(store))
    assert [(line.key, line.status) for line in failed] == [
        ("a/1.jpg", "failed"),
        ("c/5.jpg", "failed"),
    ]
    assert str(other) in failed[0].reason
    assert "prefix" in failed[0].reason
    assert "that has no file" in failed[1].reason
    assert [source.key for source in sources] == [
        n for n in NAMES if n not in {"a/1.jpg", "c/5.jpg"}
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_names_that_are_no_unicode(folder, store, kit):
    name = os.fsdecode(b"caf\xe9.jpg")
    (folder / name).write_bytes(kit.picture(1))
    sources, failed, *_ = folder_sources(folder, None, "", LocalGallery(store))
    assert [source.key for source in sources] == NAMES
    (line,) = failed
    assert (line.status, line.key) == ("failed", "caf?.jpg")
    assert "UTF-8" in line.reason
    str(line).encode()  # can be printed
    for odd in (name + ".raw", b"\xff-folder"):
        (folder / os.fsdecode(odd)).mkdir()
    (folder / os.fsdecode(b"link-\xff")).symlink_to(folder)
    (folder / os.fsdecode(b"x.\xff")).touch()
    found = folder_sources(folder, None, "", LocalGallery(store), exclude="*-folder")
    str((found.excluded, found.repeated, found.ignored)).encode()
    assert found.excluded == {"?-folder": 0}
    assert found.repeated == ["link-?"]
    assert found.ignored[".?"] == 1
    with pytest.raises(InvalidInputError, match="Unicode"):
        one_list([folder / name], store)
    with pytest.raises(InvalidInputError, match="path of 'named'.*Unicode"):
        one_list([folder / name], store, keys=["named"])


# -- the images of a list ----------------------------------------------------------------------


def one_list(images, store, *, keys=None, labels=None, metadata=None):
    n = len(images)
    return list_sources(
        images,
        one_each(keys, n, "keys"),
        one_each(labels, n, "labels"),
        one_each(metadata, n, "metadata"),
        LocalGallery(store),
    )


def test_default_keys(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    store.catalog.add([Item("x")], [0])
    array = np.zeros((2, 2, 3), np.uint8)
    sources = one_list(["a.jpg", Path("b/c.jpg"), array, b"data"], store)
    assert [s.key for s in sources] == ["a.jpg", "b/c.jpg", "image-000004", "image-000005"]
    assert [s.path for s in sources] == [tmp_path / "a.jpg", tmp_path / "b" / "c.jpg", None, None]
    assert [s.metadata for s in sources] == [{}] * 4
    assert path_of(array) is None


def test_default_keys_pass_over_names_that_were_given(store):
    store.catalog.add([Item("image-000003")], [0])
    assert [s.key for s in one_list([b"", b"", b""], store)] == [
        "image-000002",
        "image-000004",
        "image-000005",
    ]


def test_given_names(store):
    sources = one_list(
        [b"", b""], store, keys=["a", None], labels=(None, "l"), metadata=[{"n": 1}, None]
    )
    assert [s.key for s in sources] == ["a", "image-000002"]
    assert [s.label for s in sources] == [None, "l"]
    assert [s.metadata for s in sources] == [{"n": 1}, {}]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"keys": ["a", "a"]}, DuplicateKeyError, "found 'a' twice"),
        ({"keys": ["a", "held"]}, DuplicateKeyError, r"'held'.*already \(1 of 2\)"),
        ({"keys": ["a", ""]}, InvalidInputError, "non-empty text"),
        ({"keys": ["a", 5]}, InvalidInputError, "found 5"),
        ({"keys": ["a"]}, InvalidInputError, "keys: expected one for each of 2 images, found 1"),
        ({"keys": "ab"}, InvalidInputError, "keys: expected a list.*a single str"),
        ({"keys": 5}, InvalidInputError, "keys: expected a list.*found 5"),
        ({"labels": {"a": "b"}}, InvalidInputError, "labels: expected a list.*a single dict"),
        ({"labels": ["a", 5]}, InvalidInputError, "label of 'image-000003'.*found 5"),
        ({"metadata": [{}, []]}, InvalidInputError, "metadata of 'image-000003'.*a mapping"),
        ({"metadata": [{}, {"a": {1}}]}, InvalidInputError, "metadata of 'image-000003'.*JSON"),
        ({"metadata": [{}, {"a": float("nan")}]}, InvalidInputError, "metadata of 'image-000003'"),
    ],
)
def test_bad_lists(store, given, error, message):
    store.catalog.add([Item("held")], [0])
    with pytest.raises(error, match=message):
        one_list([b"", b""], store, **given)


def test_one_each():
    assert one_each(None, 3, "x") == [None] * 3
    assert one_each((n for n in range(3)), 3, "x") == [0, 1, 2]
    assert one_each("a", 1, "x", single=True) == ["a"]
    assert one_each(["a"], 1, "x", single=True) == ["a"]
    with pytest.raises(InvalidInputError):
        one_each(["a", "b"], 1, "x", single=True)


def test_items_of_vectors_are_like_others(store):
    facts = [{"year": 2020}, None, {}]
    made = vector_items(["a", "b", None], ["tulip", None, ""], facts, LocalGallery(store))
    assert made[:2] == [Item("a", label="tulip", metadata={"year": 2020}), Item("b")]
    assert made[2] == Item(made[2].key, label="")
    assert made[0].metadata is not facts[0]
    assert vector_items([], [], [], LocalGallery(store)) == []
