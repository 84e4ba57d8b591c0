"""What README and docs say runs as it stands."""

from __future__ import annotations

import ast
import json
import logging
import re
import shlex
import shutil
from pathlib import Path

import pytest

from imgret import images
from imgret.cli import main
from imgret.demo import samples

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Run by tests/servers and tests/cluster, where those are.
ON_SERVERS = {"servers.md", "milvus.md", "embed-on-a-cluster.md"}
COMMANDS = """\
    pip install . && imgret demo          # the main job
    pip install nox && nox                # all checks and tests
"""


def blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """Return the first line's number and the text of each fenced block of a language."""
    text = path.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start(1)) + 1, found[1])
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What the examples take for granted: photos, and query.jpg."""
    root = tmp_path_factory.mktemp("drawn")
    for species in ("daisy", "rose", "tulip"):
        (root / "photos" / species).mkdir(parents=True)
        for number in range(1, 4):
            picture = images.encode(samples.draw(species, number, size=(120, 90)), "jpeg")
            (root / "photos" / species / f"{number:03d}.jpg").write_bytes(picture)
    (root / "query.jpg").write_bytes(
        images.encode(samples.draw("rose", 1001, size=(120, 90)), "jpeg")
    )
    return root


@pytest.fixture
def pictures(drawn, tmp_path, monkeypatch):
    """A copy of these, and a model that was downloaded; the current directory."""
    models = tmp_path / "models"  # a small CLIP with random weights stands in for the real one
    shutil.copytree(ROOT / "tests" / "data" / "models" / "clip", models / "clip-vit-base-patch32")
    monkeypatch.setenv("IMGRET_MODELS", str(models))
    shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def log_kept():
    """Take back what a page sets up for the log."""
    loggers = (logging.getLogger(), logging.getLogger("imgret"), logging.getLogger("imgret.ingest"))
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def run_here(language: str) -> list[Path]:
    """Return the pages whose blocks of a language run without a server."""
    return [page for page in PAGES if page.name not in ON_SERVERS and blocks(page, language)]


@pytest.mark.slow
@pytest.mark.parametrize("page", run_here("python"), ids=named)
def test_python_blocks_run(page, pictures, log_kept):
    if page.name in {"train.md", "own-model.md"}:
        pytest.importorskip("torch", reason="needs the extra 'train'")
    if page.name == "data-in-and-out.md":
        pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in blocks(page, "python"):
        # Empty lines before it, so that an error points into the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)  # noqa: S102  # it is the point


@pytest.mark.slow
@pytest.mark.parametrize("page", run_here("sh"), ids=named)
def test_commands_run(page, pictures):
    if page.name == "data-in-and-out.md":
        pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    lines = [line for _, code in blocks(page, "sh") for line in code.splitlines()]
    commands = [line for line in lines if line.startswith("imgret ")]
    assert commands
    for line in commands:
        words = shlex.split(line.split(" | ")[0], comments=True)
        with pytest.raises(SystemExit) as ended:
            main(words[1:])
        assert ended.value.code == 0, line


def test_the_readme_opens_with_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert COMMANDS in text
    assert text.index(COMMANDS) < text.index("\n## ")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=named)
def test_links_to_files_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            place = page.parent / target
            if target.endswith(".ipynb"):  # copied beside the pages when the site is built
                place = ROOT / target
            assert place.exists(), target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_part_is_in_the_reference():
    from imgret import registry

    text = (ROOT / "docs" / "reference" / "parts.md").read_text(encoding="utf-8")
    (rows,) = re.findall(r"\| part \| by name .*?\n\n", text, re.DOTALL)
    for kind in ("embedders", "croppers", "indexes"):
        for name in registry.names(kind):
            if name != "onnx":  # said in words there: the path of a file
                assert f"`{name}" in rows, f"{kind}: {name}"


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=named)
def test_examples_run(example, pictures, monkeypatch, capsys):
    import runpy

    monkeypatch.setattr("sys.argv", [str(example), "photos"])
    runpy.run_path(str(example), run_name="__main__")
    out = capsys.readouterr().out
    assert "query" in out
    assert "1.000" in out
    assert (pictures / "photos.imgret" / "manifest.json").exists()


NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=named)
def test_notebooks_hold_no_results(notebook):
    text = notebook.read_text(encoding="utf-8")
    for cell in json.loads(text)["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert named(notebook) in (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")


def test_the_notebook_that_trains_runs(tmp_path, monkeypatch):
    """Without Jupyter, in place of the site, which runs the others when it is built."""
    pytest.importorskip("torch", reason="needs the extra 'train'")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    shown = []
    for cell in json.loads((ROOT / "examples" / "flowers.ipynb").read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), cell["id"], "exec"), namespace)  # noqa: S102  # it is the point
        if last is not None:  # shown as Jupyter would
            value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), namespace)  # noqa: S307  # the same
            if hasattr(value, "_repr_html_"):
                shown.append(value._repr_html_())
    assert shown
    assert all(len(text) < 1_000_000 for text in shown)
