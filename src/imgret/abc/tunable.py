"""What recall is measured of, and options of search are chosen for."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from imgret.types import Neighbors

__all__ = ["Tunable"]


@runtime_checkable
class Tunable(Protocol):
    """An index as it is measured and tuned: a `VectorIndex`, or that of a server.

    Attributes
    ----------
    name : str
    is_exact, finds_itself : bool
        As for `VectorIndex`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  # told above

    @property
    def is_exact(self) -> bool: ...  # noqa: D102  # told above

    @property
    def finds_itself(self) -> bool: ...  # noqa: D102  # told above

    def sweep(self) -> dict[str, list[int]]:
        """Return the options that trade recall for speed, with values to try, fastest first."""

    def settings(self) -> dict[str, int]:
        """Return the options of `sweep` as they are."""

    def configure(self, **settings: int) -> None:
        """Change options of `sweep` for the searches that follow."""

    def search(self, queries: Any, k: int, *, exact: bool = False) -> Neighbors:
        """Find the ``k`` nearest vectors of each query; exactly where that is asked for."""
