"""The table of vectors: the same in memory and in a file."""

import gc
import itertools
import os
import sys
import warnings
import zlib
from contextlib import closing
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgret.errors import (
    DimensionError,
    InvalidInputError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
)
from imgret.galleries.local import vectors as module
from imgret.galleries.local.vectors import VectorLog


@pytest.fixture(params=["memory", "file", "large file"])
def log(request, tmp_path, monkeypatch):
    if request.param == "large file":
        monkeypatch.setattr(module, "_MAPPED_BYTES", 0)
        monkeypatch.setattr(module, "_CACHED_SECONDS", 0)
    path = None if request.param == "memory" else tmp_path / "v.f16"
    with closing(VectorLog(3, path=path)) as made:
        yield made


def rows(n, dim=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def stored(vectors):
    return vectors.astype(np.float16).astype(np.float32)


def test_append_and_read(log):
    a, b = rows(4), rows(2, seed=1)
    crcs = log.append(a)
    assert crcs == [zlib.crc32(row.astype("<f2").tobytes()) for row in a]
    assert log.append(b) != crcs
    assert log.append(rows(0)) == []
    assert len(log) == 6
    read = log.read(np.array([5, 0, 5]))
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    assert np.array_equal(read, stored(np.stack([b[1], a[0], b[1]])))
    assert log.read(np.array([], dtype=np.int64)).shape == (0, 3)


def test_what_is_read_is_a_copy(log):
    log.append(rows(2))
    read = log.read(np.array([0, 1]))
    read[:] = 0
    assert log.read(np.array([0, 1])).any()


def test_truncate_then_append(log):
    log.append(rows(4))
    log.read(np.arange(4))
    log.truncate(1)
    log.append(rows(2, seed=1))
    assert np.array_equal(
        log.read(np.arange(3)), stored(np.concatenate([rows(4)[:1], rows(2, seed=1)]))
    )
    log.truncate(0)
    assert len(log) == 0
    assert log.read(np.arange(0)).shape == (0, 3)


def mapped():
    """Megabytes of file pages in memory, where Linux tells; else None."""
    status = Path("/proc/self/status")
    _, found, after = status.read_text().partition("RssFile:") if status.exists() else ("", "", "")
    return int(after.split()[0]) / 1024 if found else None


@pytest.mark.skipif(mapped() is None, reason="the system does not tell")
def test_blocks_read_leave_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 2**20)
    with closing(VectorLog(1024, path=tmp_path / "v.f16")) as log:
        for _ in range(32):
            log.append(np.ones((1024, 1024), np.float32))
        before = mapped()
        most = max(mapped() for _ in log.blocks(np.arange(len(log))))
        assert most - before < 16  # of 64 MB


@pytest.mark.skipif(mapped() is None, reason="the system does not tell")
@pytest.mark.parametrize(("limit", "most"), [(2**30, 64), (2**20, 4)])
def test_rows_of_a_large_file_fill_no_memory(tmp_path, monkeypatch, limit, most):
    monkeypatch.setattr(module, "_MAPPED_BYTES", limit)
    with closing(VectorLog(1024, "float32", path=tmp_path / "v.f32")) as log:
        for _ in range(16):
            log.append(np.ones((1024, 1024), np.float32))
        before = mapped()
        for start in range(16):
            log.read(np.arange(start, len(log), 16))
        assert mapped() - before <= most
        assert (log.table() is None) == (limit < 2**26)


def test_blocks_cover_everything(log, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 3 * 4 * 2)
    log.append(rows(7))
    ids = np.array([0, 2, 3, 5, 6])
    blocks = list(log.blocks(ids))
    assert [block.tolist() for block, _ in blocks] == [[0, 2], [3, 5], [6]]
    assert np.array_equal(np.concatenate([r for _, r in blocks]), rows(7)[ids].astype(np.float16))


@pytest.mark.parametrize("cached", [2**16, 1000])
def test_every_float16_comes_back_as_it_is(cached, monkeypatch):
    monkeypatch.setattr(module, "_CACHED_VALUES", cached)
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 4)
    for given_ in (halves, halves[::2], halves[:0], halves.astype(">f2")):
        wide = module.widened(given_)
        assert wide.flags.c_contiguous
        assert wide.dtype == np.float32
        assert wide.tobytes() == given_.astype(np.float32).tobytes()  # the signs of zeros too


