"""What the page about clusters says runs as it stands, on the Ray of this machine."""

import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray: pip install 'imgret[ray]'")

from imgret import images
from imgret.cli import main
from imgret.demo import samples

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "embed-on-a-cluster.md"


def test_the_page_runs(cluster, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="Parquet: pip install 'imgret[tables]'")
    (tmp_path / "photos").mkdir()
    for number in range(4):
        drawn = images.encode(samples.draw("rose", number, size=(120, 90)), "jpeg")
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(drawn)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAFT_RUNNER", "native")  # not on the Ray of the tests
    text = PAGE.read_text(encoding="utf-8").replace("ray://head.example:10001", "ray")
    for kind, block in re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if kind == "python":
            needed = set(re.findall(r"^import (\w+)$", block, re.MULTILINE))
            if all(importlib.util.find_spec(name) for name in needed):
                exec(compile(block, str(PAGE), "exec"), {})  # noqa: S102  # it is the point
            continue
        for line in block.splitlines():
            if line.startswith("imgret "):
                with pytest.raises(SystemExit) as ended:
                    main(shlex.split(line)[1:])
                assert ended.value.code == 0, line
            elif line.startswith("embedding-atlas ") and shutil.which("embedding-atlas"):
                ended = subprocess.run(line, shell=True, capture_output=True, check=False)  # noqa: S602  # as on the page
                assert ended.returncode == 0, ended.stderr.decode()
                assert (tmp_path / "atlas" / "index.html").exists()
