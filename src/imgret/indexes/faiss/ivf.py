"""Inverted-file indexes, which visit only the lists nearest to the query."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.indexes.auto import PQ_LISTS, default_code_bytes
from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import (
    TABLE_BYTES,
    FaissIndex,
    clear_end,
    id_selector,
    scan_work,
    search_params,
    threads,
)
from imgret.indexes.faiss.directions import directions
from imgret.support.checks import check_count
from imgret.support.interrupts import aside
from imgret.support.locks import RLock
from imgret.support.warning import warn
from imgret.types import Embeddings, Ids, Json, Metric

__all__ = ["IVFIndex", "IVFPQIndex", "Lists"]

# Numbers of visited lists to try.
_NPROBES = [1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]

# Training vectors per list for lists of codes; more gain little.
_POINTS_FOR_CODES = 64

# Faiss's implementation that searches query by query, list by list, and keeps more candidates than
# asked for until there are too many. With 40 candidates it is 8 % faster than one with a heap (10).
_LIST_BY_LIST = 11

# Training vectors used as queries to measure how many vectors the visited lists hold.
_POINTS_ASKED = 256

# Minimum number of training points per list for k-means (faiss.ClusteringParameters).
_POINTS_PER_LIST = 39


class Lists:
    """An inverted file inside a Faiss index, which stores ids beside the vectors.

    Faiss's own lists do not work well for inner products of vectors of any length: a vector goes
    to the list whose centroid has the greatest product with it, and the longest centroids have that
    with every vector. Here it goes to the nearest centroid, and queries visit the centroids with
    the greatest product: see ``docs/decisions/0026-lists-for-inner-products.md``.

    Parameters
    ----------
    index : faiss.Index
        Inverted file, with or without transforms before it.
    by_nearest : bool
        If true, vectors go to the nearest centroid although the metric is the inner product.
    """

    def __init__(self, index: Any, *, by_nearest: bool = False) -> None:
        self.index = index
        self.by_nearest = by_nearest
        self._nearest: Any = None
        self.ivf = faiss.extract_index_ivf(index)
        lists = faiss.downcast_InvertedLists(self.ivf.invlists)
        self._packed: Any = lists if isinstance(lists, faiss.BlockInvertedLists) else None
        self._lock = RLock(brief=True)

    @property
    def file(self) -> str:
        """Name of the index file, which depends on how vectors are assigned to lists."""
        return "lists.faiss" if self.by_nearest else "index.faiss"

    def train(self, vectors: Embeddings, share: float | None = None) -> None:
        """Train the centroids of the lists, and the codes.

        With ``share`` and ``by_nearest``, ``nprobe`` becomes the number of lists that hold this
        share of the vectors, as the lists of long vectors hold few.
        """
        if not self.by_nearest:
            self.index.train(vectors)
            return
        if isinstance(self.index, faiss.IndexPreTransform):
            for place in range(self.index.chain.size()):
                step = faiss.downcast_VectorTransform(self.index.chain.at(place))
                if not step.is_trained:
                    step.train(vectors)
                vectors = step.apply(vectors)
        self.ivf.quantizer.reset()
        self.ivf.quantizer.add(_mean_centroids(vectors, self.ivf.nlist, self.ivf.cp))
        self._nearest = None
        with self._sorted_by_nearest():
            self.ivf.train(vectors)
        self.index.is_trained = True
        if share is not None:
            self.ivf.nprobe = self._probes(vectors, share)

    def _probes(self, vectors: Embeddings, share: float) -> int:
        """Return how many lists, in the order of visits, hold this share of the vectors."""
        centroids = self.ivf.quantizer.reconstruct_n(0, self.ivf.nlist)
        some = vectors[:: -(-len(vectors) // _POINTS_ASKED)]
        _, numbers = self._nearest.search(vectors, 1)
        held = np.bincount(numbers[:, 0], minlength=self.ivf.nlist) / len(vectors)
        order = np.argsort(-(some @ centroids.T), axis=1)
        reached = np.cumsum(held[order], axis=1).mean(axis=0)
        return int(min(np.searchsorted(reached, share) + 1, self.ivf.nlist))

    @contextmanager
    def _sorted_by_nearest(self) -> Iterator[None]:
        """Within the block, let Faiss assign vectors to the nearest centroid."""
        if not self.by_nearest:
            yield
            return
        given = self.ivf.quantizer
        if self._nearest is None:
            self._nearest = faiss.IndexFlatL2(given.d)
            self._nearest.add(given.reconstruct_n(0, given.ntotal))
        try:
            self.ivf.quantizer = self._nearest
            yield
        finally:
            self.ivf.quantizer = given
            self._nearest.thisown = True  # setting a part gives up its ownership

    def add(self, vectors: Embeddings, ids: Ids) -> None:
        """Add all vectors, or none if Faiss raises."""
        self._forget_map()
        before = self.index.ntotal
        try:
            work = len(vectors) * self.ivf.nlist * self.index.d
            with threads(work), self._sorted_by_nearest():
                self.index.add_with_ids(vectors, ids)
        except BaseException:
            if self.index.ntotal > before:
                self.remove(ids)
            raise

    def remove(self, ids: Ids) -> None:
        """Remove ids; ids that are not present are ignored."""
        self._forget_map()
        before = self._sizes()
        with threads(self.index.ntotal):
            self.index.remove_ids(id_selector(ids))
        for changed in np.flatnonzero(self._sizes() != before).tolist():
            clear_end(
                self._packed.packer,
                self._packed.get_codes(changed),
                self._packed.list_size(changed),
            )

    def renumber(self, before: Ids, after: Ids) -> None:
        """Replace ids by those at the same places of another array."""
        self._forget_map()
        order = np.argsort(before)
        before, after = before[order], after[order]
        lists = self.ivf.invlists
        for number in range(self.ivf.nlist):
            if size := lists.list_size(number):
                stored = faiss.rev_swig_ptr(lists.get_ids(number), size)
                stored[:] = after[np.searchsorted(before, stored)]

    def _sizes(self) -> NDArray[np.int64]:
        """Return the length of every list of fast-scan codes; empty for other lists."""
        count = 0 if self._packed is None else self.ivf.nlist
        sizes = (self._packed.list_size(place) for place in range(count))
        return np.fromiter(sizes, dtype=np.int64, count=count)

    def work(self, n_allowed: int | None) -> float:
        """Return the approximate number of vectors and centroids a query is compared with."""
        total, nlist = self.ivf.ntotal, self.ivf.nlist
        scanned = total * self.nprobe(n_allowed) / nlist
        return float(nlist + scan_work(scanned, total, n_allowed))

    def nprobe(self, n_allowed: int | None) -> int:
        """Return the number of lists to visit, more if a filter excludes vectors."""
        if n_allowed is None:
            return int(self.ivf.nprobe)
        wide = math.ceil(self.ivf.nprobe * self.ivf.ntotal / max(n_allowed, 1))
        return int(min(self.ivf.nlist, wide))

    def sweep(self) -> list[int]:
        """Return the numbers of visited lists to try, up to all lists."""
        return [*(step for step in _NPROBES if step < self.ivf.nlist), int(self.ivf.nlist)]

    def reconstruct(self, ids: Ids) -> Embeddings:
        """Return the vectors as the lists hold them."""
        with self._lock:  # the map from ids to list entries is made on first use
            if self.ivf.direct_map.type != faiss.DirectMap.Hashtable:
                self.ivf.set_direct_map_type(faiss.DirectMap.Hashtable)
        with threads(len(ids) * self.index.d):
            vectors: Embeddings = self.index.reconstruct_batch(ids)
        return vectors

    def search(
        self,
        ask: Callable[..., tuple[Ids, Embeddings]],
        queries: Embeddings,
        k: int,
        n_allowed: int | None,
        selector: Any,
    ) -> tuple[Ids, Embeddings]:
        """Search for neighbours, and visit more lists if the visited ones hold too few."""
        nlist, nprobe = self.ivf.nlist, self.nprobe(n_allowed)
        params = None if selector is None else self._params(selector, nprobe)
        ids, scores = ask(queries, k, params)
        while nprobe < nlist and (short := ids[:, -1] < 0).any():
            nprobe = min(4 * nprobe, nlist)
            ids[short], scores[short] = ask(queries[short], k, self._params(selector, nprobe))
        return ids, scores

    def _forget_map(self) -> None:
        """Drop the map from ids to list entries, as not every list type keeps it up to date."""
        self.ivf.set_direct_map_type(faiss.DirectMap.NoMap)

    def _params(self, selector: Any, nprobe: int) -> Any:
        return search_params(self.index, faiss.SearchParametersIVF(sel=selector, nprobe=nprobe))


def _mean_centroids(vectors: Embeddings, n: int, given: Any) -> Embeddings:
    """Return centroids of lists that hold similar vectors, with long vectors in lists of their own.

    k-means runs with one additional dimension, which makes all vectors as long as the longest.
    Without it, many short vectors would get most lists, and long ones would not be found (Bachrach
    et al., "Speeding up the Xbox recommender system using a Euclidean transformation for
    inner-product spaces", RecSys 2014). The centroids are the means of the original vectors.
    """
    parameters = faiss.ClusteringParameters()
    parameters.niter, parameters.seed = given.niter, given.seed
    parameters.min_points_per_centroid = 1  # avoids a warning on stderr
    parameters.max_points_per_centroid = given.max_points_per_centroid
    squares = np.vecdot(vectors, vectors)
    more = np.sqrt(np.maximum(squares.max() - squares, 0))
    wide = np.column_stack([vectors, more])
    dim = vectors.shape[1]
    clustering = faiss.Clustering(dim + 1, n, parameters)
    index = faiss.IndexFlatL2(dim + 1)
    clustering.train(wide, index)
    _, numbers = index.search(wide, 1)
    order = np.argsort(numbers[:, 0], kind="stable")
    there, starts, counts = np.unique(numbers[order, 0], return_index=True, return_counts=True)
    wide = faiss.vector_to_array(clustering.centroids).reshape(n, dim + 1)
    centroids: Embeddings = wide[:, :dim].copy()
    centroids[there] = np.add.reduceat(vectors[order], starts, axis=0) / counts[:, None]
    return centroids


class _InvertedFile(FaissIndex):
    """Base class of the inverted-file indexes, independent of how vectors are stored."""

    needs_training = True
    supports_remove = True
    supports_allowed = True
    _least_training = 1
    _default_lists = 4.0  # times the square root of the number of vectors
    _default_probes = 1.0  # times the square root of the number of lists
    reconstructs_slowly = True  # by a hash table, which every change drops

    def __init__(self, dim: int, metric: Metric, *, nlist: int | None, nprobe: int | None) -> None:
        super().__init__(dim, metric)
        self._asked_nlist = None if nlist is None else check_count(nlist, "nlist")
        self._asked_nprobe = None if nprobe is None else check_count(nprobe, "nprobe")
        self._trained_probes: int | None = None  # for inner products

    @abstractmethod
    def _untrained(self, nlist: int, vectors: Embeddings) -> Any:
        """Return an untrained Faiss index with ``nlist`` lists, for vectors like these."""

    @property
    def nlist(self) -> int | None:
        """Number of lists; before training, the requested number."""
        return int(self._lists.ivf.nlist) if self.is_trained else self._asked_nlist

    @property
    def nprobe(self) -> int | None:
        """Number of lists visited per query; before training, the requested number."""
        return int(self._lists.ivf.nprobe) if self.is_trained else self._asked_nprobe

    def _options(self) -> Json:
        return {"nlist": self._asked_nlist, "nprobe": self._asked_nprobe}

    def _comparisons(self, k: int, n_allowed: int | None) -> float:  # noqa: ARG002  # the same for all
        return self._lists.work(n_allowed)

    def _search_options(self) -> Mapping[str, Sequence[int]]:
        return {"nprobe": self._lists.sweep() if self.is_trained else _NPROBES}

    def _configure(self, settings: Mapping[str, int]) -> None:
        self._asked_nprobe = settings["nprobe"]
        if self.is_trained:
            self._set_lists(self._faiss)

    def _set_lists(self, index: Any) -> None:
        self._faiss = index
        self._lists = Lists(index, by_nearest=self.metric.rewards_length)
        nlist = int(self._lists.ivf.nlist)
        default = self._probes_by_default(nlist)
        if self.metric.rewards_length:
            default = max(default, self._trained_probes or self._lists.ivf.nprobe)
            self._trained_probes = default
        self._lists.ivf.nprobe = min(self._asked_nprobe or default, nlist)

    def _probes_by_default(self, nlist: int) -> int:
        return max(8, int(self._default_probes * math.sqrt(nlist)))

    def _train(self, vectors: Embeddings) -> None:
        self._trained_probes = None
        count = len(vectors)
        wanted = self._asked_nlist or round(self._default_lists * math.sqrt(self._expected))
        nlist = max(1, min(wanted, count // _POINTS_PER_LIST))
        if self._asked_nlist is not None and nlist < wanted:
            warn(
                f"nlist={wanted} needs at least {wanted * _POINTS_PER_LIST} training vectors, "
                f"found {count}; the index gets {nlist} lists"
            )
        if count < self._least_training:  # some vectors become several centroids
            vectors = np.resize(vectors, (self._least_training, self.dim))
        index = self._untrained(nlist, vectors)
        cells = faiss.extract_index_ivf(index).cp
        cells.min_points_per_centroid = 1  # checked above
        share = 2 * self._probes_by_default(nlist) / nlist
        lists = Lists(index, by_nearest=self.metric.rewards_length)

        def train() -> None:
            with threads(count * nlist * self.dim * cells.niter):
                lists.train(vectors, share)

        aside(train)  # codes are trained without a look at signals
        self._set_lists(index)

    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        self._lists.add(vectors, ids)

    def _remove(self, ids: Ids) -> None:
        self._lists.remove(ids)

    def _renumber(self, ids: Ids) -> None:
        self._lists.renumber(self.ids, ids)

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        return self._search_lists(self._lists, queries, k, allowed)

    def _reconstruct(self, ids: Ids) -> Embeddings:
        return self._lists.reconstruct(ids)

    def _save(self, directory: Path) -> None:
        self._write(directory, self._lists.file)

    def _load(self, directory: Path) -> None:
        name = "lists.faiss" if self.metric.rewards_length else "index.faiss"
        self._set_lists(self._read(directory, name))


@final
class IVFIndex(_InvertedFile):
    """Visits the lists (k-means cells) nearest to the query (Faiss ``IndexIVFFlat``).

    It takes ``4 * dim + 8`` bytes per vector. If the visited lists hold too few vectors, or too
    few that are allowed, more lists are visited, up to all.

    Parameters
    ----------
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        See `VectorIndex`.
    nlist : int, optional
        Number of lists; by default ``4 * sqrt(n)`` for ``n`` expected vectors. k-means needs 39
        vectors per list: with fewer vectors the index gets fewer lists, and warns if ``nlist``
        was given.
    nprobe : int, optional
        Number of lists visited per query; by default ``sqrt(nlist)``, and at least 8. For metric
        ``"ip"`` it is more, until the visited lists hold about twice that share of the vectors.

    References
    ----------
    J. Sivic and A. Zisserman, "Video Google: a text retrieval approach to object matching
    in videos", ICCV 2003.
    """

    name = "ivf"

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        nlist: int | None = None,
        nprobe: int | None = None,
    ) -> None:
        super().__init__(dim, metric, nlist=nlist, nprobe=nprobe)

    def _untrained(self, nlist: int, vectors: Embeddings) -> Any:  # noqa: ARG002  # the same for all
        return faiss.index_factory(self.dim, f"IVF{nlist},Flat", self._faiss_metric)


@final
class IVFPQIndex(_InvertedFile):
    """Visits the nearest lists and compares short codes (Faiss ``IndexIVFPQFastScan``).

    It takes ``code_bytes + 16`` bytes per vector. The residual of a vector from the centre of its
    cell is rotated at random, so that all dimensions matter equally, and split into
    ``2 * code_bytes`` pieces of 4 bits. If the training vectors differ mostly in a few directions,
    only these are coded. The distance tables of the pieces stay in registers, where
    many distances are added at once. A gallery re-ranks the results by the stored embeddings;
    without a gallery, the codes alone determine the recall.

    Parameters
    ----------
    dim, metric
        As for `IVFIndex`.
    nlist : int, optional
        Number of lists; by default ``3 * sqrt(n)`` for ``n`` expected vectors.
    nprobe : int, optional
        Number of lists visited per query; by default ``0.5 * sqrt(nlist)``, and at least 8. For
        metric ``"ip"`` it is more, as in `IVFIndex`.
    code_bytes : int, optional
        Bytes per vector, at most one for every 2 dimensions. By default one for every 4 dimensions
        up to 256; beyond that one for every 16, and at least 64.
    refine : int
        Number of candidates to re-rank per requested neighbour; see `VectorIndex`.

    References
    ----------
    H. Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011; F. Andre et
    al., "Cache locality is not enough: high-performance nearest neighbor search with product
    quantization fast scan", VLDB 2015.
    """

    name = "ivf-pq"
    _table_bytes = TABLE_BYTES
    _least_training = 16  # centroids of 4 bits
    _default_lists = PQ_LISTS
    _default_probes = 0.5
    is_compressed = True

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        nlist: int | None = None,
        nprobe: int | None = None,
        code_bytes: int | None = None,
        refine: int = 8,
    ) -> None:
        super().__init__(dim, metric, nlist=nlist, nprobe=nprobe)
        dim = self.dim
        self.code_bytes = default_code_bytes(dim) if code_bytes is None else code_bytes
        if check_count(self.code_bytes, "code_bytes") > max(1, self.dim // 2):
            raise InvalidInputError(
                f"code_bytes: expected at most {max(1, self.dim // 2)} for dimension {self.dim}, "
                f"one byte for every 2 values, found {self.code_bytes}"
            )
        self.refine = check_count(refine, "refine")

    def _set_lists(self, index: Any) -> None:
        super()._set_lists(index)
        faiss.downcast_index(index.index).implem = _LIST_BY_LIST

    def _options(self) -> Json:
        return {**super()._options(), "code_bytes": self.code_bytes, "refine": self.refine}

    def _untrained(self, nlist: int, vectors: Embeddings) -> Any:
        pieces = 2 * self.code_bytes
        coded = directions(vectors, pieces)
        # Rotated into a dimension that the pieces divide, which may be slightly larger.
        wide = pieces * math.ceil(self.dim / pieces) if coded is None else len(coded)
        factory = f"RR{wide},IVF{nlist},PQ{pieces}x4fsr"
        index = faiss.index_factory(self.dim, factory, self._faiss_metric)
        if coded is not None:
            turn = faiss.downcast_VectorTransform(index.chain.at(0))
            faiss.copy_array_to_vector(coded.ravel(), turn.A)
            turn.is_trained = turn.is_orthonormal = True
        inner = faiss.downcast_index(index.index)
        inner.pq.cp.min_points_per_centroid = 1  # avoids a warning on stderr
        inner.cp.max_points_per_centroid = _POINTS_FOR_CODES
        return index

    def _load(self, directory: Path) -> None:
        super()._load(directory)
        # Faiss does not restore this pointer, and crashes in reconstruct without it.
        inner = faiss.downcast_index(self._faiss.index)
        inner.fine_quantizer = inner.pq
