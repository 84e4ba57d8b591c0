"""Images per second of ``add_folder``, compared with the network alone.

    python benchmarks/ingest.py FOLDER [--rounds 3]

The network alone is the ceiling. It runs on tensors that are already decoded and prepared, with the
batch size and the number of concurrent callers that turn out best on this machine. Both take turns,
and the ratio is the median over the rounds. Every ingest runs in its own process, whose peak memory
is reported. Without a folder, synthetic images are used.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from imgret import Retriever, images
from imgret.demo import samples
from imgret.ingest.folder import find_images
from imgret.models.model import Model
from imgret.pipeline.embed import worker_count

_PREPARED = 512


def ingest(folder: Path, on_disk: bool) -> None:  # noqa: FBT001  # called once, below
    """Index a folder and print the figures as JSON."""
    with tempfile.TemporaryDirectory() as directory:
        retriever = Retriever.open(Path(directory) / "g.imgret", "a") if on_disk else Retriever()
        started = time.perf_counter()
        report = retriever.add_folder(folder, labels="parent", progress=False)
        seconds = time.perf_counter() - started
        retriever.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    print(json.dumps({"n": report.total, "s": seconds, "mb": peak, "stages": report.stages}))


def network_alone(model: Model, batches: list[NDArray[Any]], callers: int) -> float:
    """Return images a second of the network on prepared batches."""
    started = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(lambda batch: model.session.run(batch, model.output), batches))
    return sum(map(len, batches)) / (time.perf_counter() - started)


def split(prepared: NDArray[Any], batch: int) -> list[NDArray[Any]]:
    """Cut into batches."""
    return [prepared[start : start + batch] for start in range(0, len(prepared), batch)]


def main() -> None:
    """Print a line a round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="keep the gallery in memory")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        ingest(options.folder, not options.memory)
        return
    with tempfile.TemporaryDirectory() as directory:
        if options.folder is None:
            options.folder = Path(directory)
            samples.write_gallery(options.folder, per_species=60)
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run both in turn."""
    model = Model("general", kind="embedder")
    found = find_images(options.folder)[0]
    chosen = found[:: max(1, len(found) // _PREPARED)][:_PREPARED]
    prepared = model.preprocess.prepare([images.load(path) for path in chosen])
    cores = worker_count()
    plans = list(product(range(1, cores + 1), (1, 2, 4, 8, 16, 32)))
    rates = {plan: network_alone(model, split(prepared, plan[1]), plan[0]) for plan in plans}
    rates = {
        plan: max(rate, network_alone(model, split(prepared, plan[1]), plan[0]))
        for plan, rate in rates.items()
    }
    callers, batch = max(rates, key=lambda plan: rates[plan])
    print(f"{len(found)} images; the network alone is fastest with {callers} callers x {batch}")
    command = [sys.executable, __file__, "--child", str(options.folder)]
    command += ["--memory"] if options.memory else []
    ratios, peaks = [], []
    for number in range(options.rounds):
        repeats = max(1, round(len(found) / len(prepared) / 2))
        ceiling_before = network_alone(model, split(prepared, batch) * repeats, callers)
        run = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        ceiling_after = network_alone(model, split(prepared, batch) * repeats, callers)
        result = json.loads(run.stdout)
        ceiling = (ceiling_before + ceiling_after) / 2
        rate = result["n"] / result["s"]
        ratios.append(rate / ceiling)
        peaks.append(result["mb"])
        stages = ", ".join(f"{name} {s:.1f}" for name, s in result["stages"].items())
        print(
            f"round {number + 1}: add_folder {rate:.0f} images/s ({result['s']:.1f} s), ceiling "
            f"{ceiling:.0f}, ratio {ratios[-1]:.3f}, peak {peaks[-1]:.0f} MB; thread seconds: "
            f"{stages}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f}; peak memory {max(peaks):.0f} MB")


if __name__ == "__main__":
    main()
