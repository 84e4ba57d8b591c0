"""The page of promises names tests that are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def names_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_every_test_that_is_named_is_there():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    for row in rows:
        path = None
        for name in re.findall(r"`(tests/[^`]+|::\w+)`", row):
            file, _, test = name.partition("::")
            path = ROOT / file if file else path
            assert path is not None, row
            assert path.exists(), row
            assert not test or test in names_in(path), name
        assert path is not None, row  # each names a test
