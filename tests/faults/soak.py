"""A gallery in constant use: a process that changes it, threads that search beside, and readers.

    python soak.py write FOLDER SECONDS ITEMS SEED [a lock that is left out]
    python soak.py read FOLDER SECONDS
    python soak.py add FOLDER ITEMS

Each item's metadata says which number its vector was made of, so that every answer can be checked
by itself; the writer also knows all that the gallery holds. A line of JSON tells what was found.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgret import Embedder, Hits, Retriever
from imgret.errors import StoreClosedError, StoreLockedError
from imgret.galleries.local import writer_lock
from imgret.support import locks
from imgret.types import Embeddings, Image, Json

DIM = 32
NAME = "g.imgret"
# The gallery is compacted when this share of its rows is dead: the disk then holds at most
# 1 / (1 - DEAD) times the live rows, and some room.
DEAD = 0.3
EXACT = "flat"
# How often each is done.
KINDS = {"add": 6, "remove": 4, "replace": 6, "relabel": 3, "search": 12, "all": 1}
KINDS |= {"save": 1, "reindex": 1, "reopen": 1, "rival": 1}


def vectors_of(numbers: Sequence[int]) -> Embeddings:
    """Return the stored vectors of numbers, each of length 1."""
    rows = [np.random.default_rng(number).standard_normal(DIM) for number in numbers]
    found = np.array(rows, dtype=np.float32).reshape(-1, DIM)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


class Numbered(Embedder):
    """Embeds an image whose first pixel is a number."""

    name = "numbered"
    batch_size = 64

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return DIM

    @property
    def fingerprint(self) -> str:
        """Always the same."""
        return "numbered"

    def config(self) -> Json:
        """Return nothing: there is nothing to set."""
        return {}

    def _embed(self, images: Sequence[Image]) -> Embeddings:
        return vectors_of([int(image[0, 0] @ [1, 256, 65536]) for image in images])


def picture(number: int) -> Image:
    """Return the image of a number."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[0, 0] = number % 256, number // 256 % 256, number // 65536
    return image


def metadata(number: int, batch: int, size: int) -> Json:
    """Return what is said of an item of a batch."""
    return {"number": number, "batch": batch, "size": size, "note": "n" * (number % 50)}


def check_hits(hits: Hits, query: Embeddings) -> None:
    """Raise if a score is not that of the vector whose number the hit has."""
    if not hits:
        return
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True), f"scores are not in order: {scores}"
    true = vectors_of([hit.metadata["number"] for hit in hits]) @ query
    worst = int(np.abs(true - scores).argmax())
    assert abs(true[worst] - scores[worst]) < 5e-3, (
        f"{hits[worst].key}: score {scores[worst]:.4f}, expected {true[worst]:.4f}"
    )


def check_content(retriever: Retriever) -> dict[str, int]:
    """Raise if a batch is there in part, or a vector is not its item's; return keys and numbers."""
    keys = list(retriever)
    items = [retriever[key] for key in keys]
    assert keys == [item.key for item in items]
    sizes = Counter((item.metadata["batch"], item.metadata["size"]) for item in items)
    parts = {batch: size for batch, size in sizes.items() if size != batch[1]}
    assert not parts, f"batches that are there in part: {parts}"
    numbers = [int(item.metadata["number"]) for item in items]
    if keys:
        off = np.abs(retriever.embeddings(keys) - vectors_of(numbers)).max(axis=1)
        assert off.max() < 5e-3, f"{keys[int(off.argmax())]}: another item's vector"
    return dict(zip(keys, numbers, strict=True))


def size_of(path: Path) -> int:
    """Return the bytes of all files of a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def resident() -> int:
    """Return the bytes of memory that this process has."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.partition("VmRSS:")[2].split()[0]) << 10


