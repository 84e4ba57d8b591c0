"""The walk through a folder: which files are images, what is passed over, where links lead."""

import errno
import io
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import images
from imgret.errors import ImageNotFoundError, InvalidInputError
from imgret.ingest.exclude import Exclusion
from imgret.ingest.folder import SUFFIXES, find_images, walk_folder


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def refusing(monkeypatch):
    """Make some folders fail to be listed, by their names."""

    def refuse(*names, code=errno.EACCES):
        whole = os.scandir

        def scandir(path="."):
            if os.path.basename(os.fspath(path)) in names:  # noqa: PTH119
                raise OSError(code, os.strerror(code), str(path))
            return whole(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return refuse


# -- endings -------------------------------------------------------------------------------------


def encoded():
    """Images of every format, by a suffix of it."""
    image_module = pytest.importorskip("PIL.Image")
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    rng = np.random.default_rng(0)
    pixels = images.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), 48, 40)
    shown, next_ = (image_module.fromarray(array) for array in (pixels, pixels[::-1]))

    def of(name, **options):
        file = io.BytesIO()
        shown.save(file, format=name, **options)
        return file.getvalue()

    two = {"save_all": True, "append_images": [next_]}
    return pixels, {
        "JPEG": (of("JPEG"), "jpg jpeg jpe jif jfif jfi pjpeg pjp"),
        "two of JPEG": (of("MPO", **two), "mpo jps"),
        "PNG": (of("PNG"), "png"),
        "animated PNG": (of("PNG", **two), "apng"),
        "WebP": (of("WEBP"), "webp"),
        "GIF": (of("GIF"), "gif"),
        "TIFF": (of("TIFF"), "tif tiff"),
        "BigTIFF": (of("TIFF", big_tiff=True), "btf tf8"),
        "BMP": (of("BMP"), "bmp dib"),
        "HEIF": (of("HEIF"), "heic heif hif"),
        "two of HEIF": (of("HEIF", **two), "heics heifs"),
        "AVIF": (of("AVIF"), "avif"),
        "two of AVIF": (of("AVIF", **two), "avifs"),
    }


def test_every_ending_is_of_a_format_that_decodes(tmp_path):
    pixels, formats = encoded()
    seen = set()
    for data, suffixes in formats.values():
        for suffix in suffixes.split():
            seen.add(f".{suffix}")
            (tmp_path / f"x.{suffix.upper()}").write_bytes(data)
    assert seen == SUFFIXES
    found, _ = find_images(tmp_path)
    assert len(found) == len(SUFFIXES)
    for path in found:
        difference = images.load(path).astype(int) - pixels
        assert np.abs(difference).mean() < 6, path.name


def test_what_is_ignored_is_counted_by_its_ending(tmp_path):
    touch(tmp_path, "a.psd", "b/c.PSD", "d.txt", "README", "e.jpg", ".hidden.txt")
    walk = walk_folder(tmp_path)
    assert walk.ignored == {".psd": 2, "": 1, ".txt": 1}
    assert walk.images == ["e.jpg"]
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.jpg")
        assert walk_folder(tmp_path).ignored["pipe or device"] == 1


# -- links ---------------------------------------------------------------------------------------


def test_links_to_folders_are_followed(tmp_path):
    touch(tmp_path, "photos/a.jpg", "disk/b.jpg", "disk/deep/c.jpg")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "disk")
    walk = walk_folder(tmp_path / "photos")
    assert walk.images == ["a.jpg", "more/b.jpg", "more/deep/c.jpg"]
    assert walk.repeated == {}
    assert [p.name for p in find_images(tmp_path / "photos")[0]] == ["a.jpg", "b.jpg", "c.jpg"]


