"""Mutation testing: makes small random changes to modules, and counts those that tests notice.

    python tools/mutate.py                       # 40 mutants of each part
    python tools/mutate.py search -n 100         # 100 of one
    python tools/mutate.py search --only 17 59   # these again, after tests were added
    python tools/mutate.py search --seed 1       # others

A part is a set of modules with the tests that should notice its faults. These run once with
coverage, so that a mutant is given to the tests that run its line, quickest first. A mutant lives
in a copy of ``src``; nothing here is changed. Results are kept: an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from coverage import CoverageData

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".mutation"
# Seconds that the tests of one mutant may take when nothing is wrong; the slowest are left out.
BUDGET = 60.0
# A mutant may allocate what it likes, up to this many KiB of addresses.
MEMORY = 12 << 20


class Part(NamedTuple):
    """Modules, and the tests that should notice their faults."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


PARTS = {
    "filters": Part(
        ("filters/parse.py", "filters/tree.py", "filters/python.py", "filters/sqlite.py"),
        ("tests/filters",),
    ),
    "local": Part(
        ("galleries/local/*.py",),
        (
            "tests/evaluation/test_tune.py",
            "tests/filters/test_mistakes.py",
            "tests/filters/test_searching.py",
            "tests/galleries",
            "tests/hostile/test_galleries.py",
            "tests/test_old_galleries.py",
            "tests/retriever/test_against_the_query.py",
            "tests/retriever/test_disk.py",
            "tests/retriever/test_forks.py",
            "tests/retriever/test_opening.py",
            "tests/retriever/test_planner_machine.py",
            "tests/retriever/test_threads.py",
        ),
    ),
    "search": Part(
        ("search/*.py",),
        (
            "tests/evaluation/test_tune.py",
            "tests/filters/test_searching.py",
            "tests/galleries/test_labelled.py",
            "tests/galleries/test_plain_gallery.py",
            "tests/learning/test_adapt.py",
            "tests/learning/test_calibrate.py",
            "tests/learning/test_on_views.py",
            "tests/pages/test_hits.py",
            "tests/rerank",
            "tests/retriever/test_against_the_query.py",
            "tests/retriever/test_arguments.py",
            "tests/retriever/test_facets.py",
            "tests/retriever/test_large_k.py",
            "tests/retriever/test_planner_machine.py",
            "tests/retriever/test_query_forms.py",
            "tests/retriever/test_searching.py",
            "tests/retriever/test_small_values.py",
            "tests/retriever/test_text.py",
        ),
    ),
    "headers": Part(
        (
            "images/av1.py",
            "images/bmp.py",
            "images/exif.py",
            "images/headers.py",
            "images/heif.py",
            "images/jpeg.py",
            "images/limits.py",
            "images/png.py",
            "images/tiff.py",
        ),
        ("tests/images", "tests/hostile/test_images.py", "tests/ingest/test_metadata.py"),
    ),
    "learning": Part(("learning/*.py",), ("tests/learning", "tests/retriever/test_text.py")),
}

# -- mutants ---------------------------------------------------------------------------------------

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
# The test of a block that does not run here.
_WINDOWS = ast.unparse(ast.parse('sys.platform == "win32"'))
# Arguments that only guard against faults of our own, or shape messages.
_SPARED = {"strict", "stacklevel", "brief"}


