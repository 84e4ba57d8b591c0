"""Tuning of search options: measures which are the fastest that reach a recall."""

from __future__ import annotations

import html
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from imgret.abc import Tunable
from imgret.errors import InvalidInputError
from imgret.evaluation.sample import Sample, index_of
from imgret.pages.document import table
from imgret.pages.plot import plot
from imgret.pages.result import Tabular
from imgret.search import View
from imgret.support.checks import check_count, check_number
from imgret.types import Embeddings, Json

__all__ = ["Try", "Tuning", "settled", "tune"]

# With fewer items, there is nothing to gain and nothing to measure.
_LEAST_ITEMS = 100
# Each setting is timed for at least this many runs and seconds.
_LEAST_RUNS, _LEAST_SECONDS = 3, 0.1
# Steps without a gain in recall after which raising an option is pointless: once recall has risen,
# and before it has.
_IDLE, _IDLE_AT_FIRST, _GAIN = 2, 6, 1e-4
# Recall that is this far below its best has dropped, and will rise again.
_SUNK = 0.005


@dataclass(frozen=True, slots=True)
class Try:
    """Recall and speed of one setting.

    Attributes
    ----------
    settings : dict
        Search options, such as ``{"ef_search": 48}``.
    recall : float
        Mean share of the true ``k`` nearest that were found, 0 to 1.
    farther : float
        The same for queries that are farther from the items than these are from each other, at
        most `recall`; equal to it if queries were given or the index is exact.
    qps : float
        Queries per second, searched in one batch; median of several runs.
    """

    settings: Json
    recall: float
    farther: float
    qps: float


