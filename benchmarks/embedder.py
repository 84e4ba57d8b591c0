"""Speed and retrieval quality of embedders.

    python benchmarks/embedder.py speed general general-fp32.onnx
    python benchmarks/embedder.py retrieval general --gallery TRAIN --queries VALID
    python benchmarks/embedder.py retrieval general --gallery FOLDER

``speed`` runs networks that take pixels, such as ``general``, on random pixels of 224 x 224. It
prints images per second for different ways to use the cores: threads inside a run, concurrent
callers, and sessions. All ways take turns, so that other work on the machine affects each alike;
the best turn of each is shown. ``retrieval`` takes folders of JPEGs with a subfolder per class, and
counts the queries whose nearest image (or one of whose five nearest) is of their class; mAP is the
mean average precision over the whole ranking. Without ``--queries`` each image searches the others.
``--adapt`` adds top-1 of the queries after `Retriever.adapt` of the gallery.
"""

from __future__ import annotations

import imgret.models.session  # noqa: F401  # first: it switches off onnxruntime's telemetry

# isort: split
import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from imgret import Retriever, images
from imgret.embedders import OnnxEmbedder
from imgret.evaluation.metrics import average_precision_at_k, top_k_accuracy
from imgret.models import resolve
from imgret.types import Embeddings


class Way(NamedTuple):
    """A way to use the cores."""

    threads: int  # inside a run
    callers: int
    sessions: int


def open_session(path: Path, threads: int) -> Any:
    """Load a graph as imgret does, save for the number of threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def speed(options: argparse.Namespace) -> None:
    """Print images a second."""
    n = options.cores
    ways = [Way(1, 1, 1)]
    if n > 1:
        ways += [Way(n, 1, 1), Way(1, n, 1), Way(1, n, n)]
    plans = list(product(options.models, ways, options.batches))
    sessions = {
        (model, way): [open_session(resolve(model), way.threads) for _ in range(way.sessions)]
        for model, way in product(options.models, ways)
    }
    best = dict.fromkeys(plans, 0.0)
    for _ in range(options.turns):
        for plan in plans:
            model, way, batch = plan
            pixels = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), np.uint8)
            rate = images_a_second(sessions[model, way], way.callers, pixels, options.seconds)
            best[plan] = max(best[plan], rate)
    print(f"images/s   {'batch':>37}" + "".join(f"{batch:>8}" for batch in options.batches))
    for model, way in product(options.models, ways):
        rates = "".join(f"{best[model, way, batch]:8.0f}" for batch in options.batches)
        print(
            f"{Path(model).stem:12} threads {way.threads}  callers {way.callers}  "
            f"sessions {way.sessions} {rates}"
        )


def images_a_second(
    sessions: list[Any], callers: int, pixels: NDArray[np.uint8], seconds: float
) -> float:
    """Run one batch over and over in several threads."""
    name = sessions[0].get_inputs()[0].name

    def work(caller: int) -> int:
        session, runs = sessions[caller % len(sessions)], 0
        while time.perf_counter() < end:
            session.run(None, {name: pixels})
            runs += 1
        return runs

    sessions[0].run(None, {name: pixels})  # the first run of a shape plans its memory
    with ThreadPoolExecutor(callers) as pool:
        start = time.perf_counter()
        end = start + seconds
        runs = sum(pool.map(work, range(callers)))
        return runs * len(pixels) / (time.perf_counter() - start)


def retrieval(options: argparse.Namespace) -> None:
    """Print top-1 and top-5 accuracy, and mAP."""
    print(f"{'model':20} {'size':>5} {'top-1':>8} {'top-5':>8} {'mAP':>8}")
    for model, size in product(options.models, options.sizes):
        embedder = OnnxEmbedder(model, size=size)
        gallery, gallery_labels = embed_folder(embedder, options.gallery, options.cores)
        if options.queries:
            queries, labels = embed_folder(embedder, options.queries, options.cores)
            ranked = np.argsort(-(queries @ gallery.T), axis=1)
        else:
            queries, labels = gallery, gallery_labels
            scores = gallery @ gallery.T
            np.fill_diagonal(scores, -np.inf)
            ranked = np.argsort(-scores, axis=1)[:, :-1]
        right = gallery_labels[ranked] == labels[:, None]
        depth = right.shape[1]
        precise = average_precision_at_k(right, right.sum(axis=1), depth, denominator="r")
        print(
            f"{Path(model).stem:20} {size or 'own':>5} {top_k_accuracy(right, 1).mean():8.4f} "
            f"{top_k_accuracy(right, 5).mean():8.4f} {precise.mean():8.4f}",
            flush=True,
        )
        if options.adapt:
            retriever = Retriever(embedder=embedder)
            keys = map(str, range(len(gallery)))
            retriever.add_vectors(gallery, keys=keys, labels=gallery_labels.tolist())
            retriever.adapt()
            first = [hits[0].label for hits in retriever.search_vectors(queries, 1)]
            print(f"{'  after adapt':26} {np.mean(np.array(first) == labels):8.4f}", flush=True)


def embed_folder(
    embedder: OnnxEmbedder, folder: Path, threads: int
) -> tuple[Embeddings, NDArray[np.str_]]:
    """Embed ``folder/<class>/*.jpg`` on several threads."""
    paths = sorted(folder.glob("*/*.jpg"))
    step = embedder.batch_size

    def batches() -> Iterator[list[Path]]:
        for start in range(0, len(paths), step):
            yield paths[start : start + step]

    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda batch: embedder.embed([images.load(p) for p in batch]), batches())
        return np.concatenate(list(parts)), np.array([path.parent.name for path in paths])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("speed")
    command.add_argument("models", nargs="*", default=["general"])
    command.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    command.add_argument("--seconds", type=float, default=0.5, help="seconds per turn")
    command.add_argument("--turns", type=int, default=3)
    command.set_defaults(run=speed)
    command = commands.add_parser("retrieval")
    command.add_argument("models", nargs="*", default=["general"])
    command.add_argument("--gallery", type=Path, required=True)
    command.add_argument("--queries", type=Path)
    command.add_argument("--adapt", action="store_true")
    command.add_argument("--sizes", type=int, nargs="+", default=[None])
    command.set_defaults(run=retrieval)
    options = parser.parse_args()
    if options.run is retrieval and options.adapt and not options.queries:
        parser.error("--adapt: expected --queries as well")
    options.run(options)


if __name__ == "__main__":
    main()
