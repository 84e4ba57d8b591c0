"""Retrieval metrics: one value per query; the metric is their mean.

Every function takes rankings as booleans: ``relevant[i, j]`` says whether rank ``j + 1`` of
query ``i`` is relevant. Most also take ``n_relevant[i]``, the number of relevant items of query
``i``, whether ranked or not. Every function returns a float64 array of shape ``(n,)``, with
values between 0 and 1. A query with nothing to find gets 0, so it stays in the denominator.

Pad rankings that end early with False. Rankings can be passed in blocks of any size, so a full
matrix of queries by gallery is never needed: `Accumulator` keeps running sums.

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
    "interpolated_precision",
    "ndcg_at_k",
    "per_query",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank",
    "top_k_accuracy",
]

Denominator: TypeAlias = Literal["hits", "min_k_r", "r"]
Values: TypeAlias = NDArray[np.float64]

RECALL_LEVELS = tuple(level / 10 for level in range(11))
_DENOMINATORS: tuple[Denominator, ...] = get_args(Denominator)


def top_k_accuracy(relevant: Any, k: int) -> Values:
    """Return 1 if any of the first ``k`` ranks is relevant, else 0.

    Metric learning calls this Recall@k. Here, `recall_at_k` is the share of relevant items found.

    Parameters
    ----------
    relevant : bool array of shape (n, depth)
        Rankings, best first. Zeros and ones are accepted as well.
    k : int
        Number of ranks to look at, from 1 to ``depth``.

    Returns
    -------
    float64 array of shape (n,)

    Raises
    ------
    InvalidInputError
        An array has the wrong shape or type, or ``k`` is out of range.
    """
    relevant = _check_relevant(relevant)
    k = _check_k(k, relevant)
    values: Values = relevant[:, :k].any(axis=1).astype(np.float64)
    return values


def precision_at_k(relevant: Any, k: int) -> Values:
    """Return the share of the first ``k`` ranks that are relevant.

    The denominator is ``k``, even if fewer than ``k`` items are relevant.

    Parameters, return value and errors are those of `top_k_accuracy`.
    """
    relevant = _check_relevant(relevant)
    k = _check_k(k, relevant)
    values: Values = np.count_nonzero(relevant[:, :k], axis=1) / np.float64(k)
    return values


def recall_at_k(relevant: Any, n_relevant: Any, k: int) -> Values:
    """Return the share of the relevant items that are in the first ``k`` ranks.

    Parameters
    ----------
    relevant : bool array of shape (n, depth)
    n_relevant : int array of shape (n,)
        Number of relevant items of each query, including those beyond the ranking.
    k : int
        Number of ranks to look at, from 1 to ``depth``.

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
    """Return the average precision over the first ``k`` ranks; its mean is mAP@k.

    This is the precision at each relevant rank, summed and divided by ``denominator``. Published
    figures disagree because the denominator is seldom named, so here it has no default.

    Parameters
    ----------
    relevant, n_relevant, k
        As for `recall_at_k`.
    denominator : {"hits", "min_k_r", "r"}
        The number of relevant items in the first ``k`` ranks; the smaller of ``k`` and
        ``n_relevant``, which is the most that could be found there; or ``n_relevant``. Only
        ``"min_k_r"`` gives 1 exactly when the ranking could not be better.

    Returns
    -------
    float64 array of shape (n,)

    Raises
    ------
    InvalidInputError
        As for `recall_at_k`; or ``denominator`` is unknown.
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
    """Return the average precision over the first R ranks; its mean is mAP@R.

    R is the query's number of relevant items. Rankings must be as deep as the largest
    ``n_relevant``.

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
        As for `recall_at_k`; or the rankings are shallower than the largest R.

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


