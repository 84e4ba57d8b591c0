"""Search in an inverted file: only the lists nearest to the query are visited."""

from __future__ import annotations

import math
import warnings
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
    FaissIndex,
    clear_end,
    id_selector,
    scan_work,
    search_params,
    threads,
)
from imgret.support.checks import check_count
from imgret.support.locks import RLock
from imgret.types import Embeddings, Ids, Json, Metric

__all__ = ["IVFIndex", "IVFPQIndex", "Lists"]

# Numbers of lists to try, up to a scan of most.
_NPROBES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]

# Training vectors a list that lists of codes are laid by: more gain little here.
_POINTS_FOR_CODES = 64

# Searches of one query after another, list by list; on one core the fastest of Faiss's ways.
_LIST_BY_LIST = 10

# Training vectors asked for, to see how many vectors the lists hold that are visited.
_POINTS_ASKED = 256

# k-means wants at least this many training points a list (faiss.ClusteringParameters).
_POINTS_PER_LIST = 39


class Lists:
    """An inverted file inside a Faiss index; it keeps the ids itself, beside the vectors.

    For inner products of vectors of any length, Faiss's own lists will not do: a vector goes to
    the list whose centroid has the greatest product with it, which the longest ones have with
    everything. Here it goes to the nearest centroid, and queries visit those of the greatest
    product: see ``docs/decisions/0026-lists-for-inner-products.md``.

    Parameters
    ----------
    index : faiss.Index
        An inverted file, or one behind transforms.
    by_nearest : bool
        Whether vectors go to the nearest centroid although the metric is the inner product.
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
        """Name of the file they are kept in; another one where lists were laid in another way."""
        return "lists.faiss" if self.by_nearest else "index.faiss"

    def train(self, vectors: Embeddings, share: float | None = None) -> None:
        """Lay the lists, and learn what else the index needs to know.

        With ``share``, as many lists are visited as hold this share of the vectors, where the lists
        of the long ones hold few.
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
        """Return how many lists hold a share of the vectors, as queries visit them."""
        centroids = self.ivf.quantizer.reconstruct_n(0, self.ivf.nlist)
        some = vectors[:: -(-len(vectors) // _POINTS_ASKED)]
        _, numbers = self._nearest.search(vectors, 1)
        held = np.bincount(numbers[:, 0], minlength=self.ivf.nlist) / len(vectors)
        order = np.argsort(-(some @ centroids.T), axis=1)
        reached = np.cumsum(held[order], axis=1).mean(axis=0)
        return int(min(np.searchsorted(reached, share) + 1, self.ivf.nlist))

    @contextmanager
    def _sorted_by_nearest(self) -> Iterator[None]:
        """Let Faiss put vectors into the lists of the nearest centroids within the block."""
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
            self._nearest.thisown = True  # whoever sets a part gives it away

    def add(self, vectors: Embeddings, ids: Ids) -> None:
        """Add all or, where Faiss raises, none."""
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
        """Take ids out; those that are not there are passed over."""
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

    def _sizes(self) -> NDArray[np.int64]:
        """Return the length of every list of codes for fast scan; of other lists, nothing."""
        count = 0 if self._packed is None else self.ivf.nlist
        sizes = (self._packed.list_size(place) for place in range(count))
        return np.fromiter(sizes, dtype=np.int64, count=count)

    def work(self, n_allowed: int | None) -> float:
        """Return about how many vectors and centroids a query is compared with."""
        total, nlist = self.ivf.ntotal, self.ivf.nlist
        scanned = total * self.nprobe(n_allowed) / nlist
        return float(nlist + scan_work(scanned, total, n_allowed))

    def nprobe(self, n_allowed: int | None) -> int:
        """Return the lists to visit: so many more as a filter takes vectors out of them."""
        if n_allowed is None:
            return int(self.ivf.nprobe)
        wide = math.ceil(self.ivf.nprobe * self.ivf.ntotal / max(n_allowed, 1))
        return int(min(self.ivf.nlist, wide))

    def sweep(self) -> list[int]:
        """Return numbers of lists to visit, up to all."""
        return [*(step for step in _NPROBES if step < self.ivf.nlist), int(self.ivf.nlist)]

    def reconstruct(self, ids: Ids) -> Embeddings:
        """Return the vectors as the lists hold them."""
        with self._lock:  # the map from ids into the lists is made on first use
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
        """Ask for neighbours, in more of the lists where those visited hold too few."""
        nlist, nprobe = self.ivf.nlist, self.nprobe(n_allowed)
        params = None if selector is None else self._params(selector, nprobe)
        ids, scores = ask(queries, k, params)
        while nprobe < nlist and (short := ids[:, -1] < 0).any():
            nprobe = min(4 * nprobe, nlist)
            ids[short], scores[short] = ask(queries[short], k, self._params(selector, nprobe))
        return ids, scores

    def _forget_map(self) -> None:
        """Drop the map from ids into the lists, which not every kind keeps up to date."""
        self.ivf.set_direct_map_type(faiss.DirectMap.NoMap)

    def _params(self, selector: Any, nprobe: int) -> Any:
        return search_params(self.index, faiss.SearchParametersIVF(sel=selector, nprobe=nprobe))


def _mean_centroids(vectors: Embeddings, n: int, given: Any) -> Embeddings:
    """Return centroids of lists that hold vectors near one another, the long ones by themselves.

    k-means after one more dimension, which makes all of them as long as the longest; where many
    vectors are short, they would get most lists otherwise, and long ones be found nowhere (Bachrach
    et al., "Speeding up the Xbox recommender system using a Euclidean transformation for
    inner-product spaces", RecSys 2014). The centroids are the means of the vectors themselves.
    """
    parameters = faiss.ClusteringParameters()
    parameters.niter, parameters.seed = given.niter, given.seed
    parameters.min_points_per_centroid = 1  # or it warns on stderr
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
    """What inverted files share, whatever form their vectors are kept in."""

    needs_training = True
    supports_remove = True
    supports_allowed = True
    _least_training = 1
    _default_lists = 4.0  # of the square root of the number of vectors
    _default_probes = 1.0  # of the square root of the number of lists
    reconstructs_slowly = True  # by a hash table, forgotten at every change

    def __init__(self, dim: int, metric: Metric, *, nlist: int | None, nprobe: int | None) -> None:
        super().__init__(dim, metric)
        self._asked_nlist = None if nlist is None else check_count(nlist, "nlist")
        self._asked_nprobe = None if nprobe is None else check_count(nprobe, "nprobe")
        self._trained_probes: int | None = None  # for inner products

    @abstractmethod
    def _untrained(self, nlist: int) -> Any:
        """Return a Faiss index of so many lists."""

    @property
    def nlist(self) -> int | None:
        """Lists there are; before training, what was asked for."""
        return int(self._lists.ivf.nlist) if self.is_trained else self._asked_nlist

    @property
    def nprobe(self) -> int | None:
        """Lists visited a query; before training, what was asked for."""
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
            warnings.warn(
                f"nlist={wanted} needs at least {wanted * _POINTS_PER_LIST} training vectors, "
                f"found {count}; the index gets {nlist} lists",
                UserWarning,
                stacklevel=3,
            )
        if count < self._least_training:  # then some are centroids several times
            vectors = np.resize(vectors, (self._least_training, self.dim))
        index = self._untrained(nlist)
        cells = faiss.extract_index_ivf(index).cp
        cells.min_points_per_centroid = 1  # looked after above
        with threads(count * nlist * self.dim * cells.niter):
            share = 2 * self._probes_by_default(nlist) / nlist
            Lists(index, by_nearest=self.metric.rewards_length).train(vectors, share)
        self._set_lists(index)

    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        self._lists.add(vectors, ids)

    def _remove(self, ids: Ids) -> None:
        self._lists.remove(ids)

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

    Memory: ``4 * dim + 8`` bytes a vector. Where the lists visited hold too few vectors,
    or few that are allowed, more are visited, up to all.

    Parameters
    ----------
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        See `VectorIndex`.
    nlist : int, optional
        Lists; by default ``4 * sqrt(n)`` for ``n`` expected vectors. k-means needs 39
        vectors a list: with fewer there are fewer lists, and a warning if ``nlist`` was given.
    nprobe : int, optional
        Lists visited a query; by default ``sqrt(nlist)``, and at least 8; for metric ``"ip"``
        more, until they hold about twice the share of the vectors.

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

    def _untrained(self, nlist: int) -> Any:
        return faiss.index_factory(self.dim, f"IVF{nlist},Flat", self._faiss_metric)


@final
class IVFPQIndex(_InvertedFile):
    """Visits the nearest lists, and compares codes of a few bytes (Faiss ``IndexIVFPQFastScan``).

    Memory: ``code_bytes + 16`` bytes a vector. The difference of a vector from its cell's centre is
    turned at random, so that no dimension matters more than others, and cut into ``2 * code_bytes``
    pieces of 4 bits; tables of distances to them lie in registers, where many are added at once. A
    gallery ranks what is found by the embeddings it keeps; without one, recall is what the codes
    give.

    Parameters
    ----------
    dim, metric
        As for `IVFIndex`.
    nlist : int, optional
        Lists; by default ``2 * sqrt(n)`` for ``n`` expected vectors.
    nprobe : int, optional
        Lists visited a query; by default half of ``sqrt(nlist)``, and at least 8; for metric
        ``"ip"`` more, as in `IVFIndex`.
    code_bytes : int, optional
        Bytes a vector, at most one for 2 dimensions; by default one for 4, and where there are
        over 256 dimensions 64 bytes, or one for 16.
    refine : int
        Candidates re-ranked for each neighbour wanted; see `VectorIndex`.

    References
    ----------
    H. Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011; F. Andre et
    al., "Cache locality is not enough: high-performance nearest neighbor search with product
    quantization fast scan", VLDB 2015.
    """

    name = "ivf-pq"
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
                f"code_bytes: expected at most {max(1, self.dim // 2)} for dimension {self.dim}, a "
                f"byte for 2 values, found {self.code_bytes}"
            )
        self.refine = check_count(refine, "refine")

    def _set_lists(self, index: Any) -> None:
        super()._set_lists(index)
        faiss.downcast_index(index.index).implem = _LIST_BY_LIST

    def _options(self) -> Json:
        return {**super()._options(), "code_bytes": self.code_bytes, "refine": self.refine}

    def _untrained(self, nlist: int) -> Any:
        pieces = 2 * self.code_bytes
        # Turned into a space that the pieces divide; it may have a few dimensions more.
        wide = pieces * math.ceil(self.dim / pieces)
        factory = f"RR{wide},IVF{nlist},PQ{pieces}x4fsr"
        index = faiss.index_factory(self.dim, factory, self._faiss_metric)
        inner = faiss.downcast_index(index.index)
        inner.pq.cp.min_points_per_centroid = 1  # or it warns on stderr
        inner.cp.max_points_per_centroid = _POINTS_FOR_CODES
        return index

    def _load(self, directory: Path) -> None:
        super()._load(directory)
        # Faiss reads it back without this pointer, and crashes when it reconstructs.
        inner = faiss.downcast_index(self._faiss.index)
        inner.fine_quantizer = inner.pq
