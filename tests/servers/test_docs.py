"""What the pages about servers say runs as it stands, with the address of a real server."""

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")

from imgret import images  # after the check
from imgret.cli import main
from imgret.demo import samples

DOCS = Path(__file__).parents[2] / "docs" / "how-to"
SAID = {
    "servers.md": "postgresql://ann@db.example/photos",
    "milvus.md": "milvus://milvus.example:19530/photos",
}


@pytest.fixture(params=SAID)
def text(request, tmp_path, monkeypatch):
    """The page, and the images that it takes for granted in the current directory."""
    if request.param == "milvus.md":
        pytest.importorskip("milvus_lite", reason="Milvus: pip install 'imgret[milvus-lite]'")
        uri = f"milvus://{tmp_path}/docs.db"
    else:
        uri = request.getfixturevalue("pg_uri")
    (tmp_path / "photos" / "rose").mkdir(parents=True)
    for number in range(1, 5):
        picture = images.encode(samples.draw("rose", number, size=(120, 90)), "jpeg")
        (tmp_path / "photos" / "rose" / f"{number:03d}.jpg").write_bytes(picture)
    (tmp_path / "query.jpg").write_bytes(picture)
    monkeypatch.chdir(tmp_path)
    return (DOCS / request.param).read_text(encoding="utf-8").replace(SAID[request.param], uri)


def test_commands_run(text):
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
        if line.startswith("imgret ")
    ]
    assert len(lines) >= 2
    for line in lines:
        with pytest.raises(SystemExit) as ended:
            main(_words(line)[1:])
        assert ended.value.code == 0, line


def test_python_runs(text):
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    namespace = {}
    for block in blocks:
        exec(compile(block, "page", "exec"), namespace)  # noqa: S102  # it is the point
    assert len(namespace["hits"]) == 4


def _words(line):
    # A URI has an ampersand, which a shell needs quotes for.
    return shlex.split(re.sub(r"(postgresql://\S+)", r"'\1'", line))
