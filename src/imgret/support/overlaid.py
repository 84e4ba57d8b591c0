"""Modules that several packages install over each other, such as the builds of OpenCV."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from imgret.errors import InstallationError
from imgret.support.warning import warn

__all__ = ["one_owner"]


@contextmanager
def one_owner(module: str, *, package: str) -> Iterator[None]:
    """Check a module that is imported in the ``with`` block.

    pip lets two packages install the same files. The one installed last overwrites the other, and
    when one is uninstalled, the files of both are gone.

    Parameters
    ----------
    module : str
        Name of the module.
    package : str
        Package that imgret depends on for it. Its name up to the first dash begins the names of
        the packages that it is confused with.

    Raises
    ------
    InstallationError
        The module cannot be imported, or is an empty folder.

    Warns
    -----
    UserWarning
        Two packages have installed the module.
    """
    try:
        yield
    except ImportError as error:
        raise InstallationError(_broken(module, package, str(error))) from error
    if getattr(sys.modules[module], "__file__", None) is None:  # Python imports a mere folder, too
        raise InstallationError(_broken(module, package, "it has no files"))
    owners = _owners(module, package)
    if len(owners) > 1:
        warn(
            f"{' and '.join(owners)} have each installed the module {module}, and the last one has "
            f"overwritten files of the others; uninstall them, then install the one you need: pip "
            f"uninstall --yes {' '.join(owners)}"
        )


def _broken(module: str, package: str, reason: str) -> str:
    owners = _owners(module, package)
    found = f", which {' and '.join(owners)} have installed" if owners else ""
    return (
        f"the module {module}{found} cannot be imported: {reason}; install it again: pip uninstall "
        f"--yes {' '.join(owners or [package])} && pip install {package}"
    )


def _owners(module: str, package: str) -> list[str]:
    """Return the packages that have installed a module.

    `importlib.metadata` would read the metadata of all packages. Here the names of one folder are
    listed, and files are read only where two packages are candidates.
    """
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return []
    site = Path(next(iter(spec.submodule_search_locations))).parent
    start = package.partition("-")[0]
    try:
        names = [name for name in os.listdir(site) if name.startswith(start)]  # noqa: PTH208  # quicker
    except OSError:  # inside an archive
        return []
    infos = sorted(name for name in names if name.endswith(".dist-info"))
    if len(infos) > 1:  # onnxruntime-genai, say, has a folder of its own
        infos = [name for name in infos if _lists(site / name / "RECORD", f"{module}/__init__.py")]
    return [name.partition("-")[0].replace("_", "-") for name in infos]


def _lists(record: Path, file: str) -> bool:
    try:
        return f"\n{file}," in "\n" + record.read_text(encoding="utf-8")
    except OSError:
        return False
