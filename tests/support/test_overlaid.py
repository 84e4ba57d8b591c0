"""Packages that overwrite each other's files are noticed when imgret imports their module."""

import importlib
import subprocess
import sys

import pytest

from imgret.errors import ImgretError, InstallationError
from imgret.support.overlaid import one_owner


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages; what is imported from it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("twofold", None)


def install(site, package, *files):
    """Add a package's record of files."""
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    record = "".join(f"{file},sha256=,1\n" for file in (*files, f"{info.name}/RECORD"))
    (info / "RECORD").write_text(record, encoding="utf-8")


def write(site, code=""):
    (site / "twofold").mkdir()
    (site / "twofold" / "__init__.py").write_text(code, encoding="utf-8")


def open_door():
    importlib.invalidate_caches()
    with one_owner("twofold", package="twofold-small"):
        importlib.import_module("twofold")


def test_one_package_is_no_news(site):
    write(site)
    install(site, "twofold-small", "twofold/__init__.py")
    install(site, "twofold-extensions", "twofold_extensions/__init__.py")
    open_door()


def test_two_packages_are_named_with_the_remedy(site):
    write(site)
    install(site, "twofold-small", "twofold/__init__.py", "twofold/data.bin")
    install(site, "twofold-large", "twofold/__init__.py")
    with pytest.warns(UserWarning, match="twofold-large and twofold-small have each") as caught:
        open_door()
    assert "pip uninstall --yes twofold-large twofold-small" in str(caught[0].message)


def test_what_conda_records_of_pip_packages_is_no_package(site):
    write(site)
    install(site, "twofold-small")
    install(site, "twofold-large")
    open_door()


def test_a_folder_that_was_left_behind_is_an_error(site):
    (site / "twofold" / "plugins").mkdir(parents=True)
    install(site, "twofold-small", "twofold/__init__.py")
    with pytest.raises(InstallationError, match="it has no files") as caught:
        open_door()
    assert "pip uninstall --yes twofold-small && pip install twofold-small" in str(caught.value)


def test_a_module_that_does_not_start_is_an_error(site):
    write(site, "raise ImportError('libGL.so.1: cannot open shared object file')")
    install(site, "twofold-small", "twofold/__init__.py")
    install(site, "twofold-large", "twofold/__init__.py")
    with pytest.raises(InstallationError, match="which twofold-large and twofold-small have"):
        open_door()


def test_a_module_that_is_not_there_is_an_error():
    with pytest.raises(ImgretError, match="No module named 'twofold'.*pip install twofold-small"):
        open_door()


@pytest.mark.parametrize(
    ("door", "module", "package"),
    [
        ("imgret.images", "cv2", "opencv-python-headless"),
        ("imgret.demo.samples", "cv2", "opencv-python-headless"),
        ("imgret.models.session", "onnxruntime", "onnxruntime"),
    ],
)
def test_the_doors_are_guarded(tmp_path, door, module, package):
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text("raise ImportError('libGL')", encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {door}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "InstallationError: the module" in run.stderr
    assert f"pip install {package}" in run.stderr
