"""Nothing is sent and nothing is left behind: no socket, no file outside the gallery."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

WORK = """
import os, sys, time
from pathlib import Path

calls = []

def watch(event, arguments):
    if event.startswith("socket.") or event in ("urllib.Request", "http.client.connect"):
        calls.append((event, arguments))

sys.addaudithook(watch)
from imgret.cli.app import app

folder = sys.argv[1]
for command in (
    ["index", f"{folder}/photos", "-o", f"{folder}/g.imgret", "--labels", "parent",
     "--embedder", "flowers102", "--cropper", "saliency"],
    ["search", f"{folder}/g.imgret", f"{folder}/photos/a/0.png"],
    ["classify", f"{folder}/g.imgret", f"{folder}/photos/b/1.png"],
):
    try:
        app(command, standalone_mode=False)
    except SystemExit as ended:
        assert not ended.code, command
assert "onnxruntime" in sys.modules
time.sleep(0.5)  # what is sent is sent in the background
if Path("/proc/self/fd").is_dir():
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith("socket:"):
            calls.append(target)
assert not calls, calls
"""


def run(folder, home):
    from imgret import images

    rng = np.random.default_rng(0)
    for label in "ab":
        (folder / "photos" / label).mkdir(parents=True)
        for n in range(16):
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            data = images.encode(images.resize(coarse, 64, 64), "png")
            (folder / "photos" / label / f"{n}.png").write_bytes(data)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "ORT_DISABLE_TELEMETRY" and not name.startswith("XDG_")
    }
    return subprocess.run(
        [sys.executable, "-c", WORK, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env={
            **environment,
            "HOME": str(home),
            "USERPROFILE": str(home),
            "LOCALAPPDATA": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


def test_index_search_and_classify_open_no_socket_and_leave_nothing(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    ended = run(tmp_path, home)
    assert ended.returncode == 0, ended.stderr
    assert list(home.rglob("*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.imgret", "home", "photos"]


def test_a_home_that_cannot_be_written_is_not_missed(tmp_path):
    (tmp_path / "file").touch()
    ended = run(tmp_path, tmp_path / "file" / "home")
    assert ended.returncode == 0, ended.stderr
    assert "onnxruntime" not in ended.stderr
    assert "elemetry" not in ended.stderr


@pytest.mark.parametrize(
    ("given", "expected"), [(None, "1"), ("0", "0")], ids=["by default", "as it was set"]
)
def test_telemetry_is_off_unless_it_was_asked_for(given, expected):
    """The one module that imports onnxruntime says so before; so does what trains."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    if given is not None:
        environment["ORT_DISABLE_TELEMETRY"] = given
    code = """
import builtins, os
load = builtins.__import__

def spied(name, *rest, **more):
    if name.split(".")[0] == "onnxruntime" and not seen:
        seen.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
    return load(name, *rest, **more)

seen = []
builtins.__import__ = spied
import imgret.models.session
print(*seen)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert ended.stdout.strip() == expected


def test_nothing_imports_onnxruntime_before_that():
    import imgret

    root = Path(imgret.__file__).parent
    for file in root.rglob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        imports = [
            n
            for n, line in enumerate(lines)
            if line.startswith(("import onnx", "from onnxrun")) and "onnxruntime" in line
        ]
        if imports and file != root / "models" / "session.py":
            first = next(
                n for n, line in enumerate(lines) if "import imgret.models.session" in line
            )
            assert first < imports[0], file
