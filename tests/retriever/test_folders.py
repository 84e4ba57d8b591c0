"""A folder under other names, moved, in part, unmounted: what is known of its items stays."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret import Retriever, images
from imgret.errors import InvalidInputError, KeyNotFoundError
from imgret.types import Item

NFC, NFD = "caf\xe9", "cafe\u0301"


@pytest.fixture
def counting(mean_color):
    class Counting(type(mean_color)):
        embedded = 0

        def _embed(self, given):
            Counting.embedded += len(given)
            return super()._embed(given)

    return Counting


@pytest.fixture
def retriever(counting, photos):
    """Twelve items, each with a label and metadata that only the gallery knows."""
    made = Retriever(embedder=counting())
    made.add_folder(photos)
    mark(made)
    counting.embedded = 0
    return made


def mark(retriever):
    for key in retriever:
        retriever.update(key, label=f"label of {key}", metadata={"n": key})


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    path.write_bytes(
        images.encode(images.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), 48, 40))
    )
    return path


def gone(report):
    return [line.key for line in report.vanished]


# -- one folder, spelled in many ways ------------------------------------------------------------


@pytest.fixture(params=["absolute", "relative", "dots", "parent", "slash", "link", "linked parent"])
def spelling(request, tmp_path, monkeypatch):
    """Return another spelling of the folder, with a working directory that goes with it."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / "home").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path if request.param == "relative" else tmp_path / "beside")
    return {
        "absolute": str(tmp_path / "photos"),
        "relative": "photos",
        "dots": str(tmp_path / "beside" / ".." / "photos"),
        "parent": "../photos",
        "slash": f"{tmp_path}/photos//",
        "link": str(tmp_path / "link"),
        "linked parent": "../home/photos",
    }[request.param]


@pytest.mark.parametrize("first", [True, False])
def test_any_spelling_finds_what_is_gone_and_what_was_renamed(counting, photos, spelling, first):
    retriever = Retriever(embedder=counting())
    retriever.add_folder(spelling if first else photos)
    mark(retriever)
    counting.embedded = 0
    (photos / "lake" / "0.jpg").rename(photos / "lake" / "new.jpg")
    (photos / "sand" / "1.jpg").unlink()
    report = retriever.add_folder(photos if first else spelling)
    assert [line.key for line in report.renamed] == ["lake/new.jpg"]
    assert (gone(report), report.ok, len(report.skipped)) == (["sand/1.jpg"], [], 10)
    assert retriever["lake/new.jpg"].label == "label of lake/0.jpg"
    assert counting.embedded == 0
    report = retriever.add_folder(spelling, prune=True)
    assert (gone(report), len(retriever)) == (["sand/1.jpg"], 11)
    assert retriever["lake/1.jpg"].path == str(photos / "lake" / "1.jpg")


@pytest.mark.parametrize("written", ["{beside}/../photos/{name}", "{link}/{name}"])
def test_paths_as_old_galleries_have_them(retriever, photos, tmp_path, written, spelling):
    """They were stored as typed, made absolute and no more."""
    catalog = retriever._gallery.store.catalog
    catalog.replace_all(
        {
            id_: Item(
                **{
                    **{name: getattr(item, name) for name in Item.__slots__},
                    "path": written.format(
                        beside=tmp_path / "beside", link=tmp_path / "link", name=item.key
                    ),
                }
            )
            for id_, item in catalog.items(catalog.live_ids()).items()
        }
    )
    (photos / "lake" / "0.jpg").rename(photos / "lake" / "new.jpg")
    (photos / "sand" / "1.jpg").unlink()
    report = retriever.add_folder(photos, prune=True)
    assert [line.key for line in report.renamed] == ["lake/new.jpg"]
    assert (gone(report), len(report.skipped), report.failed) == (["sand/1.jpg"], 10, [])
    assert retriever["lake/new.jpg"].label == "label of lake/0.jpg"
    assert retriever["lake/1.jpg"].path == str(photos / "lake" / "1.jpg")


def test_a_spelling_that_leads_nowhere_any_more(retriever, photos, tmp_path, monkeypatch):
    """Neither the link nor the folder that '..' was taken of is there: the files are."""
    other = Retriever(embedder=retriever.embedder)
    (tmp_path / "link").symlink_to(photos)
    other.add_folder(tmp_path / "link")
    (tmp_path / "link").unlink()
    report = other.add_folder(photos, prune=True)
    assert (report.vanished, len(report.skipped), len(other)) == ([], 12, 12)


