"""Nodes of a graph: one for each distinct vector, shared by all ids that have this vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.indexes.faiss import faiss
from imgret.types import Embeddings, Ids

__all__ = [
    "GRAPH_FILE",
    "Codes",
    "Groups",
    "Nodes",
    "codes_in",
    "codes_of",
    "distinct",
    "groups_of",
]

# Graphs with distinct nodes have their own file name: releases that do not know shared nodes do not
# find ``index.faiss`` and rebuild their index.
GRAPH_FILE = "graph.faiss"

# Vectors as a graph stores them: uint8 of shape (n, bytes per vector).
Codes: TypeAlias = NDArray[np.uint8]

# Bytes hashed at a time.
_BLOCK_BYTES = 2**18

# An odd number whose ones and zeros look random: 2**64 over the golden ratio.
_MIXER = np.uint64(0x9E3779B97F4A7C15)

# Up to this many copies of a vector do no harm to a graph (docs/decisions/0025).
_HARMLESS = 20


@dataclass(frozen=True, slots=True)
class Groups:
    """Positions grouped by node, in the order of nodes and then of ids.

    Attributes
    ----------
    starts : int64 array of shape (nodes + 1,)
        The positions of node i are ``positions[starts[i] : starts[i + 1]]``.
    positions : int64 array of shape (n,)
    n_nodes : int
        Number of nodes with at least one position.
    """

    starts: Ids
    positions: Ids
    n_nodes: int

    def spread(self, nodes: Ids, scores: Embeddings, k: int) -> tuple[Ids, Embeddings]:
        """Return the first ``k`` positions of the nodes in each row, in their order.

        Parameters
        ----------
        nodes : int64 array of shape (n, m)
            Nodes found, -1 if there are fewer.
        scores : float32 array of shape (n, m)
        k : int

        Returns
        -------
        positions : int64 array of shape (n, k)
            Padded with -1.
        scores : float32 array of shape (n, k)
        """
        n, m = nodes.shape
        first = self.starts[nodes]
        counts = np.where(nodes >= 0, self.starts[nodes + 1] - first, 0)
        before = np.cumsum(counts, axis=1) - counts
        counts = np.clip(k - before, 0, counts).ravel()
        place = np.repeat(np.arange(n * m), counts)
        along = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        where = place // m, before.ravel()[place] + along
        positions: Ids = np.full((n, k), -1, dtype=np.int64)
        positions[where] = self.positions[first.ravel()[place] + along]
        spread: Embeddings = np.full((n, k), -np.inf, dtype=np.float32)
        spread[where] = scores.ravel()[place]
        return positions, spread


def groups_of(nodes: Ids, positions: Ids, ids: Ids, total: int) -> Groups:
    """Group positions by their nodes.

    Parameters
    ----------
    nodes, positions, ids : int64 arrays of shape (n,)
        Node, position and id of each vector.
    total : int
        Number of nodes of the graph.
    """
    in_order = bool((ids[1:] > ids[:-1]).all())
    order = np.argsort(nodes, kind="stable") if in_order else np.lexsort((ids, nodes))
    counts = np.bincount(nodes, minlength=total)
    starts = np.zeros(total + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return Groups(starts, positions[order], int(np.count_nonzero(counts)))


class Placed(NamedTuple):
    """Nodes assigned to new vectors.

    Attributes
    ----------
    of : int64 array of shape (n,)
        Node of each vector; new nodes come after the existing ones.
    fresh : int64 array of shape (m,)
        Rows of the vectors to add to the graph, in this order.
    hashes : uint64 array of shape (m,)
        Hashes of the codes of these vectors.
    """

    of: Ids
    fresh: Ids
    hashes: NDArray[np.uint64]


class Nodes:
    """Mapping from positions in the index to nodes of a graph.

    If many nodes of a graph are equal, other nodes become unreachable: the links of each copy lead
    to other copies, and a walk that gets there does not find its way out. Therefore vectors that
    the graph would store alike share a node.

    If there are no copies and nothing was removed, node i is position i and no mapping is stored.
    From the first change on, 12 bytes per node are kept to find copies.

    Parameters
    ----------
    of : int64 array of shape (n,), optional
        Node of each position, not copied. By default position i is node i.
    total : int
        Number of nodes of the graph, including nodes without a position.

    Attributes
    ----------
    of : int64 array of shape (n,) or None
    total : int
        See the parameters.
    n_nodes : int
        Number of nodes with at least one position.
    shared : bool
        Whether any node has several positions.
    """

    def __init__(self, of: Ids | None = None, total: int = 0) -> None:
        self.of = of
        self.total = total
        self.shared = False
        self._known: _Known | None = None
        self._groups: Groups | None = None
        self._place: Ids | None = None
        self.n_nodes = total
        if of is not None and len(of) == total and bool((of == np.arange(total)).all()):
            self.of = None
        self._count()

    @classmethod
    def load(cls, directory: Path, total: int) -> Self:
        """Read the mapping that `save` wrote, for a graph of ``total`` nodes."""
        path = directory / "nodes.npy"
        of = np.load(path, allow_pickle=False) if path.exists() else None
        if of is not None and len(of) and (of.min() < 0 or of.max() >= total):
            raise InvalidInputError(
                f"nodes.npy: expected nodes below {total}, found {of.min()} to {of.max()}"
            )
        return cls(of, total)

    def save(self, directory: Path) -> None:
        """Write the mapping, unless every node equals its position."""
        if self.of is not None:
            np.save(directory / "nodes.npy", self.of, allow_pickle=False)

    def at(self, positions: NDArray[np.intp]) -> Ids:
        """Return the nodes of the given positions."""
        return positions if self.of is None else self.of[positions]

    def groups(self, ids: Ids) -> Groups:
        """Return the positions of each node, given the id of each position."""
        if self._groups is None:  # concurrent threads compute the same groups
            count = len(ids)
            self._groups = groups_of(self.at(np.arange(count)), np.arange(count), ids, self.total)
        return self._groups

    def positions(self, nodes: Ids) -> Ids:
        """Return the position of each node, if no nodes are shared; -1 for none."""
        if self.of is None:
            return nodes
        if self._place is None:
            place = np.full(self.total + 1, -1, dtype=np.int64)  # the last entry is for node -1
            place[self.of] = np.arange(len(self.of))
            self._place = place
        return self._place[nodes]

    def find(self, codes: Codes, stored: Callable[[], Codes]) -> Placed:
        """Assign nodes to new vectors: existing ones to copies, new ones to the rest.

        Parameters
        ----------
        codes : uint8 array of shape (n, bytes)
            New vectors as the graph would store them.
        stored : callable
            Function that returns the codes of all nodes of the graph.

        Returns
        -------
        Placed
        """
        if self._known is None:
            self._known = _Known()
            self._known.add(_hashes(stored()), 0)
        hashes = _hashes(codes)
        of = self._known.find(hashes, codes, stored)
        rest = np.flatnonzero(of < 0)
        first = rest[_first_copies(hashes[rest], codes, rest)]  # the first equal row of each
        fresh = rest[first == rest]
        of[fresh] = self.total + np.arange(len(fresh))
        of[rest] = of[first]
        return Placed(of, fresh, hashes[fresh])

    def added(self, placed: Placed) -> None:
        """Update the mapping with the result of `find`, after adding the new nodes to the graph."""
        of, fresh, hashes = placed
        if self._known is not None and len(fresh):
            self._known.add(hashes, self.total)
        every = self.n_nodes == self.total
        if self.of is not None or len(fresh) < len(of):
            self.of = np.concatenate([self._whole(), of])
        self.total += len(fresh)
        self.n_nodes += len(fresh)
        if not every:  # nodes without a position may have one again
            self._count()
        elif len(fresh) < len(of):
            self.shared = True
        self._groups = self._place = None

    def failed(self, total: int) -> None:
        """Update the mapping after a failed addition that left the graph with ``total`` nodes."""
        if total != self.total:
            self.of = self._whole()
            self.total = total
            self._known = self._groups = self._place = None

    def without(self, positions: NDArray[np.intp], count: int) -> Ids:
        """Return the nodes of the remaining positions out of ``count``."""
        keep = np.ones(count, dtype=bool)
        keep[positions] = False
        return np.flatnonzero(keep) if self.of is None else self.of[keep]

    def _whole(self) -> Ids:
        return np.arange(self.total) if self.of is None else self.of

    def _count(self) -> None:
        if self.of is not None:
            there = np.zeros(self.total, dtype=bool)
            there[self.of] = True
            self.n_nodes = int(np.count_nonzero(there))
            self.shared = len(self.of) > self.n_nodes

    def replaced(self, of: Ids) -> Nodes:
        """Return a mapping with other positions for the same graph."""
        nodes = Nodes(of, self.total)
        nodes._known = self._known
        return nodes


def distinct(codes: Codes, of: Ids) -> tuple[Ids, Ids] | None:
    """Find the nodes to keep of a graph that was built with a node for each copy.

    Returns
    -------
    (nodes, of) or None
        The nodes to rebuild the graph from, and for each position its row in ``nodes``. None if no
        vector has so many copies that they do harm.
    """
    first = _first_copies(_hashes(codes)[of], codes, of)
    nodes, placed, counts = np.unique(first, return_inverse=True, return_counts=True)
    if not counts.size or counts.max() <= _HARMLESS:
        return None
    return of[nodes], placed


def codes_of(index: Any, vectors: Embeddings) -> Codes:
    """Return vectors as the index would store them: uint8 of shape (n, bytes per vector)."""
    part = faiss.downcast_index(index)
    while (inner := _inside(part)) is not None:
        if isinstance(part, faiss.IndexPreTransform):
            for step in range(part.chain.size()):
                vectors = faiss.downcast_VectorTransform(part.chain.at(step)).apply(vectors)
        part = inner
    if isinstance(part, faiss.IndexFlat):
        return np.add(vectors, 0, dtype=np.float32).view(np.uint8)  # + 0 turns -0.0 into 0.0
    codes: Codes = part.sa_encode(vectors)
    return codes


def codes_in(index: Any) -> Codes:
    """Return a view of the codes the index stores, valid until it changes."""
    part = faiss.downcast_index(index)
    while (inner := _inside(part)) is not None:
        part = inner
    if not part.ntotal:
        return np.empty((0, part.code_size), dtype=np.uint8)
    size = part.ntotal * part.code_size
    codes: Codes = faiss.rev_swig_ptr(part.codes.data(), size).reshape(part.ntotal, part.code_size)
    return codes


def _inside(part: Any) -> Any:
    """Return the inner part that stores the vectors; None if the part stores them itself."""
    if isinstance(part, faiss.IndexPreTransform):
        return faiss.downcast_index(part.index)
    if isinstance(part, faiss.IndexRefine):
        return faiss.downcast_index(part.refine_index)
    if isinstance(part, faiss.IndexHNSW):
        return faiss.downcast_index(part.storage)
    return None


class _Known:
    """Sorted hashes of all nodes, in pieces that are merged when they are of similar size."""

    def __init__(self) -> None:
        self._pieces: list[tuple[NDArray[np.uint64], NDArray[np.int32]]] = []

    def add(self, hashes: NDArray[np.uint64], start: int) -> None:
        """Add the hashes of the nodes from ``start`` on."""
        piece = _sorted(hashes, np.arange(start, start + len(hashes), dtype=np.int32))
        while self._pieces and len(self._pieces[-1][0]) <= 2 * len(piece[0]):
            other = self._pieces.pop()
            hashes, nodes = (
                np.concatenate([other[0], piece[0]]),
                np.concatenate([other[1], piece[1]]),
            )
            piece = _sorted(hashes, nodes)
        self._pieces.append(piece)

    def find(self, hashes: NDArray[np.uint64], codes: Codes, stored: Callable[[], Codes]) -> Ids:
        """Return the node that is equal to each row; -1 for none."""
        found: Ids = np.full(len(hashes), -1, dtype=np.int64)
        for known, nodes in self._pieces:
            if not len(known):
                continue
            place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            alike = np.flatnonzero((known[place] == hashes) & (found < 0))
            if alike.size:
                node = nodes[place[alike]]
                equal = (stored()[node] == codes[alike]).all(axis=1)
                found[alike[equal]] = node[equal]
        return found


def _sorted(
    hashes: NDArray[np.uint64], nodes: NDArray[np.int32]
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    order = np.argsort(hashes)
    return hashes[order], nodes[order]


def _first_copies(hashes: NDArray[np.uint64], codes: Codes, rows: Ids) -> Ids:
    """Return for each of the given rows of codes the number of the first equal one.

    Rows that differ but have the same hash, which is very unlikely, count as distinct.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    leaders = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    first = np.arange(len(order))
    others = np.flatnonzero(~begins)
    if others.size:
        copy, leader = order[others], leaders[others]
        equal = (codes[rows[copy]] == codes[rows[leader]]).all(axis=1)
        first[copy[equal]] = leader[equal]
    return first


def _hashes(codes: Codes) -> NDArray[np.uint64]:
    """Return a hash for each row: the sum of its words, each times its own odd number."""
    n, size = codes.shape
    odd = _odd_numbers(-(-size // 8))
    hashes = np.empty(n, dtype=np.uint64)
    step = max(1, _BLOCK_BYTES // size)
    for start in range(0, n, step):
        block = np.ascontiguousarray(codes[start : start + step])
        if size % 8:
            block = np.pad(block, ((0, 0), (0, -size % 8)))
        # Round numbers have set bits only at the top, where the product would drop them.
        mixed = block.view(np.uint64) * _MIXER
        mixed ^= mixed >> np.uint64(32)
        hashes[start : start + step] = mixed @ odd
    return hashes


@cache
def _odd_numbers(count: int) -> NDArray[np.uint64]:
    numbers = np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64)
    return numbers * np.uint64(2) + np.uint64(1)
