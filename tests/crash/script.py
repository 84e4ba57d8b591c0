"""What is done to a gallery while it is killed, and what it holds after each step."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imgret import Retriever
from imgret.errors import ImgretError
from imgret.galleries.local import LocalGallery
from imgret.testing.data import Given

DIM = 8
NAME = "g.imgret"
INDEXES = ("flat", "hnsw", "ivf", "flat", "hnsw")
# What a gallery consists of. A writer that opens it leaves nothing else, in it or beside it.
PARTS = {
    *("manifest.json", "manifest.copy.json", "catalog.sqlite", "vectors.f16"),
    *("projection.npz", "index", "lock"),
}


class Row(NamedTuple):
    """What is known of an item."""

    label: str | None
    metadata: str
    vector: tuple[float, ...]


Model = dict[str, Row] | None  # None: there is no gallery


class Step(NamedTuple):
    """A change: by a retriever that is open, or by a path; and the model after it."""

    name: str
    run: Callable[[Retriever], object] | None
    on_path: Callable[[Path], object] | None
    after: Model


def vector_of(number: int) -> tuple[float, ...]:
    """Return a vector of length 1 that float16 holds exactly as it is read back."""
    vector = np.random.default_rng(number).standard_normal(DIM)
    return tuple((vector / np.linalg.norm(vector)).astype(np.float16).astype(float))


class Script:
    """Steps that a seed decides.

    Attributes
    ----------
    steps : list of Step
    models : list
        ``models[i]`` is what the gallery holds before step ``i``.
    """

    def __init__(self, seed: int, steps: int = 14) -> None:
        self._random = random.Random(seed)
        self._made = 0
        self.index = self._random.choice(("flat", "hnsw"))
        self.steps = [Step("create", None, None, {})]
        kinds = [self._add, self._add, self._remove, self._relabel, self._describe, self._reindex]
        kinds += [self._save, self._reopen, self._project, self._replace, self._compact]
        while len(self.steps) < steps:
            rows = self.steps[-1].after or {}
            kind = self._add if len(rows) < 3 else self._random.choice(kinds)
            self.steps.append(kind(dict(rows)))
        self.models: list[Model] = [None, *(step.after for step in self.steps)]

    def _new(self) -> tuple[list[str], list[Row]]:
        numbers = range(self._made, self._made + self._random.choice((1, 3, 40)))
        self._made = numbers.stop
        keys = [f"{self._random.choice('abü')}/{n}.jpg" for n in numbers]
        return keys, [Row(f"l{n % 3}", json.dumps({"n": n}), vector_of(n)) for n in numbers]

    def _add(self, rows: dict[str, Row]) -> Step:
        keys, new = self._new()

        def run(retriever: Retriever) -> None:
            add(retriever, keys, new)

        return Step(f"add {len(keys)}", run, None, {**rows, **dict(zip(keys, new, strict=True))})

    def _remove(self, rows: dict[str, Row]) -> Step:
        keys = self._random.sample(sorted(rows), self._random.randint(1, len(rows) - 1))
        left = {key: row for key, row in rows.items() if key not in keys}
        return Step(f"remove {len(keys)}", lambda r: r.remove(keys), None, left)

    def _compact(self, rows: dict[str, Row]) -> Step:
        return Step("compact", lambda r: r.compact(), None, rows)

    def _relabel(self, rows: dict[str, Row]) -> Step:
        key, label = self._random.choice(sorted(rows)), f"new{self._random.random()}"
        after = {**rows, key: rows[key]._replace(label=label)}
        return Step("relabel", lambda r: r.update(key, label=label), None, after)

    def _describe(self, rows: dict[str, Row]) -> Step:
        key, value = self._random.choice(sorted(rows)), {"x": self._random.random()}
        after = {**rows, key: rows[key]._replace(metadata=json.dumps(value))}
        return Step("describe", lambda r: r.update(key, metadata=value), None, after)

    def _replace(self, rows: dict[str, Row]) -> Step:
        """Load, give a key another vector, and save over itself."""
        key = self._random.choice(sorted(rows))
        self._made += 1
        row = Row(None, "{}", vector_of(self._made))

        def on_path(path: Path) -> None:
            other = Retriever.load(path, embedder=Given(DIM))
            other.remove(key)
            add(other, [key], [row])
            other.save(path)

        left = {other: each for other, each in rows.items() if other != key}
        return Step("replace", None, on_path, {**left, key: row})

    def _reindex(self, rows: dict[str, Row]) -> Step:
        index = self._random.choice(INDEXES if len(rows) >= 40 else ("flat", "hnsw"))
        options = {"nlist": 2} if index == "ivf" else {}

        def run(retriever: Retriever) -> None:
            retriever.reindex(index, **options)

        return Step(f"reindex {index}", run, None, rows)

    def _project(self, rows: dict[str, Row]) -> Step:
        kind = self._random.choice(("pca", None)) if len(rows) > DIM else None
        return Step(f"project {kind}", lambda r: r.project(kind, dim=4), None, rows)

    def _save(self, rows: dict[str, Row]) -> Step:
        """Load, change and save over itself."""
        keys, new = self._new()

        def on_path(path: Path) -> None:
            other = Retriever.load(path, embedder=Given(DIM))
            add(other, keys, new)
            other.save(path)

        return Step("save", None, on_path, {**rows, **dict(zip(keys, new, strict=True))})

    def _reopen(self, rows: dict[str, Row]) -> Step:
        def run(retriever: Retriever) -> None:
            retriever.search_vectors(np.ones((1, DIM), np.float32), k=2)

        return Step("search", run, lambda _: None, rows)

    def run(self, directory: Path, mark: Callable[[int], object]) -> Iterator[tuple[int, str]]:
        """Run all steps; yield the number and error of one that fails, which ends the script."""
        path, retriever = directory / NAME, None
        for number, step in enumerate(self.steps):
            try:
                if step.on_path is not None and retriever is not None:
                    retriever.close()
                    retriever = None
                if retriever is None and (step.run is not None or step.name == "create"):
                    retriever = Retriever.open(
                        path, "a", embedder=Given(DIM), index=None if number else self.index
                    )
                if step.run is not None:
                    step.run(retriever)
                if step.on_path is not None:
                    step.on_path(path)
            except ImgretError as error:
                yield number, f"{type(error).__name__}: {error}"
                break
            except BaseException as error:  # noqa: BLE001  # no other should come out
                yield number, f"raw {type(error).__name__}: {error}"
                break
            mark(number)
        if retriever is not None:
            with suppress(ImgretError):
                retriever.close()


def add(retriever: Retriever, keys: list[str], rows: list[Row]) -> None:
    """Add rows under keys."""
    retriever.add_vectors(
        [row.vector for row in rows],
        keys=keys,
        labels=[row.label for row in rows],
        metadata=[json.loads(row.metadata) for row in rows],
    )


def content(retriever: Retriever) -> dict[str, Row]:
    """Return what a gallery holds."""
    keys = list(retriever)
    items = [retriever[key] for key in keys]
    return {
        item.key: Row(item.label, json.dumps(dict(item.metadata)), tuple(map(float, vector)))
        for item, vector in zip(items, retriever.embeddings(keys), strict=True)
    }


def fault(directory: Path, allowed: list[Model]) -> str | None:
    """Return what is wrong with a gallery that should hold one of the models, or None."""
    try:
        return _fault(directory / NAME, allowed)
    except ImgretError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001  # a fault like the others
        return f"raw {type(error).__name__}: {error}"


def _fault(path: Path, allowed: list[Model]) -> str | None:
    if not LocalGallery.is_taken(str(path)):
        return None if None in allowed else "the gallery is gone"
    found = content(Retriever.load(path, embedder=Given(DIM)))
    if found not in allowed:
        return f"holds {_difference(found, allowed)}"
    with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:  # goes on
        left = {each.name for each in path.iterdir()} - PARTS
        left |= {each.name for each in path.parent.iterdir()} - {NAME}
        if content(retriever) != found:
            return "a writer sees something else"
        add(retriever, ["later"], [Row("x", "{}", vector_of(-1 & 0xFFFF))])
        (hit,) = retriever.search_key("later", k=1) if found else [None]
        if found and hit.key not in found:
            return f"found {hit.key!r}"
    if set(Retriever.load(path, embedder=Given(DIM))) != {*found, "later"}:
        return "what was added later is not there"
    return f"left over: {sorted(left)}" if left else None


def _difference(found: dict[str, Row], allowed: list[Model]) -> str:
    shown = []
    for model in allowed:
        rows = model or {}
        missing = sorted(set(rows) - set(found))[:3]
        extra = sorted(set(found) - set(rows))[:3]
        other = [key for key in found if key in rows and found[key] != rows[key]][:3]
        shown.append(f"missing {missing}, extra {extra}, other {other}")
    return f"{len(found)} items, " + "; or ".join(shown)
