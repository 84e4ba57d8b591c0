"""Adaptation of a gallery: learns a projection from its labels and reports the gain."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from imgret.errors import InvalidInputError
from imgret.learning.adapt_report import AdaptReport
from imgret.learning.folds import sample_items
from imgret.learning.trial import try_out
from imgret.projections import Discriminant, LinearProjection
from imgret.search import View

__all__ = ["adapt"]

# Items held in memory for a trial: 84 MB at 1280 dimensions. The fit itself is streamed.
_TRIAL_ITEMS = 16_384


def adapt(
    view: View, *, dim: int | None = None, shrinkage: float | None = None
) -> tuple[LinearProjection | None, AdaptReport]:
    """Learn a discriminant projection from a gallery's labels.

    Parameters
    ----------
    view : View
        View of the gallery; its current projection is ignored.
    dim, shrinkage
        See `Retriever.adapt`.

    Returns
    -------
    projection : LinearProjection or None
        None if it does not reliably help.
    report : AdaptReport
    """
    started = perf_counter()
    ids, codes, names = view.labels
    most = min(len(names) - 1, view.projection.dim_in)
    if dim is not None and len(names) > 1 and not 1 <= dim <= most:
        raise InvalidInputError(
            f"dim: expected 1 to {most}, because {len(names)} classes cannot differ in more "
            f"directions, found {dim}"
        )
    sample = sample_items(codes, _TRIAL_ITEMS)
    _, sampled = np.unique(codes[sample], return_inverse=True)
    # Read in pieces: rows that lie far apart each bring their neighbours into memory.
    pieces = [rows for _, rows in view.embedding_blocks(ids[sample])]
    embeddings = np.concatenate(pieces) if pieces else view.embeddings(ids)
    trial = try_out(embeddings, sampled, view.metric, dim=dim, shrinkage=shrinkage)
    projection = None
    if trial.helps:
        blocks = (
            (rows, codes[np.searchsorted(ids, block)]) for block, rows in view.embedding_blocks(ids)
        )
        projection = Discriminant(blocks, len(names)).projection(trial.shrinkage, dim)
    report = AdaptReport(
        applied=trial.helps,
        top1=trial.top1,
        map5=trial.map5,
        queries=trial.queries,
        items=len(ids),
        classes=len(names),
        singles=int((np.bincount(codes) == 1).sum()),
        unlabelled=len(view) - len(ids),
        dim=dim or most if projection is None else projection.dim_out,
        shrinkage=trial.shrinkage,
        seconds=perf_counter() - started,
    )
    return projection, report
