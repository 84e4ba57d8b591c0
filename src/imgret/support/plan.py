"""The plan of a search in an index: through the index, or exact."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Plan", "exact_cost"]

# Costs in units of comparing one vector in a scan: that of comparing one in a matrix product, and
# that of fetching one before it, once for all queries.
_MULTIPLIED = 0.3
_FETCHED = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How an index answers a search.

    Attributes
    ----------
    exact : bool
        Whether the queries are compared with every vector that may be found.
    compared : int
        Approximate number of vectors each query is compared with.
    reason : str
        Reason, as a clause.
    """

    exact: bool
    compared: int
    reason: str


def exact_cost(count: int, n_queries: int) -> float:
    """Return the cost per query of comparing with ``count`` vectors, in vectors of a scan."""
    return count * (_MULTIPLIED + _FETCHED / max(n_queries, 1))
