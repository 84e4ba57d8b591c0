"""Names that are commands to a terminal: it gets none, and files and pipes get exact names."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import Retriever, images
from imgret.ingest import IngestReport
from imgret.ingest.report import Line
from imgret.support.terminal import Terminal, plain

EVIL = "a\x1b[2J\x1b]0;title\x07\r\n\u202egpj.b\x9b1m\x7f\u2066"
COMMANDS = set(map(chr, [*range(32), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028])) - {"\n"}


@given(st.text())
def test_what_a_terminal_gets_of_a_name(name):
    shown = plain(name)
    assert shown.isprintable() or not COMMANDS & set(shown)
    assert "\n" not in shown
    if name.isprintable():
        assert shown == name


def test_ordinary_names_stay_as_they_are():
    for name in ("photos/rose 1.jpg", "Größe", "薔薇", "👩\u200d🌾", "e\u0301", "a\\b"):
        assert plain(name) == name


def test_a_bar_may_go_back_to_the_start_of_its_line(capsys):
    Terminal(sys.stdout, bar=True).write("\r 3/9\x1b[1m\n")
    Terminal(sys.stdout, bar=False).write("\r 3/9\n")
    assert capsys.readouterr().out == "\r 3/9\\x1b[1m\n\\r 3/9\n"


def test_reports_are_for_eyes():
    report = IngestReport(failed=[Line("failed", EVIL, EVIL, EVIL)], unmatched=[EVIL])
    assert not COMMANDS & set(str(report))


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    root = tmp_path_factory.mktemp("evil")
    retriever = Retriever()
    pixels = [np.full((40, 40, 3), 40 * n, np.uint8) for n in range(1, 5)]
    keys = [EVIL, f"{EVIL}2", "b", "c"]
    retriever.add(pixels, keys=keys, labels=[EVIL, EVIL, "x", "x"], metadata=[{"m": EVIL}] * 4)
    retriever.save(root / "g.imgret")
    (root / "q.png").write_bytes(images.encode(pixels[0], "png"))
    return root


def on_terminal(root, *command):
    """Output of a command whose standard output and error are a terminal."""
    pty = pytest.importorskip("pty")
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "imgret", *command], cwd=root, stdout=side, stderr=side, stdin=side
    )
    os.close(side)
    received = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # Linux's end of a terminal
            break
        if not piece:
            break
        received += piece
    os.close(main)
    process.wait(timeout=60)
    return received.decode().replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "list g.imgret",
        "search g.imgret q.png",
    ],
)
def test_no_command_reaches_a_terminal(evil, command):
    received = on_terminal(evil, *command.split())
    assert "\\x1b[2J" in received
    assert not COMMANDS & set(received.replace("\r", "").replace("\t", ""))  # of bars and lists
    assert not [line for line in received.splitlines() if line.startswith("\u202e")]


@pytest.mark.slow
def test_pipes_get_exact_names(evil):
    def piped(*options):
        command = [sys.executable, "-m", "imgret", "list", "g.imgret", *options]
        return subprocess.run(command, cwd=evil, capture_output=True, check=True).stdout.decode()

    assert piped("-0").split("\0")[0] == EVIL
    assert piped().startswith(f"{EVIL}\t{EVIL}\n")
