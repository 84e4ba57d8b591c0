"""Which way a search of a gallery goes, and why.

================== ===========================================================================
way                what happens
================== ===========================================================================
index              the index is asked as it is: there is no filter
index, then filter more is asked for than is wanted, and what is found is checked: most items pass
index, filtered    the index looks at what passes only, and further (ef, nprobe) than without
exact              every item that passes is compared with: they are few, or the index is no help
================== ===========================================================================

The first two ways with a filter count on items that pass being near the query about as often as
elsewhere. Each query is checked for that, as a filter may take out just what is near it ("like
this, but of another class"): such a query is searched for further, or compared with every item
that passes. That depends on the query, so that `explain` names it without a figure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from imgret.abc import VectorIndex
from imgret.galleries.local.catalog import Catalog
from imgret.search.plan import SearchPlan, Way
from imgret.support.plan import Plan
from imgret.types import Ids

__all__ = ["Choice", "SearchPlan", "Way", "choose_way", "explain"]

# Where in the index the ids lie by which a filter is judged.
_SAMPLE = np.random.default_rng(0).random(100)
# From this share on, what is found without a filter holds enough that passes it.
_MOST = 0.5


class Choice(NamedTuple):
    """What a search needs to know of its plan.

    Attributes
    ----------
    way : str
    share : float
        Of the items that pass, about.
    allowed : Ids or None
        The ids that pass, for the ways that need them; increasing.
    plan : Plan
        That of the index.
    """

    way: Way
    share: float
    allowed: Ids | None
    plan: Plan


def choose_way(
    index: VectorIndex, catalog: Catalog, *, rows: int, k: int, where: Any, n_queries: int
) -> Choice:
    """Choose the way of a search.

    Parameters
    ----------
    index : VectorIndex
    catalog : Catalog
    rows : int
        Ids below it may be found.
    k, n_queries : int
        At least 1.
    where : mapping or None

    Raises
    ------
    InvalidInputError
        The filter is none: see `Retriever.search`.
    """
    k = max(1, min(k, len(index)))
    if where is None:
        return Choice("index", 1.0, None, index.plan(k, n_queries=n_queries))
    ids = index.ids
    share = catalog.share_matching(where, ids[(_SAMPLE * len(ids)).astype(np.int64)])
    # The list of what passes costs a look at every item, and then makes each search cheaper; an
    # exact index is faster without it.
    listed = not index.is_exact and catalog.is_listed(where, asked=n_queries)
    if share >= _MOST and not listed:
        return Choice("index, then filter", share, None, index.plan(k, n_queries=n_queries))
    allowed = catalog.matching(where)
    if len(allowed) and allowed[-1] >= rows:
        allowed = allowed[: np.searchsorted(allowed, rows)]
    plan = index.plan(k, n_allowed=len(allowed), n_queries=n_queries)
    share = len(allowed) / max(len(index), 1)
    return Choice("exact" if plan.exact else "index, filtered", share, allowed, plan)


def explain(
    index: VectorIndex, catalog: Catalog, *, rows: int, k: int, where: Any, n_queries: int
) -> SearchPlan:
    """Say which way `choose_way` chooses, and why; it takes and raises the same."""
    choice = choose_way(index, catalog, rows=rows, k=k, where=where, n_queries=n_queries)
    reason = choice.plan.reason
    if choice.way == "index, then filter":
        reason = f"about {choice.share:.0%} match, so that a search for some more finds enough"
    if choice.way in {"index, then filter", "index, filtered"} and not index.is_exact:
        reason += "; where too few of those near a query match, more or all that match are compared"
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
