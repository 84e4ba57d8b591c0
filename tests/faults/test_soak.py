"""A gallery in constant use: its memory and disk stay, and every answer is that of a model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
RSS, DISK = 1.05, 2.0  # at most: of what it was after the warm-up, of the live data


def started(*arguments):
    command = [sys.executable, HERE / "soak.py", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def begun(folder, seconds, items, seed, left_out=""):
    """Start a writer, and return it once there is a gallery."""
    writer = started("write", folder, seconds, items, seed, left_out)
    assert "begun" in (line := writer.stdout.readline()), line
    return writer


def said(process):
    """Return what a process has found, a line a time; a process that dies has found a fault."""
    out, _ = process.communicate()
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if process.returncode or not lines or "fault" not in lines[-1]:
        lines.append({"fault": f"ended with {process.returncode}: {out[-2000:]}"})
    return lines


def test_constant_use(tmp_path, times):
    seconds, items = times(10, 1800), times(300, 3000)
    writer = begun(tmp_path, seconds, items, 1)
    readers = [started("read", tmp_path, seconds - 1) for _ in range(times(1, 2))]
    *samples, last = said(writer)
    for reader in readers:
        (found,) = said(reader)
        assert found["fault"] is None, found
        assert found["opened"] > times(2, 100), found
    assert last["fault"] is None, last
    print(f"{last}; {len(samples)} samples, of them {samples[:: max(1, len(samples) // 20)]}")
    assert last["searches"] > times(20, 10_000), last
    assert last["steps"]["compact"], last
    assert last["steps"]["rival"], last
    grown = [s for s in samples if s["items"] > items / 10]
    assert max(s["disk"] / s["live"] for s in grown) < DISK
    after = [s["rss"] for s in samples if s["at"] > seconds / 3]
    half = (len(after) + 1) // 2
    assert max(after[half:], default=0) < RSS * max(after[:half]), after


def test_memory_grows_by_the_index_alone(tmp_path, times):
    """A million items in the long form: nothing else of them is kept in memory."""
    items = times(0, 1_000_000)
    if not items:
        pytest.skip("nox -s attack")
    *samples, _ = said(started("add", tmp_path, items))
    print(samples)
    grown = samples[-1]["rss"] - samples[0]["rss"]
    index = (samples[-1]["at"] - samples[0]["at"]) * 32 * 4  # float32 vectors
    assert grown < 1.25 * index + (16 << 20)


# -- the harness itself ----------------------------------------------------------------------------


def test_two_writers_without_their_lock_are_noticed(tmp_path):
    """With it, `test_constant_use` tries to get in as a second writer."""
    first = begun(tmp_path, 8, 300, 1, "writers")
    second = started("write", tmp_path, 6, 300, 2, "writers")
    faults = [said(process)[-1]["fault"] for process in (second, first)]
    assert any(faults)


def test_threads_without_the_lock_of_readers_are_noticed(tmp_path):
    assert said(begun(tmp_path, 30, 300, 1, "readers"))[-1]["fault"]
