"""Report of an evaluation."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.images import MAX_PIXELS
from imgret.pages.result import Tabular
from imgret.support.json_text import loads
from imgret.support.lazy import cached_property
from imgret.support.statistics import interval, resampled_means
from imgret.types import Box, Hit, ImageLike, Json

__all__ = ["Confusion", "Curves", "Failure", "Kind", "Match", "Report", "Worst"]

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
    sha256: bytes | None = None


class Confusion(NamedTuple):
    """Queries of one class whose first hit is of one other class.

    Attributes
    ----------
    label : str
        Class of the queries.
    taken_for : str
        Class of their first hits.
    n_confused : int
        Number of these queries.
    n_queries : int
        Number of all queries of the class.
    query : str
        Name of an example, the one with the highest score.
    image : ImageLike or None
        Its image.
    hit : Hit
        Its first hit.
    sha256 : bytes or None
        Digest of the file of the image.
    """

    label: str
    taken_for: str
    n_confused: int
    n_queries: int
    query: str
    image: ImageLike | None
    hit: Hit
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Curves:
    """Means over the queries by recall and by rank.

    Attributes
    ----------
    depth : int
        Number of ranks that were looked at: five times the largest class, up to 500, but no less
        than the largest class and the largest ``k``. What lies beyond counts as not found.
    precision : tuple of float
        Precision at the recall levels 0, 0.1, ..., 1: see
        `imgret.evaluation.metrics.interpolated_precision`.
    ks : tuple of int
        Ranks 1, 2, 5, 10, 20, ... up to the depth.
    recall : tuple of float
        Recall at each of these ranks. For an approximate index it may be a little higher than the
        metric of that name, because such an index searches harder for a deep ranking.
    top : tuple of float
        Top-k accuracy at each of these ranks.
    """

    depth: int
    precision: tuple[float, ...]
    ks: tuple[int, ...]
    recall: tuple[float, ...]
    top: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Report(Tabular):
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
    confusions : tuple of Confusion
        Pairs of classes, of which one is taken for the other: the 50 most frequent ones.
    curves : Curves
        Precision by recall, and recall by rank.
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
    confusions: tuple[Confusion, ...]
    curves: Curves
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
        """Return everything as JSON values, from which `from_dict` makes the report again.

        Images that do not come from a file are left out.
        """
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
            "curves": {name: _listed(value) for name, value in asdict(self.curves).items()},
            "confusions": [_as_json(confusion) for confusion in self.confusions],
            "worst": [_as_json(query) for query in self.worst],
            "config": self.config,
            "per_query": {
                "query": list(self.queries),
                "label": list(self.labels),
                **{name: values.tolist() for name, values in self.values.items()},
            },
        }

    @classmethod
    def from_dict(cls, content: Json) -> Self:
        """Make a report from the result of `to_dict`.

        Raises
        ------
        InvalidInputError
            The content is not that of a report.
        """
        try:
            columns = dict(content["per_query"])
            queries, labels = tuple(columns.pop("query")), tuple(columns.pop("label"))
            values = {name: np.array(each, dtype=np.float64) for name, each in columns.items()}
            return cls(
                queries=queries,
                labels=labels,
                values=values,
                failed=tuple(Failure(**each) for each in content["failed"]),
                without_relevant=tuple(content["without_relevant"]),
                matches=tuple(Match(**each) for each in content["matches"]),
                worst=tuple(
                    Worst(
                        **{
                            **each,
                            "hits": tuple(map(_hit_of, each["hits"])),
                            "sha256": _digest(each),
                        }
                    )
                    for each in content["worst"]
                ),
                confusions=tuple(
                    Confusion(**{**each, "hit": _hit_of(each["hit"]), "sha256": _digest(each)})
                    for each in content["confusions"]
                ),
                curves=Curves(**{name: _fixed(each) for name, each in content["curves"].items()}),
                seconds=float(content["seconds"]),
                stages=content["stages"],
                config=content["config"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidInputError(
                f"report: expected what `imgret evaluate --json` or `Report.save` writes, found "
                f"{reason}; evaluate again with this version of imgret"
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a report from a JSON file, as `save` and ``imgret evaluate --json`` write it.

        Raises
        ------
        InvalidInputError
            The file cannot be read, or does not hold a report.
        """
        try:
            content = loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidInputError(
                f"{path}: expected a report, found a file that cannot be read: {error.strerror}"
            ) from error
        except ValueError as error:
            raise InvalidInputError(f"{path}: expected a report as JSON, found {error}") from error
        try:
            return cls.from_dict(content)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: {error}") from error

    def _frame(self) -> tuple[list[str], list[tuple[object, ...]]]:
        values = [each.tolist() for each in self.values.values()]
        return ["query", "label", *self.values], list(
            zip(self.queries, self.labels, *values, strict=True)
        )

    def to_html(self, *, title: str | None = None) -> str:
        """Return a self-contained page.

        It shows the metrics, the curves, the confusions, a sortable table of the classes, the
        worst queries and the configuration.
        """
        from imgret.pages import evaluation  # noqa: PLC0415  # images are read only when drawn

        return evaluation.page(self, title=title or f"Evaluation over {self.n_queries} queries")

    def _body(self) -> str:
        from imgret.pages import evaluation  # noqa: PLC0415  # the same

        return evaluation.notebook(self)

    def __post_init__(self) -> None:
        lengths = {len(self.labels), *map(len, self.values.values())}
        if lengths != {len(self.queries)}:
            raise ValueError(
                f"expected {len(self.queries)} labels and values, one per query, found "
                f"{sorted(lengths)}"
            )

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

    def summary(self) -> str:
        """Return the headline, the four metrics that are read most, and the warnings.

        They are top-1 accuracy, top-5 accuracy, mAP@5 (denominator min(5, R), for R items of the
        query's class) and mAP@R, each with its 95 % interval. Without 5 among the ``k`` of the
        evaluation, the largest one is used. ``str`` gives all metrics.
        """
        ks = self.config["k"]
        deep = 5 if 5 in ks else ks[-1]
        names = {f"top{k}": f"top-{k} accuracy" for k in (ks[0], deep)}
        names |= {f"map{deep}_min_k_r": f"mAP@{deep}", "map_r": "mAP@R"}
        rows = {name: (value, bounds) for name, value, bounds in self.rows()}
        width = max(map(len, names.values()))
        lines = [self.headline()]
        for name, title in names.items():
            value, (low, high) = rows[name]
            lines.append(f"{title:<{width}}  {value:.4f}  [{low:.4f}, {high:.4f}]")
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


def _as_json(shown: Confusion | Worst) -> Json:
    """Return a confusion or a worst query as JSON values."""
    content = shown._asdict()
    if "hits" in content:
        content["hits"] = [_hit_json(hit) for hit in content["hits"]]
    else:
        content["hit"] = _hit_json(content["hit"])
    image = content["image"]
    content["image"] = str(image) if isinstance(image, (str, os.PathLike)) else None
    content["sha256"] = _hex(content["sha256"])
    return content


def _hit_json(hit: Hit) -> Json:
    return {
        "key": hit.key,
        "rank": hit.rank,
        "score": hit.score,
        "label": hit.label,
        "path": hit.path,
        "box": None if hit.box is None else list(hit.box),
        "sha256": _hex(hit.sha256),
    }


def _hit_of(content: Json) -> Hit:
    box = content["box"]
    return Hit(
        content["key"],
        content["score"],
        content["rank"],
        content["label"],
        {},
        content["path"],
        None if box is None else Box(*box),
        sha256=_digest(content),
    )


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def _digest(content: Json) -> bytes | None:
    """Return the digest of a file; None where it is unknown, as in older reports."""
    text = content.get("sha256")
    return None if text is None else bytes.fromhex(text)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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
