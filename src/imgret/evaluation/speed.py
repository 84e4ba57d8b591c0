"""Speed of an embedder on this machine, by batch size, threads and execution provider."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from typing import NamedTuple, TypeAlias

import numpy as np

from imgret.abc import Embedder
from imgret.embedders import OnnxEmbedder
from imgret.errors import InvalidInputError, MissingExtraError
from imgret.pages.result import Tabular
from imgret.pipeline.embed import worker_count
from imgret.registry import made
from imgret.support.checks import check_count, check_number
from imgret.types import Image, Json

__all__ = ["BenchReport", "Speed", "bench"]

_BATCHES = (1, 8, 32)
# What a photo of 12 megapixels is decoded to for a network of 224 pixels, and how many of them.
_SIZE, _IMAGES = (1000, 750), 4
_TEXTS, _TEXT = 16, "a photo of a red flower in a green garden, number {}"
# Rounds of each setting: this many, unless they take too long; then at least so many.
_ROUNDS, _LEAST_ROUNDS = 5, 3


@dataclass(frozen=True, slots=True)
class Speed:
    """Images per second of one setting.

    Attributes
    ----------
    provider : str or None
        Short name of the execution provider; None for an embedder that is not an ONNX file.
    threads : int
        Number of threads that call the embedder at once.
    batch : int
        Images per run of the network.
    network : float or None
        Images per second of the network alone, on tensors that are ready; None for an embedder
        that is not an ONNX file.
    embed : float
        Images per second of `Embedder.embed` on arrays, with preprocessing.
    """

    provider: str | None
    threads: int
    batch: int
    network: float | None
    embed: float


@dataclass(frozen=True, slots=True)
class BenchReport(Tabular):
    """Result of `bench`.

    Attributes
    ----------
    model : str
        Model as it was given.
    dim : int
        Dimension of the embedding.
    side : int or None
        Side of the network's input in pixels.
    image_size : tuple of int
        Width and height of the images that were embedded, in pixels.
    batch_size : int
        Batch size that the embedder uses by itself, with the first of the providers.
    speeds : list of Speed
        A row for each provider, number of threads and batch size, in the order given.
    texts : dict of str to float
        Texts per second by provider, embedded by one thread in batches of 16; empty for
        an embedder that reads no text.
    no_text : str
        Reason why an embedder that reads text was not measured on texts; usually empty.
    """

    model: str
    dim: int
    side: int | None
    image_size: tuple[int, int]
    batch_size: int
    speeds: list[Speed]
    texts: dict[str, float] = field(default_factory=dict)
    no_text: str = ""

    @property
    def best(self) -> Speed:
        """The setting with the most images per second of `Embedder.embed`."""
        return max(self.speeds, key=lambda each: each.embed)

    def to_dict(self) -> Json:
        """Return everything as JSON values."""
        return {**asdict(self), "image_size": list(self.image_size)}

    def _frame(self) -> tuple[list[str], list[tuple[object, ...]]]:
        names = [each.name for each in fields(Speed)]
        return names, [tuple(getattr(each, name) for name in names) for each in self.speeds]

    def __str__(self) -> str:
        table = self._table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [self._title()]
        for number, row in enumerate(table):
            mark = ">" if number and self.speeds[number - 1] is self.best else " "
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append(f"{mark} {'  '.join(cells)}")
        return "\n".join([*lines, *self._notes()])

    def _title(self) -> str:
        side = "" if self.side is None else f"{self.side} px, "
        width, height = self.image_size
        return f"{self.model}: {side}{self.dim}-d; images/s for images of {width} x {height} pixels"

    def _table(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("provider", "threads", "batch", "network", "embed")]
        for each in self.speeds:
            network = "-" if each.network is None else _rate(each.network)
            place = each.provider or "-"
            rows.append((place, str(each.threads), str(each.batch), network, _rate(each.embed)))
        return rows

    def _notes(self) -> list[str]:
        notes = [f"texts: {_rate(rate)} texts/s, {name}" for name, rate in self.texts.items()]
        if self.no_text:
            notes.append(f"texts: not measured: {self.no_text}")
        return notes


# What is measured (the network, the embedder or its text tower), provider, threads and batch size.
_Key: TypeAlias = tuple[str, str | None, int, int]


class _Task(NamedTuple):
    """What is measured: a call, in so many threads at once, and the rows it takes."""

    call: Callable[[], object]
    threads: int
    rows: int


def bench(
    model: str | os.PathLike[str] | Embedder,
    *,
    batches: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    providers: Sequence[str] | None = None,
    variant: str | None = None,
    seconds: float = 1.0,
) -> BenchReport:
    """Measure how many images per second a model embeds on this machine.

    Each setting is measured twice: the network alone, on tensors that are ready, and
    `Embedder.embed` on arrays; the difference is the cost of preprocessing. All settings take
    turns, in both orders, so that other work on the machine affects each alike, and the median of
    their rounds counts. Every call has run once before.

    Parameters
    ----------
    model : str, path or Embedder
        Name of an embedder, path of an ONNX file or of a model's folder, or an embedder.
    batches : sequence of int, optional
        Batch sizes; by default 1, 8 and 32, or that of a network exported for a fixed one.
    threads : sequence of int, optional
        Numbers of threads that call the embedder at once, as ``add_folder(threads=)`` does; by
        default 1 and one for each core.
    providers : sequence of str, optional
        Execution providers of onnxruntime, each measured by itself, such as ``"cpu"`` or
        ``"cuda"``; by default what the embedder uses by itself.
    variant : str, optional
        File to use of several in a folder, such as ``"fp16"``.
    seconds : float
        Seconds that each measurement takes; a slow network takes longer, as each gets at least
        three rounds of one batch per thread.

    Returns
    -------
    BenchReport

    Raises
    ------
    InvalidInputError
        A number is out of its range, or an embedder does not take these options.
    ModelError
        The model cannot be used, or a provider is not available.
    UnknownNameError
        No embedder has the name.

    Examples
    --------
    >>> print(bench("general", batches=[1, 8], threads=[1]))  # doctest: +SKIP
    general: 224 px, 1280-d; images/s for images of 1000 x 750 pixels
      provider  threads  batch  network  embed
      cpu             1      1      312    243
    > cpu             1      8      330    251
    """
    seconds = check_number(seconds, "seconds", above=0, at_most=3600)
    counts = _counts(threads, "threads") or sorted({1, worker_count()})
    sizes = _counts(batches, "batches")
    embedders = _embedders(model, providers, variant)
    tasks: dict[_Key, _Task] = {}
    images = _random_images()
    no_text = ""
    for name, embedder in embedders.items():
        calls = {
            batch: _calls(embedder, [images[row % len(images)] for row in range(batch)])
            for batch in sizes or _default_batches(embedder)
        }
        for count in counts if embedder.thread_safe else [1]:
            for batch, (network, embed) in calls.items():
                if network is not None:
                    tasks["network", name, count, batch] = _Task(network, count, batch)
                tasks["embed", name, count, batch] = _Task(embed, count, batch)
        if embedder.reads_text:
            texts = [_TEXT.format(number) for number in range(_TEXTS)]
            try:
                embedder.embed_text(texts[:1])
            except MissingExtraError as error:
                no_text = str(error)
            else:
                tasks["text", name, 1, _TEXTS] = _Task(_reading(embedder, texts), 1, _TEXTS)
    rates = _measured(tasks, seconds)
    first = next(iter(embedders.values()))
    return BenchReport(
        model=os.fspath(model) if isinstance(model, str | os.PathLike) else model.name,
        dim=first.dim,
        side=first.network.preprocess.size if isinstance(first, OnnxEmbedder) else None,
        image_size=_SIZE,
        batch_size=first.batch_size,
        speeds=[
            Speed(name, count, batch, rates.get(("network", name, count, batch)), rate)
            for (what, name, count, batch), rate in rates.items()
            if what == "embed"
        ],
        texts={key[1] or "-": rate for key, rate in rates.items() if key[0] == "text"},
        no_text=no_text,
    )


def _counts(given: Sequence[int] | None, name: str) -> list[int]:
    """Return numbers of at least 1, each once; an empty list if none are given."""
    if given is None:
        return []
    if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not given:
        raise InvalidInputError(f"{name}: expected a list of whole numbers, found {given!r}")
    return list(dict.fromkeys(check_count(each, name) for each in given))


def _embedders(
    model: str | os.PathLike[str] | Embedder,
    providers: Sequence[str] | None,
    variant: str | None,
) -> dict[str | None, Embedder]:
    """Return the embedder for each provider, by the provider's short name."""
    if not isinstance(model, str | os.PathLike):
        model = made("embedders", model, Embedder)  # type: ignore[type-abstract]  # it is only compared with
        if providers is not None or variant is not None:
            raise InvalidInputError(
                "bench: expected the name or path of a model with providers or variant, found an "
                "embedder, which has its own"
            )
        return {_provider(model): model}
    if isinstance(providers, str) or (providers is not None and not providers):
        raise InvalidInputError(f"providers: expected a list of names, found {providers!r}")
    given: Json = {} if variant is None else {"variant": variant}
    found: dict[str | None, Embedder] = {}
    for provider in [None] if providers is None else providers:
        config = given if provider is None else {**given, "providers": [provider]}
        part = {"name": os.fspath(model), "config": config}
        embedder: Embedder = made("embedders", part, Embedder)  # type: ignore[type-abstract]  # it is only compared with
        found.setdefault(_provider(embedder), embedder)
    return found


