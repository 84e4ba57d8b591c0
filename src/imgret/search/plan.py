"""The plan of a search: which way it goes, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from imgret.pages.document import facts
from imgret.pages.result import Result
from imgret.types import Json

__all__ = ["SearchPlan", "Way"]

Way: TypeAlias = Literal["index", "index, then filter", "index, filtered", "exact"]


@dataclass(frozen=True, slots=True)
class SearchPlan(Result):
    """How a search is answered.

    Attributes
    ----------
    way : {"index", "index, then filter", "index, filtered", "exact"}
    index : str
        Name of the index.
    settings : dict
        Search options of the index.
    k, n_queries : int
    items : int
        Number of items in the index.
    matching : int
        Number of items that pass the filter; an estimate for ``"index, then filter"``.
    compared : int
        Approximate number of vectors each query is compared with.
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

    def _rows(self) -> dict[str, str]:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        about = "about " if self.way == "index, then filter" else ""
        return {
            "index": f"{self.index}{f' ({settings})' if settings else ''}",
            "matching": f"{about}{self.matching:,} of {self.items:,} items",
            "compared": f"about {self.compared:,} vectors per query",
        }

    def _body(self) -> str:
        return facts({"way": self.way, "reason": self.reason, **self._rows()})

    def __str__(self) -> str:
        rows = [f"  {name:<10}{text}" for name, text in self._rows().items()]
        return "\n".join([f"{self.way}: {self.reason}", *rows])
