"""Search in an inverted file: only the lists nearest to the query are visited."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from imgret.abc.checks import check_count
from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import FaissIndex, id_selector, search_params, threads
from imgret.types import Embeddings, Ids, Json, Metric

__all__ = ["IVFIndex", "Lists"]

# k-means wants at least this many training points a list (faiss.ClusteringParameters).
_POINTS_PER_LIST = 39


class Lists:
    """An inverted file inside a Faiss index; it keeps the ids itself, beside the vectors."""

    def __init__(self, index: Any) -> None:
        self.index = index
        self.ivf = faiss.extract_index_ivf(index)
        self._lock = threading.Lock()

    def add(self, vectors: Embeddings, ids: Ids) -> None:
        """Add all or, where Faiss raises, none."""
        self._forget_map()
        before = self.index.ntotal
        try:
            with threads(len(vectors) * self.ivf.nlist * self.index.d):
                self.index.add_with_ids(vectors, ids)
        except BaseException:
            if self.index.ntotal > before:
                self.remove(ids)
            raise

    def remove(self, ids: Ids) -> None:
        """Take ids out; those that are not there are passed over."""
        self._forget_map()
        with threads(self.index.ntotal):
            self.index.remove_ids(id_selector(ids))

    def compared(self) -> float:
        """Return about how many vectors and centroids a query is compared with."""
        return float(self.ivf.nlist + self.ivf.ntotal * self.ivf.nprobe / self.ivf.nlist)

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
        allowed: Ids | None,
    ) -> tuple[Ids, Embeddings]:
        """Ask for neighbours, in more of the lists where those visited hold too few."""
        nlist, nprobe = self.ivf.nlist, self.ivf.nprobe
        selector = params = None
        if allowed is not None:
            selector = id_selector(allowed)
            nprobe = min(nlist, math.ceil(nprobe * self.ivf.ntotal / len(allowed)))
            params = self._params(selector, nprobe)
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


@final
class IVFIndex(FaissIndex):
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
        Lists; by default ``4 * sqrt(n)`` for ``n`` training vectors. k-means needs 39
        vectors a list: with fewer there are fewer lists, and a warning if ``nlist`` was given.
    nprobe : int, optional
        Lists visited a query; by default ``sqrt(nlist)``, and at least 8.

    References
    ----------
    J. Sivic and A. Zisserman, "Video Google: a text retrieval approach to object matching
    in videos", ICCV 2003.
    """

    name = "ivf"
    needs_training = True
    supports_remove = True
    supports_allowed = True

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        nlist: int | None = None,
        nprobe: int | None = None,
    ) -> None:
        super().__init__(dim, metric)
        self._asked_nlist = None if nlist is None else check_count(nlist, "nlist")
        self._asked_nprobe = None if nprobe is None else check_count(nprobe, "nprobe")

    @property
    def nlist(self) -> int | None:
        """Lists there are; before training, what was asked for."""
        return int(self._faiss.nlist) if self.is_trained else self._asked_nlist

    @property
    def nprobe(self) -> int | None:
        """Lists visited a query; before training, what was asked for."""
        return int(self._faiss.nprobe) if self.is_trained else self._asked_nprobe

    def _options(self) -> Json:
        return {"nlist": self._asked_nlist, "nprobe": self._asked_nprobe}

    def _compared(self) -> float:
        return self._lists.compared()

    def _set_lists(self, index: Any) -> None:
        nprobe = self._asked_nprobe or max(8, math.isqrt(index.nlist))
        index.nprobe = min(nprobe, index.nlist)
        self._faiss = index
        self._lists = Lists(index)

    def _train(self, vectors: Embeddings) -> None:
        count = len(vectors)
        wanted = self._asked_nlist or round(4 * math.sqrt(count))
        nlist = max(1, min(wanted, count // _POINTS_PER_LIST))
        if self._asked_nlist is not None and nlist < wanted:
            warnings.warn(
                f"nlist={wanted} needs at least {wanted * _POINTS_PER_LIST} training vectors, "
                f"found {count}; the index gets {nlist} lists",
                UserWarning,
                stacklevel=3,
            )
        index = faiss.index_factory(self.dim, f"IVF{nlist},Flat", self._faiss_metric)
        index.cp.min_points_per_centroid = 1  # looked after above
        with threads(count * nlist * self.dim * index.cp.niter):
            index.train(vectors)
        self._set_lists(index)

    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        self._lists.add(vectors, ids)

    def _remove(self, ids: Ids) -> None:
        self._lists.remove(ids)

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        return self._lists.search(self._ask, queries, k, allowed)

    def _reconstruct(self, ids: Ids) -> Embeddings:
        return self._lists.reconstruct(ids)

    def _save(self, directory: Path) -> None:
        self._write(directory)

    def _load(self, directory: Path) -> None:
        self._set_lists(self._read(directory))
