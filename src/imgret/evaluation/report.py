"""Report of an evaluation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.images import MAX_PIXELS
from imgret.pages.result import Result
from imgret.support.lazy import cached_property
from imgret.support.statistics import interval, resampled_means
from imgret.types import Hit, ImageLike, Json

__all__ = ["Failure", "Kind", "Match", "Report", "Worst"]

Kind: TypeAlias = Literal["identical", "near-identical"]
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """A query that could not be read; it counts as 0 in every metric."""

    query: str
    reason: str


@dataclass(frozen=True, slots=True)
class Match:
    """A query that is identical or near-identical to an item.

    Attributes
    ----------
    query : str
    key : str
        Key of the item.
    kind : {"identical", "near-identical"}
        An identical item is the same file or has the same bytes; it is left out of the query's
        ranking. A near-identical one is a best hit above the threshold; it is not left out.
    cosine : float
        Cosine of the two embeddings; 1 for identical items.
    """

    query: str
    key: str
    kind: Kind
    cosine: float


class Worst(NamedTuple):
    """A query of low average precision, with its first hits."""

    query: str
    label: str
    image: ImageLike | None
    average_precision: float
    hits: tuple[Hit, ...]


@dataclass(frozen=True, eq=False)
class Report(Result):
    """Metrics of a gallery over labelled queries.

    Attributes
    ----------
    queries, labels : tuple of str
        Names and classes of the queries, in their order.
    values : dict of str to float64 array of shape (n,)
        Every metric of every query, under the names of `imgret.evaluation.metrics.per_query`.
    failed : tuple of Failure
        Queries that could not be read; they count as 0.
    without_relevant : tuple of str
        Queries with nothing to find: the gallery has no other item of their class. They
        count as 0.
    matches : tuple of Match
        Queries that are identical or near-identical to an item of the gallery.
    worst : tuple of Worst
        Queries of the lowest average precision, among those with something to find.
    seconds : float
        Time from start to end.
    stages : dict of str to float
        Seconds in "read", "decode", "crop", "embed" and "search", summed over threads.
    config : dict
        JSON values that describe what was evaluated and how.
    max_pixels : int
        Maximum number of pixels of an image that a page reads again.
    """

    queries: tuple[str, ...]
    labels: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    failed: tuple[Failure, ...]
    without_relevant: tuple[str, ...]
    matches: tuple[Match, ...]
    worst: tuple[Worst, ...]
    seconds: float
    stages: dict[str, float]
    config: Json
    max_pixels: int = MAX_PIXELS

    @property
    def n_queries(self) -> int:
        """Number of queries, including those that could not be read."""
        return len(self.queries)

    @property
    def images_per_second(self) -> float:
        """Queries per second, from start to end."""
        return self.n_queries / self.seconds if self.seconds else 0.0

    @cached_property
    def metrics(self) -> Json:
        """Means over the queries: ``top5``, ``map5["min_k_r"]``, ``map_r``, ``mrr``..."""
        return nested({name: float(values.mean()) for name, values in self.values.items()})

    @cached_property
    def ci(self) -> Json:
        """The 95 % interval of each metric, by a bootstrap over the queries."""
        bootstrap = self.config["bootstrap"]
        means = resampled_means(
            self.values, n_resamples=bootstrap["n_resamples"], seed=bootstrap["seed"]
        )
        bounds = interval(means, bootstrap["confidence"])
        return nested({name: bounds[:, n].tolist() for n, name in enumerate(self.values)})

    @cached_property
    def per_class(self) -> Json:
        """For each class of the queries, ``n_queries`` and the metrics."""
        classes, numbers = np.unique(np.array(self.labels, dtype=object), return_inverse=True)
        counts = np.bincount(numbers)
        means = {
            name: np.bincount(numbers, weights=values) / counts
            for name, values in self.values.items()
        }
        return {
            label: {
                "n_queries": int(counts[n]),
                **nested({name: float(of_class[n]) for name, of_class in means.items()}),
            }
            for n, label in enumerate(classes)
        }

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt the figures, one sentence each."""
        identical = [match for match in self.matches if match.kind == "identical"]
        near = [match for match in self.matches if match.kind == "near-identical"]
        config = self.config
        found = []
        if self.failed:
            found.append(
                f"{len(self.failed)} of {self.n_queries} queries could not be read and count as "
                f"0: {_first(f'{fail.query} ({fail.reason})' for fail in self.failed)}"
            )
        if self.without_relevant:
            found.append(
                f"{len(self.without_relevant)} of {self.n_queries} queries have nothing to find, "
                f"because the gallery has no other item of their class, and count as 0: "
                f"{_first(self.without_relevant)}"
            )
        if identical:
            found.append(
                f"{_count(identical)} of {self.n_queries} queries are the same file as an item of "
                f"the gallery, or byte-identical to it; the item is left out of their rankings: "
                f"{_first(map(_pair, identical))}"
            )
        if near:
            found.append(
                f"{_count(near)} of {self.n_queries} queries are near-identical to their best hit "
                f"(cosine of at least {config['near_identical']}); the hit is counted, which may "
                f"flatter the figures: "
                f"{_first(map(_pair, near))}"
            )
        if config["leave_one_out"] and (config["projection"] or {}).get("kind") == "lda":
            found.append(
                "the projection was learned from the labels of these very items, which flatters "
                "the figures; the gain that adapt() reported was measured on held-out items"
            )
        if config["n_unlabelled"]:
            found.append(
                f"{config['n_unlabelled']} of {config['n_items']} items have no label: they can "
                f"only be wrong answers"
            )
        findable = config["n_items"] - config["leave_one_out"]
        if (deepest := config["k"][-1]) > findable:
            found.append(
                f"k = {deepest} goes beyond the {findable} items a query can find; the "
                f"missing ranks count as not relevant"
            )
        return tuple(found)

    def to_dict(self) -> Json:
        """Return the metrics and what they are based on, as JSON values."""
        return {
            **self.metrics,
            "n_queries": self.n_queries,
            "n_failed": len(self.failed),
            "n_without_relevant": len(self.without_relevant),
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "stages": self.stages,
            "ci": self.ci,
            "per_class": self.per_class,
            "failed": [asdict(failure) for failure in self.failed],
            "without_relevant": list(self.without_relevant),
            "matches": [asdict(match) for match in self.matches],
            "warnings": list(self.warnings),
            "config": self.config,
        }

    def to_html(self, *, title: str | None = None) -> str:
        """Return a self-contained page: metrics, a sortable table of classes, the worst queries."""
        from imgret.pages import evaluation  # noqa: PLC0415  # images are read only when drawn

        return evaluation.page(self, title=title or f"Evaluation over {self.n_queries} queries")

    def _body(self) -> str:
        from imgret.pages import evaluation  # noqa: PLC0415  # the same

        return evaluation.summary(self)

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _, _ in rows)
        lines = [self.headline()]
        lines += [
            f"{name:<{width}}  {value:.4f}  [{low:.4f}, {high:.4f}]"
            for name, value, (low, high) in rows
        ]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def __repr__(self) -> str:
        first = next(iter(self.values))
        return (
            f"<Report of {self.n_queries} queries: {first} {self.metrics[first]:.4f}, "
            f"map_r {self.metrics['map_r']:.4f}, {len(self.warnings)} warnings>"
        )

    def rows(self) -> list[tuple[str, float, tuple[float, float]]]:
        """Return name (such as ``map5_hits``), mean and 95 % interval of each metric."""
        bounds = flat(self.ci)
        return [
            (name, value, (bounds[name][0], bounds[name][1]))
            for name, value in flat(self.metrics).items()
        ]

    def headline(self) -> str:
        """Return one line about the queries and the gallery."""
        config = self.config
        asked = "leave-one-out" if config["leave_one_out"] else config["queries"] or "a list"
        return (
            f"{self.n_queries} queries ({asked}) in {config['n_items']} items of "
            f"{config['n_classes']} classes; {self.seconds:.1f} s, "
            f"{self.images_per_second:.0f} images/s"
        )


def nested(values: dict[str, Any]) -> Json:
    """Put the three denominators of mAP@k under one name: ``map5_hits`` -> ``map5``, ``hits``."""
    result: Json = {}
    for name, value in values.items():
        start, _, denominator = name.partition("_")
        if denominator and start != "map":
            result.setdefault(start, {})[denominator] = value
        else:
            result[name] = value
    return result


def flat(values: Json) -> dict[str, Any]:
    """Undo `nested`."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result.update({f"{name}_{inner}": v for inner, v in value.items()})
        else:
            result[name] = value
    return result


def _count(matches: list[Match]) -> int:
    return len({match.query for match in matches})


def _pair(match: Match) -> str:
    return f"{match.query} = {match.key}"


def _first(names: Any) -> str:
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
