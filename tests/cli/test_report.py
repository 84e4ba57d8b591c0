"""``imgret report``: all that a bug report needs, and nothing that is the user's."""

import json
import platform
import re
import shutil
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever, __version__, registry
from imgret.embedders import OnnxEmbedder
from imgret.errors import StoreError

DATA = Path(__file__).parents[1] / "data"


def test_what_the_system_is(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "/home/jane/secret")
    ended = run("report", "--json")
    facts = json.loads(ended.out)
    assert facts["imgret"] == __version__
    assert facts["python"].startswith(platform.python_version())
    assert "CPUExecutionProvider" in facts["execution_providers"]
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["packages"]["onnxruntime"]
    assert facts["openmp_threads"] >= 1
    assert facts["blas"]
    assert all(re.search(r"\(\d+ threads\)$", library) for library in facts["blas"])
    assert facts["environment"]["OMP_NUM_THREADS"] == "1"
    assert "jane" not in ended.out
    assert "gallery" not in facts


@pytest.mark.slow
def test_the_text_has_the_same_facts(run):
    lines = run("report").out.splitlines()
    facts = json.loads(run("report", "--json").out)
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(facts)
    assert f"  {'numpy':<24} {np.__version__}" in lines
    assert all(line == line.rstrip() for line in lines)


def test_what_is_installed_under_another_name_is_listed(run, monkeypatch):
    from importlib import metadata

    real = metadata.version
    versions = {"onnxruntime": None, "onnxruntime-gpu": "1.30.0", "acme-images": "7"}

    def version(name):
        if name not in versions:
            return real(name)
        if versions[name] is None:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(
        metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]}
    )
    names = registry.names
    monkeypatch.setattr(
        registry, "names", lambda kind: names(kind) | {"acme": "acme-images: acme:Part"}
    )
    packages = json.loads(run("report", "--json").out)["packages"]
    assert packages["onnxruntime"] is None  # imgret needs it, so its absence is told
    assert packages["onnxruntime-gpu"] == "1.30.0"
    assert packages["acme-images"] == "7"


def test_a_gallery_without_what_is_the_users(run, tmp_path, monkeypatch):
    home = tmp_path / "jane-doe"
    home.mkdir()
    shutil.copy(DATA / "foreign.onnx", home / "customers.onnx")
    embedder = OnnxEmbedder(
        home / "customers.onnx",
        preprocess={"size": 8, "resize": "squash", "scaling": None},
        output="flat",
    )
    with Retriever.open(home / "passports.imgret", "a", embedder=embedder) as retriever:
        retriever.add(
            np.full((8, 8, 3), 90, np.uint8),
            keys="key-of-jane",
            labels="label-of-jane",
            metadata={"name": "metadata-of-jane"},
        )
    monkeypatch.chdir(home)
    ended = run("report", "passports.imgret", "--json")
    gallery = json.loads(ended.out)["gallery"]
    assert gallery["stored_in"] == "directory"
    assert (gallery["items"], gallery["labels"], gallery["dim"]) == (1, 1, embedder.dim)
    assert gallery["embedder"]["name"] == "onnx"
    assert gallery["embedder"]["preprocess"]["size"] == 8
    assert gallery["index"] == {"name": "flat"}
    text = run("report", "passports.imgret").out
    for private in ("jane", "passports", "customers", str(tmp_path), embedder.fingerprint):
        assert private not in ended.out
        assert private not in text


def test_names_of_parts_and_models_that_come_with_imgret_are_told(run, work):
    gallery = json.loads(run("report", "photos.imgret", "--json").out)["gallery"]
    assert gallery["embedder"]["name"] == "general"
    assert gallery["left_over"] == 0
    assert gallery["projected"] is False


def test_a_damaged_gallery_is_reported_by_the_kind_of_error(run, work):
    (work / "photos.imgret" / "manifest.json").write_text("{", encoding="utf-8")
    ended = run("report", "photos.imgret", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["gallery"] == {
        "stored_in": "directory",
        "error": "StoreCorruptError",
    }


def test_a_gallery_that_is_not_there_is_a_mistake(run, tmp_path):
    ended = run("report", tmp_path / "lost.imgret")
    assert (ended.code, ended.out) == (1, "")
    assert "lost.imgret" in ended.err


@pytest.mark.parametrize("fails", [False, True])
def test_a_server_is_known_by_its_scheme_alone(run, monkeypatch, fails, mean_color):
    path = Path(__file__).parents[1] / "consumer" / "plain_gallery.py"
    spec = util.spec_from_file_location("plain_gallery_of_report", path)
    plain = util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    uri = "plain://jane:swordfish@db.secret.example/passports?token=xyzzy"
    known = registry.gallery
    monkeypatch.setattr(
        registry, "gallery", lambda at: plain.PlainGallery if at.startswith("plain:") else known(at)
    )
    with Retriever.open(uri, "a", embedder=mean_color) as retriever:
        retriever.add(np.zeros((8, 8, 3), np.uint8), keys="key-of-jane")
    if fails:

        def refuse(uri, *, writable):
            raise StoreError(f"{uri}: no answer")

        monkeypatch.setattr(plain.PlainGallery, "open", refuse)
    ended = run("report", uri, "--json")
    gallery = json.loads(ended.out)["gallery"]
    assert gallery["stored_in"] == "plain"
    assert gallery.get("error") == ("StoreError" if fails else None)
    for secret in ("jane", "swordfish", "secret", "passports", "xyzzy"):
        assert secret not in ended.out
