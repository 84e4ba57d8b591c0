"""From a gallery and its labels to a projection and a report."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from imgret.adaptation.folds import sample_items
from imgret.adaptation.report import AdaptReport
from imgret.adaptation.trial import try_out
from imgret.errors import InvalidInputError
from imgret.projections import Discriminant, LinearProjection
from imgret.storage import Store

__all__ = ["TRIAL_ITEMS", "adapt"]

# What is held in memory for a trial, at 1280 dimensions 84 MB; the fit itself is streamed.
TRIAL_ITEMS = 16_384


def adapt(
    store: Store,
    apply: Callable[[LinearProjection], None],
    *,
    dim: int | None = None,
    shrinkage: float | None = None,
) -> AdaptReport:
    """Learn a discriminant projection from a gallery's labels, and apply it if it helps.

    Parameters
    ----------
    store : Store
    apply : callable
        Takes the projection and builds the index anew.
    dim, shrinkage
        See `Retriever.adapt`.
    """
    started = perf_counter()
    ids, codes, names = store.catalog.labelled()
    counts = np.bincount(codes, minlength=len(names))
    most = min(max(len(names) - 1, 0), store.dim)
    if dim is not None and len(names) > 1 and not 1 <= dim <= most:
        raise InvalidInputError(
            f"dim: expected 1 to {most}, as {len(names)} classes differ in no more directions, "
            f"found {dim}"
        )
    sample = sample_items(codes, TRIAL_ITEMS)
    _, sampled = np.unique(codes[sample], return_inverse=True)
    # In pieces, as rows that lie far apart each bring their neighbours into memory.
    pieces = [rows for _, rows in store.blocks(ids[sample])]
    embeddings = np.concatenate(pieces) if pieces else store.read(ids)
    trial = try_out(embeddings, sampled, store.manifest.metric, dim=dim, shrinkage=shrinkage)
    kept = dim or most
    if trial.helps:
        blocks = ((rows, codes[np.searchsorted(ids, block)]) for block, rows in store.blocks(ids))
        projection = Discriminant(blocks, len(names)).projection(trial.shrinkage, dim)
        kept = projection.dim_out
        apply(projection)
    return AdaptReport(
        applied=trial.helps,
        top1=trial.top1,
        map5=trial.map5,
        queries=trial.queries,
        items=len(ids),
        classes=len(names),
        singles=int((counts == 1).sum()),
        unlabelled=len(store.catalog) - len(ids),
        dim=kept,
        shrinkage=trial.shrinkage,
        seconds=perf_counter() - started,
    )
