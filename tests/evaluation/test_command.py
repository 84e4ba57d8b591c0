"""``imgret evaluate``: figures to stdout, what is wrong to stderr."""

import json
import shutil

import pytest

from imgret import Retriever, images
from imgret.cli import main
from imgret.demo import samples
from imgret.evaluation import Report

SPECIES = ("daisy", "rose", "tulip")


def draw(folder, seeds):
    for species in SPECIES:
        (folder / species).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            data = images.encode(samples.draw(species, seed, size=(120, 90)), "jpeg")
            (folder / species / f"{seed}.jpg").write_bytes(data)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """photos.imgret of nine images, and queries/ of three."""
    root = tmp_path_factory.mktemp("drawn")
    draw(root / "photos", range(3))
    draw(root / "queries", [100])
    retriever = Retriever()
    retriever.add_folder(root / "photos", labels="parent")
    retriever.save(root / "photos.imgret")
    return root


@pytest.fixture
def work(drawn, tmp_path, monkeypatch):
    shutil.copytree(drawn, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def run(capsys):
    def run_here(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return ended.value.code, *capsys.readouterr()

    return run_here


@pytest.mark.slow
def test_json_of_a_folder(work, run):
    code, out, err = run("evaluate", "photos.imgret", "queries", "--labels", "parent", "--json")
    assert code == 0
    facts = json.loads(out)
    with Retriever.open("photos.imgret") as retriever:
        report = retriever.evaluate("queries")
    assert facts["n_queries"] == 3
    assert facts["per_class"].keys() == set(SPECIES)
    assert facts["ci"].keys() >= {"top1", "top5", "map5", "map_r", "mrr", "ndcg10"}
    assert {name: facts[name] for name in report.metrics} == report.metrics
    assert facts["config"]["gallery"] == str(work / "photos.imgret")
    assert "k = 10 goes beyond the 9 items" in err


@pytest.mark.parametrize("flag", [[], ["--leave-one-out"]])
def test_leave_one_out(work, run, flag):
    shutil.rmtree("photos")  # no image is read
    code, out, _ = run("evaluate", "photos.imgret", *flag)
    assert code == 0
    assert out.startswith("9 queries (leave-one-out) in 9 items of 3 classes")
    assert "\nmAP@5 " in out


def test_a_page(work, run):
    code, _, err = run("evaluate", "photos.imgret", "queries", "--html", "page.html")
    assert code == 0
    assert "wrote page.html" in err
    assert "Evaluation of photos.imgret" in (work / "page.html").read_text(encoding="utf-8")


def test_a_report_is_saved_for_compare(work, run):
    code, out, err = run("evaluate", "photos.imgret", "queries", "--save", "report.json", "--json")
    assert code == 0
    assert "wrote report.json" in err
    assert (work / "report.json").read_text(encoding="utf-8") == out
    assert Report.load("report.json").n_queries == 3
    (work / "printed.json").write_text(out, encoding="utf-8")
    code, out, _ = run("compare", "report.json", "printed.json")
    assert code == 0
    assert out.startswith("no reliable difference in map10_min_k_r")


def test_a_query_that_cannot_be_read_is_told_by_the_exit_code(work, run):
    (work / "queries" / "rose" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    code, out, err = run("evaluate", "photos.imgret", "queries", "--json")
    assert code == 3
    assert json.loads(out)["n_queries"] == 4
    assert json.loads(out)["n_failed"] == 1
    assert "rose/broken.jpg" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("photos.imgret queries --leave-one-out", 2, ["--leave-one-out", "no FOLDER"]),
        ("photos.imgret lost", 2, ["FOLDER", "lost: expected a folder, found nothing"]),
        ("photos.imgret queries --labels class", 2, ["--labels", "'parent'", "'class'"]),
        ("photos.imgret --html lost/page.html", 2, ["--html", "no folder lost"]),
        ("photos.imgret --save lost/report.json", 2, ["--save", "no folder lost"]),
        ("photos.imgret --save report.html", 2, ["--save", "ends in .json"]),
        ("lost.imgret", 1, ["lost.imgret"]),
        ("photos.imgret queries/rose", 1, ["labels", "100.jpg"]),
    ],
)
def test_mistakes(work, run, arguments, code, words):
    ended, out, err = run("evaluate", *arguments.split())
    assert ended == code
    assert out == ""
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err


def test_a_gallery_without_labels(work, run):
    retriever = Retriever()
    retriever.add_folder("queries")
    retriever.save("plain.imgret")
    code, _, err = run("evaluate", "plain.imgret")
    assert code == 1
    assert "expected a gallery with labels, found 3 items without" in err
