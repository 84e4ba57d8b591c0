"""The protocol of an index whose recall can be measured and tuned."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from imgret.types import Neighbors

__all__ = ["Tunable"]


@runtime_checkable
class Tunable(Protocol):
    """An index that can be measured and tuned: a `VectorIndex`, or the index of a server.

    Attributes
    ----------
    name : str
    is_exact, finds_itself : bool
        As for `VectorIndex`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  # documented above

    @property
    def is_exact(self) -> bool: ...  # noqa: D102  # documented above

    @property
    def finds_itself(self) -> bool: ...  # noqa: D102  # documented above

    def sweep(self) -> dict[str, list[int]]:
        """Return the options that trade recall for speed, with values to try, fastest first."""

    def settings(self) -> dict[str, int]:
        """Return the current values of the options of `sweep`."""

    def configure(self, **settings: int) -> None:
        """Set options of `sweep` for later searches."""

    def search(self, queries: Any, k: int, *, exact: bool = False) -> Neighbors:
        """Find the ``k`` nearest vectors of each query, exactly if ``exact`` is true."""
