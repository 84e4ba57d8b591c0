"""The tree of modules."""

import importlib
import pkgutil
import types

import imgret

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
