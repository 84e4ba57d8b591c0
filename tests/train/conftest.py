"""Training needs the extra ``train``; without it only its absence is tested."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from imgret import images
from imgret.demo import samples

SPECIES = ("daisy", "rose", "tulip")

if not importlib.util.find_spec("torch"):
    collect_ignore_glob = ["test_[!m]*.py", "test_m[!i]*.py"]  # all but test_missing.py


def write(folder: Path, per_class: int, *, first: int = 0) -> Path:
    """Small images of three species, one subfolder each."""
    for species in SPECIES:
        (folder / species).mkdir(parents=True)
        for number in range(first, first + per_class):
            data = images.encode(samples.draw(species, number, size=(96, 80)), "jpeg")
            (folder / species / f"{number:03d}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def flowers(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("flowers") / "flowers", 8)


@pytest.fixture(scope="session")
def others(tmp_path_factory) -> Path:
    """Other images of the same species, to validate with."""
    return write(tmp_path_factory.mktemp("others") / "others", 3, first=100)


@pytest.fixture(scope="session")
def timm():
    """The library, whose weights are never downloaded here."""
    if not importlib.util.find_spec("timm"):
        pytest.skip("needs the extra 'timm'")
    import torch

    # A torchvision whose kernels belong to another build of torch lacks these two, which no
    # network of timm uses.
    library = torch.library.Library("torchvision", "DEF")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision  # noqa: F401
        except RuntimeError:
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        import timm
        import timm.data
    timm.kept_library = library  # it takes back what it defines when it is deleted
    return timm


@pytest.fixture(scope="session")
def weights(timm, tmp_path_factory):
    """Return a function that writes the weights of a network, random but always the same."""
    import torch

    folder = tmp_path_factory.mktemp("weights")

    def write(name: str) -> Path:
        path = folder / f"{name}.pth"
        if not path.exists():
            torch.manual_seed(1)
            torch.save(timm.create_model(name).state_dict(), path)
        return path

    return write


@pytest.fixture(scope="session")
def small():
    """A recipe for seconds: the reference network on stamps."""
    from imgret.train import RECIPES

    return replace(
        RECIPES["reference"],
        size=80,
        sides=((0.0, 64), (0.5, 80)),
        epochs=2,
        batch_size=8,
        lr=1e-3,
        optimizer="adamw",
        distill=1.0,
        teach_side=None,
        margin_warmup=0.0,  # so that losses of different epochs compare
    )
