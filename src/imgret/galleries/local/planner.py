"""The plan of a search of a gallery: which way it goes, and why.

================== ===========================================================================
way                what happens
================== ===========================================================================
index              the index is searched as it is: there is no filter
index, then filter more hits than requested are searched for and checked: most items pass
index, filtered    the index searches only items that pass, and further (ef, nprobe)
exact              every item that passes is compared: they are few, or the index does not help
================== ===========================================================================

Both ways that use the index with a filter rely on items that pass being about as common near the
query as elsewhere. This is checked for each query, as a filter may remove just what is near it
("like this, but of another class"). Such a query is searched further, or compared with every item
that passes. As this depends on the query, `explain` mentions it without a figure.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgret.abc import VectorIndex
from imgret.galleries.local.catalog import Catalog
from imgret.search.plan import SearchPlan, Way
from imgret.support.plan import Plan
from imgret.types import Ids

__all__ = ["FilterPlan", "SearchPlan", "Way", "choose_way", "explain"]

# From this share on, a search without the filter finds enough items that pass it.
_MOST = 0.5


class FilterPlan(NamedTuple):
    """The part of a plan that a search needs.

    Attributes
    ----------
    way : str
    share : float
        Approximate share of items that pass.
    allowed : Ids or None
        Ids that pass, increasing, for the ways that need them.
    plan : Plan
        Plan of the index.
    """

    way: Way
    share: float
    allowed: Ids | None
    plan: Plan


@cache
def _sample() -> NDArray[np.float64]:
    """Return the relative positions in the index of the ids by which a filter is judged."""
    return np.random.default_rng(0).random(100)


def choose_way(
    index: VectorIndex, catalog: Catalog, *, rows: int, k: int, where: Any, n_queries: int
) -> FilterPlan:
    """Choose the way of a search.

    Parameters
    ----------
    index : VectorIndex
    catalog : Catalog
    rows : int
        Bound of the ids: only those below it may be found.
    k, n_queries : int
        Numbers of neighbours and of queries, at least 1.
    where : mapping or None

    Raises
    ------
    InvalidInputError
        ``where`` is not a valid filter: see `Retriever.search`.
    """
    k = max(1, min(k, len(index)))
    if where is None:
        return FilterPlan("index", 1.0, None, index.plan(k, n_queries=n_queries))
    ids = index.ids
    share = catalog.share_matching(where, ids[(_sample() * len(ids)).astype(np.int64)])
    # Listing what passes reads every item once, and then makes each search cheaper. An exact index
    # is faster without the list.
    listed = not index.is_exact and catalog.is_listed(where, asked=n_queries)
    if share >= _MOST and not listed:
        return FilterPlan("index, then filter", share, None, index.plan(k, n_queries=n_queries))
    allowed = catalog.matching(where)
    if len(allowed) and allowed[-1] >= rows:
        allowed = allowed[: np.searchsorted(allowed, rows)]
    plan = index.plan(k, n_allowed=len(allowed), n_queries=n_queries)
    share = len(allowed) / max(len(index), 1)
    return FilterPlan("exact" if plan.exact else "index, filtered", share, allowed, plan)


def explain(
    index: VectorIndex, catalog: Catalog, *, rows: int, k: int, where: Any, n_queries: int
) -> SearchPlan:
    """Return the plan of `choose_way` with its reason; parameters and errors are the same."""
    choice = choose_way(index, catalog, rows=rows, k=k, where=where, n_queries=n_queries)
    reason = choice.plan.reason
    if choice.way == "index, then filter":
        reason = f"about {choice.share:.0%} match, so searching for a few more finds enough"
    if choice.way in {"index, then filter", "index, filtered"} and not index.is_exact:
        reason += "; if too few near a query match, more or all that match are compared"
    return SearchPlan(
        way=choice.way,
        index=index.name or type(index).__name__,
        settings=index.settings(),
        k=k,
        n_queries=n_queries,
        items=len(index),
        matching=round(choice.share * len(index)),
        compared=choice.plan.compared,
        reason=reason,
    )
