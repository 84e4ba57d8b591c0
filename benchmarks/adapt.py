"""Time and memory of learning a projection from many labels, in a gallery on disk.

    python benchmarks/adapt.py [--items 40000] [--dim 1280] [--classes 400] [--keep 128]
    python benchmarks/adapt.py --items 1000000 --classes 10000    # 2.6 GB on disk

The vectors of a class lie around its centre, and vary most in directions in which the centres do
not differ. They are written to a temporary folder in ``--folder`` and read from there in blocks.
Peak memory is reported twice: in total, and without the pages of the vectors file, which the
system reclaims when needed. Both include the index of the new vectors, ``4 * keep`` bytes per item.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from overhead import Given

from imgret.galleries.local.live_index import LiveIndex
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.galleries.local.view import LocalView
from imgret.indexes.make import find_cropper
from imgret.learning import adapt
from imgret.pipeline.compatible import new_spec
from imgret.types import Item

_BLOCK = 20_000
_STATUS = Path("/proc/self/status")  # Linux only


class Watch(threading.Thread):
    """Notes the most memory that the process has of its own, file pages left out."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Look twenty times a second."""
        while not self._over.wait(0.05):
            for line in _STATUS.read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.most = max(self.most, int(line.split()[1]))

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()


def fill(store: Store, items: int, classes: int) -> None:
    """Write clustered vectors, block by block."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, store.dim), dtype=np.float32)
    spread = (20 / (1 + np.arange(store.dim) / 10)).astype(np.float32)
    for start in range(0, items, _BLOCK):
        numbers = range(start, min(start + _BLOCK, items))
        codes = np.array(numbers) % classes
        vectors = rng.standard_normal((len(codes), store.dim), dtype=np.float32)
        vectors = centres[codes] + vectors * (1 + spread)
        named = zip(numbers, codes, strict=True)
        store.add(vectors, [Item(str(n), label=f"class-{code}") for n, code in named])


def main() -> None:
    """Print seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=400)
    parser.add_argument("--keep", type=int, default=128, help="dimension of the indexed vectors")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "adapt.imgret"
        embedder, cropper = Given(options.dim), find_cropper("none")
        spec, _ = new_spec(embedder, cropper, "flat", "cosine", "float16")
        store = Store.create(path, Manifest.of(spec))
        started = time.perf_counter()
        fill(store, options.items, options.classes)
        print(
            f"{options.items} x {options.dim}, {options.classes} classes, written in "
            f"{time.perf_counter() - started:.0f} s"
        )
        watch = Watch()
        if _STATUS.exists():
            watch.start()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        searcher = LiveIndex(store)
        projection, report = adapt(LocalView(store, searcher), dim=options.keep)
        if projection is not None:
            searcher.project(projection)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if watch.is_alive():
            watch.stop()
        store.close()
    print(report)
    print(f"peak memory {peak / 1024:.0f} MB ({before / 1024:.0f} MB before)", end="")
    print(f", {watch.most / 1024:.0f} MB without file pages" if watch.most else "")
    whole = options.items * options.dim * 4 / 2**20
    print(f"all vectors as float32 would take {whole:.0f} MB")


if __name__ == "__main__":
    main()