@dataclass(frozen=True, slots=True)
class Tuning(Tabular):
    """Result of `Retriever.tune`: what was measured and chosen.

    Attributes
    ----------
    index : str
        Name of the index that was tuned.
    target : float
        Recall that was requested.
    k, n_queries : int
    held_out : bool
        Whether queries were given; otherwise items of the gallery were used.
    tries : list of Try
        All settings that were measured, in the order of their recall.
    chosen : Try
        Fastest setting with which `Try.farther` reaches the target; it is in use, and stored in the
        manifest.
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

    def _frame(self) -> tuple[list[str], list[tuple[object, ...]]]:
        names = list(dict.fromkeys(name for each in self.tries for name in each.settings))
        return [*names, "recall", "farther", "qps", "chosen"], [
            (
                *map(each.settings.get, names),
                each.recall,
                each.farther,
                each.qps,
                each is self.chosen,
            )
            for each in self.tries
        ]

    def to_svg(self) -> str:
        """Draw recall against queries per second, with a line through the best settings.

        It is the recall that the target is compared with, `Try.farther`.
        """
        of = "" if self.held_out else " of farther queries"
        return plot(
            {self.index: [(each.farther, each.qps, _text(each.settings)) for each in self.tries]},
            title=f"{self.index}: recall@{self.k}{of} against queries per second",
            mark=(self.chosen.farther, self.chosen.qps),
            least=self.target,
        )

    def _body(self) -> str:
        what = "given queries" if self.held_out else "items of the gallery"
        head = (
            f"{self.index}: recall@{self.k} of at least {self.target:g}, {self.n_queries:,} {what}"
        )
        rows = [
            [
                "chosen" if each is self.chosen else "",
                _text(each.settings),
                f"{each.recall:.4f}",
                f"{each.farther:.4f}",
                f"{each.qps:,.0f}",
            ]
            for each in self.tries
        ]
        names = ["", "settings", "recall", "of farther queries", "queries per second"]
        return f"<p>{html.escape(head)}</p>{self.to_svg()}{table(names, rows)}"

    def __str__(self) -> str:
        what = "given queries" if self.held_out else "items of the gallery"
        width = max(len(_text(each.settings)) for each in self.tries)
        lines = [
            f"{self.index}, recall@{self.k} of at least {self.target:g}, {self.n_queries} {what}",
            f"  {'settings':<{width}}  recall  farther      QPS",
        ]
        lines += [
            f"{'>' if each is self.chosen else ' '} {_text(each.settings):<{width}}  "
            f"{each.recall:.4f}   {each.farther:.4f}  {each.qps:>7.0f}"
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
    """Try the search options of an index, and leave it with the best of them.

    All options but the first are tried with each of their values. The first is raised from its
    fastest value until recall is well above the target, recall stops rising, or the setting is
    slower than one that already reaches the target. Searches of other threads use the options
    that are being tried.

    Parameters
    ----------
    view : View
    recall, k, n_queries, seed
        As for `Retriever.tune`.
    queries : float32 array of shape (n, dim) or None
        Embeddings of the queries; None to use items of the gallery.

    Raises
    ------
    InvalidInputError
        There are too few items, a number is out of its range, or the recall is not reached. The
        index is then unchanged.
    """
    recall = check_number(recall, "recall", above=0, at_most=1)
    k, n_queries = check_count(k, "k"), check_count(n_queries, "n_queries")
    if len(view) < _LEAST_ITEMS:
        raise InvalidInputError(
            f"tune: expected a gallery of at least {_LEAST_ITEMS} items, found {len(view)}; for so "
            f"few, index='flat' is best, because it is exact"
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
        chosen = _fastest(name, tries, recall, held_out=queries is not None)
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


def _measured(index: Tunable, sample: Sample) -> tuple[float, float, float]:
    """Return recall, that of farther queries, and queries per second of an index, as configured."""
    taken: list[float] = []
    while len(taken) < _LEAST_RUNS or sum(taken) < _LEAST_SECONDS:
        started = time.perf_counter()
        index.search(sample.queries, sample.wanted)
        taken.append(time.perf_counter() - started)
    measured = sample.measure()
    qps = len(sample.queries) / statistics.median(taken)
    return measured.recall, measured.recall_farther, qps


def _settings(
    sweep: dict[str, list[int]], tries: list[Try], recall: float
) -> Iterator[dict[str, int]]:
    """Yield the settings to try, raising the first option until that is pointless."""
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
            reached.append(last.farther)
            good = [each.qps for each in tries if each.farther >= recall]
            # Higher values are slower still. If this is the lowest value, so are higher values of
            # the other options.
            beaten = bool(good) and last.qps < max(good)
            if beaten and value == values[0]:
                return
            if reached[-1] >= (1 + recall) / 2 or settled(reached) or beaten:
                break


def settled(reached: list[float]) -> bool:
    """Return whether raising an option is pointless, judging by the recalls reached so far.

    Recall may take a while to rise, because the option has no effect as long as there are fewer
    candidates than neighbours wanted. Recall may also drop: if the visited lists hold too few
    candidates, four times as many lists are visited, which can happen with two lists and not
    with three.
    """
    patience = _IDLE if max(reached) > reached[0] + _GAIN else _IDLE_AT_FIRST
    before = reached[:-patience]
    if not before or reached[-1] < max(reached) - _SUNK:
        return False
    return max(reached) <= max(before) + _GAIN


def _fastest(name: str, tries: list[Try], recall: float, *, held_out: bool) -> Try:
    """Return the fastest setting that reaches the recall."""
    good = [each for each in tries if each.farther >= recall]
    if not good:
        best = max(tries, key=lambda each: each.farther)
        whose = "" if held_out else " for queries that are farther from the items than these are"
        give = "" if held_out else "give queries like those you will search with, "
        raise InvalidInputError(
            f"recall: expected one that {name!r} reaches, found {recall:g}; its best is "
            f"{best.farther:.4f}{whose} ({_text(best.settings)}); request a lower recall, {give}"
            f"or use another index, for example by reindex('hnsw')"
        )
    return max(good, key=lambda each: each.qps)


def _text(settings: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "-"
