"""The base class of re-rankers, which reorder the results of a search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.types import Embeddings, Ids, Metric, Neighbors

__all__ = ["Asked", "Reranker", "Searched", "one_by_one"]


class Searched(Protocol):
    """The searchable items, as a `Reranker` sees them.

    Vectors are those that are searched: projected if the gallery has a projection, and of
    length 1 for metric ``"cosine"``. Items excluded by a filter are not included.

    Attributes
    ----------
    metric : {"cosine", "ip", "l2"}
    """

    @property
    def metric(self) -> Metric: ...  # noqa: D102  # documented above

    def search(self, vectors: Embeddings, k: int) -> Neighbors:
        """Return the ``k`` nearest items of each vector, found by the gallery's index.

        The result has ``k`` columns, or fewer if the gallery has fewer than ``k`` items. They hold
        -1 and -inf after the last item found.
        """

    def read(self, ids: Ids) -> Embeddings:
        """Return the vectors of some ids: float32, shape (n, d)."""


class Asked(NamedTuple):
    """Queries and their results.

    Attributes
    ----------
    queries : float32 array of shape (n, d)
        Query vectors in the space that is searched.
    found : Neighbors
        Results of shape (n, m), best first.
    """

    queries: Embeddings
    found: Neighbors


class Reranker(ABC):
    """Reorders the results of a search: `Retriever.search` takes it as ``rerank=``.

    A subclass sets the attributes and implements `_rank`. It looks at the candidates and their
    neighbours, never at the whole gallery.

    Attributes
    ----------
    name : str
        Name used in error messages.
    scores : {"own", "metric", "kept"}
        Kind of the resulting scores. ``"own"``: on a scale of the re-ranker's own. ``"metric"``:
        by the gallery's metric, but for another query. ``"kept"``: unchanged, so that they no
        longer decrease from rank to rank.
    candidates : int
        Minimum number of candidates for each query. If more hits are requested, it gets more.
    """

    name: ClassVar[str] = ""
    scores: ClassVar[Literal["own", "metric", "kept"]] = "own"

    @property
    @abstractmethod
    def candidates(self) -> int: ...  # noqa: D102  # documented above

    @final
    def rank(self, asked: Asked, k: int, searched: Searched) -> Asked:
        """Re-rank the candidates of each query.

        Parameters
        ----------
        asked : Asked
            Queries, each with at least `candidates` and at least ``k`` items if there are so many.
        k : int
            Number of items to return, at most the number of columns of ``asked.found``.
        searched : Searched

        Returns
        -------
        Asked
            ``k`` items per query, best first, padded with -1 and -inf if there are fewer.

        Raises
        ------
        InvalidInputError
            `_rank` returned arrays of the wrong shape.
        """
        queries, found = self._rank(asked, k, searched)
        shape = len(asked.queries), k
        if found.ids.shape != shape or found.scores.shape != shape:
            raise InvalidInputError(
                f"{self.name or type(self).__name__}: expected ids and scores of shape {shape}, "
                f"found {found.ids.shape} and {found.scores.shape}"
            )
        return Asked(queries, found)

    @abstractmethod
    def _rank(self, asked: Asked, k: int, searched: Searched) -> Asked:
        """Re-rank as described for `rank`; use `one_by_one` if queries are independent."""


def one_by_one(
    asked: Asked,
    k: int,
    rank: Callable[[Embeddings, Ids, NDArray[np.float32]], tuple[Ids, Any]],
) -> Asked:
    """Rank the candidates of each query independently of the other queries.

    Parameters
    ----------
    asked : Asked
    k : int
        Number of items to keep per query.
    rank : callable
        Function that gets a query of shape (1, d) and its ids and scores of shape (m,), and
        returns ids and scores in the new order. It is not called for a query without candidates.
    """
    n = len(asked.queries)
    ids: Ids = np.full((n, k), -1, dtype=np.int64)
    scores: Embeddings = np.full((n, k), -np.inf, dtype=np.float32)
    for row in range(n):
        there = asked.found.ids[row] >= 0
        if there.any():
            query = asked.queries[row : row + 1]
            best, values = rank(query, asked.found.ids[row][there], asked.found.scores[row][there])
            kept = min(k, len(best))
            ids[row, :kept], scores[row, :kept] = best[:k], values[:k]
    return Asked(asked.queries, Neighbors(ids, scores))
