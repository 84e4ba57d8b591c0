"""The diagrams of the docs are those that the code gives."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["layers", "search"])
def test_a_diagram_is_up_to_date(name, monkeypatch):
    """Else: ``python tools/draw_diagrams.py``."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    drawn = getattr(importlib.import_module("draw_diagrams"), name)()
    assert drawn == (ROOT / "docs" / "explanation" / f"{name}.svg").read_text(encoding="utf-8")
