"""What CONTRIBUTING.md says of the tree is true."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SESSIONS = re.findall(
    r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE
)


def test_the_layers_are_the_ones_that_are_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (checked,) = (
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    section = TEXT.split("## Layers", 1)[1].split("\n## ", 1)[0]
    listed = re.findall(r"^ {4}(.+)$", section, re.MULTILINE)
    assert listed == [layer.replace("imgret.", "") for layer in checked if "__main__" not in layer]


def test_every_answer_is_a_file_that_is_there():
    section = TEXT.split("## Where is ...?", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (.+\?) \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) == 38
    for question, answer in rows:
        files = re.findall(r"`([\w/]+\.py)`", answer)
        assert files, question
        for file in files:
            assert (ROOT / "src" / "imgret" / file).is_file(), file


def test_the_page_of_locks_names_all_of_them():
    page = (ROOT / "docs" / "explanation" / "locks.md").read_text(encoding="utf-8")
    source = ROOT / "src" / "imgret"
    made = {
        path.relative_to(source).as_posix(): path.read_text(encoding="utf-8")
        for path in source.rglob("*.py")
        if path.name != "locks.py"
    }
    own = re.compile(r"\b(?:RLock|ReadWriteLock)\(")
    for file in (file for file, text in made.items() if own.search(text)):
        assert f"`{file}`" in page or file.startswith("serve/"), file


def test_the_sessions_of_nox_stand_in_their_order():
    section = TEXT.split("## Checks", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == SESSIONS


def test_workflows_run_sessions_that_are_there_on_the_pythons_that_are_declared():
    folder = ROOT / ".github" / "workflows"
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.yml")}
    run = re.findall(r"nox -s (\w+)", "".join(texts.values()))
    for listed in re.findall(r"session: \[(.+)\]", texts["ci"]):
        run += listed.split(", ")
    assert "tests" in run
    assert set(run) <= set(SESSIONS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    (matrix,) = re.findall(r"python: \[(.+)\]", texts["ci"])
    assert re.findall(r"3\.\d+", matrix) == declared
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (3\.\d+) \|", page, re.MULTILINE) == declared


@pytest.mark.slow
def test_the_first_change_works_as_it_is_written(tmp_path):
    """Its blocks are put where the text says, in a copy; its commands then fail and pass."""
    section = TEXT.split("## Your first change", 1)[1].split("\n## ", 1)[0]
    assert len(section.splitlines()) <= 35
    skip = shutil.ignore_patterns("__pycache__", "*.onnx")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=skip)
    shutil.copytree(ROOT / "tests" / "metrics", tmp_path / "tests" / "metrics", ignore=skip)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    steps = re.findall(
        r"at the end of\s+`([\w/.]+)`:\n\n```python\n(.*?)```\n\nNow `pytest (.+?)` (fails|passes)",
        section,
        re.DOTALL,
    )
    assert [outcome for *_, outcome in steps] == ["fails", "passes"]
    for file, code, words, outcome in steps:
        with (tmp_path / file).open("a", encoding="utf-8") as out:
            out.write(f"\n\n{code}")
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words.split()],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ("1 failed" if outcome == "fails" else "1 passed") in run.stdout, run.stdout


def test_pre_commit_uses_the_versions_of_the_lint_session():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    used = re.findall(r'additional_dependencies: \["(.+)"\]', config)
    assert len(used) == config.count("- id: ")
    assert set(used) <= set(project["dependency-groups"]["lint"])


def test_the_bug_form_asks_for_the_report():
    form = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    assert "Output of `imgret report`" in form