def _provider(embedder: Embedder) -> str | None:
    if not isinstance(embedder, OnnxEmbedder):
        return None
    from imgret.models.session import short_name  # noqa: PLC0415  # loads onnxruntime

    return short_name(embedder.network.session.providers[0])


def _default_batches(embedder: Embedder) -> Sequence[int]:
    fixed = embedder.network.session.batch if isinstance(embedder, OnnxEmbedder) else None
    return _BATCHES if fixed is None else (fixed,)


def _random_images() -> list[Image]:
    """Return images of random pixels, which are resized as slowly as any other."""
    rng = np.random.default_rng(0)
    width, height = _SIZE
    return list(rng.integers(0, 256, (_IMAGES, height, width, 3), dtype=np.uint8))


def _calls(
    embedder: Embedder, images: Sequence[Image]
) -> tuple[Callable[[], object] | None, Callable[[], object]]:
    """Return calls that run the network alone, and all of the embedder, on a batch."""

    def embed() -> object:
        return embedder.embed(images, batch_size=len(images))

    if not isinstance(embedder, OnnxEmbedder):
        return None, embed
    network = embedder.network
    tensors = network.preprocess.prepare(images)
    return lambda: network.session.run(tensors, network.output), embed


def _reading(embedder: Embedder, texts: Sequence[str]) -> Callable[[], object]:
    return lambda: embedder.embed_text(texts, batch_size=len(texts))


