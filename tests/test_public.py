"""The public surface: it changes on purpose only, and costs nothing until it is used."""

import subprocess
import sys

import pytest

import imgret

SURFACE = [
    "CenterCrop",
    "Cropper",
    "Embedder",
    "ExactIndex",
    "FlatIndex",
    "HNSWIndex",
    "Hit",
    "Hits",
    "IVFIndex",
    "ImgretError",
    "IngestReport",
    "NoCrop",
    "OnnxEmbedder",
    "Retriever",
    "SaliencyCropper",
    "VectorIndex",
    "__version__",
    "errors",
    "images",
    "metrics",
    "registry",
    "testing",
    "types",
]


def test_the_surface_is_what_it_is_meant_to_be():
    assert imgret.__all__ == SURFACE


@pytest.mark.parametrize("name", [name for name in SURFACE if name != "__version__"])
def test_every_name_is_there_and_documented(name):
    found = getattr(imgret, name)
    assert found.__doc__
    assert name in dir(imgret)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Retreiver'"):
        _ = imgret.Retreiver


def loaded_by(code: str) -> set[str]:
    heavy = ["cv2", "faiss", "numpy", "onnxruntime", "sqlite3", "torch", "pytest", "typer"]
    probe = f"{code}\nimport sys\nprint(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", probe], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import imgret") == set()


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import imgret.cli", {"cv2", "faiss", "numpy", "onnxruntime", "sqlite3", "typer"}),
        ("from imgret import registry; registry.names('indexes')", {"faiss", "numpy", "cv2"}),
        ("from imgret import Retriever", {"faiss", "onnxruntime", "pytest", "torch"}),
        ("from imgret import ExactIndex", {"faiss", "cv2", "onnxruntime", "sqlite3"}),
        ("from imgret.errors import ImgretError", {"numpy"}),
    ],
)
def test_a_part_loads_only_what_it_needs(code, absent):
    assert not loaded_by(code) & absent
