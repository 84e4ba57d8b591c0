"""Decoding in processes with limits."""

import io
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image as Pil

from imgret import Retriever, images
from imgret.errors import (
    ImageCorruptError,
    ImageFormatError,
    ImageTooLargeError,
    ImgretError,
    InvalidInputError,
)
from imgret.images import isolation, worker

NOISE = Pil.effect_noise((300, 200), 80).convert("RGB")


def saved(kind, image=NOISE, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


FILES = {
    "jpeg": saved("JPEG"),
    "progressive": saved("JPEG", progressive=True),
    "png": saved("PNG"),
    "webp": saved("WEBP"),
    "gif": saved("GIF"),
    "tiff": saved("TIFF"),
    "avif": saved("AVIF", speed=10),
}


@pytest.fixture
def started(monkeypatch):
    """Processes that were started."""
    found = []
    make = isolation._DecoderProcess

    def watched(*arguments):
        found.append(make(*arguments))
        return found[-1]

    monkeypatch.setattr(isolation, "_DecoderProcess", watched)
    return found


def test_pixels_and_errors_are_those_of_this_process(started, tmp_path):
    here = {name: images.decode(data, min_side=16) for name, data in FILES.items()}
    (tmp_path / "no.jpg").write_bytes(b"no image")
    with images.isolated(workers=1):
        for name, data in FILES.items():
            there = images.decode(data, min_side=16)
            assert there.size == here[name].size
            np.testing.assert_array_equal(there.image, here[name].image)
        with pytest.raises(ImageFormatError, match=r"no\.jpg: expected an image"):
            images.load(tmp_path / "no.jpg")
        with pytest.raises(ImageTooLargeError, match="expected at most 10 pixels"):
            images.decode(FILES["gif"], max_pixels=10)
        with pytest.raises(ImageCorruptError, match="truncated"):
            images.decode(FILES["webp"][:200])
    (process,) = started  # for all of them
    assert process._process.poll() is not None


def test_searches_and_ingest_use_it(started, tmp_path):
    (tmp_path / "a.webp").write_bytes(FILES["webp"])
    with images.isolated(workers=1):
        retriever = Retriever()
        assert str(retriever.add_folder(tmp_path, progress=False)).startswith("1 added")
        assert [hit.key for hit in retriever.search(FILES["webp"])] == ["a.webp"]
    assert len(started) == 1


def test_plain_images_can_stay_here(started):
    with images.isolated(plain=False):
        for name in ("jpeg", "png"):
            images.decode(FILES[name])
        assert not started
        for name in ("progressive", "webp"):
            images.decode(FILES[name])
        images.decode(saved("JPEG", NOISE.convert("CMYK")))
        images.decode(saved("PNG", NOISE, icc_profile=b"anything"))
    assert len(started) == 1


def test_more_threads_than_workers_take_turns(started):
    found = []

    def decode():
        found.append(images.decode(FILES["gif"]).size)

    with images.isolated(workers=2):
        threads = [threading.Thread(target=decode) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == 8 * [(300, 200)]
    assert len(started) <= 2


def test_what_takes_too_long_is_ended_and_the_next_is_decoded(started):
    slow = saved("PNG", Pil.new("RGB", (3000, 3000)), compress_level=1)
    with images.isolated(seconds=20, workers=1):
        images.decode(FILES["gif"])  # it has started
        isolation.active().seconds = 0.01
        with pytest.raises(ImageTooLargeError, match=r"within 0\.01 seconds"):
            images.decode(slow)
        isolation.active().seconds = 20
        assert images.decode(FILES["gif"]).size == (300, 200)
    assert len(started) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_what_takes_too_much_memory_is_refused():
    large = saved("PNG", Pil.new("RGB", (5000, 5000)), compress_level=1)
    with images.isolated(memory=64 << 20, workers=1):
        with pytest.raises(ImageTooLargeError, match="with 64 MB of memory"):
            images.decode(large)
        assert images.decode(FILES["gif"]).size == (300, 200)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_crash_ends_only_the_worker(started):
    with images.isolated(workers=1):
        images.decode(FILES["gif"])
        os.kill(started[0]._process.pid, signal.SIGSEGV)
        with pytest.raises(ImageCorruptError, match="damaged or crafted: .* code -11"):
            images.decode(FILES["gif"])
        assert images.decode(FILES["gif"]).size == (300, 200)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff" * 16,
        (2).to_bytes(8, "big") + (12).to_bytes(8, "big") + b"{}" + bytes(12),
        (34).to_bytes(8, "big") + (12).to_bytes(8, "big") + b'{"shape": [2, -2], "size": [2, 2]}',
        (2).to_bytes(8, "big") + (0).to_bytes(8, "big") + b"[]",
        (2).to_bytes(8, "big") + (0).to_bytes(8, "big") + b"{}",
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="uses a descriptor")
def test_a_worker_that_was_taken_over_cannot_answer_nonsense(answer, monkeypatch):
    said = repr(answer).replace("{", "{{").replace("}", "}}")
    code = "import os, sys; os.write({fd}, b'\\1'); sys.stdin.buffer.read(16)"
    code += f"; os.write({{fd}}, {said})"
    monkeypatch.setattr(isolation, "_CALL", code + "; {path}; {memory}")
    with images.isolated(workers=1), pytest.raises(ImageCorruptError, match="crafted"):
        images.decode(FILES["gif"])


@pytest.mark.parametrize("executable", ["/no/such/python", None, "/bin/false"])
@pytest.mark.skipif(sys.platform == "win32", reason="uses paths")
def test_a_process_that_does_not_start_is_no_damaged_image(executable, monkeypatch):
    monkeypatch.setattr(sys, "executable", executable)
    with images.isolated(), pytest.raises(ImgretError, match="cannot be started: .*isolated") as e:
        images.decode(FILES["gif"])
    assert type(e.value) is ImgretError


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_workers_of_its_own():
    with images.isolated(workers=1):
        images.decode(FILES["gif"])
        child = os.fork()
        if not child:
            fine = images.decode(FILES["gif"]).size == (300, 200)
            os._exit(0 if fine else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert images.decode(FILES["gif"]).size == (300, 200)


def test_workers_end_with_their_parent():
    code = """
import io, os
from PIL import Image
from imgret import images
from imgret.images import isolation
file = io.BytesIO()
Image.new("RGB", (9, 9)).save(file, "GIF")
block = images.isolated(workers=1)
block.__enter__()
images.decode(file.getvalue())
print(isolation.active()._idle[0]._process.pid, flush=True)
os._exit(0)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    if sys.platform == "linux":
        process = f"/proc/{found.stdout.strip()}/cmdline"
        for _ in range(100):
            try:
                with open(process, "rb") as file:  # noqa: PTH123
                    if b"worker" not in file.read():
                        return
            except OSError:
                return
            threading.Event().wait(0.1)
        pytest.fail("the worker is still there")


def test_facts_of_an_error_are_no_names_of_code():
    for name in ("__doc__", "Path", "annotations", "StoreError", "nothing"):
        error = isolation._error({"error": name, "reason": "x"}, None)
        assert type(error) is ImageCorruptError


def test_memory_is_seen_behind_other_errors():
    error = ImageCorruptError("damaged")
    assert not worker._is_of_memory(error)
    error.__cause__ = MemoryError()
    assert worker._is_of_memory(error)


@pytest.mark.parametrize("option", [{"memory": 0}, {"seconds": 0}, {"workers": 0}])
def test_limits_are_positive(option):
    with pytest.raises(InvalidInputError, match=next(iter(option))), images.isolated(**option):
        pass
