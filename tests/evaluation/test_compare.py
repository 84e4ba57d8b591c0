"""Which of two systems is better, and for which classes."""

import json

import numpy as np
import pytest

from imgret import Retriever
from imgret.cli import main
from imgret.errors import InvalidInputError
from imgret.evaluation import compare
from imgret.support.statistics import discoveries, sign_flip_p


@pytest.fixture(scope="module")
def reports():
    """Two systems: the second is better for classes 0 to 3, and worse for class 7."""
    labels = [f"c{n % 8}" for n in range(160)]
    codes = np.array([int(label[1:]) for label in labels])
    centres = np.random.default_rng(0).normal(size=(8, 1280))
    noise = np.random.default_rng(1).normal(size=(160, 1280))
    levels = np.array([[8.0] * 7 + [1.0], [0.5] * 4 + [8.0] * 3 + [40.0]])

    def report(level):
        made = Retriever()
        vectors = centres[codes] + level[codes][:, None] * noise
        made.add_vectors(vectors, keys=[f"k{n}" for n in range(160)], labels=labels)
        return made.evaluate(k=(1, 5))

    return [report(level) for level in levels]


def test_the_interval_is_that_of_a_direct_bootstrap(reports):
    a, b = reports
    found = compare(a, b, n_resamples=2000)
    differences = b.values["map_r"] - a.values["map_r"]
    generator = np.random.default_rng(7)
    means = [generator.choice(differences, 160).mean() for _ in range(2000)]
    low, high = np.quantile(means, (0.025, 0.975))
    row = found.metrics["map_r"]
    assert row["ci"] == pytest.approx([low, high], abs=0.1 * (high - low))
    assert row["difference"] == pytest.approx(differences.mean())


def test_the_deciding_metric_and_the_verdict(reports):
    a, b = reports
    found = compare(a, b, names=("old", "new"))
    assert found.metric == "map5_min_k_r"
    assert found.better == "b"
    assert found.verdict.startswith("new is better in map5_min_k_r: 0.")
    assert compare(b, a, names=("old", "new")).verdict.startswith("old is better")
    assert compare(a, a).better is None
    assert compare(a, a).verdict.startswith("no reliable difference in map5_min_k_r")
    assert compare(a, b, metric="top1").metric == "top1"
    with pytest.raises(InvalidInputError, match="metric: expected .* such as top1, .*'top7'"):
        compare(a, b, metric="top7")


def test_classes_are_named_where_the_difference_is_reliable(reports):
    found = compare(*reports)
    better = {label: row["better"] for label, row in found.per_class.items()}
    assert [better[f"c{n}"] for n in range(4)] == ["b"] * 4
    assert better["c7"] == "a"
    assert "classes for which b is better: c0, c1, c2, c3" in str(found)
    row = found.per_class["c0"]
    of_class = np.array(reports[0].labels) == "c0"
    for side, report in zip("ab", reports, strict=True):
        assert row[side] == pytest.approx(report.values["map5_min_k_r"][of_class].mean())
    assert row["n_queries"] == 20
    assert row["ci"][0] <= row["difference"] <= row["ci"][1]


def test_a_single_query_names_no_class(reports):
    """A bootstrap over one query would be certain."""
    a, b = reports
    found = compare(a, b)
    few = type(found)(
        **{
            **vars(found),
            "queries": found.queries[:2],
            "labels": ("x", "y"),
            "values": np.array([[0.0, 1.0], [0.0, 1.0]]),
        }
    )
    assert {row["better"] for row in few.per_class.values()} == {None}
    assert {row["p"] for row in few.per_class.values()} == {1.0}


def test_the_randomisation_test_counts_all_signs():
    differences = np.array([0.3, 0.2, 0.0, 0.4, -0.1, 0.25])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    exact = (np.abs(differences @ signs) >= abs(differences.sum()) - 1e-12).mean()
    assert sign_flip_p(differences, n_resamples=40_000, seed=0) == pytest.approx(exact, rel=0.05)
    assert sign_flip_p(np.zeros(5), n_resamples=100, seed=0) == 1


