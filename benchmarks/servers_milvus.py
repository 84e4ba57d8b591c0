"""Galleries in Milvus beside plain requests of its client, and filters beside brute force.

    python benchmarks/servers_milvus.py [--items 200000] [--dim 128] [--index hnsw] [--out DIR]
    python benchmarks/servers_milvus.py --uri milvus://host:19530

Without ``--uri``, Milvus Lite runs in this process, on a temporary folder. The plain client is
pymilvus's `MilvusClient`: it reads key, label, metadata and distance of the nearest items, with the
same index, parameters and consistency level. Both are asked each query in turns, and the sums of
the medians are compared. Bulk loading is compared with `MilvusClient.insert` of the same rows,
10,000 at a time, into a collection with the same fields and indexes, that of vectors being flat.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from overhead import Given
from pymilvus import MilvusClient
from results import save
from server_rows import SHARES, facts_of, made, recall_row

from imgret import Retriever
from imgret.galleries.milvus import MilvusGallery
from imgret.galleries.milvus.address import Address
from imgret.galleries.milvus.rows import to_row
from imgret.galleries.milvus.schema import MilvusLayout
from imgret.types import Embeddings, Item

_K, _QUERIES, _ROUNDS, _LOADED, _PART = 10, 200, 5, 50_000, 10_000


def main() -> None:
    """Measure, and print or keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--index", default="hnsw", choices=["flat", "hnsw", "ivf"])
    parser.add_argument("--uri", help="running server, such as milvus://host:19530")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    vectors, queries = made(options.items, options.dim)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        lite = f"milvus://{folder}/measured.db?collection="
        place = f"{options.uri.rstrip('/')}/" if options.uri else lite
        place += "imgret_measured_"
        searches = _searches(place, options.index, vectors, queries)
        rows = []
        for row in itertools.chain(_load(place, vectors[:_LOADED]), searches):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    kind = "Milvus Lite" if options.uri is None else "Milvus"
    save(options.out, "milvus", rows, title=f"{kind} through imgret, and by its client")


@contextmanager
def _gallery(place: str, dim: int, **options: Any) -> Iterator[tuple[Retriever, MilvusClient, str]]:
    """Create a gallery, to be dropped; yield it with a plain client and its collection."""
    address = Address.parse(place)
    with Retriever.open(place, "a", embedder=Given(dim), **options) as retriever:
        client = MilvusClient(address.target, token=address.token)
        yield retriever, client, address.collection
        for each in (address.collection, address.spec_collection):
            client.drop_collection(each)
        client.close()


def _layout(retriever: Retriever) -> MilvusLayout:
    """Return how the server keeps and searches vectors."""
    gallery = retriever._gallery  # noqa: SLF001  # as stored
    return cast("MilvusGallery", gallery).layout


def _load(place: str, vectors: Embeddings) -> Iterator[dict[str, Any]]:
    """Compare bulk loading with the client's insert of the same rows into the same fields."""
    keys = [f"{n}.jpg" for n in range(len(vectors))]
    facts = [facts_of(n) for n in range(len(vectors))]
    dim = vectors.shape[1]
    ours, plain = [], []
    for turn in range(3):
        with _gallery(f"{place}ours{turn}", dim) as (retriever, _, _):
            started = time.perf_counter()
            retriever.add_vectors(vectors, keys=keys, metadata=facts)
            ours.append(time.perf_counter() - started)
        with _gallery(f"{place}plain{turn}", dim) as (retriever, client, collection):
            kept = vectors.astype(np.float16) if _layout(retriever).half else vectors
            started = time.perf_counter()
            for start in range(0, len(vectors), _PART):
                part = range(start, min(start + _PART, len(vectors)))
                rows = [to_row(Item(keys[n], metadata=facts[n]), n) for n in part]
                for n, row in zip(part, rows, strict=True):
                    row["embedding"] = kept[n]
                client.insert(collection, rows)
            plain.append(time.perf_counter() - started)
    yield {
        "what": f"{len(vectors):,} items stored",
        "imgret a second": round(len(vectors) / statistics.median(ours)),
        "client a second": round(len(vectors) / statistics.median(plain)),
        "ratio": round(statistics.median(plain) / statistics.median(ours), 2),
        "recall@10": None,
        "least hits": None,
    }


def _searches(
    place: str, index: str, vectors: Embeddings, queries: Embeddings
) -> Iterator[dict[str, Any]]:
    keys = [f"{n}.jpg" for n in range(len(vectors))]
    facts = [facts_of(n) for n in range(len(vectors))]
    opened = _gallery(f"{place}search", vectors.shape[1], index=index)
    with opened as (retriever, client, collection):
        started = time.perf_counter()
        for start in range(0, len(vectors), _PART):
            part = slice(start, start + _PART)
            retriever.add_vectors(vectors[part], keys=keys[part], metadata=facts[part])
        seconds = time.perf_counter() - started
        yield {
            "what": f"items stored with {index}",
            "imgret a second": round(len(vectors) / seconds),
        }
        _index(client, collection)
        if index != "flat":
            retriever.tune(0.99, _K)
        for count in (1, 10):
            yield _compared(retriever, client, collection, queries, count)
        stored = vectors.astype(np.float16).astype(np.float32)
        yield recall_row("no filter", retriever, stored, queries, None, np.ones(len(vectors), bool))
        share = np.array([fact["share"] for fact in facts])
        for name, limit in SHARES.items():
            where = {"share": {"$lt": limit}}
            yield recall_row(name, retriever, stored, queries, where, share < limit)


def _index(client: MilvusClient, collection: str) -> None:
    """Wait until the server has built the index of what it was given."""
    client.flush(collection)
    while client.describe_index(collection, "embedding").get("pending_index_rows"):
        time.sleep(0.5)


def _compared(
    retriever: Retriever, client: MilvusClient, collection: str, queries: Embeddings, count: int
) -> dict[str, Any]:
    """Ask the same queries by both, in turns, ``count`` at a time."""
    layout = _layout(retriever)
    parameters = layout.parameters(layout.value, _K)

    def plain(some: Embeddings) -> None:
        found = client.search(
            collection,
            data=layout.wire(some),
            anns_field="embedding",
            limit=_K,
            output_fields=["key", "label", "metadata"],
            search_params=parameters,
            consistency_level="Session",
        )
        for hits in found:
            for hit in hits:
                _ = hit["entity"]["key"], hit["entity"]["metadata"], hit["distance"]

    def ours(some: Embeddings) -> None:
        for hits in retriever.search_vectors(some, k=_K):
            list(hits)

    parts = [queries[start : start + count] for start in range(0, len(queries), count)]
    times: dict[Callable[[Embeddings], None], Any] = {plain: [], ours: []}
    for part, _ in itertools.product(parts, range(_ROUNDS)):
        for call, seen in times.items():
            started = time.perf_counter()
            call(part)
            seen.append(time.perf_counter() - started)
    shape = (len(parts), _ROUNDS)
    theirs, own = (np.median(np.reshape(times[call], shape), axis=1).sum() for call in times)
    return {
        "what": f"{count} at a time, {layout.name} {parameters['params'] or ''}".rstrip(),
        "imgret a second": round(len(queries) / own),
        "client a second": round(len(queries) / theirs),
        "ratio": round(float(theirs / own), 2),
    }


if __name__ == "__main__":
    main()