@pytest.mark.parametrize("value", [1e6, -70_000, np.inf, np.nan])
def test_too_large_for_float16(log, value):
    log.append(rows(2))
    bad = rows(3)
    bad[1, 2] = value
    with pytest.raises(InvalidInputError, match=r"65504 \(float16\), found .*dtype='float32'"):
        log.append(bad)
    assert len(log) == 2
    log.append(rows(1, seed=2))
    assert np.array_equal(log.read(np.array([2])), stored(rows(1, seed=2)))


@pytest.mark.parametrize("shape", [(2, 4), (2, 2), (3,), (1, 2, 3)])
def test_another_width(log, shape):
    with pytest.raises(DimensionError, match=r"\(n, 3\)"):
        log.append(np.zeros(shape, np.float32))
    assert len(log) == 0


def test_file_is_a_plain_array(tmp_path):
    for dtype, name in (("float16", "<f2"), ("float32", "<f4")):
        path = tmp_path / dtype
        with closing(VectorLog(3, dtype, path=path)) as log:
            log.append(rows(5).astype(np.float64))
            log.sync()
        assert np.array_equal(np.fromfile(path, name).reshape(-1, 3), rows(5).astype(name))


def test_float32_is_exact_and_wide(tmp_path):
    with closing(VectorLog(1, "float32", path=tmp_path / "v")) as log:
        log.append(np.array([[1e38], [1 / 3]], np.float32))
        assert log.read(np.arange(2)).ravel().tolist() == np.float32([1e38, 1 / 3]).tolist()


def test_file_too_short(tmp_path):
    path = tmp_path / "v.f16"
    path.write_bytes(bytes(5 * 6 - 1))
    for writable in (True, False):
        with pytest.raises(StoreCorruptError, match=r"5 rows of 3 float16 \(30 bytes\), found 29"):
            VectorLog(3, path=path, rows=5, writable=writable)
    assert path.stat().st_size == 29
    path.unlink()
    with pytest.raises(StoreCorruptError, match="missing"):
        VectorLog(3, path=path, rows=5)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        VectorLog(3, path=path, writable=False)
    with pytest.raises(StoreReadOnlyError, match="cannot be written: Is a directory"):
        VectorLog(3, path=path)


def test_what_was_not_committed(tmp_path, caplog):
    path = tmp_path / "v.f16"
    with closing(VectorLog(3, path=path)) as log:
        log.append(rows(4))
    whole = path.read_bytes()
    path.write_bytes(whole + b"garbage")
    with closing(VectorLog(3, path=path, rows=3, writable=False)) as reader:
        assert np.array_equal(reader.read(np.arange(3)), stored(rows(4)[:3]))
        with pytest.raises(IndexError):
            reader.read(np.array([3]))
    assert path.read_bytes() == whole + b"garbage"
    assert caplog.text == ""
    VectorLog(3, path=path, rows=3).close()
    assert path.read_bytes() == whole[: 3 * 6]
    assert "dropped vectors that were never committed" in caplog.text
    caplog.clear()
    VectorLog(3, path=path, rows=3).close()
    assert caplog.text == ""


def test_a_reader_keeps_its_file(tmp_path):
    path = tmp_path / "v.f16"
    with closing(VectorLog(3, path=path)) as log:
        log.append(rows(2))
    with closing(VectorLog(3, path=path, rows=2, writable=False)) as reader:
        path.rename(tmp_path / "aside")
        path.write_bytes(bytes(12))
        assert np.array_equal(reader.read(np.arange(2)), stored(rows(2)))


def test_a_reader_while_a_writer_appends(tmp_path):
    path = tmp_path / "v.f16"
    with closing(VectorLog(3, path=path)) as writer:
        writer.append(rows(2))
        with closing(VectorLog(3, path=path, rows=2, writable=False)) as reader:
            writer.append(rows(2, seed=1))
            assert np.array_equal(reader.read(np.arange(2)), stored(rows(2)))
            with closing(reader.to_memory(4)) as memory:  # once the other two are committed
                assert np.array_equal(memory.read(np.arange(4)), writer.read(np.arange(4)))
            ((_, copied),) = reader.blocks(np.arange(4), rows=4)
    assert copied.tobytes() == path.read_bytes()


def test_closed(log):
    log.append(rows(2))
    log.close()
    log.close()
    for use in (log.read, log.stored, lambda ids: list(log.blocks(ids)), log.append):
        with pytest.raises(StoreClosedError, match="closed; open it again"):
            use(np.arange(2) if use != log.append else rows(1))


operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 40)),
        st.tuples(st.just("truncate"), st.floats(0, 1)),
        st.tuples(st.just("read"), st.floats(0, 1)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(
    operations,
    st.integers(1, 9),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from([0, 200, 2**20]),
)
def test_memory_and_file_agree(steps, dim, dtype, mapped_bytes):
    with TemporaryDirectory() as folder, mock.patch.object(module, "_MAPPED_BYTES", mapped_bytes):
        path = Path(folder) / "v"
        memory, file = VectorLog(dim, dtype), VectorLog(dim, dtype, path=path)
        model = np.empty((0, dim), np.float32)
        for step, (name, value) in enumerate(steps):
            if name == "append":
                added = rows(value, dim, seed=step)
                assert memory.append(added) == file.append(added)
                model = np.concatenate([model, added.astype(dtype).astype(np.float32)])
            elif name == "truncate":
                model = model[: int(value * len(model))]
                memory.truncate(len(model))
                file.truncate(len(model))
            elif name == "read":
                ids = np.arange(int(value * len(model)))[::-1]
                assert np.array_equal(memory.read(ids), model[ids])
                assert np.array_equal(file.read(ids), model[ids])
            else:
                file.close()
                file = VectorLog(dim, dtype, path=path, rows=len(model))
        for log in (memory, file):
            assert len(log) == len(model)
            assert np.array_equal(log.read(np.arange(len(model))), model)
            log.close()
        assert np.array_equal(np.fromfile(path, dtype).reshape(-1, dim), model.astype(dtype))


# -- files that others have changed, disks that are full -----------------------------------------


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_file_that_was_truncated_while_it_is_open(tmp_path, monkeypatch, mapped, dtype):
    """Reading past the end of a mapped file would kill the process."""
    if not mapped:
        monkeypatch.setattr(module, "_MAPPED_BYTES", 0)
    path = tmp_path / "v"
    with closing(VectorLog(3, dtype, path=path)) as log:
        log.append(rows(5))
        assert np.array_equal(log.read(np.arange(5)), rows(5).astype(dtype))
        os.truncate(path, path.stat().st_size - 1)
        for use in (
            lambda: log.read(np.array([4])),
            lambda: list(log.blocks(np.arange(5))),
            lambda: list(log.blocks(np.array([0, 4]))),
            lambda: log.to_memory(5),
            lambda: log.table() if dtype == "float32" else log.read(np.array([0])),
        ):
            with pytest.raises(StoreCorruptError, match=f"expected 5 rows of 3 {dtype}"):
                use()
        log.truncate(4)
        assert np.array_equal(log.read(np.arange(4)), rows(4).astype(dtype))


def test_what_is_synced_is_the_file(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    with closing(VectorLog(3, path=tmp_path / "v")) as log, closing(VectorLog(3)) as memory:
        memory.sync()
        log.append(rows(2))
        assert synced == []
        log.sync()
    assert synced == [(tmp_path / "v").stat().st_ino]


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_full_disk_takes_no_part_of_an_append(tmp_path):
    import resource  # not on Windows

    path = tmp_path / "v"
    with closing(VectorLog(3, path=path)) as log:
        log.append(rows(2))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                log.append(rows(5))
            assert path.stat().st_size == 12
            log.append(rows(1, seed=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert len(log) == 3
        log.append(rows(4, seed=2))
        expected = np.concatenate([rows(2), rows(1, seed=1), rows(4, seed=2)])
        assert np.array_equal(log.read(np.arange(7)), stored(expected))


def test_a_file_that_cannot_be_truncated(tmp_path):
    path = tmp_path / "v"
    with closing(VectorLog(3, path=path)) as log:
        log.append(rows(3))
        file, refuse = log._file, mock.Mock(side_effect=OSError(5, "Input/output error"))
        log._file = mock.Mock(truncate=refuse)
        with pytest.raises(StoreError) as caught:
            log.truncate(1)
        log._file = file
    assert str(caught.value) == f"{path}: cannot be written: Input/output error"


@pytest.mark.parametrize("call", ["pread", "preadv"])
def test_a_file_that_cannot_be_read(tmp_path, monkeypatch, call):
    monkeypatch.setattr(module, "_MAPPED_BYTES", 0)
    path = tmp_path / "v"
    with closing(VectorLog(3, path=path)) as log:
        log.append(rows(3))

        def read():
            return log.read(np.arange(3)) if call == "pread" else list(log.blocks(np.arange(3)))

        with monkeypatch.context() as patch:
            patch.setattr(module.os, call, mock.Mock(side_effect=OSError(5, "Input/output error")))
            with pytest.raises(StoreError) as caught:
                read()
        assert str(caught.value) == f"{path}: cannot be read: Input/output error"

        def truncated(*_):
            os.truncate(path, 17)  # after its length was checked
            return b"" if call == "pread" else 0

        with monkeypatch.context() as patch:
            patch.setattr(module.os, call, truncated)
            with pytest.raises(StoreCorruptError, match="expected 3 rows.* found 17 bytes"):
                read()


@pytest.mark.parametrize(("size", "pieces"), [(None, [7]), (24, [2, 2, 2, 1]), (1, [1] * 7)])
def test_the_size_of_a_piece_is_that_of_float32(log, size, pieces):
    log.append(rows(7))
    assert [len(block) for block, _ in log.blocks(np.arange(7), size=size)] == pieces


def test_a_piece_is_32_megabytes_if_nothing_else_is_said():
    log = VectorLog(2**18)  # a megabyte a row
    log.append(np.zeros((33, 2**18), np.float32))
    assert [len(block) for block, _ in log.blocks(np.arange(33))] == [32, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="writes what the file does not hold")
@pytest.mark.parametrize(("megabytes", "is_mapped"), [(512, True), (513, False)])
def test_a_file_of_more_than_512_megabytes_does_not_stay_mapped(tmp_path, megabytes, is_mapped):
    path = tmp_path / "v"
    path.touch()
    os.truncate(path, megabytes * 2**20)  # of which the disk holds nothing
    with closing(VectorLog(2**18, "float32", path=path, rows=megabytes, writable=False)) as log:
        assert (log.table() is not None) is is_mapped


def test_there_is_a_table_of_float32_alone(tmp_path):
    for path in (None, tmp_path / "v"):
        with closing(VectorLog(3, "float32", path=path)) as log:
            log.append(rows(4))
            assert np.array_equal(log.table(), rows(4))
            assert path is None or log.table() is log.table()  # mapped once
            log.append(rows(2, seed=1))
            assert np.array_equal(log.table()[4:], rows(2, seed=1))
    with closing(VectorLog(3)) as log:
        log.append(rows(4))
        assert log.table() is None


@pytest.mark.skipif(sys.platform == "win32", reason="rows are read by other means there")
def test_rows_that_come_in_parts_are_whole(tmp_path, monkeypatch):
    with closing(VectorLog(3, path=tmp_path / "v")) as log:
        log.append(rows(7))
        read = os.preadv
        monkeypatch.setattr(
            module.os, "preadv", lambda file, parts, place: read(file, [parts[0][:5]], place)
        )
        ((ids, found),) = log.blocks(np.arange(2, 6))
    assert ids.tolist() == [2, 3, 4, 5]
    assert np.array_equal(found, rows(7)[2:6].astype(np.float16))


@pytest.mark.skipif(sys.platform != "linux", reason="the system cannot be asked")
@pytest.mark.parametrize("slow", [True, False])
def test_a_disk_that_is_waited_for_is_asked_for_all_rows_at_once(tmp_path, monkeypatch, slow):
    asked, ticks = [], itertools.count(step=1e-3 if slow else 1e-5)
    monkeypatch.setattr(module, "_MAPPED_BYTES", 0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *what: asked.append(what[:2]))
    with closing(VectorLog(3, path=tmp_path / "v")) as log:
        log.append(rows(7))
        for _ in range(2):  # of the first one it is not known
            assert asked == []
            log.read(np.array([5, 1]))
    monkeypatch.undo()
    assert asked == ([(30, 6), (6, 6)] if slow else [])


@pytest.mark.parametrize(
    ("error", "kind"), [(OSError(5, "Input/output error"), StoreError), (KeyError(), KeyError)]
)
def test_a_file_that_cannot_be_opened_as_it_should_be(tmp_path, monkeypatch, error, kind):
    class Refuses(FileIO):
        def truncate(self, size=None):
            raise error

    path = tmp_path / "v"
    path.write_bytes(bytes(20))
    monkeypatch.setattr(module, "FileIO", Refuses)
    with pytest.raises(kind) as caught:
        VectorLog(3, path=path, rows=3)
    if kind is StoreError:
        assert str(caught.value) == f"{path}: cannot be written: Input/output error"


def test_vectors_that_are_dropped_close_their_file(tmp_path):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        VectorLog(3, path=tmp_path / "v").append(rows(2))
        VectorLog(3).append(rows(2))
        gc.collect()
    assert said == []
    assert (tmp_path / "v").stat().st_size == 12
