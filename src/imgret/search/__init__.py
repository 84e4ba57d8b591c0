"""One search, and what it looks at: the `View` of a gallery."""

from imgret.search.plan import SearchPlan
from imgret.search.view import Labels, Origin, StaleViewError, View

__all__ = ["Labels", "Origin", "SearchPlan", "StaleViewError", "View"]
