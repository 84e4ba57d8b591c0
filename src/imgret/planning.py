"""Which way a search of a gallery goes, and why.

================== ===========================================================================
way                what happens
================== ===========================================================================
index              the index is asked as it is: there is no filter
index, then filter more is asked for than is wanted, and what is found is checked: most items pass
index, filtered    the index looks at what passes only, and further (ef, nprobe) than without
exact              every item that passes is compared with: they are few, or the index is no help
================== ===========================================================================
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from imgret.abc import VectorIndex
from imgret.abc.plan import Plan
from imgret.storage import Catalog
from imgret.types import Ids, Json

__all__ = ["SearchPlan", "Way", "plan_search"]

Way: TypeAlias = Literal["index", "index, then filter", "index, filtered", "exact"]

# Where in the index the ids lie by which a filter is judged.
_SAMPLE = np.random.default_rng(0).random(100)
# From this share on, what is found without a filter holds enough that passes it.
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How a search is answered.

    Attributes
    ----------
    way : {"index", "index, then filter", "index, filtered", "exact"}
    index : str
        Name of the index.
    settings : dict
        Its options of search.
    k, n_queries : int
    items : int
        How many there are in the index.
    matching : int
        How many the filter lets pass; an estimate for ``"index, then filter"``.
    compared : int
        About how many vectors each query is compared with.
    reason : str
    """

    way: Way
    index: str
    settings: Json
    k: int
    n_queries: int
    items: int
    matching: int
    compared: int
    reason: str

    def to_dict(self) -> Json:
        """Return JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        about = "about " if self.way == "index, then filter" else ""
        return (
            f"{self.way}: {self.reason}\n"
            f"  index     {self.index}{f' ({settings})' if settings else ''}\n"
            f"  matching  {about}{self.matching:,} of {self.items:,} items\n"
            f"  compared  about {self.compared:,} vectors a query"
        )


def plan_search(
    index: VectorIndex, catalog: Catalog, *, rows: int, k: int, where: Any, n_queries: int
) -> tuple[SearchPlan, Ids | None]:
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

    Returns
    -------
    SearchPlan
    Ids or None
        The ids that pass, for the ways that need them; increasing.

    Raises
    ------
    InvalidInputError
        The filter is none: see `Retriever.search`.
    """
    items = len(index)

    def planned(way: Way, matching: int, plan: Plan, reason: str) -> SearchPlan:
        return SearchPlan(
            way=way,
            index=index.name or type(index).__name__,
            settings=index.settings(),
            k=k,
            n_queries=n_queries,
            items=items,
            matching=matching,
            compared=plan.compared,
            reason=reason,
        )

    if where is None:
        plain = index.plan(k, n_queries=n_queries)
        return planned("index", items, plain, "there is no filter"), None
    ids = index.ids
    share = catalog.share_matching(where, ids[(_SAMPLE * len(ids)).astype(np.int64)])
    if share >= _MOST:
        plan = index.plan(k, n_queries=n_queries)
        reason = f"about {share:.0%} match, so that a search for some more finds enough"
        return planned("index, then filter", round(share * items), plan, reason), None
    allowed = catalog.matching(where)
    if len(allowed) and allowed[-1] >= rows:
        allowed = allowed[: np.searchsorted(allowed, rows)]
    plan = index.plan(k, n_allowed=len(allowed), n_queries=n_queries)
    return planned("exact" if plan.exact else "index, filtered", len(allowed), plan, plan.reason), (
        allowed
    )
