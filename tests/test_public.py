"""The public surface: it changes on purpose only, and costs nothing until it is used."""

import subprocess
import sys
from pathlib import Path

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
    "datasets",
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


# What texts and downloads need.
TEXT = ["tokenizers", "huggingface_hub", "imgret.models.text", "imgret.models.hub"]


def loaded_by(code: str) -> set[str]:
    heavy = ["cv2", "faiss", "numpy", "onnxruntime", "sqlite3", "torch", "pytest", "typer"]
    heavy += ["rich.console", *TEXT]
    probe = f"{code}\nimport sys\nprint(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", probe], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import imgret") == set()


COMMAND = """
from imgret.cli import main
try:
    main(["models", "--help"])
except SystemExit as ended:
    assert ended.code == 0
"""


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import imgret.cli", {"cv2", "faiss", "numpy", "onnxruntime", "sqlite3", "typer"}),
        ("from imgret import registry; registry.names('indexes')", {"faiss", "numpy", "cv2"}),
        ("from imgret import Retriever", {"faiss", "onnxruntime", "pytest", "torch"}),
        ("from imgret import ExactIndex", {"faiss", "cv2", "onnxruntime", "sqlite3"}),
        ("from imgret.errors import ImgretError", {"numpy"}),
        (COMMAND, {"cv2", "faiss", "numpy", "onnxruntime", "rich.console"}),
    ],
)
def test_a_part_loads_only_what_it_needs(code, absent):
    assert not loaded_by(code) & absent


SEARCH_BY_IMAGE = """
import numpy as np
from imgret import Retriever
retriever = Retriever(embedder={model!r})
retriever.add([np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 200, np.uint8)])
retriever.search(np.zeros((64, 64, 3), np.uint8), k=1)
"""


@pytest.mark.parametrize(
    "code",
    [
        "import imgret",
        "from imgret import Retriever",
        "import imgret.cli",
        "from imgret import OnnxEmbedder; OnnxEmbedder('general')",
        SEARCH_BY_IMAGE.format(model="general"),
        SEARCH_BY_IMAGE.format(model=str(Path(__file__).parent / "data" / "models" / "clip")),
    ],
    ids=["package", "retriever", "command", "embedder", "search", "search-by-a-model-of-texts"],
)
def test_images_alone_load_nothing_of_the_path_for_texts(code):
    assert not loaded_by(code) & set(TEXT)
