"""Recall against queries per second: imgret's indexes beside those of other libraries.

    python benchmarks/ann.py [--data clustered easy] [--threads 1 2] [--out DIR]
    python benchmarks/ann.py --data real --pictures FOLDER [FOLDER ...]

Needs ``pip install hnswlib usearch voyager scalable-vs scann``; missing packages are skipped. All
indexes get the same vectors of length 1 and the same queries, which are not among the vectors, in
one batch. imgret is measured through a gallery that stores float32 (`Retriever.search_vectors` with
its checks, but without reading the hits). Graphs have M = 16 and efConstruction = 100; that of SVS,
which has one layer, has up to 32 neighbours a node.

The data sets are ``clustered``, 1,000 Gaussian clusters on the sphere with the spread of a hard set
(1.0 times the length of a centre); ``easy``, 2,000 clusters with half that spread; and ``real``,
embeddings (``--embedder``) of images, reduced by PCA and repeated with noise in the shape of the
data, which is ``--noise`` times the difference of two random images.

First every setting of an index is measured once. The settings that no other one of the same index
clearly beats are then measured in rounds over all indexes, so that a machine whose speed drifts
affects all alike; the medians are reported. "Memory" is the size of the saved index, without the
gallery's embeddings and images.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import faiss as _faiss
import numpy as np
from overhead import Given
from results import save

from imgret import Retriever
from imgret.evaluation.tuning import settled
from imgret.pages.plot import Point, plot
from imgret.types import Embeddings, Ids

if TYPE_CHECKING:
    from imgret.galleries.local import LocalGallery

faiss: Any = _faiss  # its types miss half of it

K, M, EF_CONSTRUCTION = 10, 16, 100
_EFS = (10, 12, 14, 16, 20, 24, 28, 34, 40, 50, 70, 100, 140, 200, 280, 400)
# Settings above are dear for nothing, and below of no use.
_ENOUGH, _LEAST = 0.998, 0.7
_CLEARLY = 1.3


class Contender(ABC):
    """An index that is built, set and asked."""

    name: str
    build_seconds: float
    size: int

    @abstractmethod
    def settings(self) -> Iterator[dict[str, int]]:
        """Yield what can be set, dearer settings of the last option later."""

    @abstractmethod
    def configure(self, settings: dict[str, int]) -> None:
        """Search by these settings."""

    @abstractmethod
    def find(self, queries: Embeddings) -> Ids:
        """Return the ids of the K nearest of each query."""

    def run(self, queries: Embeddings) -> object:
        """Do what is timed."""
        return self.find(queries)


class Graph(Contender):
    """A graph, of which efSearch alone is set."""

    def settings(self) -> Iterator[dict[str, int]]:
        """Yield efSearch."""
        return ({"ef": ef} for ef in _EFS)


# -- data ------------------------------------------------------------------------------------


def unit(rows: Any) -> Embeddings:
    """Return rows of length 1."""
    scaled: Embeddings = np.ascontiguousarray(
        rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32
    )
    return scaled


def clustered(n: int, dim: int, clusters: int, spread: float) -> Embeddings:
    """Draw points around centres on the sphere; ``spread`` is the length of the noise."""
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((clusters, dim), dtype=np.float32))
    rows = centres[rng.integers(clusters, size=n)]
    rows += np.float32(spread / np.sqrt(dim)) * rng.standard_normal((n, dim), dtype=np.float32)
    return unit(rows)


def real(n: int, dim: int, folders: list[Path], embedder: str, noise: float) -> Embeddings:
    """Embed images, and repeat them with noise of the same shape."""
    rng = np.random.default_rng(0)
    gallery = Retriever(embedder=embedder, dtype="float32")
    for folder in folders:
        gallery.add_folder(folder, prefix=f"{folder}/", progress=False)
    found = gallery.embeddings()
    found = found - found.mean(axis=0)
    if found.shape[1] > dim:
        _, _, axes = np.linalg.svd(found[rng.permutation(len(found))[:4000]], full_matrices=False)
        found = found @ axes[:dim].T
    found = unit(found)
    one, other = (found[rng.integers(len(found), size=n)] for _ in range(2))
    same = np.linalg.norm(one - other, axis=1, keepdims=True) < 1e-6
    shift = unit(np.where(same, rng.standard_normal(one.shape), one - other))
    shift = unit(shift + 0.5 * unit(rng.standard_normal(one.shape)))
    return unit(found[rng.integers(len(found), size=n)] + noise * shift)


# -- contenders --------------------------------------------------------------------------------


class Ours(Contender):
    """An index of imgret in a gallery."""

    def __init__(self, index: str, vectors: Embeddings, threads: int) -> None:
        self.name = f"imgret {index}"
        faiss.omp_set_num_threads(threads)
        self.gallery = Retriever(embedder=Given(vectors.shape[1]), dtype="float32")
        self.gallery.add_vectors(vectors, keys=[str(n) for n in range(len(vectors))])
        options = {"M": M, "ef_construction": EF_CONSTRUCTION} if index.startswith("hnsw") else {}
        started = time.perf_counter()
        self.gallery.reindex(index, **options)
        self.build_seconds = time.perf_counter() - started
        self.size = _saved(self.gallery.index.save_state)

    def settings(self) -> Iterator[dict[str, int]]:
        """Yield every combination, the first option of the sweep last."""
        sweep = self.gallery.index.sweep()
        names = list(sweep)[::-1]
        for values in itertools.product(*(sweep[name] for name in names)):
            yield dict(zip(names, values, strict=True))

    def configure(self, settings: dict[str, int]) -> None:
        """Set options of search."""
        self.gallery.index.configure(**settings)

    def find(self, queries: Embeddings) -> Ids:
        """Return the ids that the hits are made of."""
        live = cast("LocalGallery", self.gallery._gallery).live  # noqa: SLF001
        vectors = self.gallery.view().project(queries)
        return live.find(vectors, K, None, live.projection).ids

    def run(self, queries: Embeddings) -> object:
        """Search as a user does."""
        return self.gallery.search_vectors(queries, K)


class Faiss(Graph):
    """Faiss's own graph over float32."""

    name = "Faiss HNSW"

    def __init__(self, vectors: Embeddings, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        self._index = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = EF_CONSTRUCTION
        started = time.perf_counter()
        self._index.add(vectors)
        self.build_seconds = time.perf_counter() - started
        self.size = len(faiss.serialize_index(self._index))

    def configure(self, settings: dict[str, int]) -> None:
        """Set efSearch."""
        self._index.hnsw.efSearch = settings["ef"]

    def find(self, queries: Embeddings) -> Ids:
        """Search."""
        found: Ids = self._index.search(queries, K)[1]
        return found


class Hnswlib(Graph):
    """The graph of the inventors of HNSW."""

    name = "hnswlib"

    def __init__(self, vectors: Embeddings, threads: int) -> None:
        import hnswlib  # noqa: PLC0415  # optional

        self._index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._index.init_index(
            max_elements=len(vectors), ef_construction=EF_CONSTRUCTION, M=M, random_seed=1
        )
        self._index.set_num_threads(threads)
        started = time.perf_counter()
        self._index.add_items(vectors, num_threads=threads)
        self.build_seconds = time.perf_counter() - started
        self.size = _saved(lambda folder: self._index.save_index(str(folder / "index")))

    def configure(self, settings: dict[str, int]) -> None:
        """Set efSearch."""
        self._index.set_ef(settings["ef"])

    def find(self, queries: Embeddings) -> Ids:
        """Search."""
        found: Ids = self._index.knn_query(queries, k=K)[0].astype(np.int64)
        return found


class Usearch(Graph):
    """USearch, a graph over float32."""

    name = "usearch"

    def __init__(self, vectors: Embeddings, threads: int) -> None:
        from usearch.index import Index  # noqa: PLC0415  # optional

        self._threads = threads
        self._index: Any = Index(
            ndim=vectors.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )
        started = time.perf_counter()
        self._index.add(np.arange(len(vectors)), vectors, threads=threads)
        self.build_seconds = time.perf_counter() - started
        self.size = _saved(lambda folder: self._index.save(str(folder / "index")))

    def configure(self, settings: dict[str, int]) -> None:
        """Set efSearch."""
        self._index.expansion_search = settings["ef"]

    def find(self, queries: Embeddings) -> Ids:
        """Search."""
        found: Ids = self._index.search(queries, K, threads=self._threads).keys.astype(np.int64)
        return found


class Voyager(Graph):
    """Spotify's Voyager, a graph over float32."""

    name = "voyager"

    def __init__(self, vectors: Embeddings, threads: int) -> None:
        import voyager  # noqa: PLC0415  # optional

        self._threads, self._ef = threads, K
        self._index = voyager.Index(
            voyager.Space.InnerProduct,
            num_dimensions=vectors.shape[1],
            M=M,
            ef_construction=EF_CONSTRUCTION,
        )
        started = time.perf_counter()
        self._index.add_items(vectors, num_threads=threads)
        self.build_seconds = time.perf_counter() - started
        self.size = len(self._index.as_bytes())

    def configure(self, settings: dict[str, int]) -> None:
        """Set efSearch."""
        self._ef = settings["ef"]

    def find(self, queries: Embeddings) -> Ids:
        """Search."""
        found = self._index.query(queries, K, num_threads=self._threads, query_ef=self._ef)[0]
        ids: Ids = found.astype(np.int64)
        return ids


class Vamana(Contender):
    """The graph of Intel's Scalable Vector Search, over float16."""

    name = "SVS Vamana"

    def __init__(self, vectors: Embeddings, threads: int) -> None:
        import svs  # noqa: PLC0415  # optional

        parameters = svs.VamanaBuildParameters(
            graph_max_degree=2 * M, window_size=EF_CONSTRUCTION, alpha=0.95
        )
        started = time.perf_counter()
        self._index = svs.Vamana.build(
            parameters, vectors.astype(np.float16), svs.DistanceType.MIP, num_threads=threads
        )
        self.build_seconds = time.perf_counter() - started
        self.size = _saved(
            lambda folder: self._index.save(*(str(folder / name) for name in ("c", "g", "d")))
        )

    def settings(self) -> Iterator[dict[str, int]]:
        """Yield the size of the window."""
        return ({"window": ef} for ef in _EFS)

    def configure(self, settings: dict[str, int]) -> None:
        """Set the size of the window."""
        self._index.search_window_size = settings["window"]

    def find(self, queries: Embeddings) -> Ids:
        """Search."""
        found: Ids = self._index.search(queries, K)[0].astype(np.int64)
        return found


class Scann(Contender):
    """Google's ScaNN: a tree of lists, anisotropic codes, exact re-ranking."""

    name = "ScaNN"

    def __init__(self, vectors: Embeddings, threads: int) -> None:
        import scann  # noqa: PLC0415  # optional

        self._threads, self._set = threads, {"leaves": 1, "reorder": K}
        started = time.perf_counter()
        # As its guide advises: as many lists as the root of the items, two dimensions a code.
        builder = scann.scann_ops_pybind.builder(vectors, K, "dot_product")
        builder = builder.tree(
            num_leaves=round(np.sqrt(len(vectors))),
            num_leaves_to_search=1,
            training_sample_size=min(len(vectors), 250_000),
        )
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(K)
        builder.set_n_training_threads(threads)
        self._index = builder.build()
        self._index.set_num_threads(threads)
        self.build_seconds = time.perf_counter() - started
        self.size = _saved(lambda folder: self._index.serialize(str(folder)))

    def settings(self) -> Iterator[dict[str, int]]:
        """Yield candidates that are re-ranked, and lists that are searched."""
        for reorder in (20, 50, 100, 200, 400):
            for leaves in (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192):
                yield {"reorder": reorder, "leaves": leaves}

    def configure(self, settings: dict[str, int]) -> None:
        """Set both."""
        self._set = settings

    def find(self, queries: Embeddings) -> Ids:
        """Search."""
        search = self._index.search_batched
        if self._threads > 1:
            search = self._index.search_batched_parallel
        found: Ids = search(
            queries,
            final_num_neighbors=K,
            leaves_to_search=self._set["leaves"],
            pre_reorder_num_neighbors=self._set["reorder"],
        )[0].astype(np.int64)
        return found


def _saved(write: Callable[[Path], object]) -> int:
    """Return the bytes of what is written into a folder."""
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory))
        return sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())