def test_links_round_in_a_circle(tmp_path):
    touch(tmp_path, "photos/a.jpg", "photos/sub/b.jpg", "disk/c.jpg", "beside.jpg")
    photos, disk = tmp_path / "photos", tmp_path / "disk"
    (photos / "self").symlink_to(photos)
    (photos / "sub" / "up").symlink_to("..")
    (photos / "above").symlink_to(tmp_path)
    (photos / "disk").symlink_to(disk)
    (disk / "back").symlink_to(photos)
    (disk / "round").symlink_to(".")
    (photos / "knot.jpg").symlink_to(photos / "knot.jpg")  # reading it says what is wrong
    walk = walk_folder(photos)
    assert walk.images == ["a.jpg", "disk/c.jpg", "knot.jpg", "sub/b.jpg"]
    assert walk.repeated == {"disk/back": ".", "disk/round": "disk", "self": ".", "sub/up": "."}
    assert walk.above == ["above"]
    with pytest.warns(UserWarning, match="passed over") as caught:
        assert len(find_images(photos)[0]) == 4
    (warning,) = caught  # of what was not taken
    assert str(warning.message) == f"{photos}/above: passed over, as it is a link to a folder above"


def test_each_folder_is_visited_once_and_by_itself_rather_than_by_a_link(tmp_path):
    touch(tmp_path, "photos/real/a.jpg", "disk/b.jpg", "disk/part/c.jpg")
    photos, disk = tmp_path / "photos", tmp_path / "disk"
    (photos / "again").symlink_to(photos / "real")
    (photos / "l1").symlink_to(disk / "part")
    (photos / "l2").symlink_to(disk)
    (photos / "l3").symlink_to(disk)
    walk = walk_folder(photos)
    assert walk.images == ["l1/c.jpg", "l2/b.jpg", "real/a.jpg"]
    assert walk.repeated == {"again": "real", "l2/part": "l1", "l3": "l2"}
    with pytest.warns(
        UserWarning, match="passed over"
    ) as caught:  # of what would have another label as well
        assert len(find_images(photos)[0]) == 3
    assert sorted(str(warning.message).removeprefix(str(photos)) for warning in caught) == [
        "/l2/part: passed over, as l1 leads there too",
        "/l3: passed over, as l2 leads there too",
    ]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_whatever_the_links_every_folder_is_visited_once(links):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        root = Path(name).resolve()
        for number in range(6):
            touch(root, f"photos/{number}/{number}.jpg" if number < 3 else f"disk/{number}/x.jpg")
        places = [root / ("photos" if number < 3 else "disk") / str(number) for number in range(6)]
        for number, (place, target) in enumerate(links):
            (places[place] / f"link{number}").symlink_to(places[target])
        walk = walk_folder(root / "photos")
        real = [os.path.realpath(root / "photos" / name) for name in walk.images]
        assert len(set(real)) == len(real)
        linked = {0, 1, 2}
        for _ in range(6):
            linked |= {target for place, target in links if place in linked}
        assert {int(os.path.basename(os.path.dirname(path))) for path in real} == linked  # noqa: PTH119, PTH120
        followed = len(real) - 3
        assert len(walk.repeated) == sum(place in linked for place, _ in links) - followed


# -- folders that cannot be listed ---------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_listed_costs_only_itself(tmp_path, refusing, code):
    touch(tmp_path, "photos/a.jpg", "photos/closed/b.jpg", "photos/open/c.jpg")
    refusing("closed", code=code)
    walk = walk_folder(tmp_path / "photos")
    assert walk.images == ["a.jpg", "open/c.jpg"]
    assert walk.failed == {"closed": f"cannot be listed: {os.strerror(code)}"}
    with pytest.warns(UserWarning, match="closed: passed over, as it cannot be listed"):
        assert len(find_images(tmp_path / "photos")[0]) == 2
    refusing("photos", code=code)
    with pytest.raises(ImageNotFoundError, match="photos: cannot be listed"):
        walk_folder(tmp_path / "photos")


