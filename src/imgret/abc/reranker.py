"""The contract of what ranks the hits of a search again."""

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
    """What a search may find, as a `Reranker` sees it.

    Vectors are those that are searched: projected where the gallery has a projection, and of
    length 1 for metric ``"cosine"``. What a filter leaves out is not there.

    Attributes
    ----------
    metric : {"cosine", "ip", "l2"}
    """

    @property
    def metric(self) -> Metric: ...  # noqa: D102  # told above

    def search(self, vectors: Embeddings, k: int) -> Neighbors:
        """Return the ``k`` nearest of each vector, by the gallery's index.

        There are ``k`` columns, -1 and -inf after the last that was found; where ``k`` is above
        the number of items there may be fewer columns, never more than items.
        """

    def read(self, ids: Ids) -> Embeddings:
        """Return the vectors of some ids: float32, shape (n, d)."""


class Asked(NamedTuple):
    """Queries, and what was found for them.

    Attributes
    ----------
    queries : float32 array of shape (n, d)
        In the space that is searched.
    found : Neighbors
        Shape (n, m), best first.
    """

    queries: Embeddings
    found: Neighbors


class Reranker(ABC):
    """Ranks again what a search has found: `Retriever.search` takes it as ``rerank=``.

    A subclass sets the attributes and fills in `_rank`. It looks at the candidates and what is
    near them, never at the whole gallery.

    Attributes
    ----------
    name : str
        What errors call it.
    scores : {"own", "metric", "kept"}
        What the scores are afterwards: of its own kind; by the gallery's metric, though of another
        query; or as they were, and no longer falling from rank to rank.
    candidates : int
        Items it is to be given for each query, at least; where more hits are wanted it gets more.
    """

    name: ClassVar[str] = ""
    scores: ClassVar[Literal["own", "metric", "kept"]] = "own"

    @property
    @abstractmethod
    def candidates(self) -> int: ...  # noqa: D102  # told above

    @final
    def rank(self, asked: Asked, k: int, searched: Searched) -> Asked:
        """Rank the candidates of each query again.

        Parameters
        ----------
        asked : Asked
            Of each query, at least `candidates` and at least ``k`` items, as far as there are.
        k : int
            Items wanted, at most as many as ``asked.found`` has columns.
        searched : Searched

        Returns
        -------
        Asked
            ``k`` items a query, best first, as far as there are; -1 and -inf after the last.

        Raises
        ------
        InvalidInputError
            `_rank` returned another shape.
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
        """Do what `rank` says; `one_by_one` helps where queries have nothing in common."""


def one_by_one(
    asked: Asked,
    k: int,
    rank: Callable[[Embeddings, Ids, NDArray[np.float32]], tuple[Ids, Any]],
) -> Asked:
    """Rank the candidates of each query by themselves.

    Parameters
    ----------
    asked : Asked
    k : int
        Items kept of each.
    rank : callable
        Given a query of shape (1, d), ids and scores of shape (m,), returns them in their new
        order; called only where there are any.
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
