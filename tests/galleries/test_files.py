"""Files: what is written, in which order it reaches the disk, and what a system error becomes."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

from imgret.errors import (
    StoreError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from imgret.galleries.local import files, writer_lock
from imgret.galleries.local.own import create_file, discard_tree, open_file
from imgret.galleries.local.writer_lock import WriterLock


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (errno.EACCES, StoreReadOnlyError, "a directory that can be written, found: Permission"),
        (errno.EPERM, StoreReadOnlyError, "found: Operation not permitted"),
        (errno.EROFS, StoreReadOnlyError, "found: Read-only file system"),
        (errno.ENOENT, StoreNotFoundError, "cannot be written: .*No such file"),
        (errno.ENOTDIR, StoreNotFoundError, "cannot be written: .*Not a directory"),
        (errno.EEXIST, StoreExistsError, "another process has just created"),
        (errno.ENOTEMPTY, StoreExistsError, "another process has just created"),
        (errno.ENOSPC, StoreError, "cannot be written: No space left.*before is untouched"),
        (None, StoreError, "cannot be written: no number; what was saved"),
    ],
)
def test_a_system_error_says_what_to_do(code, kind, said):
    error = OSError("no number") if code is None else OSError(code, os.strerror(code))
    with pytest.raises(kind, match=f"^x: .*{said}") as caught, files.writing(Path("x")):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error
    with pytest.raises(StoreLockedError, match="^ours$"), files.writing(Path("x")):
        raise StoreLockedError("ours")


def test_a_text_is_on_the_disk_before_it_takes_the_place_of_another(tmp_path, monkeypatch):
    path, steps = tmp_path / "m.json", []
    path.write_text("old")

    def fsync(descriptor):
        synced = os.fstat(descriptor).st_ino
        steps.append((path.read_text(), synced))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_text(path, "new ä")
    of_file, of_folder = path.stat().st_ino, tmp_path.stat().st_ino
    expected = [("old", of_file), ("new ä", of_folder)]
    assert steps == (expected[:1] if sys.platform == "win32" else expected)
    assert path.read_bytes() == "new ä".encode()


def test_every_part_of_a_new_directory_is_on_the_disk_before_it_is_in_place(tmp_path, monkeypatch):
    path, steps, sync = tmp_path / "g", [], files.sync

    def noted(each):
        steps.append((path.exists(), each.relative_to(tmp_path).parts[1:]))
        sync(each)

    monkeypatch.setattr(files, "sync", noted)
    with files.replacement(path, mark="mark") as new:
        (new / "deep").mkdir()
        (new / "deep" / "file").touch()
        (new / "mark").touch()
    before = sorted(names for is_there, names in steps if not is_there)
    assert before == [(), ("deep",), ("deep", "file"), ("lock",), ("mark",)]
    assert steps[-1] == (True, ())
    assert len(steps) == 6


def test_a_replacement_that_fails_lets_the_locks_go(tmp_path):
    path, held = tmp_path / "g", []
    path.mkdir()
    (path / "mark").touch()
    with pytest.raises(KeyError) as caught, files.replacement(path, mark="mark") as new:  # noqa: PT012  # what fails
        for each in (path, new):
            with pytest.raises(StoreLockedError):
                WriterLock(each / "lock")
        held.append(new)
        raise KeyError
    WriterLock(path / "lock").release()
    assert not held[0].exists()
    assert caught.value.args == ()  # whose traceback refers to the locks


def test_a_writer_waits_for_who_only_tidies_up(tmp_path, monkeypatch):
    """A reader that rolls a commit back, or undoes a save that was killed, is no other writer."""
    path = tmp_path / "lock"
    brief = WriterLock(path, brief=True)
    Timer(0.2, brief.release).start()
    lock = WriterLock(path)
    assert brief._file.closed
    began = time.monotonic()
    with pytest.raises(StoreLockedError, match=f"writing by process {os.getpid()}; expected no"):
        WriterLock(path)
    assert time.monotonic() - began < 1
    lock.release()
    monkeypatch.setattr(writer_lock, "_BRIEF_SECONDS", 0.05)
    brief = WriterLock(path, brief=True)
    with pytest.raises(StoreLockedError, match=f"writing by process {os.getpid()}; expected no"):
        WriterLock(path)
    brief.release()


def test_who_has_just_locked_has_not_said_so_yet(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.write_text("7")  # of a writer that is gone
    brief = WriterLock(path, brief=True)
    path.write_text("7")

    def sleep(seconds):
        path.write_text(f"8 {writer_lock._BRIEF}")
        brief.release()

    monkeypatch.setattr(writer_lock.time, "sleep", sleep)
    WriterLock(path).release()


def test_a_text_that_cannot_be_put_in_place_leaves_nothing(tmp_path):
    (tmp_path / "m.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.write_text(tmp_path / "m.json", "new")
    assert [each.name for each in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_what_was_synced_is_closed(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / "file").touch()
    for _ in range(9):
        files.sync(tmp_path)
        files.sync(tmp_path / "file")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("replaces", [True, False])
def test_what_comes_in_between_is_not_replaced(tmp_path, replaces):
    path = tmp_path / "g"
    with (  # noqa: PT012  # what comes in between
        pytest.raises(OSError, match="not empty|exists"),
        files.replacement(path, mark="mark", replaces=replaces) as new,
    ):
        (new / "mark").write_text("new")
        path.mkdir()
        (path / "mark").write_text("there")
    assert (path / "mark").read_text() == "there"
    assert [each.name for each in tmp_path.iterdir()] == ["g"]


def marked(path, text):
    path.mkdir(parents=True)
    (path / "mark").write_text(text)
    return path


def replace(path, text, **how):
    with files.replacement(path, mark="mark", **how) as new:
        (new / "mark").write_text(text)


def test_a_replacement_makes_the_folders_above(tmp_path):
    replace(tmp_path / "a" / "b" / "g", "new")
    replace(tmp_path / "a" / "b" / "g", "newer")
    assert (tmp_path / "a" / "b" / "g" / "mark").read_text() == "newer"


def test_a_replacement_tidies_up_after_those_that_were_killed(tmp_path):
    path = tmp_path / "g"
    (tmp_path / ".g.saving-0123abcd").mkdir()
    marked(files.aside_of(path), "old")  # killed between the two renames
    with pytest.raises(OSError, match="not empty|exists"):
        replace(path, "new", replaces=False)
    assert (path / "mark").read_text() == "old"
    files.aside_of(path).mkdir()
    (files.aside_of(path) / "half").touch()  # killed while it was deleted
    replace(path, "new")
    assert (path / "mark").read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["g"]


@pytest.mark.skipif(sys.platform == "win32", reason="cannot delete a file that is open")
def test_what_cannot_be_replaced_is_put_back(tmp_path, monkeypatch):
    path, sync = marked(tmp_path / "g", "old"), files.sync

    def lose(part):
        sync(part)
        if part.name.startswith(".g.saving-"):
            (part / "mark").unlink()
            (part / "lock").unlink()
            part.rmdir()

    monkeypatch.setattr(files, "sync", lose)
    with pytest.raises(FileNotFoundError):
        replace(path, "new")
    assert (path / "mark").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["g"]


@pytest.mark.skipif(sys.platform == "win32", reason="locks are taken otherwise")
@pytest.mark.parametrize("fails", [True, False])
def test_the_lock_that_is_held_is_that_of_the_directory_at_the_path(tmp_path, fails):
    path = marked(tmp_path / "g", "old")
    held = WriterLock(path / "lock")
    with (
        suppress(TypeError),  # of a text that is none
        files.replacement(path, mark="mark", held=held) as new,
    ):
        (new / "mark").write_text(None if fails else "new")
    assert (path / "mark").read_text() == ("old" if fails else "new")
    with pytest.raises(StoreLockedError):
        WriterLock(path / "lock")
    held.release()
    WriterLock(path / "lock").release()


def test_half_of_what_is_deleted_is_never_put_back(tmp_path, monkeypatch):
    path = marked(tmp_path / "g", "old")
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", lambda *_, **how: None)  # as if it was killed
        replace(path, "new")
    assert files.aside_of(path).exists()
    path.rename(tmp_path / "elsewhere")
    files.settle(path, mark="mark")
    assert not path.exists()


def test_a_directory_is_discarded_where_nobody_writes_and_it_is_expendable(tmp_path):
    path = tmp_path / "g"
    assert not files.discard(path, expendable=lambda _: True)
    path.mkdir()
    (path / "file").touch()
    lock = WriterLock(path / "lock")
    assert not files.discard(path, expendable=lambda _: True)
    lock.release()
    assert not files.discard(path, expendable=lambda _: False)
    assert (path / "file").exists()
    WriterLock(path / "lock").release()
    assert files.discard(path, expendable=lambda each: each == path)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_aside_is_put_back_once_nobody_holds_it(tmp_path, monkeypatch):
    path, aside = tmp_path / "g", files.aside_of(tmp_path / "g")
    aside.mkdir()
    files.settle(path, mark="mark")
    assert not path.exists()  # half of one that was being deleted
    (aside / "mark").touch()
    lock, waits = WriterLock(aside / "lock"), []
    monkeypatch.setattr(
        files.time,
        "sleep",
        lambda seconds: waits.append(seconds) or len(waits) < 3 or lock.release(),
    )
    files.settle(path, mark="mark")
    assert (path / "mark").exists()
    assert len(waits) == 3
    assert max(waits) < 0.1
    assert not aside.exists()
    WriterLock(path / "lock").release()


def test_what_stands_aside_gets_no_lock_while_its_save_deletes_it(tmp_path, monkeypatch):
    path, aside = tmp_path / "g", files.aside_of(tmp_path / "g")
    aside.mkdir()
    (aside / "mark").touch()
    is_aside = files.is_aside

    def ended_just_then(path, *, mark):
        found = is_aside(path, mark=mark)
        if found:
            path.mkdir()  # the save puts the new one there,
            (aside / "mark").unlink()  # and has deleted the files of the old one, not yet itself
        return found

    monkeypatch.setattr(files, "is_aside", ended_just_then)
    files.settle(path, mark="mark")
    aside.rmdir()  # nothing came into it


def test_what_stands_aside_without_a_lock_is_put_back(tmp_path):
    path, aside = tmp_path / "g", files.aside_of(tmp_path / "g")
    aside.mkdir()
    (aside / "mark").touch()
    files.settle(path, mark="mark")
    assert (path / "mark").exists()
    assert not aside.exists()


def test_what_stands_aside_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    aside = files.aside_of(tmp_path / "g")
    aside.mkdir()
    (aside / "mark").touch()
    lock = WriterLock(aside / "lock")
    monkeypatch.setattr(files, "_WAIT_SECONDS", 0.05)
    files.settle(tmp_path / "g", mark="mark")
    assert aside.exists()
    lock.release()


def test_a_lock_names_its_holder_and_nobody_before(tmp_path):
    path = tmp_path / "lock"
    path.write_text("99999999999999 and more")
    lock = WriterLock(path)
    assert path.read_text() == str(os.getpid())
    path.write_text("")
    with pytest.raises(
        StoreLockedError, match=f"^{tmp_path}: open for writing by process unknown;"
    ):
        WriterLock(path)
    path.write_text("7" * 70)
    with pytest.raises(StoreLockedError, match=f"by process {'7' * 64};"):
        WriterLock(path)
    lock.release()
    WriterLock(path).release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_lock_is_not_for_the_children_of_its_holder(tmp_path):
    """Who is forked neither releases it, nor holds it when the holder is gone."""
    path = tmp_path / "lock"
    lock = WriterLock(path)
    if not (child := os.fork()):
        lock.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(StoreLockedError):
        WriterLock(path)
    lock.release()
    lasts, end = os.pipe()
    if not (holder := os.fork()):
        held = WriterLock(path)
        if not os.fork():  # it lives on
            os.close(end)
            os.read(lasts, 1)
        os._exit(0 if held else 1)
    assert os.waitpid(holder, 0)[1] == 0
    WriterLock(path).release()
    for each in (lasts, end):
        os.close(each)


@pytest.mark.parametrize("dropped", [False, True])
def test_a_lock_is_released_though_another_process_has_its_file(tmp_path, dropped):
    lock = WriterLock(tmp_path / "lock")
    left = os.dup(lock._file.fileno())  # as a program that was started has it for a moment
    if not dropped:
        lock.release()
    del lock
    WriterLock(tmp_path / "lock").release()
    os.close(left)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells no open files")
def test_who_is_refused_has_no_file_left_open(tmp_path):
    def opened():
        return len(list(Path("/proc/self/fd").iterdir()))

    lock, before = WriterLock(tmp_path / "lock"), opened()
    with pytest.raises(StoreLockedError) as caught:  # keeps what was local
        WriterLock(tmp_path / "lock")
    assert opened() == before
    assert str(tmp_path) in str(caught.value)
    lock.release()
    assert opened() == before - 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_lock_that_cannot_be_written_is_not_held(tmp_path):
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            WriterLock(tmp_path / "lock")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    WriterLock(tmp_path / "lock").release()
    assert caught.value.errno == errno.EFBIG


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege")
def test_a_link_that_is_made_just_now_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    monkeypatch.setattr("imgret.galleries.local.own.check_no_link", lambda _: None)
    with pytest.raises(OSError, match="symbolic links"):
        open_file(tmp_path / "link", creates=True)
    for content in (b"first", b"second"):  # in place of the link, and of what was half written
        with create_file(tmp_path / "link") as file:
            file.write(content)
        assert (tmp_path / "link").read_bytes() == content
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="cannot delete a file that is open")
def test_what_is_being_deleted_is_locked(tmp_path, monkeypatch):
    new, discard, refused = tmp_path / ".g.saving-0123abcd", files._discard, []
    new.mkdir()

    def noted(directory, mark):
        with pytest.raises(StoreLockedError):
            WriterLock(directory / "lock")
        refused.append(directory)
        discard(directory, mark)

    monkeypatch.setattr(files, "_discard", noted)
    lock = WriterLock(new / "lock")
    assert not files.discard_unlocked(new, "mark")
    lock.release()
    assert files.discard_unlocked(new, "mark")
    assert refused == [new]
    assert not new.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions")
def test_a_file_is_for_whom_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        os.close(open_file(tmp_path / "file", creates=True))
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "none")


def test_a_tree_is_discarded_and_of_a_link_the_link_alone(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    discard_tree(tmp_path / "link")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    discard_tree(folder)
    discard_tree(folder)
    assert list(tmp_path.iterdir()) == []
