"""Damaged files of a gallery: the right answer or an ImgretError, and what is sound is kept."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from corrupt import KINDS

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# The manifest and its copy, the catalog, the vectors, the projection, thumbnails; and the index.
FILES = {"flat": 6, "ivf-pq": 10, "hnsw-sq8": 10}


def found(kind, first, last, left_out=""):
    """Make damages in a process; yield what each was, and what came of it."""
    command = [sys.executable, HERE / "corrupt.py", kind, str(first), str(last), left_out]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    for _, what, came in lines:
        if came != "begun":
            yield what, came
    if ended.returncode:
        last = lines[-1][1] if lines else ended.stderr
        yield last, f"fault: the process ended with {ended.returncode}"


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_changes_an_answer(kind, times):
    """Some 200 damages in the short form, 1,500 of every file in the long one."""
    count, counts, faults, began = times(70, 500 * FILES[kind]), Counter(), [], time.monotonic()
    for first in range(0, count, 1000):
        for what, came in found(kind, first, min(first + 1000, count)):
            counts[came] += 1
            faults += [f"{what}: {came}"] if "fault" in came else []
    print(f"{kind}: {counts.total()} in {time.monotonic() - began:.0f} s: {dict(counts)}")
    assert not faults, faults
    assert counts.total() == count
    assert counts["refused, refused, repaired"] > count / 10  # the damages were seen
    assert counts["right, right, ok"] < count / 2


@pytest.mark.parametrize(
    ("left_out", "numbers"), [("rows", range(67, 907, 6)), ("vectors", range(17, 95, 6))]
)
def test_a_check_that_is_left_out_is_noticed(left_out, numbers):
    """Without the checksums of rows, or of vectors; the numbers are of damages to that file."""
    assert any("silence" in came for n in numbers for _, came in found("flat", n, n + 1, left_out))
