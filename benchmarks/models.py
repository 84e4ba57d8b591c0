"""Speed of imgret as a share of onnxruntime's own, for `general` and a random ViT-B/32.

    python benchmarks/models.py [FOLDER] [--images 128] [--rounds 7] [--out DIR]

The first table compares with plain onnxruntime, by the same options, on tensors that are ready:
"session" is imgret's call of the network, "embed" is `Embedder.embed` on images that already have
the network's size. The second one compares ``add_folder``, which reads, decodes and prepares the
files of a folder as well, with the session on tensors that are ready, in batches of the same size
and on as many threads. Rounds of both take turns, in both orders. Ratios are medians over rounds;
those "by CPU" are of processor time, which other programs on the machine disturb less. Without a
folder, drawn images are used.
"""

from __future__ import annotations

import imgret.models.session  # noqa: F401  # first: it switches off onnxruntime's telemetry

# isort: split
import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from results import save

from imgret import OnnxEmbedder, Retriever, images
from imgret.demo import samples
from imgret.ingest.folder import find_images
from imgret.pipeline.embed import worker_count

_CLIP = {
    "size": 224,
    "interpolation": "bicubic",
    "scaling": {
        "mean": [122.7709383, 116.7460125, 104.09373615],
        "std": [68.5005327, 66.6321375, 70.32316305],
    },
}


def write_vit(
    path: Path,
    *,
    side: int = 224,
    patch: int = 32,
    width: int = 768,
    layers: int = 12,
    dim: int = 512,
) -> None:
    """Write a vision transformer with random weights, by default of the size of CLIP's ViT-B/32."""
    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    stored: list[Any] = []
    heads, tokens = width // 64, (side // patch) ** 2 + 1

    def constant(values: Any) -> str:
        stored.append(numpy_helper.from_array(np.asarray(values), f"c{len(stored)}"))
        return str(stored[-1].name)

    def weights(*shape: int, scale: float | None = None) -> str:
        drawn = rng.standard_normal(shape, dtype=np.float32)
        return constant(np.float32(shape[0] ** -0.5 if scale is None else scale) * drawn)

    def op(kind: str, *inputs: str, **options: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"n{len(nodes)}"], **options))
        return str(nodes[-1].output[0])

    def linear(x: str, fan_in: int, fan_out: int) -> str:
        return op("Add", op("MatMul", x, weights(fan_in, fan_out)), weights(fan_out, scale=0.02))

    def norm(x: str) -> str:
        return op("LayerNormalization", x, ones, zeros, axis=-1, epsilon=1e-5)

    ones, zeros = constant(np.ones(width, np.float32)), constant(np.zeros(width, np.float32))
    split = constant(np.array([0, 0, heads, 64]))
    join = constant(np.array([0, 0, width]))
    filters = weights(width, 3, patch, patch, scale=0.02)
    x = op("Conv", "pixel_values", filters, kernel_shape=[patch] * 2, strides=[patch] * 2)
    x = op("Transpose", op("Reshape", x, constant(np.array([0, width, -1]))), perm=[0, 2, 1])
    rows = op("Concat", op("Shape", "pixel_values", end=1), constant(np.array([1, width])), axis=0)
    x = op("Concat", op("Expand", weights(1, 1, width), rows), x, axis=1)
    x = norm(op("Add", x, weights(tokens, width, scale=0.02)))
    for _ in range(layers):
        y = norm(x)
        query, key, value = (op("Reshape", linear(y, width, width), split) for _ in range(3))
        query = op("Mul", op("Transpose", query, perm=[0, 2, 1, 3]), constant(np.float32(1 / 8)))
        shares = op("MatMul", query, op("Transpose", key, perm=[0, 2, 3, 1]))
        y = op("MatMul", op("Softmax", shares, axis=-1), op("Transpose", value, perm=[0, 2, 1, 3]))
        y = op("Reshape", op("Transpose", y, perm=[0, 2, 1, 3]), join)
        x = op("Add", x, linear(y, width, width))
        x = op("Add", x, linear(op("Gelu", linear(norm(x), width, 4 * width)), 4 * width, width))
    first = op("Gather", norm(x), constant(np.int64(0)), axis=1)
    nodes.append(helper.make_node("MatMul", [first, weights(width, dim)], ["image_embeds"]))
    pixels = helper.make_tensor_value_info(
        "pixel_values", TensorProto.FLOAT, ["batch", 3, side, side]
    )
    answer = helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", dim])
    graph = helper.make_graph(nodes, "vit", [pixels], [answer], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path)


