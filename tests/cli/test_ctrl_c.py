"""Ctrl-C at many moments: within two seconds, exit code 130, a sentence, and nothing is lost.

``IMGRET_MOMENTS=500`` tries that many moments instead of a few.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever, images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process"),
]
MOMENTS = int(os.environ.get("IMGRET_MOMENTS", "2"))
WHOLE = re.compile(r"\A\d+ added; [\d.]+ s, \d+ images/s\n\Z")
SENTENCE = "imgret: interrupted; committed work is kept"
# What an interrupted command may take to end, and what a machine at work may add.
SECONDS = 2.0 + 2.0
# After what it is cut off.
CUT_OFF = 1.5


def started(*command: str) -> subprocess.Popen[str]:
    """A process that does not ignore interrupts, as one started in the background does."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no threads here
    )


def interrupted(process: subprocess.Popen[str]) -> list[str]:
    """What it says to an interrupt."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < SECONDS
    if process.returncode == -signal.SIGINT and WHOLE.search(err):
        return []  # all was done, and Python on its way out
    assert process.returncode == 130, err
    assert "Traceback" not in err
    lines = err.splitlines()
    assert lines[-1] == SENTENCE
    return lines[:-1]


def test_while_the_command_is_imported():
    code = """
import sys, time
from imgret.cli import main
class Slow:
    def find_spec(self, name, *_):
        if name == "click":
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
main(["info", "photos.imgret"])
"""
    process = started("-c", code)
    assert process.stdout.readline() == "importing\n"
    assert interrupted(process) == []


@pytest.mark.parametrize(
    "call",
    [
        # Native code that looks for no signal and takes minutes, as the build of a large index.
        "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
        # What imports make of an interrupt.
        """
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError('cannot import a name of numpy') from None
""",
        # What stays behind in a thread.
        """
import threading
threading.Thread(target=time.sleep, args=[60]).start()
time.sleep(60)
""",
    ],
)
def test_in_whatever_a_command_is(tmp_path, call):
    assert interrupted(held_by(call, tmp_path)) == []


def test_where_python_cannot_raise_it(tmp_path):
    """It is raised again at once, rather than cut off later."""
    call = """
import weakref
def hang(_):
    print("in a callback", flush=True)
    time.sleep(60)
memory = {1}
reference = weakref.ref(memory, hang)
del memory
time.sleep(60)
"""
    process = held_by(call, tmp_path)
    assert process.stdout.readline() == "in a callback\n"
    began = time.monotonic()
    assert interrupted(process) == []
    assert time.monotonic() - began < CUT_OFF


def held_by(call: str, folder: Path) -> subprocess.Popen[str]:
    """A command that is at some code."""
    code = f"""
import time
from pathlib import Path
from imgret.cli import info, main
import imgret.galleries.local.manifest as manifest
def read(*_):
    print("begun", flush=True)
    exec({call!r}, {{"time": time}})
manifest.Manifest.read = read
main(["info", {str(folder)!r}])
"""
    (folder / "manifest.json").write_text('{"format": "imgret"}')
    process = started("-c", code)
    assert process.stdout.readline() == "begun\n"
    return process


def test_at_any_moment_of_an_ingest(tmp_path):
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(100):
        pixels = rng.integers(0, 256, (300, 300, 3), np.uint8)
        (photos / f"{n:03}.png").write_bytes(images.encode(pixels, "png"))
    gallery, told = tmp_path / "g.imgret", 0
    command = ("-m", "imgret", "index", str(photos), "-o", str(gallery))
    for moment in range(MOMENTS):
        process, lines = started(*command), []
        time.sleep(0.5 + 3 * (moment + rng.random()) / MOMENTS)
        if process.poll() is None:
            lines = interrupted(process)
        else:
            process.communicate()  # everything is in it
        kept = len(Retriever.load(gallery)) if gallery.exists() else 0
        for line in lines:
            assert line.endswith("; run the same command to continue")
            if added := re.search(r"(\d+) added", line):  # it was not cut off
                assert kept == told + int(added[1])
        assert kept >= told
        told = kept
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    assert len(Retriever.load(gallery)) == 100
