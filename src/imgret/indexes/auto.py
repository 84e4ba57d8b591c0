"""Which index for how many vectors, after Faiss's "Guidelines to choose an index".

https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from imgret.abc.checks import check_count
from imgret.types import Json

__all__ = ["Choice", "choose"]

# Up to here every query is compared with every vector: at most some 10 ms on one core.
_FLAT_VECTORS = 50_000
_FLAT_VALUES = 2**25

# Training vectors a k-means centroid wants.
_POINTS_PER_CENTROID = 39

_HNSW_M = 32
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """An index to make.

    Attributes
    ----------
    name : str
        Registered name; ``registry.create("indexes", name, dim=..., metric=..., **options)``.
    options : dict
        Keyword arguments beside ``dim`` and ``metric``.
    reason : str
        Why, as a sentence.
    memory_bytes : int
        About what the index will hold in memory.
    """

    name: str
    options: Json
    reason: str
    memory_bytes: int


def choose(n: int, dim: int, *, memory_bytes: int | None = None) -> Choice:
    """Choose an index for ``n`` vectors.

    Exact up to about 50,000 vectors, and beyond where a scan is still cheap; then HNSW if
    it fits, else an inverted file, else one that compresses the vectors.

    Parameters
    ----------
    n : int
        Vectors the index will hold, at least 1.
    dim : int
        Their dimension.
    memory_bytes : int, optional
        Memory the index may take, in bytes; by default any.

    Returns
    -------
    Choice
        The first of the candidates that fits; where none does, the smallest, and the
        reason says so.

    Examples
    --------
    >>> choose(2_000, 1280).name
    'flat'
    >>> choose(1_000_000, 128).name
    'hnsw'
    >>> choose(1_000_000, 128, memory_bytes=200_000_000).name
    'faiss:IVF4000,SQ8'
    """
    n = check_count(n, "n")
    dim = check_count(dim, "dim")
    if memory_bytes is not None:
        memory_bytes = check_count(memory_bytes, "memory_bytes")
    candidates = _small(n, dim) if _scan_is_cheap(n, dim) else _large(n, dim)
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


def _small(n: int, dim: int) -> list[_Candidate]:
    return [
        ("flat", {}, n * (4 * dim + _ID_BYTES), "comparing with all of them is fast and exact"),
        ("faiss:SQ8", {}, n * (dim + _ID_BYTES), "8 bits a value, a quarter of the memory"),
        (
            "faiss:SQ4",
            {},
            n * (math.ceil(dim / 2) + _ID_BYTES),
            "4 bits a value, an eighth of the memory, some recall lost",
        ),
    ]


def _large(n: int, dim: int) -> list[_Candidate]:
    nlist = max(1, min(round(4 * math.sqrt(n)), n // _POINTS_PER_CENTROID))
    nprobe = min(nlist, max(8, math.isqrt(nlist)))
    parameters = {"parameters": f"nprobe={nprobe}"}
    lists = nlist * dim * 4 + n * 2 * _ID_BYTES  # centroids; ids in the lists and by position
    found: list[_Candidate] = [
        (
            "hnsw",
            {"M": _HNSW_M},
            n * (4 * dim + 2 * 4 * _HNSW_M + _ID_BYTES),
            "a graph finds nearly all of the true neighbours fast, and there is memory for it",
        ),
        (
            "ivf",
            {"nlist": nlist},
            n * 4 * dim + lists,
            "an inverted file needs no memory for a graph",
        ),
        (
            f"faiss:IVF{nlist},SQ8",
            parameters,
            n * dim + lists,
            "an inverted file with 8 bits a value, a quarter of the memory",
        ),
    ]
    # Product quantization wants two values or more a byte; the finest first.
    found.extend(
        (
            f"faiss:IVF{nlist},PQ{dim // per_byte}np",
            parameters,
            n * (dim // per_byte) + lists,
            f"an inverted file with {per_byte} values a byte; search more and re-rank",
        )
        for per_byte in (2, 4, 8, 16)
        if dim % per_byte == 0
    )
    return found


def _human(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
