"""How many of the true nearest neighbours an index finds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from imgret.abc.checks import check_count
from imgret.errors import InvalidInputError
from imgret.evaluation.truth import Truth, drawn
from imgret.storage import Store
from imgret.support.statistics import interval, resampled_means
from imgret.types import Embeddings, Json, Metric, Neighbors

__all__ = ["Recall", "measure_recall"]

_CONFIDENCE, _RESAMPLES = 0.95, 1000


@dataclass(frozen=True, slots=True)
class Recall:
    """What an index reaches against an exact search.

    Attributes
    ----------
    value : float
        Mean share of the true ``k`` nearest items that were found, 0 to 1.
    ci : tuple of float
        The 95 % interval of it, by a bootstrap over the queries.
    k, n_queries : int
    index : str
        What was asked.
    seconds, exact_seconds : float
        That the index and the exact search took for all queries.
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

    def __str__(self) -> str:
        low, high = self.ci
        return (
            f"{self.index}: recall@{self.k} {self.value:.4f} [{low:.4f} {high:.4f}] over "
            f"{self.n_queries} queries, {self.n_queries / max(self.seconds, 1e-9):.0f} a second "
            f"(exact: {self.n_queries / max(self.exact_seconds, 1e-9):.0f})"
        )


def measure_recall(
    store: Store,
    search: Callable[[Embeddings, int], Neighbors],
    project: Callable[[Embeddings], Embeddings],
    *,
    k: int,
    n_queries: int,
    seed: int,
    metric: Metric,
    index: str,
) -> Recall:
    """Ask for items of the gallery, each for its nearest others.

    Parameters
    ----------
    store : Store
        Not to be changed meanwhile.
    search : callable
        Embeddings and ``k`` -> neighbours.
    project : callable
        Embeddings -> indexed vectors.
    k, n_queries, seed
        As for `Retriever.recall`.
    metric : {"cosine", "ip", "l2"}
    index : str
        For the report.
    """
    k, n_queries = check_count(k, "k"), check_count(n_queries, "n_queries")
    ids = store.catalog.live_ids()
    if len(ids) <= k:
        raise InvalidInputError(
            f"k: expected fewer than the gallery's {len(ids)} items, as each is asked for others, "
            f"found {k}"
        )
    asked = drawn(ids, n_queries, seed)
    embeddings = store.read(asked)
    started = time.perf_counter()
    truth = Truth(store, project, embeddings, asked, k=k, metric=metric)
    exact_seconds = time.perf_counter() - started
    started = time.perf_counter()
    found = search(embeddings, truth.wanted)
    seconds = time.perf_counter() - started
    shares = truth.shares(found.ids)
    means = resampled_means({"recall": shares}, n_resamples=_RESAMPLES, seed=seed)
    low, high = interval(means, _CONFIDENCE)[:, 0].tolist()
    return Recall(
        value=float(shares.mean()),
        ci=(low, high),
        k=k,
        n_queries=len(asked),
        index=index,
        seconds=seconds,
        exact_seconds=exact_seconds,
    )
