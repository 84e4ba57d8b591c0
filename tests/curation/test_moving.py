"""Files of duplicates are moved so that nothing is lost, whatever happened to them meanwhile."""

import errno
import json
import os
import shutil
import zipfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from skimage import data

from imgret import Retriever, images
from imgret.curation import DuplicateGroup
from imgret.errors import InvalidInputError, StoreReadOnlyError
from imgret.pages.review import FORMAT

# The smallest is the first by name, the largest the last.
NAMES = ("a/small.jpg", 'b/it\'s "$x".jpg', "large.jpg")
GROUP = [DuplicateGroup(NAMES, 0.9)]


@pytest.fixture(scope="module")
def pictures():
    image = np.ascontiguousarray(data.chelsea())
    return [
        images.encode(images.thumbnail(image, side), "jpeg", quality=90) for side in (80, 120, 160)
    ]


@pytest.fixture
def photos(tmp_path, pictures):
    folder = tmp_path / "photos"
    for name, content in zip(NAMES, pictures, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def gallery(photos, tmp_path):
    with Retriever.open(tmp_path / "photos.imgret", "a") as retriever:
        retriever.add_folder(photos, progress=False)
        yield retriever


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_all_but_the_largest_are_moved(gallery, photos, tmp_path, pictures):
    groups = gallery.duplicates()
    assert [group.keys for group in groups] == [NAMES]
    moved = gallery.move_duplicates(groups, tmp_path / "out" / "deep")
    assert [each.key for each in moved.moved] == list(NAMES[:2])
    assert not moved.refused
    assert contents(tmp_path / "out" / "deep") == {
        "small.jpg": pictures[0],
        'it\'s "$x".jpg': pictures[1],
    }
    assert contents(photos) == {"large.jpg": pictures[2]}
    assert list(gallery) == ["large.jpg"]
    assert json.loads(moved.to_json())["moved"][0]["now"] == str(tmp_path / "out/deep/small.jpg")
    assert "moved 2 files" in str(moved)
    report = gallery.add_folder(photos, progress=False)
    assert (len(report.ok), len(report.failed)) == (0, 0)


def test_nothing_is_overwritten(gallery, tmp_path, pictures):
    out = tmp_path / "out"
    out.mkdir()
    (out / "small.jpg").write_bytes(b"mine")
    (out / "small-2.jpg").symlink_to("nowhere")
    moved = gallery.move_duplicates(GROUP, out)
    assert (out / "small.jpg").read_bytes() == b"mine"
    assert (out / "small-2.jpg").is_symlink()
    assert Path(moved.moved[0].now).name == "small-3.jpg"
    assert (out / "small-3.jpg").read_bytes() == pictures[0]


def test_a_file_that_changed_stays(gallery, photos, tmp_path):
    (photos / NAMES[0]).write_bytes(b"something else")
    moved = gallery.move_duplicates(GROUP, tmp_path / "out")
    assert [each.key for each in moved.moved] == [NAMES[1]]
    (refused,) = moved.refused
    assert refused.key == NAMES[0]
    assert "changed since it was indexed" in refused.reason
    assert "14 now" in refused.reason
    assert (photos / NAMES[0]).read_bytes() == b"something else"
    assert set(gallery) == {NAMES[0], NAMES[2]}


def test_a_best_that_is_gone_is_not_the_best(gallery, photos, tmp_path):
    (photos / "large.jpg").unlink()
    moved = gallery.move_duplicates(GROUP, tmp_path / "out")
    assert [each.key for each in moved.moved] == [NAMES[0]]  # and the second is kept
    assert [each.key for each in moved.refused] == ["large.jpg"]
    assert "No such file" in moved.refused[0].reason
    assert (photos / NAMES[1]).exists()


def test_links_and_the_folder_itself(gallery, photos, tmp_path, pictures):
    (photos / "a" / "link.jpg").symlink_to(photos / "large.jpg")
    (photos / "b" / "same.jpg").write_bytes(pictures[2])
    gallery.add([photos / "a" / "link.jpg", photos / "b" / "same.jpg"], keys=["link", "same"])
    group = DuplicateGroup(("large.jpg", "link", "same"), 1.0)
    moved = gallery.move_duplicates([group], photos / "b")
    assert not moved.moved
    assert {each.key: each.reason for each in moved.refused} == {
        "link": "it is a link to another file",
        "same": "it is in that folder already",
    }


def test_members_of_archives_stay(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(photos / NAMES[0], "small.jpg")
        archive.write(photos / NAMES[2], "large.jpg")
    retriever = Retriever()
    retriever.add_from([tmp_path / "all.zip", photos / "a"], progress=False)
    groups = retriever.duplicates()
    assert [len(group.keys) for group in groups] == [3]
    moved = retriever.move_duplicates(groups, tmp_path / "out")
    assert moved.moved == ()
    assert {each.reason for each in moved.refused} == {
        "it is inside an archive, where nothing can be moved"
    }
    assert (photos / NAMES[0]).is_file()


def test_another_disk(gallery, photos, tmp_path, pictures):
    with patch.object(Path, "replace", side_effect=OSError(errno.EXDEV, "other disk")):
        moved = gallery.move_duplicates(GROUP, tmp_path / "out")
    assert len(moved.moved) == 2
    assert (tmp_path / "out" / "small.jpg").read_bytes() == pictures[0]
    assert not (photos / NAMES[0]).exists()


def test_a_full_disk_loses_nothing(gallery, photos, tmp_path, pictures):
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        patch.object(Path, "replace", side_effect=OSError(errno.EXDEV, "other disk")),
        patch.object(shutil, "copy2", side_effect=full),
    ):
        moved = gallery.move_duplicates(GROUP, tmp_path / "out")
    assert not moved.moved
    assert all("No space left" in each.reason for each in moved.refused)
    assert contents(tmp_path / "out") == {}
    assert list(contents(photos).values()) == pictures
    assert len(gallery) == 3


def test_advice_where_the_folder_would_be_indexed(gallery, photos):
    moved = gallery.move_duplicates(GROUP, photos / "duplicates")
    assert "--exclude 'duplicates/**'" in moved.note
    assert moved.note in str(moved)


def test_mistakes(gallery, photos, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="file: expected a folder"):
        gallery.move_duplicates(GROUP, tmp_path / "file")
    gallery.close()
    with (
        Retriever.open(tmp_path / "photos.imgret") as reader,
        pytest.raises(StoreReadOnlyError),
    ):
        reader.move_duplicates(GROUP, tmp_path / "out")
    assert len(contents(photos)) == 3
    assert not (tmp_path / "out").exists()


# -- the list of a review ------------------------------------------------------------------------


def entry(photos, name, **changes):
    state = (photos / name).stat()
    facts = {"path": str(photos / name), "size": str(state.st_size)}
    return {"key": name, **facts, "mtime_ns": str(state.st_mtime_ns), **changes}


@pytest.fixture
def listed(photos, tmp_path):
    """Write a list that keeps the second file."""

    def write(**changes):
        keep, move = entry(photos, NAMES[1]), [entry(photos, NAMES[0], **changes)]
        move.append(entry(photos, NAMES[2]))
        path = tmp_path / "duplicates.json"
        text = json.dumps({"format": FORMAT, "groups": [{"keep": [keep], "move": move}]})
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_list_says_what_to_keep(gallery, photos, listed, tmp_path):
    moved = gallery.move_duplicates(listed(path=None), tmp_path / "out")
    assert [each.key for each in moved.moved] == [NAMES[0], NAMES[2]]
    assert list(contents(photos)) == [NAMES[1]]


def test_a_file_that_changed_since_the_review_stays(gallery, photos, listed, tmp_path):
    review = listed()
    os.utime(photos / NAMES[0], ns=(1, 1))
    gallery.add_folder(photos, progress=False)  # so the gallery knows, but not the list
    moved = gallery.move_duplicates(review, tmp_path / "out")
    assert [each.key for each in moved.moved] == [NAMES[2]]
    assert [each.key for each in moved.refused] == [NAMES[0]]
    assert "written again since the review" in moved.refused[0].reason
    assert (photos / NAMES[0]).exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": "unknown.jpg"}, "no longer in the gallery"),
        ({"path": "/elsewhere.jpg"}, "the gallery has it at"),
        ({"size": "5"}, "changed since the review: 5 bytes then"),
        ({"mtime_ns": None}, "written again since the review"),
    ],
)
def test_a_list_that_does_not_agree(gallery, listed, tmp_path, changes, reason):
    moved = gallery.move_duplicates(listed(**changes), tmp_path / "out")
    assert [reason in each.reason for each in moved.refused] == [True]
    assert [each.key for each in moved.moved] == [NAMES[2]]


def test_nothing_is_moved_where_what_was_kept_is_gone(gallery, photos, listed, tmp_path):
    review = listed()
    (photos / NAMES[1]).unlink()
    moved = gallery.move_duplicates(review, tmp_path / "out")
    assert not moved.moved
    assert all(NAMES[1] in each.reason for each in moved.refused)
    assert len(contents(photos)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"format": "other"}',
        f'{{"format": "{FORMAT}"}}',
        "\xff",
        f'{{"format": "{FORMAT}", "groups": [{{"keep": [], "move": [{{"key": 5}}]}}]}}',
        f'{{"format": "{FORMAT}", "groups": [{{"keep": 3, "move": 4}}]}}',
    ],
)
def test_no_list(gallery, photos, tmp_path, text):
    (tmp_path / "list.json").write_text(text, encoding="latin-1")
    with pytest.raises(InvalidInputError, match=r"list\.json: expected"):
        gallery.move_duplicates(tmp_path / "list.json", tmp_path / "out")
    assert len(contents(photos)) == 3