def shares(
    first: Callable[[], object], others: dict[str, Callable[[], object]], rounds: int
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Return the median seconds of a task, and the speed of others as a share of its own.

    The shares are medians over rounds: by the clock, and by processor time.
    """
    tasks = {"": first, **others}
    clock: dict[str, list[float]] = {name: [] for name in tasks}
    spent: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for number in range(rounds):
        for name, task in list(tasks.items())[:: 1 if number % 2 else -1]:
            started, used = time.perf_counter(), time.process_time()
            task()
            clock[name].append(time.perf_counter() - started)
            spent[name].append(time.process_time() - used)

    def median(taken: dict[str, list[float]], name: str) -> float:
        return statistics.median(a / b for a, b in zip(taken[""], taken[name], strict=True))

    return (
        statistics.median(clock[""]),
        {name: median(clock, name) for name in others},
        {name: median(spent, name) for name in others},
    )


def raw_session(embedder: OnnxEmbedder) -> Any:
    """Load the embedder's graph with plain onnxruntime, by the same options."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    guard = "1" if embedder.network.bundle is None else "0"
    options.add_session_config_entry("session.x64quantprecision", guard)
    return ort.InferenceSession(embedder.path, options, providers=["CPUExecutionProvider"])


def beside_onnxruntime(
    name: str, embedder: OnnxEmbedder, batches: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Return a row for each batch size."""
    network, raw = embedder.network, raw_session(embedder)
    side = network.preprocess.size
    rows = []
    for batch in batches:
        pixels = list(np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8))
        tensors = network.preprocess.prepare(pixels)
        feeds = {network.session.input.name: tensors}
        repeats = max(1, 16 // batch)

        def plain(feeds: Any = feeds, repeats: int = repeats) -> None:
            for _ in range(repeats):
                raw.run([network.output], feeds)

        def session(tensors: Any = tensors, repeats: int = repeats) -> None:
            for _ in range(repeats):
                network.session.run(tensors, network.output)

        def embed(pixels: Any = pixels, repeats: int = repeats) -> None:
            for _ in range(repeats):
                embedder.embed(pixels, batch_size=len(pixels))

        seconds, clock, cpu = shares(plain, {"session": session, "embed": embed}, rounds)
        rows.append(
            {
                "model": name,
                "batch": batch,
                "onnxruntime, images/s": repeats * batch / seconds,
                "session": clock["session"],
                "session, by CPU": cpu["session"],
                "embed": clock["embed"],
                "embed, by CPU": cpu["embed"],
            }
        )
    return rows


def beside_session(
    name: str, embedder: OnnxEmbedder, folder: Path, n: int, rounds: int
) -> dict[str, Any]:
    """Return a row about ``add_folder``."""
    network, threads = embedder.network, worker_count()
    paths = find_images(folder)[0][:n]
    batch = embedder.batch_size
    prepared = network.preprocess.prepare([images.load(path) for path in paths])
    parts = [prepared[start : start + batch] for start in range(0, len(prepared), batch)]
    stages: dict[str, float] = {}

    def ceiling() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: network.session.run(part, network.output), parts))

    def add() -> None:
        with Retriever(embedder=embedder) as retriever:
            report = retriever.add_folder(folder, progress=False)
        for stage, seconds in report.stages.items():
            stages[stage] = stages.get(stage, 0.0) + seconds

    seconds, clock, cpu = shares(ceiling, {"add": add}, rounds)
    return {
        "model": name,
        "images": len(paths),
        "batch": batch,
        "threads": threads,
        "session, images/s": len(paths) / seconds,
        "add_folder": clock["add"],
        "by CPU": cpu["add"],
        **{f"{stage}, s": spent / (rounds + 1) for stage, spent in stages.items()},
    }


def linked(folder: Path, place: Path, n: int) -> Path:
    """Return a folder of links to ``n`` images, chosen evenly."""
    found: list[Path] = find_images(folder)[0]
    place.mkdir()
    for number, path in enumerate(found[:: max(1, len(found) // n)][:n]):
        (place / f"{number}{path.suffix}").symlink_to(path.absolute())
    return place


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=128, help="images that are added")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--out", type=Path, help="Folder for JSON and Markdown.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        write_vit(place / "vit.onnx")
        if options.folder is None:
            options.folder = place / "drawn"
            samples.write_gallery(options.folder, per_species=60)
        folder = linked(options.folder, place / "linked", options.images)
        embedders = {
            "ViT-B/32, random": OnnxEmbedder(place / "vit.onnx", preprocess=_CLIP),
            "general": OnnxEmbedder("general"),
        }
        save(
            options.out,
            "models-batch",
            [
                row
                for name, embedder in embedders.items()
                for row in beside_onnxruntime(name, embedder, options.batches, options.rounds)
            ],
            title="Speed as a share of plain onnxruntime, one thread",
        )
        save(
            options.out,
            "models-folder",
            [
                beside_session(name, embedder, folder, options.images, options.rounds)
                for name, embedder in embedders.items()
            ],
            title="add_folder as a share of the session's speed on ready tensors",
        )


if __name__ == "__main__":
    main()