def interpolated_precision(relevant: Any, n_relevant: Any) -> Values:
    """Return the precision at the recall levels 0, 0.1, ..., 1; its mean is the 11-point curve.

    The precision at a level is interpolated: it is the highest one at any rank where at least that
    share of the relevant items has been found. It is 0 for a level that the ranking does not
    reach. In rankings that are cut off at five times ``n_relevant``, that hides at most 0.2.

    Parameters
    ----------
    relevant, n_relevant
        As for `recall_at_k`.

    Returns
    -------
    float64 array of shape (n, 11)

    Raises
    ------
    InvalidInputError
        As for `recall_at_k`.

    References
    ----------
    Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    """
    relevant, n_relevant = _check_both(relevant, n_relevant)
    n, depth = relevant.shape
    # The highest precision at this rank or a later one; nothing is found beyond the last rank.
    highest = np.zeros((n, depth + 1))
    precision = _precision_at_hits(relevant)
    highest[:, :depth] = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    found = relevant.cumsum(axis=1)
    values: Values = np.zeros((n, len(RECALL_LEVELS)))
    for level in range(len(RECALL_LEVELS)):
        needed = -(-level * n_relevant // 10)  # rounded up
        rank = (found < needed[:, None]).sum(axis=1)
        values[:, level] = highest[np.arange(n), rank]
    return np.where(n_relevant[:, None] > 0, values, 0.0)


def reciprocal_rank(relevant: Any) -> Values:
    """Return one over the rank of the first relevant item; its mean is MRR.

    The value is 0 if no rank is relevant. Parameters, return value and errors are those of
    `top_k_accuracy`, without ``k``.
    """
    relevant = _check_relevant(relevant)
    if not relevant.shape[1]:
        return np.zeros(len(relevant))
    values: Values = relevant.any(axis=1) / (relevant.argmax(axis=1) + 1.0)
    return values


def ndcg_at_k(relevant: Any, n_relevant: Any, k: int) -> Values:
    """Return the discounted gain of the first ``k`` ranks over the best possible; mean: nDCG@k.

    Every relevant item has gain 1; rank ``j`` is discounted by ``log2(j + 1)``.

    Parameters, return value and errors are those of `recall_at_k`.

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
        As for `recall_at_k`. For mAP@R, rankings must be as deep as the largest ``n_relevant``.
    k : iterable of int
        Ranks to evaluate at, each from 1 to ``depth``.

    Returns
    -------
    dict of str to float64 array of shape (n,)
        For each ``k``, here 5: ``top5``, ``precision5``, ``recall5``, ``map5_hits``,
        ``map5_min_k_r``, ``map5_r``, ``ndcg5``; then ``map_r`` and ``mrr``.

    Raises
    ------
    InvalidInputError
        As for `recall_at_k` and `average_precision_at_r`.
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
    """Running means of every metric over blocks of rankings, in constant memory.

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
        """Number of queries so far."""
        return self._n

    def add(self, relevant: Any, n_relevant: Any) -> None:
        """Add a block of rankings: see `per_query`."""
        values = per_query(relevant, n_relevant, self._k)
        for name, block in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(block.sum())
        self._n += len(values["mrr"])

    def means(self) -> dict[str, float]:
        """Return the metrics by the names of `per_query`.

        Raises
        ------
        InvalidInputError
            No query has been added yet.
        """
        if not self._n:
            raise InvalidInputError(
                "means: expected at least one query, found none; call add() first"
            )
        return {name: total / self._n for name, total in self._sums.items()}


def _precision_at_hits(relevant: NDArray[np.bool_]) -> Values:
    """Return the precision at each relevant rank, and 0 at all others."""
    ranks = np.arange(1.0, relevant.shape[1] + 1)
    return np.where(relevant, relevant.cumsum(axis=1) / ranks, 0.0)


def _ratio(parts: Any, wholes: Any) -> Values:
    """Divide; the result is 0 where the divisor is 0."""
    values = np.zeros(len(parts))
    np.divide(parts, wholes, out=values, where=np.asarray(wholes) > 0)
    return values


def _check_relevant(relevant: Any) -> NDArray[np.bool_]:
    array = np.asarray(relevant)
    if array.ndim != 2:
        raise InvalidInputError(
            f"relevant: expected shape (queries, depth), found {array.shape}; pass a single "
            f"ranking as [ranking]"
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
            f"n_relevant: expected whole numbers of shape ({len(relevant)},), one per query, "
            f"found {counts.dtype} of shape {counts.shape}"
        )
    counts = counts.astype(np.int64)
    found = np.count_nonzero(relevant, axis=1)
    if (found > counts).any():
        row = int(np.argmax(found > counts))
        raise InvalidInputError(
            f"n_relevant: expected at least the {found[row]} relevant items in the ranking of "
            f"query {row}, found {counts[row]}; it counts all relevant items, ranked or not"
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
