"""What an adaptation gained, in figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from imgret.pages.result import Result
from imgret.types import Json

__all__ = ["AdaptReport", "Gain"]


@dataclass(frozen=True, slots=True)
class Gain:
    """One measure before and after, over queries that were held out.

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
    """What `Retriever.adapt` found, and whether it was put to use.

    Attributes
    ----------
    applied : bool
        Whether the gallery is searched by the new projection now. False where the measured
        gain in top-1 is not surely above zero: the gallery is as it was.
    top1 : Gain
        Part of the queries whose first hit has their label.
    map5 : Gain
        Mean average precision of the first five hits, over those among them that are right.
    queries : int
        How many images were held out and searched with.
    items, classes : int
        Labelled images the projection was fitted on, and their labels.
    singles : int
        Classes of one image: fitted on, but never searched with.
    unlabelled : int
        Images without a label: not fitted on, but found as any other.
    dim : int
        Dimension of the indexed vectors.
    shrinkage : float
        Chosen by the cross-validation.
    seconds : float
        All of it, the new index included.
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

    def __str__(self) -> str:
        verdict = (
            f"adapted: {self.dim} dimensions, shrinkage {self.shrinkage:g}"
            if self.applied
            else "not adapted, the gallery is as it was: top-1 would not surely rise"
        )
        return (
            f"{verdict}; {self.seconds:.1f} s\n"
            f"top-1  {self.top1}\n"
            f"mAP@5  {self.map5}\n"
            f"measured with {self.queries} images held out in turn; {self.items} labelled "
            f"images of {self.classes} classes ({self.singles} of a single image), "
            f"{self.unlabelled} without a label"
        )