# -- a library that was moved --------------------------------------------------------------------


def test_a_moved_library_keeps_what_is_known_and_can_be_pruned(
    retriever, counting, photos, tmp_path
):
    before = retriever.embeddings(list(retriever))
    moved = tmp_path / "disk" / "library"
    moved.parent.mkdir()
    photos.rename(moved)
    (moved / "lake" / "0.jpg").unlink()
    (moved / "lake" / "1.jpg").rename(moved / "wood" / "new.jpg")
    save(moved / "wood" / "0.jpg", 99)
    report = retriever.add_folder(moved)
    assert [line.key for line in report.renamed] == ["wood/new.jpg"]
    assert (len(report.skipped), report.ok, report.failed) == (9, ["wood/0.jpg"], [])
    assert gone(report) == ["lake/0.jpg"]
    assert counting.embedded == 1
    assert retriever["wood/new.jpg"].label == "label of lake/1.jpg"
    assert retriever["sand/0.jpg"].label == "label of sand/0.jpg"
    np.testing.assert_array_equal(retriever.embeddings(["sand/0.jpg"])[0], before[4])
    report = retriever.add_folder(moved, prune=True)  # another day
    assert (gone(report), len(retriever)) == (["lake/0.jpg"], 11)
    assert retriever.add_folder(moved, prune=True).vanished == []


def test_a_library_copied_without_its_times_is_told_by_its_bytes(
    retriever, counting, photos, tmp_path
):
    shutil.copytree(photos, tmp_path / "new", copy_function=shutil.copyfile)
    (tmp_path / "new" / "lake" / "0.jpg").unlink()
    shutil.rmtree(photos)
    report = retriever.add_folder(tmp_path / "new", prune=True)
    assert (gone(report), len(report.skipped)) == (["lake/0.jpg"], 11)
    assert counting.embedded == 0


def test_a_folder_of_the_same_names_is_no_moved_library(retriever, photos, tmp_path):
    """The disk of the first may only be away."""
    for name in ("lake/0.jpg", "lake/1.jpg"):
        save(tmp_path / "other" / name, name == "lake/0.jpg")
    photos.rename(tmp_path / "away")
    report = retriever.add_folder(tmp_path / "other", prune="all")
    assert (report.vanished, len(report.ok), len(retriever)) == ([], 2, 12)


def test_copies_on_a_new_disk_are_known_beside_the_old_ones(retriever, counting, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "new")
    save(tmp_path / "new" / "lake" / "0.jpg", 99)
    shutil.copystat(photos / "lake" / "1.jpg", tmp_path / "new" / "lake" / "1.jpg")
    (tmp_path / "new" / "lake" / "2.jpg").unlink()
    report = retriever.add_folder(tmp_path / "new", prune=True)
    assert (len(report.skipped), report.ok, report.vanished) == (10, [], [])
    (line,) = report.failed
    assert line.key == "lake/0.jpg"
    assert f"belongs to {photos / 'lake' / '0.jpg'}; add this folder with a prefix" in line.reason
    assert counting.embedded == 0
    assert retriever["lake/1.jpg"].path == str(tmp_path / "new" / "lake" / "1.jpg")
    assert retriever["lake/1.jpg"].label == "label of lake/1.jpg"
    save(tmp_path / "new" / "lake" / "1.jpg", 98)  # is of the new disk from now on
    assert retriever.add_folder(tmp_path / "new").ok == ["lake/1.jpg"]


def test_another_file_of_the_same_size_and_time_is_not_taken_for_it(mean_color, tmp_path):
    one, two = tmp_path / "one" / "a.bmp", tmp_path / "two" / "a.bmp"
    for path, level in ((one, 10), (two, 200)):
        path.parent.mkdir()
        header = b"BM" + (54 + 12 * 4).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
        header += (40).to_bytes(4, "little") + (4).to_bytes(4, "little") * 2
        header += b"\1\0\x18\0" + bytes(24)
        path.write_bytes(header + bytes([level]) * 48)
        os.utime(path, ns=(0, 10**9))
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(one.parent)
    report = retriever.add_folder(two.parent)
    assert [line.key for line in report.failed] == ["a.bmp"]
    assert retriever["a.bmp"].path == str(one)


# -- several folders in one gallery --------------------------------------------------------------


