"""Small galleries whose vectors tell which item they belong to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from imgret.galleries.local.manifest import Manifest
from imgret.types import Item, Part

DIM = 6
MANIFEST = Manifest(
    dim=DIM,
    metric="cosine",
    dtype="float16",
    embedder=Part("colors", {"offset": 1.0}),
    fingerprint="f" * 64,
    cropper=Part("none"),
    index=Part("hnsw", {"M": 32}),
)


def vectors_of(*seeds: int) -> np.ndarray:
    """One vector a seed, exact in float16."""
    rows = [np.random.default_rng(seed).integers(-512, 512, DIM) / 64 for seed in seeds]
    return np.array(rows, dtype=np.float32).reshape(len(rows), DIM)


def content_of(store) -> dict[str, tuple]:
    """What a user sees of a store: key -> label and vector."""
    ids = store.catalog.live_ids()
    items = store.catalog.items(ids)
    return {
        items[id_].key: (items[id_].label, *row)
        for block, rows in store.blocks(ids)
        for id_, row in zip(block.tolist(), rows.tolist(), strict=True)
    }


def add(store, *seeds: int) -> range:
    return store.add(vectors_of(*seeds), [Item(f"k{seed}") for seed in seeds])


def expected_of(*seeds: int) -> dict[str, tuple]:
    return {f"k{seed}": (None, *vectors_of(seed)[0].tolist()) for seed in seeds}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(store, path: Path) -> None:
    store.save(path, projection=None, index=None)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run code in another process; ``arguments`` are its ``sys.argv[1:]``, this module `kit`."""
    return subprocess.Popen(  # our own code
        [sys.executable, "-W", "error", "-c", f"import conftest as kit, sys\n{code}"]
        + [str(argument) for argument in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )


def output_of(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines()


def end(process: subprocess.Popen[str]) -> None:
    """Kill it as ``kill -9`` does."""
    process.kill()
    process.communicate()


@pytest.fixture
def kit() -> ModuleType:
    """The functions of this module."""
    return sys.modules[__name__]


@pytest.fixture
def manifest() -> Manifest:
    return MANIFEST
