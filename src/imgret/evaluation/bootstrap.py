"""Paired bootstrap comparison of two evaluation reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.pages.result import Tabular
from imgret.support.checks import check_count, check_seed
from imgret.support.lazy import cached_property
from imgret.support.statistics import discoveries, interval, resampled_means, sign_flip_p
from imgret.types import Json

if TYPE_CHECKING:
    from imgret.evaluation.report import Report

__all__ = ["Comparison", "compare"]


_CONFIDENCE = 0.95
# Share of the classes named as better or worse that may be named by chance.
_FALSE_RATE = 0.05
# Settings that say nothing about what was evaluated.
_INCIDENTAL = {"date"}


@dataclass(frozen=True, eq=False)
class Comparison(Tabular):
    """Difference between two systems, ``b`` minus ``a``, over the same queries.

    Attributes
    ----------
    metrics : dict of str to dict
        For each metric: ``a``, ``b``, ``difference``, ``ci`` (the lower and upper bound of
        the difference) and ``p``, the two-sided bootstrap p-value for no difference.
    n_queries : int
    config : dict
        Settings of the bootstrap.
    metric : str
        Metric that decides which of the two is better.
    queries, labels : tuple of str
        Names and classes of the queries.
    values : float64 array of shape (n, 2)
        The deciding metric of each query, for ``a`` and for ``b``.
    changes : dict of str to list
        Settings in which the two reports differ, each with the value of ``a`` and of ``b``.
    warnings : tuple of str
        Reasons to doubt the figures, from both reports.
    names : tuple of str
        What ``a`` and ``b`` are called in text and on pages.
    """

    metrics: Json
    n_queries: int
    config: Json
    metric: str
    queries: tuple[str, ...]
    labels: tuple[str, ...]
    values: NDArray[np.float64]
    changes: Json
    warnings: tuple[str, ...] = ()
    names: tuple[str, str] = ("a", "b")

    @property
    def better(self) -> Literal["a", "b"] | None:
        """The better one of the two in the deciding metric; None if the interval contains 0."""
        low, high = self.metrics[self.metric]["ci"]
        return "b" if low > 0 else "a" if high < 0 else None

    @property
    def verdict(self) -> str:
        """One sentence that says which of the two is better, in which metric, and by how much."""
        row = self.metrics[self.metric]
        low, high = row["ci"]
        change = (
            f"{row['a']:.4f} -> {row['b']:.4f}, difference {row['difference']:+.4f} "
            f"[{low:+.4f}, {high:+.4f}]"
        )
        if self.better is None:
            return f"no reliable difference in {self.metric}: {change}"
        name = self.names[0] if self.better == "a" else self.names[1]
        return f"{name} is better in {self.metric}: {change}"

    @cached_property
    def per_class(self) -> Json:
        """For each class, how the deciding metric differs.

        It has ``n_queries``, ``a``, ``b``, ``difference``, ``ci``, ``p`` and ``better``, which is
        ``"a"``, ``"b"`` or None. The p-value is that of a randomisation test, as classes may have
        few queries. A class is named better or worse if it is among those that the procedure of
        Benjamini and Hochberg accepts: at most about 5 % of the named ones are named by chance.
        """
        n_resamples, seed = self.config["n_resamples"], self.config["seed"]
        classes, numbers = np.unique(np.array(self.labels, dtype=object), return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers))
        found: Json = {}
        for label, rows in zip(classes, np.split(order, ends[:-1]), strict=True):
            a, b = self.values[rows].T
            means = resampled_means({"": b - a}, n_resamples=n_resamples, seed=seed)
            low, high = interval(means, self.config["confidence"])[:, 0].tolist()
            found[str(label)] = {
                "n_queries": len(rows),
                "a": float(a.mean()),
                "b": float(b.mean()),
                "difference": float((b - a).mean()),
                "ci": [low, high],
                "p": sign_flip_p(b - a, n_resamples=n_resamples, seed=seed),
            }
        p_values = np.array([row["p"] for row in found.values()])
        for row, reliable in zip(found.values(), discoveries(p_values, _FALSE_RATE), strict=True):
            row["better"] = ("b" if row["difference"] > 0 else "a") if reliable else None
        return found

    def changed_most(self, n: int = 20) -> list[tuple[str, str, float, float]]:
        """Return the queries that differ most: name, label, value of ``a`` and value of ``b``."""
        differences = self.values[:, 1] - self.values[:, 0]
        order = np.argsort(-np.abs(differences), kind="stable")[:n]
        return [
            (self.queries[row], self.labels[row], *self.values[row].tolist())
            for row in order.tolist()
            if differences[row]
        ]

    def to_dict(self) -> Json:
        """Return JSON values, except those of the single queries."""
        return {
            "n_queries": self.n_queries,
            "names": list(self.names),
            "metric": self.metric,
            "better": self.better,
            "metrics": self.metrics,
            "per_class": self.per_class,
            "changes": self.changes,
            "warnings": list(self.warnings),
            "config": self.config,
        }

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        rows = zip(self.queries, self.labels, self.values.tolist(), strict=True)
        names = ("query", "label", "a", "b", "difference")
        return names, [(query, label, a, b, b - a) for query, label, (a, b) in rows]

    def to_html(self, *, title: str | None = None) -> str:
        """Return a self-contained page: the verdict, all metrics, every class, what differs."""
        from imgret.pages import comparison  # noqa: PLC0415  # only when drawn

        return comparison.page(self, title=title or f"{self.names[0]} and {self.names[1]}")

    def _body(self) -> str:
        from imgret.pages import comparison  # noqa: PLC0415  # the same

        return comparison.summary(self)

    def __str__(self) -> str:
        confidence = self.config["confidence"]
        a, b = self.names
        about = f"{self.n_queries} queries; a: {a}, b: {b}; b - a, {confidence:.0%} interval"
        lines = [self.verdict, about]
        width = max(map(len, self.metrics))
        for name, row in self.metrics.items():
            low, high = row["ci"]
            lines.append(
                f"{name:<{width}}  {row['a']:.4f}  {row['b']:.4f}  {row['difference']:+.4f} "
                f"[{low:+.4f}, {high:+.4f}]  p {row['p']:.3f}"
            )
        for side, name in zip(("b", "a"), self.names[::-1], strict=True):
            labels = [label for label, row in self.per_class.items() if row["better"] == side]
            if labels:
                lines.append(f"classes for which {name} is better: {', '.join(labels)}")
        lines += [f"{name}: {ours} -> {theirs}" for name, (ours, theirs) in self.changes.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def compare(
    a: Report,
    b: Report,
    *,
    metric: str | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
    names: tuple[str, str] = ("a", "b"),
) -> Comparison:
    """Measure how much two systems differ, by a paired bootstrap over their queries.

    Each resample draws the same queries for both systems, so whatever makes a query easy or
    hard for both cancels out. The intervals are percentile intervals.

    Parameters
    ----------
    a, b : Report
        Reports on the same queries with the same labels, in any order.
    metric : str, optional
        Metric that decides which one is better, such as ``"top1"``; by default
        ``map<k>_min_k_r`` with the largest ``k`` that both reports have.
    n_resamples : int
    seed : int
        Seed of the resampling.
    names : (str, str)
        What to call the two.

    Returns
    -------
    Comparison
        Comparison of all metrics that both reports have.

    Raises
    ------
    InvalidInputError
        The queries or their labels differ, or there is no such metric.

    References
    ----------
    Sakai, "Evaluating evaluation metrics based on the bootstrap", SIGIR 2006.
    """
    n_resamples, seed = check_count(n_resamples, "n_resamples"), check_seed(seed)
    order = _matched(a, b)
    shared = [name for name in a.values if name in b.values]
    metric = _deciding(shared) if metric is None else metric
    if metric not in shared:
        raise InvalidInputError(
            f"metric: expected one that both reports have, such as {', '.join(shared[:3])}, found "
            f"{metric!r}"
        )
    paired: dict[str, Any] = {name: b.values[name][order] - a.values[name] for name in shared}
    means = resampled_means(paired, n_resamples=n_resamples, seed=seed)
    low, high = interval(means, _CONFIDENCE)
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
        for n, name in enumerate(shared)
    }
    return Comparison(
        metrics=rows,
        n_queries=len(a.queries),
        config={"n_resamples": n_resamples, "confidence": _CONFIDENCE, "seed": seed},
        metric=metric,
        queries=a.queries,
        labels=a.labels,
        values=np.stack([a.values[metric], b.values[metric][order]], axis=1),
        changes=_changes(a.config, b.config),
        warnings=tuple(
            f"{name}: {warning}"
            for name, report in zip(names, (a, b), strict=True)
            for warning in report.warnings
        ),
        names=names,
    )


def _deciding(shared: list[str]) -> str:
    """Return the mAP@k (min_k_r) of the largest k; mAP@R if the reports share no k."""
    found = [name for name in shared if re.fullmatch(r"map\d+_min_k_r", name)]
    return max(found, key=lambda name: int(name[3:].split("_")[0]), default="map_r")


def _changes(a: Json, b: Json) -> Json:
    """Return the settings that differ, with the value of each side; None if it is not set."""
    ours, theirs = _flat(a), _flat(b)
    names = [*ours, *(name for name in theirs if name not in ours)]
    return {
        name: [ours.get(name), theirs.get(name)]
        for name in names
        if ours.get(name) != theirs.get(name) and name not in _INCIDENTAL
    }


def _flat(config: Json, before: str = "") -> Json:
    found: Json = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found


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