def test_the_false_discovery_rate_is_that_of_the_paper():
    """The example of Benjamini and Hochberg 1995, section 4.1: four are accepted at 0.05."""
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p_values += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    shuffled = np.random.default_rng(0).permutation(15)
    found = discoveries(np.array(p_values)[shuffled], 0.05)
    assert sorted(np.array(p_values)[shuffled][found]) == p_values[:4]
    assert not discoveries(np.array([0.5, 0.9]), 0.05).any()


def test_what_differs_is_told(reports, gallery, queries):
    assert compare(*reports).changes == {}
    a = gallery.evaluate(queries)
    gallery.reindex("hnsw", M=8)
    b = gallery.evaluate(queries, n_resamples=500)
    changes = compare(a, b).changes
    assert changes["index.name"] == ["flat", "hnsw"]
    assert changes["index.config.M"] == [None, 8]
    assert changes["bootstrap.n_resamples"] == [1000, 500]
    assert "date" not in changes
    assert any(
        text.startswith("b: 1 of 5 queries could not be read") for text in compare(a, b).warnings
    )


def test_the_queries_that_changed_most(reports):
    a, b = reports
    rows = compare(a, b).changed_most(5)
    changes = [abs(theirs - ours) for _, _, ours, theirs in rows]
    assert changes == sorted(changes, reverse=True)
    every = np.abs(b.values["map5_min_k_r"] - a.values["map5_min_k_r"])
    assert changes[0] == pytest.approx(every.max())
    assert compare(a, a).changed_most() == []


def test_the_page(reports):
    found = compare(*reports, names=("<i>old", "new"))
    page = found.to_html()
    assert "<i>old" not in page
    assert "Queries that differ most" in page
    assert "c7" in page
    assert "&lt;i&gt;old" in found._repr_html_()
    facts = json.loads(found.to_json())
    assert facts["better"] == "b"
    assert facts["per_class"]["c7"]["better"] == "a"


# -- the command -----------------------------------------------------------------------------


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return ended.value.code, *capsys.readouterr()

    return run_here


@pytest.fixture
def saved(reports, run, tmp_path):
    for name, report in zip("ab", reports, strict=True):
        report.save(tmp_path / f"{name}.json")
    return tmp_path


def test_two_files(saved, run, reports):
    code, out, err = run("compare", "a.json", "b.json", "--html", "page.html")
    assert (code, err) == (0, "wrote page.html\n")
    assert out.startswith("b.json is better in map5_min_k_r: ")
    assert out == f"{compare(*reports, names=('a.json', 'b.json'))}\n"
    assert "a.json and b.json" in (saved / "page.html").read_text(encoding="utf-8")


def test_json_and_a_metric(saved, run):
    code, out, err = run("compare", "a.json", "b.json", "--metric", "top1", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["metric"], facts["names"]) == ("top1", ["a.json", "b.json"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            "a.json lost.json",
            1,
            ["lost.json", "cannot be read: No such"],
        ),
        ("a.json other.json", 1, ["same queries", "160 and 6 queries"]),
        ("a.json swapped.json", 1, ["the same label for 'k0'", "'c0' and 'c1'"]),
        ("a.json none.json", 1, ["none.json", "found no 'per_query'"]),
        ("a.json b.json --metric top3", 1, ["metric", "'top3'"]),
        ("a.json b.json --html lost/page.html", 2, ["--html", "no folder lost"]),
        ("a.json", 2, ["B"]),
    ],
)
def test_mistakes(saved, run, circle, reports, arguments, code, words):
    circle.evaluate(k=(1,)).save(saved / "other.json")
    content = reports[0].to_dict()
    content["per_query"]["label"][0] = "c1"
    (saved / "swapped.json").write_text(json.dumps(content), encoding="utf-8")
    (saved / "none.json").write_text("{}", encoding="utf-8")
    ended, out, err = run("compare", *arguments.split())
    assert (ended, out) == (code, "")
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
