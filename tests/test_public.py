"""The public surface: it changes on purpose only, and costs nothing until it is used."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import imgret
import imgret.abc
import imgret.search

ROOT = Path(__file__).parents[1]

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


# -- what the reference names -----------------------------------------------------------------


@pytest.fixture(scope="module")
def public():
    """``tools/public.py``, which reads the reference and the source."""
    spec = importlib.util.spec_from_file_location("public", ROOT / "tools" / "public.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_and_signatures_are_those_on_record(public):
    """After a change on purpose: ``python tools/public.py > tests/public.txt``; read the diff."""
    record = (ROOT / "tests" / "public.txt").read_text(encoding="utf-8")
    assert public.surface() == record.splitlines()


def test_what_the_package_exports_is_in_the_reference(public):
    listed = {f"imgret.{name}" for name in SURFACE if name not in {"__version__", "metrics"}}
    assert listed | {"imgret.evaluation.metrics"} <= public.names()


def test_every_public_name_can_be_imported(public):
    for name in public.names():
        if name.startswith(("imgret.serve", "imgret.train")):
            continue  # need extras
        home, _, last = name.rpartition(".")
        if name == "imgret.filters.Filter" or hasattr(importlib.import_module(home), last):
            continue
        importlib.import_module(name)


def test_every_hook_that_a_plugin_must_implement_is_in_the_reference():
    record = (ROOT / "tests" / "public.txt").read_text(encoding="utf-8")
    contracts = [imgret.Embedder, imgret.Cropper, imgret.VectorIndex]
    for contract in [*contracts, imgret.abc.Gallery, imgret.abc.Reranker, imgret.search.View]:
        home = "imgret" if contract in contracts else contract.__module__.rpartition(".")[0]
        for hook in contract.__abstractmethods__:
            assert f"\n{home}.{contract.__name__}.{hook}" in record


def test_who_calls_what_is_public_needs_nothing_private(public):
    # imgret makes these and hands them on; a program has no need to name them.
    passed_on = {
        "imgret.files.ItemFile",
        "imgret.images.alignment.Features",
        "imgret.pages.curation.PageItems",
        "imgret.pages.hits.Row",
        "imgret.pages.review.ReviewGroup",
        "imgret.search.hits.Batch",
        "imgret.serve.guard.Guard",
    }
    named = {name for name in public.unlisted() if not name.rpartition(".")[2].startswith("_")}
    assert named == passed_on


def test_examples_need_nothing_private(public):
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages += [file for kind in ("py", "ipynb") for file in (ROOT / "examples").rglob(f"*.{kind}")]
    used = {
        f"{home}.{name}"
        for page in pages
        if "decisions" not in page.parts
        for home, names in re.findall(
            r"^[\s\"]*from (imgret(?:\.[\w.]+)?) import ([\w, ]+)",
            page.read_text("utf-8"),
            re.MULTILINE,
        )
        for name in names.split(", ")
    }
    assert len(used) > 40
    private = {name for name in used if public.canonical(name) not in public.names()}
    assert private == {"imgret.models.protobuf"}  # a hidden cell makes a file for a page with it


def test_the_page_lists_the_packages_without_a_public_name(public):
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    listed = page.split("have no public name:")[1].split("\n\n")[1]
    packages = {
        ".".join(file.parent.relative_to(ROOT / "src").parts)
        for file in (ROOT / "src").rglob("__init__.py")
    }
    named = {name.rpartition(".")[0] for name in public.names()} | public.names()
    without = {each for each in packages if not any(f"{n}.".startswith(f"{each}.") for n in named)}
    assert re.findall(r"`([\w.]+)`", listed) == sorted(without)


def deprecations(source: str) -> list[str]:
    """The messages of the deprecation warnings that a source raises."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        ast.literal_eval(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "warn"
        and "DeprecationWarning"
        in map(ast.unparse, [*call.args[1:], *(each.value for each in call.keywords)])
    ]


def test_a_deprecation_says_since_when_until_when_and_what_to_use_instead():
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    example = page.split("```{code-block} python3\n")[1].split("```")[0]
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    form = re.compile(r"\S+ is deprecated since 0\.(\d+) and will be removed in 0\.(\d+); use \S+")
    messages = {message: source for source in sources for message in deprecations(source)}
    for message in [*messages, *deprecations(example)]:
        since, gone = map(int, form.fullmatch(message).groups())
        assert gone - since >= 2, message
    for message, source in messages.items():
        assert f".. deprecated:: 0.{form.fullmatch(message)[1]}" in source, message
    assert len(deprecations(example)) == 1
    assert ("At present nothing is deprecated." in page) == (not messages)


# What texts and downloads need.
TEXT = ["tokenizers", "huggingface_hub", "imgret.models.text", "imgret.models.hub"]


def loaded_by(code: str) -> set[str]:
    heavy = ["PIL", "cv2", "faiss", "numpy", "onnxruntime", "sqlite3", "torch", "pytest", "tqdm"]
    heavy += ["click", *TEXT]
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
        ("import imgret.cli", {"cv2", "faiss", "numpy", "onnxruntime", "sqlite3", "click"}),
        ("from imgret import registry; registry.names('indexes')", {"faiss", "numpy", "cv2"}),
        ("from imgret import Retriever", {"faiss", "onnxruntime", "pytest", "torch"}),
        ("from imgret import ExactIndex", {"faiss", "cv2", "onnxruntime", "sqlite3"}),
        ("from imgret.errors import ImgretError", {"numpy"}),
        (COMMAND, {"cv2", "faiss", "numpy", "onnxruntime"}),
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
