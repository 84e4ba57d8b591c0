"""Damages files of galleries, and looks what becomes of their answers, of a check and of a repair.

    python corrupt.py KIND FIRST LAST [a check that is left out]

A line of JSON is printed for each damage: what it was, and what came of it. A fault is a wrong
answer without an error, an error that is not imgret's, or a sound item that a repair has not kept.
A process that hangs is ended by a signal.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from imgret import Retriever, images
from imgret.errors import ImgretError
from imgret.galleries.local import row_checks
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.check import check_directory
from imgret.galleries.local.files import thumbnails_of
from imgret.galleries.local.writer_lock import LOCK
from imgret.testing.data import Given

N, DIM = 60, 8
SECONDS, BYTES = 30, 3 << 30
LABELS = ("meadow flower", "garden flower", "forest flower")
KINDS: dict[str, dict[str, Any]] = {
    "ivf-pq": {"index": "ivf-pq", "dtype": "float16"},
    "hnsw-sq8": {"index": "hnsw-sq8", "dtype": "float32"},
    "flat": {"index": "flat", "dtype": "float16"},
}
WIDTHS = {".f16": 2, ".f32": 4}
NAME = "g.imgret"


def vectors() -> np.ndarray:
    """Return the vectors of the gallery."""
    return np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)


def make(folder: Path, kind: str) -> None:
    """Make a gallery that has every kind of file, and its thumbnails."""
    with Retriever.open(folder / NAME, "a", embedder=Given(DIM), **KINDS[kind]) as retriever:
        retriever.add_vectors(
            vectors(),
            keys=[f"image-{n:03d}" for n in range(N)],
            labels=[LABELS[n % 3] for n in range(N)],
            metadata=[{"number": n, "where": f"house {n}"} for n in range(N)],
        )
        retriever.remove(["image-007", "image-031"])
        retriever.update("image-005", label="vase")
        retriever.project("pca", dim=6)
        retriever.calibrate()
        retriever.create_filter_index("number")
    thumbnails = thumbnails_of(folder / NAME)
    thumbnails.mkdir()
    (thumbnails / "a.jpg").write_bytes(images.encode(np.zeros((32, 32, 3), np.uint8), "jpeg"))


def answers(retriever: Retriever) -> dict[str, object]:
    """Return what users get of a gallery; filters are left out, as SQLite answers them."""
    labels = retriever.view().labels
    hits = retriever.search_vectors(vectors()[:6] + 0.1, k=5)
    return {
        "spec": (retriever.metric, retriever.calibration, retriever.embedder.fingerprint),
        "hits": [[(h.key, h.score, h.label, h.metadata, h.probability) for h in hs] for hs in hits],
        "items": [retriever[key] for key in retriever],
        "labels": (labels.ids.tolist(), [labels.names[code] for code in labels.codes]),
        "origins": list(retriever.view().origins()),
        "vectors": retriever.embeddings().tolist(),
    }


def opened(path: Path) -> dict[str, object]:
    """Return the answers of a gallery that is opened in place."""
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        return answers(retriever)


def loaded(path: Path) -> dict[str, object]:
    """Return the answers of a gallery that is read into memory."""
    return answers(Retriever.load(path, embedder=Given(DIM)))


def contents(path: Path) -> dict[str, object]:
    """Return the items and vectors of a gallery by key."""
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        keys = list(retriever)
        vectors = retriever.embeddings(keys).tolist()
        return {key: (retriever[key], row) for key, row in zip(keys, vectors, strict=True)}


def damaged(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return what was done to the content of a file, and the result, which is another one."""
    at = chance.randrange(len(data))
    size = min(chance.choice((1, 8, 64, 512, 4096)), len(data) - at)
    kind = chance.choice(("bit", "bit", "bit", "bytes", "zeros", "end", "swap", "gap"))
    new = bytearray(data)
    match kind:
        case "bit":
            new[at] ^= 1 << chance.randrange(8)
        case "bytes":
            new[at : at + size] = chance.randbytes(size)
        case "zeros":
            new[at : at + size] = bytes(size)
        case "end":
            del new[at:]
        case "gap":
            del new[at : at + size]
        case _:
            to = chance.randrange(len(data) - size + 1)
            new[at : at + size], new[to : to + size] = data[to : to + size], data[at : at + size]
    return f"{kind} {size} at {at}", bytes(new)


