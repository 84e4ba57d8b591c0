"""Print what each dependency adds to an installation and to the time of a start.

python tools/weigh.py               # what everyone installs
python tools/weigh.py serve tables  # what extras add to that
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What is imported of a package in use, where that is not the module of its name.
IMPORTS = {"pillow": "PIL.Image"}
CLOCK = "import time; print(time.process_time())"


def requirements(package: str, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Yield what a package requires here, and what its extras require in addition."""
    try:
        required = distribution(package).requires or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, required):
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        ):
            yield requirement


def brought(roots: Iterable[Requirement]) -> set[str]:
    """Return the names of all packages that requirements install, their own among them."""
    found: set[tuple[str, frozenset[str]]] = set()
    open_ = [(canonicalize_name(root.name), frozenset(root.extras)) for root in roots]
    while open_:
        package = open_.pop()
        if package not in found:
            found.add(package)
            inner = requirements(*package)
            open_ += [(canonicalize_name(one.name), frozenset(one.extras)) for one in inner]
    return {name for name, _ in found}


def megabytes(packages: Iterable[str]) -> float:
    """Return the size of the installed files, without bytecode."""
    files = (Path(file.locate()) for name in packages for file in distribution(name).files or ())
    return (
        sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.is_file()) / 1e6
    )


def milliseconds(module: str, rounds: int) -> float:
    """Return the processor time of an import after that of NumPy, the median of pairs of starts."""
    before = "pass" if module == "numpy" else "import numpy"

    def start(code: str) -> float:
        command = [sys.executable, "-c", f"{code}; {CLOCK}"]
        return 1000 * float(subprocess.check_output(command, text=True))  # noqa: S603  # our own words

    return statistics.median(
        start(f"{before}; import {module}") - start(before) for _ in range(rounds)
    )


def main() -> None:
    """Print a row of Markdown for each dependency."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", metavar="EXTRA")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    core = list(requirements("imgret"))
    there = brought(core) if given.extras else set()
    asked = [one for one in requirements("imgret", given.extras) if one not in core]
    asked = asked if given.extras else core
    modules = {
        canonicalize_name(name): module
        for module, names in sorted(
            packages_distributions().items(),  # last the module of the package's own name
            key=lambda item: canonicalize_name(item[0]) in map(canonicalize_name, item[1]),
        )
        for name in names
        if not module.startswith("_")
    }
    print("| package | MB | with it come | MB | import, ms |\n| --- | --- | --- | --- | --- |")
    for one in asked:
        name = canonicalize_name(one.name)
        others = brought(other for other in asked if other is not one) | there
        added = sorted(brought([one]) - others - {name})
        print(
            f"| {name} {distribution(name).version} | {megabytes([name]):.1f} | "
            f"{', '.join(added)} | {megabytes(added):.1f} | "
            f"{milliseconds(IMPORTS.get(name) or modules[name], given.rounds):.0f} |",
            flush=True,
        )
    everything = brought(asked) - there
    print(f"| {len(everything)} packages | {megabytes(everything):.1f} | | | |")


if __name__ == "__main__":
    main()