def test_pruning_one_folder_never_touches_another(mean_color, photos, tmp_path):
    retriever = Retriever(embedder=mean_color)
    shutil.copytree(photos, tmp_path / "a")
    shutil.copytree(photos, tmp_path / "a-too")
    retriever.add_folder(photos)
    retriever.add_folder(tmp_path / "a", prefix="a/")
    retriever.add_folder(tmp_path / "a-too", prefix="a-too/")
    shutil.rmtree(tmp_path / "a-too")  # as if not mounted
    shutil.rmtree(photos / "lake")
    report = retriever.add_folder(tmp_path / "a", prefix="a/", prune="all")
    assert (report.vanished, len(retriever)) == ([], 36)
    report = retriever.add_folder(photos, prune=True)
    assert (gone(report), len(retriever)) == ([f"lake/{n}.jpg" for n in range(4)], 32)


def test_a_subfolder_first_and_then_its_parent(mean_color, photos):
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(photos / "lake")
    report = retriever.add_folder(photos)
    assert [line.key for line in report.duplicate] == [f"lake/{n}.jpg" for n in range(4)]
    assert len(retriever) == 16
    retriever.update("lake/0.jpg", label="of the parent")
    retriever.update("0.jpg", label="of the subfolder")
    (photos / "lake" / "0.jpg").rename(photos / "lake" / "9.jpg")
    assert [line.key for line in retriever.add_folder(photos).renamed] == ["lake/9.jpg"]
    assert retriever["lake/9.jpg"].label == "of the parent"
    assert [line.key for line in retriever.add_folder(photos / "lake").renamed] == ["9.jpg"]
    assert retriever["9.jpg"].label == "of the subfolder"
    (photos / "lake" / "1.jpg").unlink()
    report = retriever.add_folder(photos, prune=True)  # under either key it is gone
    assert (sorted(gone(report)), len(retriever)) == (["1.jpg", "lake/1.jpg"], 14)


def test_a_parent_first_and_then_its_subfolder(retriever, photos):
    report = retriever.add_folder(photos / "lake", prefix="lake/", prune=True)
    assert (len(report.skipped), report.vanished, len(retriever)) == (4, [], 12)
    (photos / "lake" / "3.jpg").unlink()
    report = retriever.add_folder(photos / "lake", prefix="lake/", prune=True)
    assert (gone(report), len(retriever)) == (["lake/3.jpg"], 11)


# -- Unicode -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("held", "found"), [(NFC, NFD), (NFD, NFC)])
def test_a_name_in_another_spelling_is_the_same_name(counting, tmp_path, held, found):
    """As when a gallery of Linux is brought up to date on a Mac, or the other way round."""
    folder = tmp_path / "photos"
    path = save(folder / f"{held}.jpg", 1)
    save(folder / "x.jpg", 2)
    retriever = Retriever(embedder=counting())
    retriever.add_folder(folder)
    mark(retriever)
    path.rename(folder / f"{found}.jpg")
    counting.embedded = 0
    report = retriever.add_folder(folder, prune=True)
    assert (len(report.skipped), report.vanished, report.renamed) == (2, [], [])
    assert set(retriever) == {f"{held}.jpg", "x.jpg"}
    assert retriever[f"{found}.jpg"].label == f"label of {held}.jpg"
    retriever.update(f"{found}.jpg", label="new", image=folder / f"{found}.jpg")
    assert retriever[f"{held}.jpg"].label == "new"
    assert set(retriever) == {f"{held}.jpg", "x.jpg"}
    save(folder / f"{found}.jpg", 3)
    assert retriever.add_folder(folder, prune=True).ok == [f"{held}.jpg"]
    assert (counting.embedded, len(retriever)) == (1, 2)
    hits = retriever.search_key(f"{found}.jpg", k=1)
    assert hits[0].key == "x.jpg"
    assert f"{found}.jpg" in retriever
    retriever.remove(f"{found}.jpg")
    assert list(retriever) == ["x.jpg"]