# -- measuring ---------------------------------------------------------------------------------


def recall(found: Ids, truth: Ids) -> float:
    """Return the mean share of the true neighbours that were found."""
    shares = [np.isin(b, a).mean() for a, b in zip(found, truth, strict=True)]
    return float(np.mean(shares))


def explored(contender: Contender, queries: Embeddings, truth: Ids) -> list[dict[str, int]]:
    """Return the settings that no other clearly beats, each measured once."""
    points: list[tuple[float, float]] = []
    tried: list[dict[str, int]] = []
    reached: dict[tuple[int, ...], list[float]] = {}
    for settings in contender.settings():
        *fixed, _ = settings.values()
        known = reached.setdefault(tuple(fixed), [])
        # Dearer settings of this option bring nothing any more.
        if known and (max(known) >= _ENOUGH or settled(known)):
            continue
        contender.configure(settings)
        started = time.perf_counter()
        found = contender.find(queries)
        seconds = time.perf_counter() - started
        known.append(recall(found, truth))
        points.append((known[-1], len(queries) / seconds))
        tried.append(settings)
    # A single measurement is rough: what seems a little slower than a better one may be faster.
    return [
        settings
        for settings, (rate, qps) in zip(tried, points, strict=True)
        if rate > _LEAST
        and not any(other >= rate and faster > _CLEARLY * qps for other, faster in points)
    ]