@pytest.mark.skipif(sys.platform == "win32", reason="links that may not be followed")
def test_a_link_that_may_not_be_followed(tmp_path, monkeypatch):
    touch(tmp_path, "photos/a.jpg", "closed/b.jpg")
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "closed")
    (tmp_path / "photos" / "link.jpg").symlink_to(tmp_path / "closed" / "b.jpg")
    (tmp_path / "photos" / "knot").symlink_to(tmp_path / "photos" / "knot")
    whole = os.scandir

    class Entry:
        """What a system gives that must look at where a link leads, and may not."""

        def __init__(self, entry):
            self.name, self.path, self.is_symlink = entry.name, entry.path, entry.is_symlink
            self.entry = entry

        def is_file(self):
            return self.is_dir() or self.entry.is_file()

        def is_dir(self):
            if self.name.startswith("link"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return self.entry.is_dir()

    class Entries:
        def __init__(self, path):
            self.entries = whole(path)

        def __enter__(self):
            return map(Entry, self.entries)

        def __exit__(self, *_):
            self.entries.close()

    monkeypatch.setattr(os, "scandir", Entries)
    walk = walk_folder(tmp_path / "photos")
    assert walk.failed == {"link": f"cannot be examined: {os.strerror(errno.EACCES)}"}
    assert walk.images == ["a.jpg", "link.jpg"]  # reading it says what is wrong
    assert walk.ignored == {"": 1}


# -- what is excluded ----------------------------------------------------------------------------


def test_what_systems_put_beside_images_is_excluded(tmp_path):
    junk = ["@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "b/#recycle/c.jpg", "__MACOSX/._a.jpg"]
    junk += ["lost+found/d.jpg", "$RECYCLE.BIN/e.jpg", "@Recycle/f.jpg"]
    touch(tmp_path, "a.jpg", ".thumbnails/a.jpg", ".Trash-1000/x.jpg", *junk)
    walk = walk_folder(tmp_path)
    assert walk.images == ["a.jpg"]
    places = ["#recycle", "$RECYCLE.BIN", "@Recycle", "@eaDir", "__MACOSX", "lost+found"]
    assert sorted(place.rpartition("/")[2] for place in walk.excluded) == places
    assert walk_folder(tmp_path / "lost+found").images == ["d.jpg"]  # unless asked for


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        ("raw", {"raw/1.jpg", "a/raw/2.jpg", "a/raw/raw/3.jpg"}),
        ("RAW", set()),
        ("*.png", {"4.png", "a/b/5.png"}),
        ("raw/", {"raw/1.jpg", "a/raw/2.jpg", "a/raw/raw/3.jpg"}),
        ("4.png/", set()),
        ("/raw", {"raw/1.jpg"}),
        ("a/raw", {"a/raw/2.jpg", "a/raw/raw/3.jpg"}),
        ("a/*", {"a/raw/2.jpg", "a/raw/raw/3.jpg", "a/b/5.png", "a/6.jpg"}),
        ("a/*/", {"a/raw/2.jpg", "a/raw/raw/3.jpg", "a/b/5.png"}),
        ("*/raw", {"a/raw/2.jpg", "a/raw/raw/3.jpg"}),
        ("**/raw", {"raw/1.jpg", "a/raw/2.jpg", "a/raw/raw/3.jpg"}),
        ("**/*.png", {"4.png", "a/b/5.png"}),
        ("a/**/*.png", {"a/b/5.png"}),
        ("[0-4].*", {"raw/1.jpg", "a/raw/2.jpg", "a/raw/raw/3.jpg", "4.png"}),
        ("b", {"a/b/5.png"}),
        ("?", {"a/raw/2.jpg", "a/raw/raw/3.jpg", "a/b/5.png", "a/6.jpg"}),
    ],
)
def test_patterns(tmp_path, pattern, excluded):
    names = ["raw/1.jpg", "a/raw/2.jpg", "a/raw/raw/3.jpg", "4.png", "a/b/5.png", "a/6.jpg"]
    touch(tmp_path, *names)
    exclusion = Exclusion(pattern)
    walk = walk_folder(tmp_path, exclusion)
    assert set(names) - set(walk.images) == excluded
    # The same of paths alone, for files that are gone.
    assert {name for name in names if exclusion.place(name) is not None} == excluded


def test_patterns_in_another_spelling(tmp_path):
    touch(tmp_path, "cafe\u0301/1.jpg")
    assert walk_folder(tmp_path, Exclusion("caf\xe9")).images == []


@pytest.mark.parametrize("patterns", [5, [""], ["/"], [None], [b"raw"], None])
def test_what_is_no_pattern_is_refused(patterns):
    with pytest.raises(InvalidInputError, match="exclude: expected patterns"):
        Exclusion(patterns)
