"""Cost of importing imgret, compared with an empty interpreter, and of a search as a command.

python benchmarks/startup.py [--search GALLERY IMAGE]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

HEAVY = [
    "cv2",
    "faiss",
    "huggingface_hub",
    "numpy",
    "onnxruntime",
    "sqlite3",
    "tokenizers",
    "torch",
]


def seconds(code: str, rounds: int) -> float:
    """Return the median time of a whole interpreter that runs the code."""
    return median(["-c", code], rounds)


def median(arguments: list[str], rounds: int) -> float:
    """Return the median time of a whole interpreter with these arguments."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run(  # noqa: S603  # our own words
            [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL
        )
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    """Print a line for each import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--search", nargs=2, metavar=("GALLERY", "IMAGE"))
    options = parser.parse_args()
    rounds = options.rounds
    empty = seconds("pass", rounds)
    print(f"empty interpreter                {1000 * empty:7.1f} ms")
    for code in ("import imgret", "import numpy", "from imgret import Retriever"):
        print(f"{code:<30} + {1000 * (seconds(code, rounds) - empty):7.1f} ms")
    if options.search:
        taken = median(["-m", "imgret", "search", *options.search], rounds)
        print(f"imgret search, start to end      {1000 * taken:7.1f} ms")
    probe = f"import sys, imgret; print(*[m for m in {HEAVY} if m in sys.modules] or ['none'])"
    print("loaded by `import imgret`: ", end="", flush=True)
    subprocess.run([sys.executable, "-c", probe], check=True)  # noqa: S603  # the same


if __name__ == "__main__":
    main()