def mutants(tree: ast.AST, name: str = "") -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Yield the field of a node, the node that holds it, and another value; messages are spared."""
    for field, value in ast.iter_fields(tree):
        if field in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        if field == "body" and isinstance(tree, ast.If) and ast.unparse(tree.test) == _WINDOWS:
            continue
        for number, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_spared(child):
                continue
            place = f"{field}.{number}" if isinstance(value, list) else field
            for other in _others(child, is_statement=field in {"body", "orelse", "finalbody"}):
                yield place, tree, other
            if not isinstance(child, ast.Raise):  # what it says
                yield from mutants(child, name)


def _is_spared(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert():
            return True
        case ast.keyword(arg=name):
            return name in _SPARED
        case ast.Assign() | ast.AnnAssign():  # a list of names, an alias of types
            return ast.unparse(node).startswith("__all__") or "TypeAlias" in ast.unparse(node)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="_log")))):
            return True
        case ast.Expr(value=ast.Constant()) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


def _others(node: ast.AST, *, is_statement: bool) -> Iterator[ast.AST]:  # noqa: C901  # one case a kind
    other = copy.copy(node)
    match node:
        case ast.Compare(ops=[kind]):
            other.ops = [_COMPARISONS[type(kind)]()]  # type: ignore[attr-defined]
            yield other
        case ast.BinOp() if type(node.op) in _OPERATORS:
            other.op = _OPERATORS[type(node.op)]()  # type: ignore[attr-defined]
            yield other
        case ast.BoolOp():
            other.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()  # type: ignore[attr-defined]
            yield other
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 1.5 + 0.1)
        case ast.If(test=test) | ast.IfExp(test=test):
            other.test = ast.UnaryOp(ast.Not(), test)  # type: ignore[attr-defined]
            yield other
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.AugAssign() if is_statement:
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()


class Mutant(NamedTuple):
    """A changed module."""

    number: int
    module: Path  # below src
    line: int
    change: str
    source: str


def drawn(part: Part, count: int, seed: int) -> Iterator[Mutant]:
    """Yield random mutants of a part, the same for a seed as long as its modules stay."""
    files = sorted({file for each in part.modules for file in (ROOT / "src/imgret").glob(each)})
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}
    places = [(file, n) for file in files for n, _ in enumerate(mutants(trees[file]))]
    random.Random(seed).shuffle(places)  # noqa: S311  # no secret
    for number, (file, n) in enumerate(places[:count]):
        tree = copy.deepcopy(trees[file])
        place, node, other = next(it for i, it in enumerate(mutants(tree)) if i == n)
        field, _, at = place.partition(".")
        before = getattr(node, field)[int(at)] if at else getattr(node, field)
        ast.copy_location(other, before)
        if at:
            getattr(node, field)[int(at)] = other
        else:
            setattr(node, field, other)
        change = f"{_shown(before)}  ->  {_shown(other)}"
        source = ast.unparse(ast.fix_missing_locations(tree))
        yield Mutant(number, file.relative_to(ROOT / "src"), _line(before), change, source)


def _shown(node: ast.AST) -> str:
    text = re.sub(r"\s+", " ", ast.unparse(node))
    return text if len(text) < 90 else f"{text[:87]}..."


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


# -- tests -----------------------------------------------------------------------------------------


class Covering:
    """Which tests run a line, and how long each takes."""

    def __init__(self, name: str, part: Part) -> None:
        self._part = part
        data, times = KEPT / f"{name}.coverage", KEPT / f"{name}.times"
        if not times.exists():
            asked = ["--cov=imgret", "--cov-context=test", "--cov-report="]
            asked += ["--durations=0", "--durations-min=0.0005", "-vv", *part.tests]
            ended = _pytest(asked, ROOT / "src", COVERAGE_FILE=str(data))
            if ended.returncode:
                sys.exit(f"{name}: expected tests that pass, found\n{ended.stdout[-3000:]}")
            times.write_text(ended.stdout, encoding="utf-8")
        self._seconds: dict[str, float] = {}
        for line in times.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"([\d.]+)s (?:call|setup|teardown) +(.+)", line):
                test = _selected(found[2])
                self._seconds[test] = self._seconds.get(test, 0.0) + float(found[1])
        self._data = CoverageData(str(data))
        self._data.read()

    def of(self, module: Path, line: int) -> tuple[list[str], float]:
        """Return the tests that run a line, quick files first, and the seconds they take."""
        lines = self._data.contexts_by_lineno(str(ROOT / "src" / module))
        found = _tests_of(lines.get(line, ()))
        if not found and line in lines:  # run at import: any test of the module may notice it
            found = _tests_of(c for each in lines.values() for c in each)
        tests: list[str] = []
        total = 0.0
        for test in sorted(found, key=self._time):
            if tests and total + self._time(test) > BUDGET:
                break
            tests.append(test)
            total += self._time(test)
        files: dict[str, list[float]] = {}
        for test in tests:
            files.setdefault(test.partition("::")[0], []).append(self._time(test))
        order = {file: sum(each) / len(each) for file, each in files.items()}
        return sorted(
            tests, key=lambda t: (order[t.partition("::")[0]], t.partition("::")[0])
        ), total

    def _time(self, test: str) -> float:
        return self._seconds.get(test, 0.0)


def _tests_of(contexts: Iterable[str]) -> set[str]:
    return {_selected(context.rpartition("|")[0]) for context in contexts} - {""}


def _selected(test: str) -> str:
    """Return a test as pytest finds it: with all parameters, if it has escaped one of them."""
    return test.partition("[")[0] if "\\" in test else test


def _pytest(
    arguments: Sequence[str], source: Path, *, seconds: float | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest over a source tree; raises TimeoutExpired.

    What computes for too long is ended by its processor time, and what waits for nothing later:
    the machine may be busy.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--hypothesis-seed=0",
    ]
    given = {"PYTHONPATH": str(source), "HYPOTHESIS_STORAGE_DIRECTORY": str(KEPT / "hypothesis")}
    # Compiled once, whatever is set here: it is half of the time of a quick test.
    given |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(KEPT / "compiled")}
    limit = f"ulimit -t {seconds:.0f}; " if seconds else ""
    process = subprocess.Popen(  # noqa: S603  # our own command
        ["/bin/sh", "-c", f'ulimit -v {MEMORY}; {limit}exec "$@"', "sh", *command, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **given, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=seconds and 300 + seconds)
    except BaseException:  # with what the tests have started
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, "")


def outcome(mutant: Mutant, covering: Covering, source: Path) -> str:
    """Return what becomes of a mutant: ``"caught ..."`` or ``"survived ..."``."""
    tests, seconds = covering.of(mutant.module, mutant.line)
    if not tests:
        return "survived: no test runs this line"
    file = source / mutant.module
    original = file.read_text(encoding="utf-8")
    file.write_text(mutant.source, encoding="utf-8")
    os.utime(file, (mutant.number, mutant.number))  # not what is compiled of another
    named = source / "tests.txt"
    named.write_text("\n".join(tests), encoding="utf-8")
    try:
        ended = _pytest(["-x", "--no-header", f"@{named}"], source, seconds=30 + 4 * seconds)
    except subprocess.TimeoutExpired:
        return "caught: time"
    finally:
        file.write_text(original, encoding="utf-8")
    if ended.returncode == 0:
        return f"survived: {len(tests)} tests"
    if "ImportError while loading conftest" in ended.stdout:  # it cannot even be imported
        return "caught: no test can be loaded"
    if ended.returncode in {4, 5}:
        sys.exit(f"{mutant}: expected tests that are there, found\n{ended.stdout[-3000:]}")
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    return f"caught: {found[1] if found else f'exit status {ended.returncode}'}"


def copied(folder: Path) -> Path:
    """Copy the modules; what else is beside them is linked."""
    shutil.rmtree(folder, ignore_errors=True)
    target = folder / "src"
    for file in (ROOT / "src").rglob("*"):
        if file.is_dir() or "__pycache__" in file.parts:
            continue
        new = target / file.relative_to(ROOT / "src")
        new.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".py":
            shutil.copyfile(file, new)
        else:
            new.symlink_to(file)
    return target


def main() -> None:
    """Try mutants of the parts that are named, and print what tests have not noticed."""
    parser = argparse.ArgumentParser(description="Mutation testing.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}")
    parser.add_argument("-n", type=int, default=40, help="mutants of each part (40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random sample (0)")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of mutants to try again")
    given = parser.parse_args()
    for name in given.parts or PARTS:
        part = PARTS[name]
        KEPT.mkdir(exist_ok=True)
        if given.only:  # tests were added
            for suffix in ("coverage", "times"):
                (KEPT / f"{name}.{suffix}").unlink(missing_ok=True)
        file = KEPT / f"{name}.{given.seed}.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        done: dict[int, str] = dict(json.loads(line) for line in lines)
        covering = Covering(name, part)
        source = copied(KEPT / f"{name}.copy")
        with file.open("a", encoding="utf-8") as results:
            for mutant in drawn(part, given.n, given.seed):
                if mutant.number not in done or mutant.number in (given.only or ()):
                    done[mutant.number] = outcome(mutant, covering, source)
                    print(
                        json.dumps([mutant.number, done[mutant.number]]), file=results, flush=True
                    )
                if done[mutant.number].startswith("survived"):
                    where = f"{mutant.module}:{mutant.line}"
                    print(
                        f"{name} {mutant.number} {where}: {mutant.change} ({done[mutant.number]})"
                    )
        tried = [done[number] for number in range(given.n) if number in done]
        caught = sum(each.startswith("caught") for each in tried)
        print(f"{name}: {caught} of {len(tried)} caught ({caught / len(tried):.0%})", flush=True)


if __name__ == "__main__":
    main()
