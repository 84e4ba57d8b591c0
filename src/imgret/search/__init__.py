"""One search, and what it looks at: the `View` of a gallery."""

from imgret.search.view import Labels, Origin, View

__all__ = ["Labels", "Origin", "View"]