def test_two_files_whose_names_look_alike_are_two(mean_color, tmp_path):
    folder = tmp_path / "photos"
    for number, name in enumerate((NFC, NFD)):
        save(folder / f"{name}.jpg", number)
    if len(list(folder.iterdir())) < 2:
        pytest.skip("a file system that spells names in its own way")
    retriever = Retriever(embedder=mean_color)
    assert len(retriever.add_folder(folder, labels={f"{NFC}.jpg": "c", f"{NFD}.jpg": "d"}).ok) == 2
    assert (retriever[f"{NFC}.jpg"].label, retriever[f"{NFD}.jpg"].label) == ("c", "d")
    assert len(retriever.add_folder(folder, prune=True).skipped) == 2
    (folder / f"{NFC}.jpg").unlink()
    assert gone(retriever.add_folder(folder, prune=True)) == [f"{NFC}.jpg"]
    assert list(retriever) == [f"{NFD}.jpg"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "mapping"])
def test_metadata_and_labels_in_another_spelling(mean_color, tmp_path, kind):
    folder = tmp_path / "photos"
    save(folder / f"{NFD}.jpg", 1)
    save(folder / "x.jpg", 2)
    names = [f"{NFC}.jpg", "x.jpg"]
    labels, metadata = None, tmp_path / f"rows.{kind}"
    if kind == "csv":
        metadata.write_text(
            "".join(["file,label,n\n", *(f"{n},of {n},1\n" for n in names)]), "utf-8"
        )
    elif kind == "jsonl":
        rows = [f'{{"key": "{n}", "label": "of {n}", "n": 1}}\n' for n in names]
        metadata.write_text("".join(rows), "utf-8")
    else:
        labels, metadata = {n: f"of {n}" for n in names}, {n: {"n": 1} for n in names}
    retriever = Retriever(embedder=mean_color)
    report = retriever.add_folder(folder, labels=labels, metadata=metadata)
    assert (report.unmatched, report.undescribed) == ([], [])
    item = retriever[f"{NFD}.jpg"]
    assert (item.label, item.metadata) == (f"of {NFC}.jpg", {"n": 1})


def test_rows_that_look_alike_are_told_apart(mean_color, tmp_path):
    folder = tmp_path / "photos"
    save(folder / f"{NFC}.jpg", 1)
    report = Retriever(embedder=mean_color).add_folder(
        folder, metadata={f"{NFC}.jpg": {"n": 1}, f"{NFD}.jpg": {"n": 2}}
    )
    assert report.unmatched == [f"{NFD}.jpg"]
    assert r"metadata without an image: 'cafe\u0301.jpg'" in str(report)


