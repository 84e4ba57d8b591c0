"""Rankings without the same thing over and over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.abc.checks import check_count, check_number
from imgret.errors import InvalidInputError
from imgret.rerank.neighbors import unit_vectors

__all__ = ["diversify"]


def diversify(scores: Any, vectors: Any, k: int, *, trade: float = 0.7) -> NDArray[np.int64]:
    """Choose candidates one after the other, each good by itself and unlike those before.

    Next comes the candidate of the greatest ``trade * score - (1 - trade) * likeness``, likeness
    being its greatest cosine to one that was chosen.

    Parameters
    ----------
    scores : array of shape (n,)
        Of the candidates of one query; higher is better.
    vectors : array of shape (n, dim)
        Their embeddings.
    k : int
        How many to choose.
    trade : float
        From 0, where only the first one's score counts, to 1, where only scores count.

    Returns
    -------
    int64 array of shape (min(k, n),)
        Positions among the candidates, in their new order.

    Raises
    ------
    InvalidInputError
        Shapes do not agree, scores are not finite, or a number is out of its range.

    References
    ----------
    J. Carbonell and J. Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering
    Documents and Producing Summaries", 1998.
    """
    k = check_count(k, "k")
    trade = check_number(trade, "trade", at_least=0, at_most=1)
    vectors = unit_vectors(vectors, "vectors")
    given = np.asarray(scores, dtype=np.float64)
    if given.shape != (len(vectors),) or not np.isfinite(given).all():
        raise InvalidInputError(
            f"scores: expected {len(vectors)} finite numbers, one a vector, found shape "
            f"{given.shape}{'' if np.isfinite(given).all() else ' with NaN or infinity'}"
        )
    chosen: list[int] = []
    left = np.ones(len(given), dtype=bool)
    likeness = np.full(len(given), -np.inf)
    for _ in range(min(k, len(given))):
        value = given if not chosen else trade * given - (1 - trade) * likeness
        best = int(np.argmax(np.where(left, value, -np.inf)))
        chosen.append(best)
        left[best] = False
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return np.array(chosen, dtype=np.int64)