class Writer:
    """Changes a gallery at random, and knows what it should hold."""

    def __init__(self, folder: Path, items: int, seed: int) -> None:
        self._path, self._copy = folder / NAME, folder / f"copy-{seed}.imgret"
        self._random = random.Random(seed)
        self._items = items
        self._made = seed << 20
        self._batches: dict[int, dict[str, int]] = {}
        self.steps: Counter[str] = Counter()
        self._dead = 0
        self.retriever = self._opened()
        self._add()

    @property
    def model(self) -> dict[str, int]:
        """Number of each key."""
        return {key: n for batch in self._batches.values() for key, n in batch.items()}

    def _opened(self) -> Retriever:
        return Retriever.open(self._path, "a", embedder=Numbered())

    def step(self) -> None:
        """Make a change, or ask something."""
        if len(self._batches) < 2:
            name = "add"
        elif sum(map(len, self._batches.values())) > self._items:
            name = "remove"
        else:
            (name,) = self._random.choices(list(KINDS), list(KINDS.values()))
        self.steps[name] += 1
        getattr(self, f"_{name}")()
        live = sum(map(len, self._batches.values()))
        # Said here, to have it often; once a gallery compacts itself, it may be before this.
        if self._dead > DEAD * (self._dead + live) and self._dead > 50:
            self.steps["compact"] += 1
            self.retriever.compact()
            self._dead = 0

    def _numbers(self, count: int) -> range:
        self._made += count
        return range(self._made - count, self._made)

    def _add(self) -> None:
        size = self._random.choice((1, 5, max(5, self._items // 10)))
        numbers = self._numbers(size)
        batch = numbers[0]
        keys = [f"{batch}/{n}" for n in numbers]
        labels = [f"l{n % 3}" for n in numbers]
        said = [metadata(n, batch, size) for n in numbers]
        if size > 5:
            self.retriever.add_vectors(vectors_of(numbers), keys=keys, labels=labels, metadata=said)
        else:
            pictures = list(map(picture, numbers))
            self.retriever.add(pictures, keys=keys, labels=labels, metadata=said, threads=1)
        self._batches[batch] = dict(zip(keys, numbers, strict=True))

    def _remove(self) -> None:
        gone = self._batches.pop(self._random.choice(list(self._batches)))
        assert self.retriever.remove(list(gone)) == len(gone)
        self._dead += len(gone)

    def _one(self) -> tuple[int, str]:
        batch = self._random.choice(list(self._batches))
        return batch, self._random.choice(list(self._batches[batch]))

    def _replace(self) -> None:
        batch, key = self._one()
        (number,) = self._numbers(1)
        said = metadata(number, batch, len(self._batches[batch]))
        self.retriever.update(key, image=picture(number), metadata=said)
        self._batches[batch][key] = number
        self._dead += 1

    def _relabel(self) -> None:
        _, key = self._one()
        self.retriever.update(key, label=f"l{self._random.randrange(3)}")

    def _search(self) -> None:
        batch, key = self._one()
        query = vectors_of([self._random.randrange(1 << 30)])
        hits = self.retriever.search_vectors(query, k=5)[0]
        check_hits(hits, query[0])
        assert {hit.key: hit.metadata["number"] for hit in hits}.items() <= self.model.items()
        if self.retriever.index.name == EXACT:
            model = self.model
            best = np.sort(vectors_of(list(model.values())) @ query[0])[::-1][:5]
            found = [hit.score for hit in hits]
            assert np.allclose(found, best, atol=5e-3), f"found {found}, expected {best.tolist()}"
        where = {"batch": batch}
        hits = self.retriever.search_vectors(query, k=1000, where=where)[0]
        assert {hit.key for hit in hits} == set(self._batches[batch])
        assert self.retriever[key].metadata["number"] == self._batches[batch][key]

    def _all(self) -> None:
        found = check_content(self.retriever)
        assert found == self.model, f"holds {len(found)} items, expected {len(self.model)}"

    def _save(self) -> None:
        self.retriever.save(self._copy)
        with Retriever.open(self._copy, embedder=Numbered()) as copy:
            assert check_content(copy) == self.model

    def _reindex(self) -> None:
        self.retriever.reindex(self._random.choice((EXACT, EXACT, "hnsw")))

    def _reopen(self) -> None:
        """Close, while the threads still search, and open again."""
        self.retriever.close()
        self.retriever = self._opened()

    def _rival(self) -> None:
        """No second writer gets in."""
        with contextlib.suppress(StoreLockedError):
            Retriever.open(self._path, "r+", embedder=Numbered()).close()
            raise AssertionError("a second writer could open the gallery")

    def sample(self) -> Json:
        """Return what the gallery takes; its live data are what a copy would be."""
        self.retriever.save(self._copy)
        return {
            "rss": resident(),
            "disk": size_of(self._path),
            "live": size_of(self._copy),
            "items": len(self.retriever),
        }


def write(folder: Path, seconds: float, items: int, seed: int, without: str) -> None:
    """Change the gallery, and search it in threads, until the time is over or a fault is found."""
    leave_out(without)
    faults: list[str] = []
    searches = Counter[str]()
    over = threading.Event()
    began = time.monotonic()
    try:
        writer = Writer(folder, items, seed)
    except StoreLockedError as error:
        say(fault=f"locked out: {error}")
        return
    say(begun=True)
    given = (writer, over, faults, searches, 0.0 if without else 0.002)
    threads = [threading.Thread(target=search, args=given, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    every = max(0.2, seconds / 100)
    due = every
    try:
        while not over.is_set():
            now = time.monotonic() - began
            done = {*KINDS, "compact"} <= writer.steps.keys() or now > 10 * seconds
            if now > seconds and done:  # on a busy machine it may take longer
                break
            writer.step()
            if now >= due:
                due += every
                say(at=now, **writer.sample())
    except Exception as error:  # noqa: BLE001  # the fault that is looked for
        faults.append(f"writer: {type(error).__name__}: {error}")
    over.set()
    for thread in threads:
        thread.join(60)
    say(fault="; ".join(faults[:3]) or None, steps=dict(writer.steps), searches=searches["threads"])
    shutil.rmtree(folder / f"copy-{seed}.imgret", ignore_errors=True)


def search(
    writer: Writer,
    over: threading.Event,
    faults: list[str],
    searches: Counter[str],
    pause: float,
) -> None:
    """Search while the writer changes the gallery, and sometimes closes it."""
    chance = np.random.default_rng()
    while not over.wait(pause):
        query = vectors_of([int(chance.integers(1 << 30))])
        try:
            check_hits(writer.retriever.search_vectors(query, k=10)[0], query[0])
            searches["threads"] += 1
        except StoreClosedError:
            pass
        except Exception as error:  # noqa: BLE001  # the fault that is looked for
            faults.append(f"thread: {type(error).__name__}: {error}")
            over.set()


def read(folder: Path, seconds: float) -> None:
    """Open the gallery again and again, and check all of it, and what it finds."""
    until, chance, opened = time.monotonic() + seconds, np.random.default_rng(9), 0
    while time.monotonic() < until:
        try:
            with Retriever.open(folder / NAME, embedder=Numbered()) as retriever:
                found = check_content(retriever)
                for _ in range(3):
                    query = vectors_of([int(chance.integers(1 << 30))])
                    check_hits(retriever.search_vectors(query, k=5)[0], query[0])
                    time.sleep(0.01)  # the writer goes on meanwhile
                assert check_content(retriever) == found, "a reader saw a change"
        except Exception as error:  # noqa: BLE001  # the fault that is looked for
            say(fault=f"reader: {type(error).__name__}: {error}")
            return
        opened += 1
        time.sleep(0.02)
    say(fault=None, opened=opened)


def add(folder: Path, items: int) -> None:
    """Add many items, and tell what memory that takes."""
    size, chance = 10_000, np.random.default_rng(0)
    with Retriever.open(folder / NAME, "a", embedder=Numbered()) as retriever:
        for start in range(0, items, size):
            rows = chance.standard_normal((size, DIM), dtype=np.float32)
            keys = [str(n) for n in range(start, start + size)]
            retriever.add_vectors(rows, keys=keys, metadata=[{"n": key} for key in keys])
            if (start + size) % (items // 10) == 0:
                say(at=start + size, rss=resident())
    say(fault=None)


def leave_out(what: str) -> None:
    """Take a lock away, to see that its want is noticed."""
    if what == "writers":
        writer_lock._lock = lambda _: None  # type: ignore[attr-defined]
    if what == "readers":
        locks.ReadWriteLock.read = lambda _: contextlib.nullcontext()  # type: ignore[assignment,method-assign,return-value]
        locks.ReadWriteLock.write = lambda _, **__: contextlib.nullcontext()  # type: ignore[assignment,method-assign,return-value]


def say(**what: object) -> None:
    """Print a line for the test."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    kind, where, duration, *rest = sys.argv[1:]
    if kind == "add":
        add(Path(where), int(duration))
    elif kind == "write":
        write(Path(where), float(duration), int(rest[0]), int(rest[1]), "".join(rest[2:]))
    else:
        read(Path(where), float(duration))