def _measured(tasks: dict[_Key, _Task], seconds: float) -> dict[_Key, float]:
    """Return the median of the rows per second of each task, run in turn."""
    taken: dict[_Key, list[float]] = {key: [] for key in tasks}
    with ExitStack() as stack:
        pools = {
            count: stack.enter_context(ThreadPoolExecutor(count))
            for count in {task.threads for task in tasks.values()}
        }

        def run(task: _Task, calls: int) -> float:
            started = time.perf_counter()
            done = [
                pools[task.threads].submit(lambda: [task.call() for _ in range(calls)])
                for _ in range(task.threads)
            ]
            for each in done:
                each.result()
            return time.perf_counter() - started

        calls = {}
        for key, task in tasks.items():
            run(task, 1)  # the first run of a shape plans its memory
            calls[key] = max(1, round(seconds / _ROUNDS / run(task, 1)))
        started = time.perf_counter()
        for number in range(_ROUNDS):
            spent = time.perf_counter() - started
            if number >= _LEAST_ROUNDS and spent > seconds * len(tasks):
                break
            for key, task in list(tasks.items())[:: 1 if number % 2 else -1]:
                rows = task.rows * task.threads * calls[key]
                taken[key].append(rows / run(task, calls[key]))
    return {key: statistics.median(rates) for key, rates in taken.items()}


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
