"""The same figures as ranx (dependency group ``oracles``; it compiles for a minute)."""

import warnings

import numpy as np
import pytest

from imgret.evaluation import metrics

with warnings.catch_warnings():  # of its dependencies, while they are imported
    warnings.simplefilter("ignore")
    ranx = pytest.importorskip("ranx", reason="pip install --group oracles")


@pytest.mark.filterwarnings("ignore")  # of numba, while it compiles
def test_against_ranx():
    rng = np.random.default_rng(0)
    n, items = 40, 60
    depth = 20
    relevant = rng.random((n, items)) < rng.uniform(0.02, 0.4, (n, 1))
    relevant[:, -1] = True  # ranx knows no query with nothing to find
    qrels = {
        f"q{row}": {f"d{item}": 1 for item in np.flatnonzero(relevant[row])} for row in range(n)
    }
    run = {
        f"q{row}": {f"d{item}": float(items - item) for item in range(depth)} for row in range(n)
    }
    names = ["hit_rate@5", "precision@5", "recall@5", "map@5", "ndcg@5", "mrr", "map@20"]
    oracle = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), names)
    ranked, n_relevant = relevant[:, :depth], relevant.sum(axis=1)

    def ap(k):
        return metrics.average_precision_at_k(ranked, n_relevant, k, denominator="r")

    found = {
        "hit_rate@5": metrics.top_k_accuracy(ranked, 5),
        "precision@5": metrics.precision_at_k(ranked, 5),
        "recall@5": metrics.recall_at_k(ranked, n_relevant, 5),
        "map@5": ap(5),
        "ndcg@5": metrics.ndcg_at_k(ranked, n_relevant, 5),
        "mrr": metrics.reciprocal_rank(ranked),
        "map@20": ap(20),
    }
    for name, values in found.items():
        assert values.mean() == pytest.approx(oracle[name]), name
