"""Validation of a network during training."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from imgret.evaluation.metrics import average_precision_at_k, top_k_accuracy
from imgret.models import Preprocess
from imgret.train.course import scaled
from imgret.train.data import Dataset, unscaled
from imgret.types import Embeddings

__all__ = ["embed", "retrieval"]

_BATCH = 32


def embed(
    network: nn.Module,
    dataset: Dataset,
    preprocess: Preprocess,
    *,
    device: torch.device,
    threads: int,
) -> Embeddings:
    """Embed images like the finished model, with vectors of length 1.

    Returns
    -------
    float32 array of shape (n, dim)
    """
    raw = unscaled(preprocess)
    starts = range(0, len(dataset), _BATCH)

    def load(start: int) -> torch.Tensor:
        rows = range(start, min(start + _BATCH, len(dataset)))
        return torch.from_numpy(
            raw.prepare([dataset.load(row, min_side=raw.min_side) for row in rows])
        )

    rows = []
    with ThreadPoolExecutor(threads) as pool, torch.no_grad():
        for pixels in pool.map(load, starts):
            x = pixels.to(device).permute(0, 3, 1, 2).float()
            vectors = network(scaled(x, preprocess.scaling or "per-image"))
            rows.append(nn.functional.normalize(vectors.float()).cpu().numpy())
    found: Embeddings = np.concatenate(rows)
    return found


def retrieval(
    queries: Embeddings, gallery: Embeddings, query_labels: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Return top-1, top-5 and mAP@5 (min_k_r) of queries in a gallery, by cosine similarity."""
    depth = min(5, len(gallery))
    nearest = np.argsort(-(queries @ gallery.T), axis=1, kind="stable")[:, :depth]
    relevant = labels[nearest] == query_labels[:, None]
    counts = Counter(labels.tolist())
    n_relevant = [counts[label] for label in query_labels.tolist()]
    return {
        "top1": float(top_k_accuracy(relevant, 1).mean()),
        f"top{depth}": float(top_k_accuracy(relevant, depth).mean()),
        f"map{depth}": float(
            average_precision_at_k(relevant, n_relevant, depth, denominator="min_k_r").mean()
        ),
    }
