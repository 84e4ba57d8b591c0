"""What is told where the extra is not installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from imgret.cli import main
from imgret.errors import MissingExtraError


@pytest.fixture
def without_torch(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else there(name)
    )


def test_the_install_line_is_told(without_torch):
    import imgret.train

    with pytest.raises(MissingExtraError, match=r"torch.*pip install 'imgret\[train\]'"):
        imgret.train.train  # noqa: B018  # to look at it is to ask for it


def test_the_command_tells_it_too(without_torch, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", str(tmp_path), "-o", str(tmp_path / "model.onnx")])
    assert ended.value.code == 1
    assert "pip install 'imgret[train]'" in capsys.readouterr().err


def test_recipes_can_be_read_without_torch():
    code = (
        "import sys; from imgret.train import RECIPES; print(sorted(RECIPES)); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['compact', 'finetune', 'reference']"


def test_nothing_else_brings_torch_in():
    code = (
        "import sys, imgret; from imgret import Retriever; import imgret.train; "
        "from imgret.cli.app import app; app.get_command(None, 'train'); "
        "print([m for m in ('torch', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
