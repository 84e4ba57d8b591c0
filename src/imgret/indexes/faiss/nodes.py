"""The nodes of a graph: one for each distinct vector, with all its ids behind it."""

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

# Graphs whose nodes are distinct have a file name of their own: releases that know nothing of
# shared nodes do not find ``index.faiss`` and build their index again.
GRAPH_FILE = "graph.faiss"

# What a graph stores of vectors: uint8 of shape (n, bytes of a vector).
Codes: TypeAlias = NDArray[np.uint8]

# Bytes hashed at a time.
_BLOCK_BYTES = 2**18

# An odd number whose ones and zeros look random: 2**64 over the golden ratio.
_MIXER = np.uint64(0x9E3779B97F4A7C15)

# So many copies of a vector do a graph no harm (docs/decisions/0025).
_HARMLESS = 20


@dataclass(frozen=True, slots=True)
class Groups:
    """The positions behind each node, by node and then by id.

    Attributes
    ----------
    starts : int64 array of shape (nodes + 1,)
        The positions of node i are ``positions[starts[i] : starts[i + 1]]``.
    positions : int64 array of shape (n,)
    n_nodes : int
        Nodes with a position.
    """

    starts: Ids
    positions: Ids
    n_nodes: int

    def spread(self, nodes: Ids, scores: Embeddings, k: int) -> tuple[Ids, Embeddings]:
        """Return the first ``k`` positions behind the nodes of each row, in their order.

        Parameters
        ----------
        nodes : int64 array of shape (n, m)
            -1 where there is none.
        scores : float32 array of shape (n, m)
        k : int

        Returns
        -------
        positions : int64 array of shape (n, k)
            -1 where there are fewer.
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
        Of the same vectors.
    total : int
        Nodes of the graph.
    """
    in_order = bool((ids[1:] > ids[:-1]).all())
    order = np.argsort(nodes, kind="stable") if in_order else np.lexsort((ids, nodes))
    counts = np.bincount(nodes, minlength=total)
    starts = np.zeros(total + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return Groups(starts, positions[order], int(np.count_nonzero(counts)))


class Placed(NamedTuple):
    """Where new vectors go.

    Attributes
    ----------
    of : int64 array of shape (n,)
        Their nodes; new ones follow those there are.
    fresh : int64 array of shape (m,)
        Those to be added to the graph, in this order.
    hashes : uint64 array of shape (m,)
        Of what is stored of them.
    """

    of: Ids
    fresh: Ids
    hashes: NDArray[np.uint64]


class Nodes:
    """Which node of a graph each vector is, by its position in the index.

    A graph in which many nodes are equal loses others: the links of each copy lead to other
    copies, and a walk that comes among them does not find its way out. So vectors of which the
    graph would store the same share a node.

    Where there are no copies and nothing was removed, node i is position i and nothing is kept. To
    find copies, 12 bytes a node are, from the first change on.

    Parameters
    ----------
    of : int64 array of shape (n,), optional
        Node of each position; taken over. By default position i is node i.
    total : int
        Nodes of the graph, those included that no position is left of.

    Attributes
    ----------
    of : int64 array of shape (n,) or None
    total : int
        See the parameters.
    n_nodes : int
        Nodes with a position.
    shared : bool
        Whether a node has several positions.
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
        """Read what `save` wrote, for a graph of so many nodes."""
        path = directory / "nodes.npy"
        of = np.load(path, allow_pickle=False) if path.exists() else None
        if of is not None and len(of) and (of.min() < 0 or of.max() >= total):
            raise InvalidInputError(
                f"nodes.npy: expected nodes below {total}, found {of.min()} to {of.max()}"
            )
        return cls(of, total)

    def save(self, directory: Path) -> None:
        """Write the nodes of all positions, where they are not the positions."""
        if self.of is not None:
            np.save(directory / "nodes.npy", self.of, allow_pickle=False)

    def at(self, positions: NDArray[np.intp]) -> Ids:
        """Return the nodes of positions."""
        return positions if self.of is None else self.of[positions]

    def groups(self, ids: Ids) -> Groups:
        """Return the positions behind each node, given the ids by position."""
        if self._groups is None:  # several threads may come here: they find the same
            count = len(ids)
            self._groups = groups_of(self.at(np.arange(count)), np.arange(count), ids, self.total)
        return self._groups

    def positions(self, nodes: Ids) -> Ids:
        """Return the positions of nodes that are not shared; -1 where there is none."""
        if self.of is None:
            return nodes
        if self._place is None:
            place = np.full(self.total + 1, -1, dtype=np.int64)  # the last for node -1
            place[self.of] = np.arange(len(self.of))
            self._place = place
        return self._place[nodes]

    def find(self, codes: Codes, stored: Callable[[], Codes]) -> Placed:
        """Find out which vectors get nodes of their own.

        Parameters
        ----------
        codes : uint8 array of shape (n, bytes)
            What the graph would store of new vectors.
        stored : callable
            Returns what it stores of all its nodes.

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
        first = rest[_first_copies(hashes[rest], codes, rest)]  # of each, the first that is equal
        fresh = rest[first == rest]
        of[fresh] = self.total + np.arange(len(fresh))
        of[rest] = of[first]
        return Placed(of, fresh, hashes[fresh])

    def added(self, placed: Placed) -> None:
        """Take note of what `find` found, once the graph has the new nodes."""
        of, fresh, hashes = placed
        if self._known is not None and len(fresh):
            self._known.add(hashes, self.total)
        every = self.n_nodes == self.total
        if self.of is not None or len(fresh) < len(of):
            self.of = np.concatenate([self._whole(), of])
        self.total += len(fresh)
        self.n_nodes += len(fresh)
        if not every:  # nodes that no position was left of may have one again
            self._count()
        elif len(fresh) < len(of):
            self.shared = True
        self._groups = self._place = None

    def failed(self, total: int) -> None:
        """Take note that the graph has so many nodes, of which the new ones do not count."""
        if total != self.total:
            self.of = self._whole()
            self.total = total
            self._known = self._groups = self._place = None

    def without(self, positions: NDArray[np.intp], count: int) -> Ids:
        """Return the nodes of what stays, given how many positions there are."""
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
        """Return the nodes of other positions in the same graph."""
        nodes = Nodes(of, self.total)
        nodes._known = self._known
        return nodes


def distinct(codes: Codes, of: Ids) -> tuple[Ids, Ids] | None:
    """Find what to keep of a graph that was built with a node for each copy.

    Returns
    -------
    (nodes, of) or None
        The nodes to build another graph of, and for each position which of them it is; None where
        no vector has so many copies that they do harm.
    """
    first = _first_copies(_hashes(codes)[of], codes, of)
    nodes, placed, counts = np.unique(first, return_inverse=True, return_counts=True)
    if not counts.size or counts.max() <= _HARMLESS:
        return None
    return of[nodes], placed


def codes_of(index: Any, vectors: Embeddings) -> Codes:
    """Return what the index would store of vectors: uint8 of shape (n, bytes of a vector)."""
    part = faiss.downcast_index(index)
    while (inner := _inside(part)) is not None:
        if isinstance(part, faiss.IndexPreTransform):
            for step in range(part.chain.size()):
                vectors = faiss.downcast_VectorTransform(part.chain.at(step)).apply(vectors)
        part = inner
    if isinstance(part, faiss.IndexFlat):
        return np.add(vectors, 0, dtype=np.float32).view(np.uint8)  # + 0: -0.0 is 0.0
    codes: Codes = part.sa_encode(vectors)
    return codes


def codes_in(index: Any) -> Codes:
    """View what the index stores of its vectors, without a copy; valid until it changes."""
    part = faiss.downcast_index(index)
    while (inner := _inside(part)) is not None:
        part = inner
    if not part.ntotal:
        return np.empty((0, part.code_size), dtype=np.uint8)
    size = part.ntotal * part.code_size
    codes: Codes = faiss.rev_swig_ptr(part.codes.data(), size).reshape(part.ntotal, part.code_size)
    return codes


def _inside(part: Any) -> Any:
    """Return the part that keeps the vectors of another; None where it does so itself."""
    if isinstance(part, faiss.IndexPreTransform):
        return faiss.downcast_index(part.index)
    if isinstance(part, faiss.IndexRefine):
        return faiss.downcast_index(part.refine_index)
    if isinstance(part, faiss.IndexHNSW):
        return faiss.downcast_index(part.storage)
    return None


class _Known:
    """Hashes of all nodes, sorted, in pieces that are merged as they grow alike."""

    def __init__(self) -> None:
        self._pieces: list[tuple[NDArray[np.uint64], NDArray[np.int32]]] = []

    def add(self, hashes: NDArray[np.uint64], start: int) -> None:
        """Remember the nodes from ``start`` on."""
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
        """Return the node that is equal to each row; -1 where there is none."""
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
    """Return for each of some rows of codes, by number, the first of them that is equal.

    Rows of one hash that differ, which is hardly possible, count as different from all.
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
    """Return a number for each row: a sum of its words, each times an odd number of its own."""
    n, size = codes.shape
    odd = _odd_numbers(-(-size // 8))
    hashes = np.empty(n, dtype=np.uint64)
    step = max(1, _BLOCK_BYTES // size)
    for start in range(0, n, step):
        block = np.ascontiguousarray(codes[start : start + step])
        if size % 8:
            block = np.pad(block, ((0, 0), (0, -size % 8)))
        # Round numbers have their ones at the top only, where the product would drop them.
        mixed = block.view(np.uint64) * _MIXER
        mixed ^= mixed >> np.uint64(32)
        hashes[start : start + step] = mixed @ odd
    return hashes


@cache
def _odd_numbers(count: int) -> NDArray[np.uint64]:
    numbers = np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64)
    return numbers * np.uint64(2) + np.uint64(1)