def test_rows_by_absolute_paths_of_another_spelling(mean_color, photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    rows = tmp_path / "rows.csv"
    rows.write_text(f"path,n\n{tmp_path}/link/lake/0.jpg,1\n{photos}/lake/1.jpg,2\n", "utf-8")
    for folder in (photos, tmp_path / "link"):
        retriever = Retriever(embedder=mean_color)
        report = retriever.add_folder(folder, metadata=rows)
        assert report.unmatched == []
        assert retriever["lake/0.jpg"].metadata == {"n": 1}
        assert retriever["lake/1.jpg"].metadata == {"n": 2}


# -- pruning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["emptied", "more than half", "all new"])
def test_a_folder_that_lost_too_much_is_not_pruned(retriever, photos, how):
    if how == "more than half":
        shutil.rmtree(photos / "lake")
        shutil.rmtree(photos / "sand")
    else:
        shutil.rmtree(photos)
        photos.mkdir()
    save(photos / "new.jpg", 99) if how != "emptied" else None
    report = retriever.add_folder(photos, prune=True)
    n = 8 if how == "more than half" else 12
    assert (len(report.vanished), report.unpruned) == (n, n)
    assert len(report.ok) == (how != "emptied")
    assert len(retriever) == 12 + len(report.ok)
    assert retriever["lake/0.jpg"].label == "label of lake/0.jpg"
    (warning,) = report.warnings
    assert str(photos) in warning
    assert "prune='all' (--prune=all)" in warning
    assert warning in str(report)
    assert f"{n} not pruned" in report.summary()
    assert all("kept, as" in line.reason for line in report.vanished)
    report = retriever.add_folder(photos, prune="all")
    assert (len(report.vanished), report.unpruned, report.warnings) == (n, 0, [])
    assert len(retriever) == 12 - n + (how != "emptied")


def test_half_may_go_and_renamed_ones_are_not_gone(mean_color, tmp_path):
    folder = tmp_path / "photos"
    paths = [save(folder / f"{n}.jpg", n) for n in range(4)]
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(folder)
    paths[0].unlink()
    paths[1].unlink()
    paths[2].rename(folder / "renamed.jpg")
    report = retriever.add_folder(folder, prune=True)
    assert (gone(report), report.unpruned, len(retriever)) == (["0.jpg", "1.jpg"], 0, 2)
    (folder / "renamed.jpg").unlink()  # one of two
    assert retriever.add_folder(folder, prune=True).unpruned == 0
    paths[3].unlink()  # the only one
    assert retriever.add_folder(folder, prune=True).unpruned == 1


@pytest.mark.parametrize("how", ["empty", "link to nothing"])
def test_an_empty_place_below_the_folder_is_not_pruned(retriever, photos, tmp_path, how):
    """A disk that is mounted there, or linked, may be away. Elsewhere files are pruned."""
    shutil.rmtree(photos / "lake")
    if how == "empty":
        (photos / "lake").mkdir()
    else:
        (photos / "lake").symlink_to(tmp_path / "away")
    (photos / "wood" / "0.jpg").unlink()
    report = retriever.add_folder(photos, prune=True)
    assert (len(report.vanished), report.unpruned) == (5, 4)
    assert "wood/0.jpg" not in retriever
    assert len(retriever) == 11
    assert "'lake' were not pruned" in report.warnings[0]
    assert retriever.add_folder(photos, prune="all").unpruned == 0
    assert len(retriever) == 7


def test_a_subfolder_that_was_deleted_is_pruned(retriever, photos):
    shutil.rmtree(photos / "lake")
    report = retriever.add_folder(photos, prune=True)
    assert (len(report.vanished), report.unpruned, len(retriever)) == (4, 0, 8)


@pytest.mark.parametrize("prune", ["yes", "ALL", 1, None, []])
def test_prune_takes_three_values(retriever, photos, prune):
    with pytest.raises(InvalidInputError, match="prune: expected True, False or 'all', found"):
        retriever.add_folder(photos, prune=prune)


def test_what_cannot_be_listed_is_neither_gone_nor_pruned(retriever, photos, monkeypatch):
    whole_scan, whole_stat = os.scandir, os.lstat
    closed = str(photos / "lake")

    def refuse(path):
        if str(path).startswith(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def scandir(path="."):
        refuse(path)
        return whole_scan(path)

    def lstat(path, **options):
        refuse(path)
        return whole_stat(path, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "lstat", lstat)
    (photos / "wood" / "0.jpg").unlink()
    for prune in (True, "all"):
        report = retriever.add_folder(photos, prune=prune)
        (line,) = report.failed
        assert (line.key, line.path) == ("lake/", closed)
        assert line.reason == f"cannot be listed: {os.strerror(errno.EACCES)}"
        assert len(retriever) == 11
        assert len(report.skipped) == 7
    assert retriever["lake/0.jpg"].label == "label of lake/0.jpg"


def test_a_file_on_a_disk_that_fails_is_not_gone(retriever, photos, monkeypatch):
    whole = os.lstat

    def lstat(path, **options):
        if str(path).endswith("1.jpg"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return whole(path, **options)

    (photos / "lake" / "0.jpg").unlink()
    (photos / "lake" / "1.jpg").unlink()
    monkeypatch.setattr(os, "lstat", lstat)
    assert gone(retriever.add_folder(photos, prune=True)) == ["lake/0.jpg"]


def test_files_are_counted_and_not_items(mean_color, photos):
    """A folder that is indexed twice, by itself and in its parent, does not lose twice as much."""
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(photos)
    for label in ("lake", "sand", "wood"):
        retriever.add_folder(photos / label, prefix=f"{label}-")
    for n in range(3):
        (photos / "lake" / f"{n}.jpg").unlink()
        (photos / "sand" / f"{n}.jpg").unlink()
    report = retriever.add_folder(photos, prune=True)
    assert (len(report.vanished), report.unpruned, len(retriever)) == (12, 0, 12)


# -- what is excluded, ignored, linked -----------------------------------------------------------


def test_what_is_excluded_later_is_left_alone(retriever, photos):
    report = retriever.add_folder(photos, prune="all", exclude=["lake", "3.*"])
    assert (report.vanished, len(report.skipped), len(retriever)) == ([], 6, 12)
    assert report.excluded == {"lake": 4, "sand/3.jpg": 1, "wood/3.jpg": 1}
    assert "excluded: lake: 4 items of the gallery are there and stay unchanged" in str(report)
    shutil.rmtree(photos / "lake")  # as well where they are gone
    report = retriever.add_folder(photos, prune="all", exclude="lake")
    assert (report.vanished, len(retriever)) == ([], 12)
    assert gone(retriever.add_folder(photos)) == [f"lake/{n}.jpg" for n in range(4)]


def test_the_report_names_what_was_passed_over(mean_color, photos):
    for name in ("a.psd", "b.PSD", "c.txt", "README", "@eaDir/x.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).touch()
    (photos / "loop").symlink_to(photos)
    report = Retriever(embedder=mean_color).add_folder(photos)
    assert report.ignored == 4
    assert report.ignored_suffixes == {".psd": 2, "": 1, ".txt": 1}
    assert "4 other files ignored: 2 .psd, 1 without a suffix, 1 .txt" in report.summary()
    assert report.excluded == {"@eaDir": 0}
    assert report.repeated_links == ["loop"]
    text = str(report)
    assert "1 excluded, 1 link passed over" in text
    assert "link passed over: loop" in text
    assert len(report.ok) == 12


def test_a_linked_folder_is_indexed_and_kept_in_step(retriever, photos, tmp_path):
    disk = tmp_path / "disk"
    paths = [save(disk / f"{n}.jpg", 50 + n) for n in range(3)]
    (photos / "disk").symlink_to(disk)
    assert retriever.add_folder(photos).ok == [f"disk/{n}.jpg" for n in range(3)]
    retriever.update("disk/0.jpg", label="kept")
    paths[0].rename(disk / "9.jpg")
    paths[1].unlink()
    report = retriever.add_folder(photos, prune=True)
    assert ([line.key for line in report.renamed], gone(report)) == (["disk/9.jpg"], ["disk/1.jpg"])
    assert retriever["disk/9.jpg"].label == "kept"
    disk.rename(tmp_path / "unmounted")
    report = retriever.add_folder(photos, prune=True)
    assert (report.unpruned, len(retriever)) == (2, 14)
    (photos / "disk").unlink()  # it is meant to be gone
    report = retriever.add_folder(photos, prune=True)
    assert (report.unpruned, len(retriever)) == (0, 12)


# -- whatever happens to a folder ----------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["delete", "rename", "move", "add", "index", "prune", "empty"]),
            st.integers(0, 7),
        ),
        max_size=8,
    )
)
def test_labels_follow_their_files(mean_color, steps):
    """By any spelling, each file that is there has the label of its first name; no others stay."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        base = Path(name).resolve()
        root = base / "photos"
        for n in range(6):
            save(root / ("a" if n % 2 else "b") / f"{n}.jpg", n)
        retriever = Retriever(embedder=mean_color)
        retriever.add_folder(root)
        for key in list(retriever):
            retriever.update(key, label=Path(key).stem)
        labels = {key: Path(key).stem for key in retriever}  # of what is on the disk
        fresh = 0
        for step, number in steps:
            keys = sorted(labels)
            if step == "delete" and len(keys) > 3:
                (root / keys[number % len(keys)]).unlink()
                del labels[keys[number % len(keys)]]
            elif step == "rename" and keys:
                key = keys[number % len(keys)]
                fresh += 1
                new = f"{'ab'[number % 2]}/r{fresh}.jpg"
                (root / key).rename(root / new)
                labels[new] = labels.pop(key)
            elif step == "add":
                fresh += 1
                save(root / "a" / f"n{fresh}.jpg", 1000 + fresh)
                labels[f"a/n{fresh}.jpg"] = None
            elif step == "move":
                fresh += 1
                root = root.rename(base / f"m{fresh}")
            elif step == "empty":
                away = root.rename(base / "away")
                root.mkdir()
                before = list(retriever)
                assert retriever.add_folder(root, prune=True).unpruned == len(before)
                assert list(retriever) == before
                root.rmdir()
                away.rename(root)
            folder = [root, base / "x" / ".." / root.name][number % 2]
            (base / "x").mkdir(exist_ok=True)
            if step in {"index", "prune", "rename", "move", "delete"}:
                retriever.add_folder(folder, prune="all" if step == "prune" else False)
                assert {key: retriever[key].label for key in labels} == labels
        retriever.add_folder(root, prune="all")
        assert {key: retriever[key].label for key in retriever} == labels


def test_a_key_that_is_not_there_says_so(retriever):
    with pytest.raises(KeyNotFoundError, match="found 'caf\xe9.jpg'$"):
        retriever.remove(["caf\xe9.jpg"])