def measured(
    contenders: list[Contender], queries: Embeddings, truth: Ids, rounds: int
) -> dict[str, list[Point]]:
    """Return recall and queries a second of the best settings, all measured in turn."""
    tasks = [
        (c, settings) for c in contenders for settings in explored(c, queries[:1000], truth[:1000])
    ]
    taken: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for (contender, settings), times in zip(tasks, taken, strict=True):
            contender.configure(settings)
            started = time.perf_counter()
            contender.run(queries)
            times.append(time.perf_counter() - started)
    series: dict[str, list[Point]] = {contender.name: [] for contender in contenders}
    for (contender, settings), times in zip(tasks, taken, strict=True):
        contender.configure(settings)
        rate = recall(contender.find(queries), truth)
        name = ", ".join(f"{option}={value}" for option, value in settings.items())
        series[contender.name].append((rate, len(queries) / statistics.median(times), name))
    return series


def compare(name: str, vectors: Embeddings, threads: int, options: argparse.Namespace) -> None:
    """Build everything over one set of vectors, and print a row for each index."""
    vectors, queries = vectors[: -options.queries], vectors[-options.queries :]
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    truth: Ids = flat.search(queries, K)[1]
    contenders: list[Contender] = [Ours(i, vectors, threads) for i in options.index]
    for make in (Faiss, Hnswlib, Usearch, Voyager, Vamana, Scann):
        if make.name in options.beside:
            try:
                contenders.append(make(vectors, threads))
            except ImportError as error:
                print(f"{make.name} is left out: {error}")
    faiss.omp_set_num_threads(threads)
    series = measured(contenders, queries, truth, options.rounds)
    best = {
        each.name: max(
            (p for p in series[each.name] if p[0] >= options.recall),
            key=lambda p: p[1],
            default=None,
        )
        for each in contenders
    }
    beside, rows = best.get("hnswlib"), []
    yardstick = next((c for c in contenders if c.name == "hnswlib"), None)
    for each in contenders:
        point = best[each.name]
        row: dict[str, Any] = {
            "index": each.name,
            "recall": None if point is None else point[0],
            "QPS": None if point is None else point[1],
            "settings": "not reached" if point is None else point[2],
            "build s": each.build_seconds,
            "bytes an item": each.size / len(vectors),
        }
        if yardstick is not None and beside is not None:
            row["QPS / hnswlib"] = None if point is None else point[1] / beside[1]
            row["build / hnswlib"] = each.build_seconds / yardstick.build_seconds
            row["memory / hnswlib"] = each.size / yardstick.size
        rows.append(row)
    what = f"{name}, {len(vectors):,} x {vectors.shape[1]}, {threads} thread{'s'[: threads - 1]}"
    file = f"ann-{name}-{threads}"
    save(
        options.out,
        file,
        rows,
        title=f"recall@{K} of at least {options.recall}: {what}",
        plots={
            file: plot(
                series, title=f"recall@{K} against queries a second: {what}", least=options.recall
            )
        },
        notes=[
            f"- {n}: {r:.4f} at {q:,.0f} ({s})" for n, each in series.items() for r, q, s in each
        ],
    )


