"""Report of an adaptation."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass

from imgret.pages.document import table
from imgret.pages.result import Result
from imgret.types import Json

__all__ = ["AdaptReport", "Gain"]


@dataclass(frozen=True, slots=True)
class Gain:
    """One metric before and after, over queries that were held out.

    Attributes
    ----------
    before, after : float
        Between 0 and 1, higher is better.
    low, high : float
        95 % interval of the difference, by paired bootstrap over the queries.
    """

    before: float
    after: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.before:.3f} -> {self.after:.3f} ({self.after - self.before:+.3f}, "
            f"95% interval {self.low:+.3f} to {self.high:+.3f})"
        )


@dataclass(frozen=True, slots=True)
class AdaptReport(Result):
    """Result of `Retriever.adapt`, and whether it is in use.

    Attributes
    ----------
    applied : bool
        Whether the gallery is now searched with the new projection. False if top-1 does not
        reliably rise or mAP@5 falls; the gallery is then unchanged.
    top1 : Gain
        Share of queries whose first hit has their label.
    map5 : Gain
        Mean average precision of the first five hits, over the number of right ones among them.
    queries : int
        Number of images that were held out and used as queries.
    items : int
        Number of labelled images the projection was fitted on.
    classes : int
        Number of their classes.
    singles : int
        Number of classes with a single image: fitted on, but never used as queries.
    unlabelled : int
        Number of images without a label: not fitted on, but found like any other.
    dim : int
        Dimension of the indexed vectors.
    shrinkage : float
        Shrinkage of the projection, given or chosen by cross-validation.
    seconds : float
        Total time, including the new index.
    """

    applied: bool
    top1: Gain
    map5: Gain
    queries: int
    items: int
    classes: int
    singles: int
    unlabelled: int
    dim: int
    shrinkage: float
    seconds: float

    def to_dict(self) -> Json:
        """Return everything as JSON values."""
        return asdict(self)

    def _body(self) -> str:
        names = ["metric", "before", "after", "difference", "95 % interval"]
        rows = [
            [
                name,
                f"{gain.before:.4f}",
                f"{gain.after:.4f}",
                f"{gain.after - gain.before:+.4f}",
                f"{gain.low:+.4f} to {gain.high:+.4f}",
            ]
            for name, gain in (("top-1", self.top1), ("mAP@5", self.map5))
        ]
        verdict, basis = html.escape(self._verdict()), html.escape(self._basis())
        return f'<p>{verdict}</p>{table(names, rows)}<p class="faint">{basis}</p>'

    def __str__(self) -> str:
        return f"{self._verdict()}\ntop-1  {self.top1}\nmAP@5  {self.map5}\n{self._basis()}"

    def _verdict(self) -> str:
        verdict = (
            f"adapted: {self.dim} dimensions, shrinkage {self.shrinkage:g}"
            if self.applied
            else "not adapted, the gallery is unchanged: no reliable gain"
        )
        return f"{verdict}; {self.seconds:.1f} s"

    def _basis(self) -> str:
        return (
            f"measured with {self.queries} images held out in turn; {self.items} labelled "
            f"images of {self.classes} classes ({self.singles} of a single image), "
            f"{self.unlabelled} without a label"
        )
