"""Options of search, chosen by measurement: the fastest that reach a recall."""

from __future__ import annotations

import html
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imgret.abc import Tunable
from imgret.errors import InvalidInputError
from imgret.evaluation.sample import Sample, index_of
from imgret.pages.plot import plot
from imgret.pages.result import Result
from imgret.search import View
from imgret.support.checks import check_count, check_number
from imgret.types import Embeddings, Json

__all__ = ["Try", "Tuning", "settled", "tune"]

# With fewer items nothing is gained, and nothing can be told.
_LEAST_ITEMS = 100
# Each setting is timed until it has been run so often and so long.
_LEAST_RUNS, _LEAST_SECONDS = 3, 0.1
# Steps without a gain of recall after which more of an option is of no use: once it has risen, and
# before.
_IDLE, _IDLE_AT_FIRST, _GAIN = 2, 6, 1e-4
# So far below the best there was, recall has sunk, and rises again.
_SUNK = 0.005


@dataclass(frozen=True, slots=True)
class Try:
    """What one setting reached.

    Attributes
    ----------
    settings : dict
        Options of search, such as ``{"ef_search": 48}``.
    recall : float
        Mean share of the true ``k`` nearest that were found, 0 to 1.
    qps : float
        Queries a second, asked in one batch; the median of several runs.
    """

    settings: Json
    recall: float
    qps: float


@dataclass(frozen=True, slots=True)
class Tuning(Result):
    """What `Retriever.tune` measured and chose.

    Attributes
    ----------
    index : str
        The index that was tuned.
    target : float
        The recall asked for.
    k, n_queries : int
    held_out : bool
        Whether the queries were given; else they were items of the gallery.
    tries : list of Try
        Everything that was measured, in the order of its recall.
    chosen : Try
        The fastest of those that reach the target; in use, and kept in the manifest.
    """

    index: str
    target: float
    k: int
    n_queries: int
    held_out: bool
    tries: list[Try]
    chosen: Try

    def to_dict(self) -> Json:
        """Return JSON values."""
        return asdict(self)

    def to_svg(self) -> str:
        """Draw recall against queries a second; the best of what was measured is a line."""
        return plot(
            {self.index: [(each.recall, each.qps, _text(each.settings)) for each in self.tries]},
            title=f"{self.index}: recall@{self.k} against queries a second",
            mark=(self.chosen.recall, self.chosen.qps),
            least=self.target,
        )

    def _body(self) -> str:
        return f"{self.to_svg()}<pre>{html.escape(str(self))}</pre>"

    def __str__(self) -> str:
        what = "given queries" if self.held_out else "items of the gallery"
        width = max(len(_text(each.settings)) for each in self.tries)
        lines = [
            f"{self.index}, recall@{self.k} of at least {self.target:g}, {self.n_queries} {what}",
            f"  {'settings':<{width}}  recall      QPS",
        ]
        lines += [
            f"{'>' if each is self.chosen else ' '} {_text(each.settings):<{width}}  "
            f"{each.recall:.4f}  {each.qps:>7.0f}"
            for each in self.tries
        ]
        return "\n".join(lines)


def tune(
    view: View,
    *,
    recall: float = 0.95,
    k: int = 10,
    queries: Embeddings | None = None,
    n_queries: int = 1000,
    seed: int = 0,
) -> Tuning:
    """Try the options of search of an index, and leave it with the best of them.

    All but the first option are tried with each value, and the first with each from its fastest
    on, until recall is well above what is asked for, or rises no more, or what is tried is slower
    than what reaches the recall already. Searches of other threads see what is being tried.

    Parameters
    ----------
    view : View
    recall, k, n_queries, seed
        As for `Retriever.tune`.
    queries : float32 array of shape (n, dim) or None
        Embeddings to ask with; None: of items.

    Raises
    ------
    InvalidInputError
        There are too few items, a number is out of its range, or the recall is not reached;
        the index is as it was.
    """
    recall = check_number(recall, "recall", above=0, at_most=1)
    k, n_queries = check_count(k, "k"), check_count(n_queries, "n_queries")
    if len(view) < _LEAST_ITEMS:
        raise InvalidInputError(
            f"tune: expected a gallery of at least {_LEAST_ITEMS} items, found {len(view)}; so few "
            f"are best searched with index='flat', which is exact"
        )
    if k >= len(view):
        raise InvalidInputError(f"k: expected fewer than the {len(view)} items, found {k}")
    index = index_of(view)
    sample = Sample(view, k=k, queries=queries, n_queries=n_queries, seed=seed)
    name = index.name or type(index).__name__
    before = index.settings()
    tries: list[Try] = []
    try:
        for settings in _settings(index.sweep(), tries, recall):
            index.configure(**settings)
            tries.append(Try(settings, *_measured(index, sample)))
        chosen = _fastest(name, tries, recall)
    except BaseException:
        index.configure(**before)
        raise
    index.configure(**chosen.settings)
    return Tuning(
        index=name,
        target=recall,
        k=k,
        n_queries=len(sample.queries),
        held_out=queries is not None,
        tries=sorted(tries, key=lambda each: (each.recall, each.qps)),
        chosen=chosen,
    )


def _measured(index: Tunable, sample: Sample) -> tuple[float, float]:
    """Return recall and queries a second of an index as it is set."""
    taken: list[float] = []
    while len(taken) < _LEAST_RUNS or sum(taken) < _LEAST_SECONDS:
        started = time.perf_counter()
        index.search(sample.queries, sample.wanted)
        taken.append(time.perf_counter() - started)
    recall = float(np.clip(sample.shares().mean(), 0, 1))
    return recall, len(sample.queries) / statistics.median(taken)


def _settings(
    sweep: dict[str, list[int]], tries: list[Try], recall: float
) -> Iterator[dict[str, int]]:
    """Yield the settings to try: the first option upwards, until that is of no more use."""
    if not sweep:
        yield {}
        return
    (first, values), *others = sweep.items()
    for combination in itertools.product(*(others_values for _, others_values in others)):
        fixed = dict(zip((name for name, _ in others), combination, strict=True))
        reached: list[float] = []
        for value in values:
            yield {first: value, **fixed}
            last = tries[-1]
            reached.append(last.recall)
            good = [each.qps for each in tries if each.recall >= recall]
            # More of it is slower still; so is more of the others, where this is the least of it.
            beaten = bool(good) and last.qps < max(good)
            if beaten and value == values[0]:
                return
            if reached[-1] >= (1 + recall) / 2 or settled(reached) or beaten:
                break


def settled(reached: list[float]) -> bool:
    """Whether more of an option is of no use, by the recalls that it has reached so far.

    Fewer candidates than neighbours are wanted make no difference, so that it may take a while
    until recall begins to rise. It may sink, too: where the lists that are visited hold too few
    candidates, four times as many are, which two lists may lead to and three not.
    """
    patience = _IDLE if max(reached) > reached[0] + _GAIN else _IDLE_AT_FIRST
    before = reached[:-patience]
    if not before or reached[-1] < max(reached) - _SUNK:
        return False
    return max(reached) <= max(before) + _GAIN


def _fastest(name: str, tries: list[Try], recall: float) -> Try:
    """Return the fastest that reaches the recall."""
    good = [each for each in tries if each.recall >= recall]
    if not good:
        best = max(tries, key=lambda each: each.recall)
        raise InvalidInputError(
            f"recall: expected one that {name!r} reaches, found {recall:g}; its best is "
            f"{best.recall:.4f} ({_text(best.settings)}); ask for less, or take another index, "
            f"such as reindex('hnsw')"
        )
    return max(good, key=lambda each: each.qps)


def _text(settings: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "-"