def main() -> None:
    """Compare on each set of vectors, with each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    sets = ["clustered", "easy", "real"]
    parser.add_argument("--data", nargs="+", choices=sets, default=["clustered", "easy"])
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--recall", type=float, default=0.98)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--index", nargs="+", default=["ivf-pq", "hnsw-sq8", "hnsw", "ivf"])
    others = ["Faiss HNSW", "hnswlib", "usearch", "voyager", "SVS Vamana", "ScaNN"]
    parser.add_argument("--beside", nargs="*", choices=others, default=others)
    parser.add_argument("--pictures", type=Path, nargs="+", help="Folders for --data real.")
    parser.add_argument("--embedder", default="general")
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--out", type=Path, help="Folder for JSON, Markdown and plots.")
    options = parser.parse_args()
    if "real" in options.data and not options.pictures:
        parser.error("--data real: expected --pictures FOLDER as well")
    n = options.items + options.queries
    for name in options.data:
        if name == "real":
            vectors = real(n, options.dim, options.pictures, options.embedder, options.noise)
        else:
            clusters, spread = (1000, 1.0) if name == "clustered" else (2000, 0.5)
            vectors = clustered(n, options.dim, clusters, spread)
        for threads in options.threads:
            compare(name, vectors, threads, options)


if __name__ == "__main__":
    main()
