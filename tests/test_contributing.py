"""What CONTRIBUTING.md says of the tree is true."""

import re
import tomllib
from pathlib import Path

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
