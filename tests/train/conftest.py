"""Training needs the extra ``train``; without it only its absence is tested."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from imgret import images
from imgret.demo import samples

SPECIES = ("daisy", "rose", "tulip")

if not importlib.util.find_spec("torch"):
    collect_ignore_glob = ["test_[!m]*.py"]  # all but test_missing.py


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
        margin_warmup=0.0,  # so that losses of different epochs compare
    )
