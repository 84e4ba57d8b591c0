"""A small drawn gallery, and ways to run the command."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from imgret import Retriever, images
from imgret.cli import main
from imgret.demo import samples
from imgret.galleries.local.catalog import Catalog

SPECIES = ("daisy", "rose", "tulip")
PER_SPECIES = 4


class Ended(NamedTuple):
    """How a run of the command ended."""

    code: int
    out: str
    err: str


def draw(path: Path, species: str, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode(samples.draw(species, seed, size=(120, 90)), "jpeg"))
    return path


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/<species>/<n>.jpg and query.jpg."""
    root = tmp_path_factory.mktemp("drawn")
    for species in SPECIES:
        for seed in range(PER_SPECIES):
            draw(root / "photos" / species / f"{seed}.jpg", species, seed)
    draw(root / "query.jpg", "rose", 1001)
    return root


@pytest.fixture(scope="session")
def indexed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of those photos."""
    path = tmp_path_factory.mktemp("indexed") / "photos.imgret"
    retriever = Retriever()
    retriever.add_folder(drawn / "photos", labels="parent")
    retriever.save(path)
    return path


@pytest.fixture
def work(drawn: Path, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both, to be changed; the current directory."""
    folder = tmp_path / "work"
    shutil.copytree(drawn, folder)
    shutil.copytree(indexed, folder / "photos.imgret")
    # Its images are those beside it.
    with contextlib.closing(Catalog(folder / "photos.imgret" / "catalog.sqlite")) as catalog:
        items = catalog.items(catalog.live_ids())
        catalog.replace_all(
            {
                id_: replace(item, path=item.path.replace(str(drawn), str(folder)))
                for id_, item in items.items()
            }
        )
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command in this process."""

    def run_here(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in arguments])
        out, err = capsys.readouterr()
        return Ended(ended.value.code, out, err)

    return run_here


@pytest.fixture
def command() -> Callable[[Sequence[str]], subprocess.CompletedProcess[str]]:
    """Run the command as a process of its own."""

    def run_there(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "imgret", *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    return run_there
