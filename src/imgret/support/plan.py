"""Which way a search goes: through the index, or past all that may be found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Plan", "exact_cost"]

# In vectors compared one after another: what a matrix product takes for one, and what it costs
# to fetch one before it, once for all queries.
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
        About how many vectors each query is compared with.
    reason : str
        Why, as a clause.
    """

    exact: bool
    compared: int
    reason: str


def exact_cost(count: int, n_queries: int) -> float:
    """Return what comparing with ``count`` vectors costs a query, in vectors of a scan."""
    return count * (_MULTIPLIED + _FETCHED / max(n_queries, 1))
