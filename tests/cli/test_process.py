"""The command as a process: what goes where, exit codes, pipes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_version_and_nothing_else(command):
    import imgret

    ended = command(["--version"])
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        f"imgret {imgret.__version__}\n",
        "",
    )


def test_data_go_to_stdout_and_reports_to_stderr(work, command):
    (work / "photos" / "broken.jpg").write_bytes(b"no picture")
    ended = command(["index", "photos", "-o", "new.imgret"])
    assert ended.returncode == 3
    assert ended.stdout == "new.imgret: 12 images\n"
    assert "12 added, 1 failed" in ended.stderr
    assert "broken.jpg: expected an image" in ended.stderr
    assert "\r" not in ended.stderr  # no progress bar where nobody watches


def test_an_error_is_one_line_on_stderr(work, command):
    ended = command(["search", "none.imgret", "query.jpg"])
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("imgret: error: ")
    assert "none.imgret: expected a gallery" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("position", [0, 1, 3])
def test_debug_shows_where_an_error_came_from(work, command, position):
    arguments = ["search", "none.imgret", "query.jpg"]
    arguments.insert(position, "--debug")
    ended = command(arguments)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
    assert "StoreNotFoundError: " in ended.stderr.splitlines()[-1]


def test_a_reader_that_has_seen_enough_is_no_error(work):
    # More than a pipe holds, so that the writer must notice.
    queries = ["query.jpg"] * 60
    with subprocess.Popen(
        [sys.executable, "-m", "imgret", "search", "photos.imgret", *queries, "-k12", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        first = process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert len(json.loads(first)["hits"]) == 12
    assert err == b""
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupt_is_told_and_ends_with_130(work):
    slow = (
        "import signal, time; from imgret.cli import main\n"
        "from imgret.embedders import OnnxEmbedder\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "OnnxEmbedder._embed = lambda *a: (print('embedding', flush=True), time.sleep(60))\n"
        "main(['index', 'photos', '-o', 'new.imgret', '--threads', '1'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", slow],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "embedding\n"
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130
    summary, last = err.splitlines()
    assert summary.startswith("interrupted: no images indexed")
    assert summary.endswith("run the same command to continue")
    assert last == "imgret: interrupted; committed work is kept"


def test_help_is_quick_because_it_loads_nothing_heavy():
    code = (
        "import sys\nfrom imgret.cli import main\n"
        "try: main(['search', '--help'])\n"
        "except SystemExit: pass\n"
        "print(*{'cv2', 'faiss', 'numpy', 'onnxruntime', 'sqlite3'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.splitlines()[-1] == ""


def test_it_ends_as_python_would():
    """Threads are waited for, what is to be done at the end is done, and nothing is cut off."""
    code = (
        "import atexit, sys, tempfile, threading, time\n"
        "import imgret.cli\n"
        "folder = tempfile.TemporaryDirectory()\n"
        "atexit.register(lambda: print('at the end', end=''))\n"
        "def main():\n"
        "    print(folder.name)\n"
        "    threading.Thread(target=lambda: (time.sleep(0.3), print('slow'))).start()\n"
        "    sys.exit(3)\n"
        "imgret.cli.main = main\n"
        "imgret.cli.run()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    assert ended.stderr == ""
    folder, *rest = ended.stdout.split("\n")
    assert rest == ["slow", "at the end"]
    assert not Path(folder).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_cannot_be_written_is_an_error_at_the_end_too(work):
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "imgret", "search", "photos.imgret", "query.jpg"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode != 0
    assert "No space left on device" in ended.stderr


def test_a_misspelt_image_is_told_before_the_index_is_read(work):
    code = (
        "from imgret.cli import main\n"
        "from imgret.galleries.local.view import LocalView\n"
        "LocalView.prepare = lambda self: print('reads the index')\n"
        "for name in ('qurey.jpg', 'query.jpg'):\n"
        "    try: main(['search', 'photos.imgret', name, '-k1'])\n"
        "    except SystemExit as ended: print(ended.code)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "qurey.jpg: there is no such file" in ended.stderr
    first, second, *_, last = ended.stdout.splitlines()
    assert (first, second, last) == ("1", "reads the index", "0")
