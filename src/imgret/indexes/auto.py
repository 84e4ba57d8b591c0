"""The choice of an index by number of vectors, based on ``benchmarks/ann.py``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from imgret.support.checks import check_count, check_number
from imgret.types import Json

__all__ = ["PQ_LISTS", "Choice", "choose", "default_code_bytes"]

# Up to these sizes every query is compared with every vector: at most about 10 ms on one core.
_FLAT_VECTORS = 50_000
_FLAT_VALUES = 2**25

# Lists in "ivf-pq", as a multiple of the square root of the number of vectors. Codes are compared
# so quickly that more lists, which are shorter, are no faster to search but take longer to train.
PQ_LISTS = 3.0

# Training vectors needed per k-means centroid.
_POINTS_PER_CENTROID = 39

_ID_BYTES = 8

# Above this recall, only an index that compares each query with every vector will do.
_MOST_RECALL = 0.999


@dataclass(frozen=True, slots=True)
class Choice:
    """An index to make.

    Attributes
    ----------
    name : str
        Registered name; ``registry.create("indexes", name, dim=..., metric=..., **options)``.
    options : dict
        Keyword arguments other than ``dim`` and ``metric``.
    reason : str
        One sentence on why this index was chosen.
    memory_bytes : int
        Approximate memory of the index, in bytes.
    """

    name: str
    options: Json
    reason: str
    memory_bytes: int


def choose(n: int, dim: int, *, memory_bytes: int | None = None, recall: float = 0.95) -> Choice:
    """Choose an index for ``n`` vectors.

    The choice is an exact index up to about 50,000 vectors, and beyond that as long as a scan is
    cheap. For more vectors it is an inverted file of short codes, whose candidates a gallery
    re-ranks by the stored embeddings. With less memory the codes get shorter.

    Parameters
    ----------
    n : int
        Number of vectors the index will hold, at least 1.
    dim : int
        Dimension of the vectors, at least 1.
    memory_bytes : int, optional
        Maximum memory of the index, in bytes. By default there is no limit.
    recall : float
        Share of the true neighbours to find, above 0 and at most 1. Above 0.97 an inverted file
        is searched twice as widely, above 0.999 the index is exact. `Retriever.tune` measures
        which settings are needed.

    Returns
    -------
    Choice
        The first candidate that fits in memory. If none does, it is the smallest one, and
        ``reason`` says so.

    Examples
    --------
    >>> choose(2_000, 1280).name
    'flat'
    >>> choose(1_000_000, 128).name
    'ivf-pq'
    >>> choose(1_000_000, 128, memory_bytes=30_000_000).options["code_bytes"]
    8
    """
    n = check_count(n, "n")
    dim = check_count(dim, "dim")
    recall = check_number(recall, "recall", above=0, at_most=1)
    if memory_bytes is not None:
        memory_bytes = check_count(memory_bytes, "memory_bytes")
    if recall > _MOST_RECALL:
        candidates = [_flat(n, dim, f"a recall of {recall:g} requires comparing with all of them")]
    elif _scan_is_cheap(n, dim):
        candidates = _small(n, dim)
    else:
        candidates = _large(n, dim, recall)
    what = f"{n:,} vectors of dimension {dim}"
    for name, options, size, why in candidates:
        if memory_bytes is None or size <= memory_bytes:
            return Choice(
                name, options, f"{what} take about {_human(size)} as {name}: {why}.", size
            )
    name, options, size, why = min(candidates, key=lambda candidate: candidate[2])
    reason = (
        f"No index of {what} fits in {_human(memory_bytes or 0)}; the smallest, {name}, takes "
        f"about {_human(size)}: {why}."
    )
    return Choice(name, options, reason, size)


_Candidate = tuple[str, Json, int, str]


def _scan_is_cheap(n: int, dim: int) -> bool:
    return n <= _FLAT_VECTORS or n * dim <= _FLAT_VALUES


def _flat(n: int, dim: int, why: str) -> _Candidate:
    return "flat", {}, n * (4 * dim + _ID_BYTES), why


def _small(n: int, dim: int) -> list[_Candidate]:
    return [
        _flat(n, dim, "comparing with all of them is fast and exact"),
        ("faiss:SQ8", {}, n * (dim + _ID_BYTES), "8 bits per value, a quarter of the memory"),
        (
            "faiss:SQ4",
            {},
            n * (math.ceil(dim / 2) + _ID_BYTES),
            "4 bits per value, an eighth of the memory",
        ),
    ]


def _large(n: int, dim: int, recall: float) -> list[_Candidate]:
    nlist = max(1, min(round(PQ_LISTS * math.sqrt(n)), n // _POINTS_PER_CENTROID))
    # For a high recall, visits twice as many lists and re-ranks twice as many candidates.
    wide = 2 if recall > 0.97 else 1
    nprobe = min(nlist, wide * max(8, round(0.5 * math.sqrt(nlist))))
    lists = nlist * dim * 4 + n * 2 * _ID_BYTES  # centroids; ids in the lists and by position
    found: list[_Candidate] = []
    code_bytes, refine = default_code_bytes(dim), 8 * wide
    while code_bytes:
        why = (
            f"an inverted file with codes of {code_bytes} bytes, whose candidates are re-ranked "
            f"by the stored embeddings"
        )
        options = {"nprobe": nprobe, "code_bytes": code_bytes, "refine": refine}
        found.append(("ivf-pq", options, n * code_bytes + lists, why))
        code_bytes, refine = code_bytes // 2, 2 * refine
    return found


def default_code_bytes(dim: int) -> int:
    """Return the default number of bytes per vector of ``"ivf-pq"``."""
    return math.ceil(dim / 4) if dim <= 256 else max(64, dim // 16)


def _human(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
