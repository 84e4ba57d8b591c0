"""Damaged image files: an image or an ImageError, soon, in bounded memory, and never a crash."""

import collections
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# Seconds of one image, on a busy machine, of its processor time, and memory of the process.
SECONDS, CPU_SECONDS, BYTES = 30, 3.0, 600 << 20
resource = pytest.importorskip("resource", reason="memory is measured by a module of Unix")


def outcomes(first, last):
    """Decode mutants in a process; yield the number and what came of each."""
    command = [sys.executable, HERE / "decoder.py", str(first), str(last)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}  # libraries write there
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        number, most = "none", 0
        while True:
            if not select.select([process.stdout], [], [], SECONDS)[0]:
                process.kill()
                yield number, 0.0, f"still running after {SECONDS} s"
                return
            line = process.stdout.readline()
            if not line:
                break
            word, *rest = line.split(maxsplit=2)
            if word == "begin":
                number = f"{rest[0]} ({rest[1].strip()})"
            else:
                yield number, float(rest[0]), rest[1].strip()
            if word == "begin" and int(rest[0]) % 50 == 0:
                most = max(most, _memory(process.pid))
        if process.wait():
            yield number, 0.0, f"the process ended with {process.returncode}"
        if most > BYTES:
            yield number, 0.0, f"the process took {most >> 20} MB"


def _memory(pid):
    """Most memory that a process has taken so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) << 10 if found else 0


def test_mutants(times):
    count, kinds, faults = times(2000, 100_000), collections.Counter(), []
    began = time.monotonic()
    for first in range(0, count, 2000):
        for number, seconds, outcome in outcomes(first, min(first + 2000, count)):
            kinds[outcome if outcome.startswith("Image") else "decoded"] += 1
            if outcome.startswith(("raw", "still", "the process")) or seconds > CPU_SECONDS:
                faults.append((number, seconds, outcome))
    print(f"{count} in {time.monotonic() - began:.0f} s: {dict(kinds)}")
    assert not faults, faults
    assert kinds["decoded"] > count / 20  # the mutants are not only noise
    assert kinds["ImageCorruptError"] > count / 20


def test_a_decoder_that_hangs_is_noticed(monkeypatch, tmp_path):
    slow = tmp_path / "decoder.py"
    slow.write_text("import time\nprint('begin 7 jpg', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(sys.modules[__name__], "HERE", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 0.2)
    assert list(outcomes(0, 1)) == [("7 (jpg)", 0.0, "still running after 0.2 s")]


def test_a_decoder_that_crashes_is_noticed(monkeypatch, tmp_path):
    (tmp_path / "decoder.py").write_text("print('begin 7 jpg', flush=True)\nraise SystemExit(3)\n")
    monkeypatch.setattr(sys.modules[__name__], "HERE", tmp_path)
    assert list(outcomes(0, 1)) == [("7 (jpg)", 0.0, "the process ended with 3")]
