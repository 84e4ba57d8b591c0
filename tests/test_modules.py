"""The tree of modules."""

import ast
import collections
import importlib
import pkgutil
import types
from pathlib import Path

import imgret

_SOURCES = Path(imgret.__file__).parent
# Need extras.
_EXTRA = ("cluster", "galleries.milvus", "galleries.postgres", "serve", "train")


def packages():
    """Yield the packages that can be imported here, and the names of their modules."""
    for found in pkgutil.walk_packages(imgret.__path__, "imgret."):
        if not found.ispkg or found.name.removeprefix("imgret.").startswith(_EXTRA):
            continue
        package = importlib.import_module(found.name)
        yield package, [module.name for module in pkgutil.iter_modules(package.__path__)]


def test_no_module_is_shadowed_by_a_function_of_its_name():
    shadowed = [
        f"{package.__name__}.{name}"
        for package, names in packages()
        for name in names
        if not isinstance(getattr(package, name, types), types.ModuleType)
    ]
    assert shadowed == []


def test_no_two_classes_have_one_name():
    homes = collections.defaultdict(list)
    for path in sorted(_SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(path.relative_to(_SOURCES).as_posix())
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