def sound_keys(before: Path, after: Path) -> set[str]:
    """Return the keys of items whose rows and vectors can be read as they were, one by one."""
    (file,) = after.glob("vectors.*")
    found, width, name = set(), DIM * WIDTHS[file.suffix], file.name
    rows = {path: (path / name).read_bytes() for path in (before, after)}
    with (
        closing(sqlite3.connect(before / "catalog.sqlite")) as old,
        closing(sqlite3.connect(after / "catalog.sqlite")) as new,
    ):
        new.execute("PRAGMA writable_schema = ON")  # as far as the table is known
        new.text_factory = lambda data: data.decode("utf-8", "replace")
        for number, row in enumerate(old.execute("SELECT * FROM items ORDER BY id").fetchall()):
            part = slice(number * width, (number + 1) * width)
            one = "SELECT * FROM items NOT INDEXED WHERE id = ?"
            try:
                same = new.execute(one, (number,)).fetchall() == [row]
            except (sqlite3.Error, UnicodeDecodeError):  # the latter of a message
                continue
            if same and row[14] is None and rows[before][part] == rows[after][part]:
                found.add(row[1])
    return found


def outcome(
    path: Path, original: Path, expected: dict[str, object], whole: dict[str, object]
) -> str:
    """Return what came of a damage; faults begin with ``"fault"``."""
    said = []
    for read in (opened, loaded):
        try:
            if read(path) != expected:
                return f"fault: {read.__name__}: another answer in silence"
            said.append("right")
        except ImgretError:
            said.append("refused")
    if not check_directory(path).ok:
        said.append(repaired(path, sound_keys(original, path), whole))
    elif "refused" in said and opened(path) != expected:  # a stored index is replaced by now
        said.append("fault: a check found nothing")
    else:
        said.append("ok")
    return ", ".join(said)


def repaired(path: Path, sound: set[str], whole: dict[str, object]) -> str:
    """Repair a gallery, and return what came of it."""
    try:
        check_directory(path, repair=True)
    except ImgretError as error:
        return f"fault: {len(sound)} sound items, and no repair: {error}" if sound else "lost"
    kept = contents(path)
    if lost := sound - kept.keys():
        return f"fault: a repair lost {sorted(lost)[:3]}"
    if any(whole[key] != kept[key] for key in kept):
        return "fault: a repair changed an item"
    return "repaired"


def leave_out(check: str) -> None:
    """Leave out a check, to see that its want is noticed."""
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731  # shorter
    if check == "rows":
        Catalog._check_new = nothing  # type: ignore[method-assign]
        Catalog._check_from = nothing  # type: ignore[method-assign]
    if check == "vectors":
        row_checks.RowChecks.compare = nothing  # type: ignore[method-assign]


def main(kind: str, first: int, last: int, left_out: str = "") -> None:
    """Make the damages of some numbers, one after another; each file has its turn."""
    leave_out(left_out)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # it is quicker
    with tempfile.TemporaryDirectory(dir=memory) as name:
        original, folder = Path(name) / "original", Path(name) / "damaged"
        original.mkdir()
        make(original, kind)
        files = sorted(
            file.relative_to(original)
            for file in original.rglob("*")
            if file.is_file() and file.name != LOCK
        )
        expected, whole = opened(original / NAME), contents(original / NAME)
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        for number in range(first, last):
            chance = random.Random(number)
            shutil.copytree(original, folder)
            file = files[number % len(files)]
            what, data = damaged((folder / file).read_bytes(), chance)
            (folder / file).write_bytes(data)
            print(json.dumps([number, f"{kind} {file} {what}", "begun"]), flush=True)
            signal.alarm(SECONDS)
            try:
                found = outcome(folder / NAME, original / NAME, expected, whole)
            except BaseException as error:  # noqa: BLE001  # the fault that is looked for
                found = f"fault: raw {type(error).__name__}: {error}"
            signal.alarm(0)
            print(json.dumps([number, f"{kind} {file} {what}", found]), flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # that a stored index is rebuilt
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
