"""Retrieval metrics: one value a query, and the metric is their mean.

Every function takes rankings as booleans, ``relevant[i, j]`` telling whether rank ``j + 1`` of
query ``i`` is relevant, and where it needs it ``n_relevant[i]``, how many relevant items there
are to be found, ranked or not. It returns float64 of shape ``(n,)``, each between 0 and 1. A
query that has nothing to find gets 0, so that it stays in the denominator.

A ranking that ends early is padded with False. Rankings may come in blocks of any size, so
that no matrix of queries by gallery is ever needed: `Accumulator` keeps running sums.

>>> import numpy as np
>>> relevant = np.array([[True, False, True, True, False]])
>>> for denominator in ("hits", "min_k_r", "r"):
...     value = average_precision_at_k(relevant, [64], 5, denominator=denominator)
...     print(denominator, round(float(value[0]), 3))
hits 0.806
min_k_r 0.483
r 0.038
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError

__all__ = [
    "Accumulator",
    "Denominator",
    "average_precision_at_k",
    "average_precision_at_r",
    "ndcg_at_k",
    "per_query",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank",
    "top_k_accuracy",
]

Denominator: TypeAlias = Literal["hits", "min_k_r", "r"]
Values: TypeAlias = NDArray[np.float64]

_DENOMINATORS: tuple[Denominator, ...] = get_args(Denominator)


def top_k_accuracy(relevant: Any, k: int) -> Values:
    """Whether any of the first ``k`` ranks is relevant: 1 or 0.

    Metric learning calls this Recall@k; here `recall_at_k` is the share of what is relevant.

    Parameters
    ----------
    relevant : bool array of shape (n, depth)
        Rankings, best first; 0 and 1 will do.
    k : int
        From 1 to ``depth``.

    Returns
    -------
    float64 array of shape (n,)

    Raises
    ------
    InvalidInputError
        An array is of another shape or kind, or ``k`` goes beyond the rankings.
    """
    relevant = _check_relevant(relevant)
    k = _check_k(k, relevant)
    values: Values = relevant[:, :k].any(axis=1).astype(np.float64)
    return values


def precision_at_k(relevant: Any, k: int) -> Values:
    """Share of the first ``k`` ranks that is relevant.

    The denominator is ``k``, also where fewer than ``k`` items are relevant.

    Takes, returns and raises what `top_k_accuracy` does.
    """
    relevant = _check_relevant(relevant)
    k = _check_k(k, relevant)
    values: Values = np.count_nonzero(relevant[:, :k], axis=1) / np.float64(k)
    return values


def recall_at_k(relevant: Any, n_relevant: Any, k: int) -> Values:
    """Share of the relevant items that the first ``k`` ranks hold.

    Parameters
    ----------
    relevant : bool array of shape (n, depth)
    n_relevant : int array of shape (n,)
        Relevant items of each query, those beyond the ranking included.
    k : int
        From 1 to ``depth``.

    Returns
    -------
    float64 array of shape (n,)

    Raises
    ------
    InvalidInputError
        As for `top_k_accuracy`; or a ranking holds more than ``n_relevant`` relevant items.
    """
    relevant, n_relevant = _check_both(relevant, n_relevant)
    k = _check_k(k, relevant)
    return _ratio(np.count_nonzero(relevant[:, :k], axis=1), n_relevant)


def average_precision_at_k(
    relevant: Any, n_relevant: Any, k: int, *, denominator: Denominator
) -> Values:
    """Precision at each relevant rank of the first ``k``, added up and divided; mean: mAP@k.

    Published figures disagree because the denominator is seldom named; it must be here.

    Parameters
    ----------
    relevant, n_relevant, k
        As for `recall_at_k`.
    denominator : {"hits", "min_k_r", "r"}
        The relevant items found in the first ``k`` ranks; the most that could be found there,
        the smaller of ``k`` and ``n_relevant``; or ``n_relevant``. Of the three only
        ``"min_k_r"`` gives 1 exactly when the ranking could not be better.

    Returns
    -------
    float64 array of shape (n,)

    Raises
    ------
    InvalidInputError
        As for `recall_at_k`; or there is no such denominator.
    """
    relevant, n_relevant = _check_both(relevant, n_relevant)
    k = _check_k(k, relevant)
    if denominator not in _DENOMINATORS:
        expected = ", ".join(map(repr, _DENOMINATORS))
        raise InvalidInputError(f"denominator: expected one of {expected}, found {denominator!r}")
    found = relevant[:, :k]
    if denominator == "hits":
        possible = np.count_nonzero(found, axis=1)
    else:
        possible = np.minimum(n_relevant, k) if denominator == "min_k_r" else n_relevant
    return _ratio(_precision_at_hits(found).sum(axis=1), possible)


def average_precision_at_r(relevant: Any, n_relevant: Any) -> Values:
    """Average precision over the first R ranks, R being the query's relevant items; mean: mAP@R.

    Needs rankings as deep as the largest ``n_relevant``.

    Parameters
    ----------
    relevant, n_relevant
        As for `recall_at_k`.

    Returns
    -------
    float64 array of shape (n,)

    Raises
    ------
    InvalidInputError
        As for `recall_at_k`; or the rankings are less deep than R.

    References
    ----------
    Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.
    """
    relevant, n_relevant = _check_both(relevant, n_relevant)
    depth = relevant.shape[1]
    if len(n_relevant) and (deepest := int(n_relevant.max())) > depth:
        raise InvalidInputError(
            f"relevant: expected rankings of depth {deepest}, the largest n_relevant, found "
            f"{depth}; rank deeper, or pad rankings that end early with False"
        )
    within = np.arange(depth) < n_relevant[:, None]
    return _ratio(_precision_at_hits(relevant & within).sum(axis=1), n_relevant)


def reciprocal_rank(relevant: Any) -> Values:
    """One over the rank of the first relevant item, 0 where the ranking has none; mean: MRR.

    Takes, returns and raises what `top_k_accuracy` does, without ``k``.
    """
    relevant = _check_relevant(relevant)
    if not relevant.shape[1]:
        return np.zeros(len(relevant))
    values: Values = relevant.any(axis=1) / (relevant.argmax(axis=1) + 1.0)
    return values


def ndcg_at_k(relevant: Any, n_relevant: Any, k: int) -> Values:
    """Discounted gain of the first ``k`` ranks, as a share of the best possible; mean: nDCG@k.

    A relevant item gains 1 whatever it is; rank ``j`` is discounted by ``log2(j + 1)``.

    Takes, returns and raises what `recall_at_k` does.

    References
    ----------
    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM
    Transactions on Information Systems 20(4), 2002.
    """
    relevant, n_relevant = _check_both(relevant, n_relevant)
    k = _check_k(k, relevant)
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.concatenate([[0.0], discounts.cumsum()])
    return _ratio((relevant[:, :k] * discounts).sum(axis=1), ideal[np.minimum(n_relevant, k)])


def per_query(relevant: Any, n_relevant: Any, k: Iterable[int] = (1, 5, 10)) -> dict[str, Values]:
    """Return every metric of this module, by name.

    Parameters
    ----------
    relevant, n_relevant
        As for `recall_at_k`; as deep as the largest ``n_relevant``, for mAP@R.
    k : iterable of int
        Each from 1 to ``depth``.

    Returns
    -------
    dict of str to float64 array of shape (n,)
        For each ``k``, here 5: ``top5``, ``precision5``, ``recall5``, ``map5_hits``,
        ``map5_min_k_r``, ``map5_r``, ``ndcg5``; then ``map_r`` and ``mrr``.

    Raises
    ------
    InvalidInputError
    """
    relevant, n_relevant = _check_both(relevant, n_relevant)
    values: dict[str, Values] = {}
    for n in k:
        values[f"top{n}"] = top_k_accuracy(relevant, n)
        values[f"precision{n}"] = precision_at_k(relevant, n)
        values[f"recall{n}"] = recall_at_k(relevant, n_relevant, n)
        for denominator in _DENOMINATORS:
            values[f"map{n}_{denominator}"] = average_precision_at_k(
                relevant, n_relevant, n, denominator=denominator
            )
        values[f"ndcg{n}"] = ndcg_at_k(relevant, n_relevant, n)
    values["map_r"] = average_precision_at_r(relevant, n_relevant)
    values["mrr"] = reciprocal_rank(relevant)
    return values


class Accumulator:
    """Means of every metric over rankings that come in blocks, in constant memory.

    Parameters
    ----------
    k : iterable of int
        As for `per_query`.

    Examples
    --------
    >>> running = Accumulator(k=(1,))
    >>> running.add([[True], [False]], [1, 1])
    >>> running.add([[True]], [1])
    >>> running.n, round(running.means()["top1"], 3)
    (3, 0.667)
    """

    def __init__(self, k: Iterable[int] = (1, 5, 10)) -> None:
        self._k = tuple(k)
        self._sums: dict[str, float] = {}
        self._n = 0

    @property
    def n(self) -> int:
        """Queries so far."""
        return self._n

    def add(self, relevant: Any, n_relevant: Any) -> None:
        """Take in a block of rankings: see `per_query`."""
        values = per_query(relevant, n_relevant, self._k)
        for name, block in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(block.sum())
        self._n += len(values["mrr"])

    def means(self) -> dict[str, float]:
        """Return the metrics by the names of `per_query`.

        Raises
        ------
        InvalidInputError
            There was no query yet.
        """
        if not self._n:
            raise InvalidInputError("means: expected at least one query, found none; add() some")
        return {name: total / self._n for name, total in self._sums.items()}


def _precision_at_hits(relevant: NDArray[np.bool_]) -> Values:
    """Precision at each rank that is relevant, 0 at the others."""
    ranks = np.arange(1.0, relevant.shape[1] + 1)
    return np.where(relevant, relevant.cumsum(axis=1) / ranks, 0.0)


def _ratio(parts: Any, wholes: Any) -> Values:
    """Divide, 0 where there is nothing to divide by."""
    values = np.zeros(len(parts))
    np.divide(parts, wholes, out=values, where=np.asarray(wholes) > 0)
    return values


def _check_relevant(relevant: Any) -> NDArray[np.bool_]:
    array = np.asarray(relevant)
    if array.ndim != 2:
        raise InvalidInputError(
            f"relevant: expected shape (queries, depth), found {array.shape}; put one ranking "
            f"into a list"
        )
    if array.dtype != np.bool_:
        if array.dtype.kind not in "iuf" or not np.isin(array, (0, 1)).all():
            raise InvalidInputError(
                f"relevant: expected booleans, found {array.dtype} with values other than 0 and "
                f"1; graded relevance is not supported"
            )
        array = array.astype(np.bool_)
    return array


def _check_both(
    relevant: Any, n_relevant: Any
) -> tuple[NDArray[np.bool_], NDArray[np.integer[Any]]]:
    relevant = _check_relevant(relevant)
    counts = np.asarray(n_relevant)
    if counts.shape != (len(relevant),) or (len(counts) and counts.dtype.kind not in "iu"):
        raise InvalidInputError(
            f"n_relevant: expected whole numbers of shape ({len(relevant)},), one a query, found "
            f"{counts.dtype} of shape {counts.shape}"
        )
    counts = counts.astype(np.int64)
    found = np.count_nonzero(relevant, axis=1)
    if (found > counts).any():
        row = int(np.argmax(found > counts))
        raise InvalidInputError(
            f"n_relevant: expected at least the {found[row]} relevant items in the ranking of "
            f"query {row}, found {counts[row]}; it counts all there are to be found"
        )
    return relevant, counts


def _check_k(k: Any, relevant: NDArray[np.bool_]) -> int:
    depth = relevant.shape[1]
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= depth:
        raise InvalidInputError(
            f"k: expected a whole number from 1 to {depth}, the depth of the rankings, found "
            f"{k!r}; rank deeper, or pad rankings that end early with False"
        )
    return int(k)
