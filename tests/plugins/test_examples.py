"""The example plugins keep to the contract; ``nox -s plugins`` installs and tests them whole."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

from imgret.abc import Embedder, VectorIndex
from imgret.testing import EmbedderTests

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(folder):
    """Import the package of a plugin without installing it; also its entry point's facts."""
    project = tomllib.loads((EXAMPLES / folder / "pyproject.toml").read_text(encoding="utf-8"))
    ((group, entries),) = project["project"]["entry-points"].items()
    ((name, target),) = entries.items()
    module, _, attribute = target.partition(":")
    if module not in sys.modules:
        path = EXAMPLES / folder / "src" / module / "__init__.py"
        spec = importlib.util.spec_from_file_location(module, path)
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
    return group, name, getattr(sys.modules[module], attribute)


class TestEmbedder(EmbedderTests):
    def make(self):
        part = load("plugin-embedder")[2]()
        part.name = ""  # not installed here: made again by its class
        return part


@pytest.mark.parametrize(
    ("folder", "group", "contract", "needs"),
    [
        ("plugin-embedder", "imgret.embedders", Embedder, "numpy"),
        ("plugin-index", "imgret.indexes", VectorIndex, "usearch"),
    ],
)
def test_the_entry_point_names_the_part_as_it_names_itself(folder, group, contract, needs):
    pytest.importorskip(needs)
    found, name, part = load(folder)
    assert found == group
    assert issubclass(part, contract)
    assert part.name == name


def test_what_the_page_takes_from_the_files_is_there():
    page = EXAMPLES.parent / "docs" / "how-to" / "write-a-plugin.md"
    text = page.read_text(encoding="utf-8")
    included = re.findall(r"\{literalinclude\} (\S+)\n((?::.*\n)*)", text)
    assert len(included) == 6
    for name, options in included:
        source = (page.parent / name).read_text(encoding="utf-8")
        for mark in re.findall(r":(?:start-at|end-before): '?(.+?)'?\n", options):
            assert mark in source, (name, mark)
