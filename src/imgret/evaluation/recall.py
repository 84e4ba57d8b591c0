"""Recall of an index: how many of the true nearest neighbours it finds."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.evaluation.sample import Sample, index_of
from imgret.pages.document import facts
from imgret.pages.result import Result
from imgret.search import View
from imgret.support.checks import check_count
from imgret.support.statistics import interval, resampled_means
from imgret.types import Embeddings, Json

__all__ = ["Recall", "measure_recall"]

_CONFIDENCE, _RESAMPLES = 0.95, 1000


@dataclass(frozen=True, slots=True)
class Recall(Result):
    """Recall of an index, compared with an exact search.

    Attributes
    ----------
    value : float
        Mean share of the true ``k`` nearest items that were found, 0 to 1.
    ci : tuple of float
        95 % prediction interval, by a bootstrap over the queries: it holds the recall of as many
        new queries, in 19 of 20 cases. So it is wider than an interval of the mean, by a factor of
        1.4. Its lower end is that of queries that are farther from the items than these from each
        other, which find less: see `Retriever.recall`.
    k, n_queries : int
    index : str
        Name of the index.
    seconds, exact_seconds : float
        Time that the index and the exact search took for all queries.
    """

    value: float
    ci: tuple[float, float]
    k: int
    n_queries: int
    index: str
    seconds: float
    exact_seconds: float

    def to_dict(self) -> Json:
        """Return JSON values."""
        return asdict(self) | {"ci": list(self.ci)}

    def _body(self) -> str:
        low, high = self.ci
        rows = {
            f"recall@{self.k}": f"{self.value:.4f}",
            "95 % interval": f"{low:.4f} to {high:.4f}",
            "index": self.index,
            "queries": f"{self.n_queries:,}",
            "queries per second": f"{self.n_queries / max(self.seconds, 1e-9):,.0f}",
            "by an exact search": f"{self.n_queries / max(self.exact_seconds, 1e-9):,.0f}",
        }
        return facts(rows)

    def __str__(self) -> str:
        low, high = self.ci
        return (
            f"{self.index}: recall@{self.k} {self.value:.4f} [{low:.4f} {high:.4f}] over "
            f"{self.n_queries} queries, {self.n_queries / max(self.seconds, 1e-9):.0f} a second "
            f"(exact: {self.n_queries / max(self.exact_seconds, 1e-9):.0f})"
        )


def measure_recall(
    view: View,
    *,
    k: int = 10,
    queries: Embeddings | None = None,
    n_queries: int = 500,
    seed: int = 0,
) -> Recall:
    """Measure the recall of an index, with given queries or with items of the gallery.

    Parameters
    ----------
    view : View
    k, n_queries, seed
        As for `Retriever.recall`.
    queries : float32 array of shape (n, dim) or None
        Embeddings of the queries; None to use items of the gallery.
    """
    k, n_queries = check_count(k, "k"), check_count(n_queries, "n_queries")
    if len(view) <= k:
        raise InvalidInputError(
            f"k: expected fewer than the gallery's {len(view)} items, because an item is not its "
            f"own neighbour, found {k}"
        )
    index = index_of(view)
    sample = Sample(view, k=k, queries=queries, n_queries=n_queries, seed=seed)
    started = time.perf_counter()
    index.search(sample.queries, sample.wanted, exact=True)
    exact_seconds = time.perf_counter() - started
    started = time.perf_counter()
    index.search(sample.queries, sample.wanted)
    seconds = time.perf_counter() - started
    measured = sample.measure()
    low, high = _interval(measured.shares, seed)
    if measured.farther is not None:
        low = min(low, _interval(measured.farther, seed)[0])
    if (flattering := sample.flattering()) is not None:
        # Synthetic queries only resemble real ones, so the true recall may be as high as that.
        high = max(high, _interval(flattering, seed)[1])
    if view.is_exact:
        low = high = measured.recall
    return Recall(
        value=measured.recall,
        ci=(low, high),
        k=k,
        n_queries=len(sample.queries),
        index=index.name or type(index).__name__,
        seconds=seconds,
        exact_seconds=exact_seconds,
    )


def _interval(shares: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the interval of the mean of as many new shares, even if nearly all are equal.

    A bootstrap only draws values that occurred: from a thousand queries that find everything, it
    gives an interval without width. So the lower end is computed with one more query that finds
    nothing, and the upper end with one more that finds everything. If all shares are equal, this
    is the rule of three. The mean of the new shares has an error as large as that of the mean
    which it is compared with, so both ends are farther from it by the square root of 2.
    """
    mean = shares.mean()
    ends = []
    for position, one_more in enumerate((0.0, 1.0)):
        values = {"recall": np.append(shares, one_more)}
        means = resampled_means(values, n_resamples=_RESAMPLES, seed=seed)
        end = float(interval(means, _CONFIDENCE)[position, 0])
        ends.append(mean + 2**0.5 * (end - mean))
    low, high = np.clip(ends, 0, 1).tolist()
    return low, high
