"""Paired bootstrap comparison of two evaluation reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgret.errors import InvalidInputError
from imgret.pages.result import Result
from imgret.support.statistics import interval, resampled_means
from imgret.types import Json

if TYPE_CHECKING:
    from imgret.evaluation.report import Report

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison(Result):
    """Difference between two systems, ``b`` minus ``a``, over the same queries.

    Attributes
    ----------
    metrics : dict of str to dict
        For each metric: ``a``, ``b``, ``difference``, ``ci`` (the lower and upper bound of
        the difference) and ``p``, the two-sided bootstrap p-value for no difference.
    n_queries : int
    config : dict
        Settings of the bootstrap.
    """

    metrics: Json
    n_queries: int
    config: Json

    def to_dict(self) -> Json:
        """Return JSON values."""
        return {"n_queries": self.n_queries, "metrics": self.metrics, "config": self.config}

    def __str__(self) -> str:
        confidence = self.config["confidence"]
        lines = [f"{self.n_queries} queries; b - a with its {confidence:.0%} interval"]
        width = max(map(len, self.metrics))
        for name, row in self.metrics.items():
            low, high = row["ci"]
            lines.append(
                f"{name:<{width}}  {row['a']:.4f}  {row['b']:.4f}  {row['difference']:+.4f} "
                f"[{low:+.4f}, {high:+.4f}]  p {row['p']:.3f}"
            )
        return "\n".join(lines)


def compare(a: Report, b: Report, *, n_resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Measure how much two systems differ, by a paired bootstrap over their queries.

    Each resample draws the same queries for both systems, so whatever makes a query easy or
    hard for both cancels out. The intervals are percentile intervals.

    Parameters
    ----------
    a, b : Report
        Reports on the same queries with the same labels, in any order.
    n_resamples : int
    seed : int
        Seed of the resampling.

    Returns
    -------
    Comparison
        Comparison of all metrics that both reports have.

    Raises
    ------
    InvalidInputError
        The queries or their labels differ.

    References
    ----------
    Sakai, "Evaluating evaluation metrics based on the bootstrap", SIGIR 2006.
    """
    order = _matched(a, b)
    names = [name for name in a.values if name in b.values]
    paired: dict[str, Any] = {name: b.values[name][order] - a.values[name] for name in names}
    means = resampled_means(paired, n_resamples=n_resamples, seed=seed)
    confidence = 0.95
    low, high = interval(means, confidence)
    # One is added to each count, since no number of resamples proves a probability of 0.
    below, above = (means <= 0).sum(axis=0) + 1, (means >= 0).sum(axis=0) + 1
    p = np.minimum(1.0, 2 * np.minimum(below, above) / (n_resamples + 1))
    rows = {
        name: {
            "a": float(a.values[name].mean()),
            "b": float(b.values[name].mean()),
            "difference": float(paired[name].mean()),
            "ci": [float(low[n]), float(high[n])],
            "p": float(p[n]),
        }
        for n, name in enumerate(names)
    }
    config = {"n_resamples": n_resamples, "confidence": confidence, "seed": seed}
    return Comparison(rows, len(a.queries), config)


def _matched(a: Report, b: Report) -> Any:
    """Return the position in ``b`` of each query of ``a``."""
    if a.queries == b.queries:
        order = list(range(len(a.queries)))
    else:
        places = {query: n for n, query in enumerate(b.queries)}
        lost = [query for query in a.queries if query not in places]
        if lost or len(places) != len(b.queries) or len(a.queries) != len(b.queries):
            found = f"found {lost[0]!r} in a only" if lost else "found different ones"
            raise InvalidInputError(
                f"compare: expected reports on the same queries, {found} ({len(a.queries)} and "
                f"{len(b.queries)} queries); evaluate both systems with one set of queries"
            )
        order = [places[query] for query in a.queries]
    for n, place in enumerate(order):
        if a.labels[n] != b.labels[place]:
            raise InvalidInputError(
                f"compare: expected the same label for {a.queries[n]!r}, found {a.labels[n]!r} "
                f"and {b.labels[place]!r}"
            )
    return order
