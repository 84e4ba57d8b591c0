"""Searching: the `View` of a gallery, and the plan of a search."""

from imgret.search.plan import SearchPlan
from imgret.search.view import Labels, Origin, StaleViewError, View

__all__ = ["Labels", "Origin", "SearchPlan", "StaleViewError", "View"]
