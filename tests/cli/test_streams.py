"""Work goes on where stderr or stdout is closed, None, or raises: services have no console."""

import io
import json
import subprocess
import sys

import pytest

from imgret import Retriever

pytestmark = pytest.mark.slow

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="descriptors closed by a shell")


class Raises(io.StringIO):
    """A terminal whose other end is gone."""

    def isatty(self):
        return True

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise OSError(5, "Input/output error")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("progress", [None, True, False])
@pytest.mark.parametrize("stream", [lambda: None, closed, Raises, object])
def test_python(mean_color, photos, monkeypatch, stream, progress):
    monkeypatch.setattr(sys, "stderr", stream())
    retriever = Retriever(embedder=mean_color)
    assert len(retriever.add_folder(photos, labels="parent", progress=progress).ok) == 12
    added = retriever.add([photos / "lake" / "0.jpg"], progress=progress)
    assert added.total == 1
    assert retriever.evaluate(photos, progress=progress).n_queries == 12


def test_the_bar_is_drawn_where_it_can_be(mean_color, photos, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(photos)
    assert stream.getvalue() == ""  # no terminal
    retriever.add_folder(photos, progress=True)
    assert "indexing" in stream.getvalue()
    assert "12/12" in stream.getvalue()


def shell(line):
    return subprocess.run(
        ["/bin/sh", "-c", line.replace("imgret", f"'{sys.executable}' -m imgret", 1)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@POSIX
@pytest.mark.parametrize("closing", ["2>&-", "1>&-", "0<&- 1>&- 2>&-"])
def test_commands(work, closing):
    (work / "photos" / "broken.jpg").write_bytes(b"no image")
    ended = shell(f"imgret index photos -o new.gallery --labels parent {closing}")
    assert ended.returncode == 3
    assert ("new.gallery: 12" in ended.stdout) == (closing == "2>&-")
    assert ("12 added, 1 failed" in ended.stderr) == (closing == "1>&-")
    with Retriever.open(work / "new.gallery") as gallery:
        assert len(gallery) == 12
    ended = shell(f"imgret search new.gallery query.jpg none.jpg --json {closing}")
    assert ended.returncode == 3
    if closing == "2>&-":  # data, and nothing but data
        assert json.loads(ended.stdout)["hits"][0]["rank"] == 1


@POSIX
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("evaluate photos.imgret", 0),
        ("info photos.imgret", 0),
        ("remove photos.imgret none", 1),
        ("index photos", 2),
        ("demo --folder photos -o demo", 0),
        ("map photos.imgret -o map.html", 0),
    ],
)
def test_other_commands_without_any_stream(work, line, code):
    assert shell(f"imgret {line} 0<&- 1>&- 2>&-").returncode == code


@POSIX
def test_python_without_streams(work):
    """As in a service: the interpreter itself finds them closed."""
    script = (
        "import sys; assert sys.stderr is None; from imgret import Retriever\n"
        "r = Retriever.open('new.gallery', 'a'); r.add_folder('photos', labels='parent')\n"
        "r.add_folder('photos', progress=True); r.evaluate(); r.duplicates(0.9); r.close()"
    )
    (work / "script.py").write_text(script, "utf-8")
    ended = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' script.py 0<&- 1>&- 2>&-"],
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0
    with Retriever.open(work / "new.gallery") as gallery:
        assert len(gallery) == 12
