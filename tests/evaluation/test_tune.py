"""Options of search chosen by measurement, and the plan of a search."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import (
    EmptyGalleryError,
    InvalidInputError,
    StoreCorruptError,
    StoreReadOnlyError,
)
from imgret.evaluation.tuning import settled
from imgret.pages.plot import frontier, plot

N = 1500


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((40, 48))
    return centres[rng.integers(40, size=N)] + 0.7 * rng.standard_normal((N, 48))


def gallery(mean_color, vectors, index, *, path=None, **options):
    given = {"embedder": mean_color, "index": index, "dtype": "float32", **options}
    made = Retriever(**given) if path is None else Retriever.open(path, "a", **given)
    made.add_vectors(
        vectors,
        keys=[str(i) for i in range(len(vectors))],
        metadata=[{"n": i} for i in range(len(vectors))],
    )
    return made


def true_recall(retriever, vectors, k=10):
    """Measure as `tune` says it does, by hand."""
    asked = vectors[::3]
    scores = -((asked[:, None] - vectors) ** 2).sum(axis=2)
    scores[np.arange(len(asked)), np.arange(0, len(vectors), 3)] = -np.inf
    truth = np.argsort(-scores, axis=1)[:, :k]
    shares = []
    for row, hits in enumerate(retriever.search_vectors(asked, k + 1)):
        found = {int(hit.key) for hit in hits} - {3 * row}
        shares.append(len(found & set(truth[row].tolist())) / k)
    return np.mean(shares)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "target"),
    [
        ("ivf", 0.97),
        ("ivf-pq", 0.9),
        ("hnsw", 0.97),
        ("hnsw-sq8", 0.8),
        ("faiss:IVF32,SQ8", 0.97),
        ("faiss:IVF32,RaBitQ", 0.9),
    ],
)
def test_the_target_is_reached_by_the_fastest(mean_color, vectors, index, target):
    retriever = gallery(mean_color, vectors, index, metric="l2")
    tuning = retriever.tune(target, 10, n_queries=500)
    assert tuning.chosen.recall >= tuning.chosen.farther >= target
    fast_enough = [each for each in tuning.tries if each.farther >= target]
    assert tuning.chosen.qps == max(each.qps for each in fast_enough)
    assert {**retriever.index.settings(), **tuning.chosen.settings} == retriever.index.settings()
    assert true_recall(retriever, vectors) == pytest.approx(tuning.chosen.recall, abs=0.02)
    assert retriever.recall(10).value >= target - 0.02
    assert sum(line.startswith(">") for line in str(tuning).splitlines()) == 1


@pytest.mark.slow
def test_it_is_part_of_the_gallery_until_another_index_is_chosen(mean_color, vectors, tmp_path):
    path = tmp_path / "g.imgret"
    with gallery(mean_color, vectors, "ivf", path=path) as retriever:
        assert "tuned" not in json.loads((path / "manifest.json").read_text())
        chosen = retriever.tune(0.99).chosen.settings
        default = Retriever(embedder=mean_color, index="ivf")
        assert chosen != default.index.settings()
    tuned = json.loads((path / "manifest.json").read_text())["tuned"]
    assert tuned["settings"] == chosen
    assert (tuned["index"], tuned["recall"], tuned["k"]) == ("ivf", 0.99, 10)
    assert tuned["reached"] >= 0.99
    with Retriever.open(path, embedder=mean_color) as retriever:
        assert retriever.index.settings() == chosen
        assert retriever.explain().settings == chosen
    with Retriever.open(path, "r+", embedder=mean_color) as retriever:
        retriever.remove([str(i) for i in range(100)])
        retriever.reindex()  # the same, rebuilt
        assert retriever.index.settings() == chosen
        retriever.save(tmp_path / "copy.imgret")
        retriever.reindex("hnsw")
        assert "tuned" not in json.loads((path / "manifest.json").read_text())
        retriever.reindex("ivf")
        assert retriever.index.settings() != chosen
    copy = Retriever.load(tmp_path / "copy.imgret", embedder=mean_color)
    assert copy.index.settings() == chosen


@pytest.mark.slow
def test_a_stored_index_stays_of_use_when_options_named_before_were_tuned(
    mean_color, vectors, tmp_path, monkeypatch
):
    path = tmp_path / "g.imgret"
    with gallery(mean_color, vectors, "ivf", path=path) as retriever:
        retriever.reindex("ivf", nprobe=7)
        retriever.tune(0.99)
        chosen = retriever.index.settings()
        assert chosen != {"nprobe": 7}
        retriever.add_vectors(vectors[:1], keys=["more"])
    # It must not be needed.
    monkeypatch.setattr("imgret.galleries.local.live_index.LiveIndex._build", None)
    with Retriever.open(path, embedder=mean_color) as retriever:
        assert retriever.index.settings() == chosen


def test_settings_given_to_a_gallery_are_those_of_its_next_search(mean_color, vectors):
    retriever = gallery(mean_color, vectors[:200], "hnsw")
    before = retriever.index.settings()["ef_search"]
    retriever._gallery.configure({"index": "hnsw", "settings": {"ef_search": before + 7}})
    assert retriever.index.settings() == {"ef_search": before + 7}
    retriever.reindex()
    assert retriever.index.settings() == {"ef_search": before + 7}


def test_queries_can_be_given(mean_color, vectors, make_picture):
    retriever = gallery(mean_color, vectors, "hnsw")
    tuning = retriever.tune(0.5, 5, queries=[make_picture(n) for n in range(20)])
    assert (tuning.held_out, tuning.n_queries, tuning.k) == (True, 20, 5)
    assert "20 given queries" in str(tuning)
    with pytest.raises(InvalidInputError, match="queries: expected at least 1, found none"):
        retriever.tune(queries=[])


def test_an_exact_index_has_nothing_to_choose(mean_color, vectors):
    tuning = gallery(mean_color, vectors, "flat").tune(1.0)
    assert [each.settings for each in tuning.tries] == [{}]
    assert tuning.chosen.recall == 1


@pytest.mark.slow
def test_what_is_searched_by_a_projection_is_tuned_by_it(mean_color, vectors):
    retriever = gallery(mean_color, vectors, "ivf")
    retriever.project("pca", dim=6)
    assert retriever.tune(0.9).chosen.recall >= 0.9
    assert retriever.recall(10).value > 0.85


@pytest.mark.parametrize("target", [0, -1, 1.01, float("nan"), "high", None])
def test_impossible_targets(mean_color, vectors, target):
    retriever = gallery(mean_color, vectors, "hnsw")
    before = retriever.index.config()
    with pytest.raises(InvalidInputError, match="recall: expected a number over 0 and at most 1"):
        retriever.tune(target)
    assert retriever.index.config() == before


@pytest.mark.slow
def test_a_recall_that_is_not_reached_changes_nothing(mean_color, vectors):
    # Codes of one byte, of which no candidates are re-ranked by enough.
    retriever = gallery(mean_color, vectors, "ivf-pq")
    retriever.reindex("ivf-pq", code_bytes=1)
    before = retriever.index.settings()
    retriever.index.refine_by(None)  # as a bare index
    with pytest.raises(
        InvalidInputError,
        match=r"recall: expected one that 'ivf-pq' reaches, found 0\.99; its best",
    ):
        retriever.tune(0.99)
    assert retriever.index.settings() == before


def test_too_few_items(mean_color, vectors):
    with pytest.raises(InvalidInputError, match=r"at least 100 items, found 99; .*'flat'"):
        gallery(mean_color, vectors[:99], "hnsw").tune()
    with pytest.raises(EmptyGalleryError):
        Retriever(embedder=mean_color).tune()
    with pytest.raises(InvalidInputError, match="k: expected fewer than the 100 items, found 100"):
        gallery(mean_color, vectors[:100], "hnsw").tune(k=100)


def test_a_gallery_open_for_reading_cannot_be_tuned(mean_color, vectors, tmp_path):
    gallery(mean_color, vectors[:200], "hnsw", path=tmp_path / "g.imgret").close()
    with (
        Retriever.open(tmp_path / "g.imgret", embedder=mean_color) as retriever,
        pytest.raises(StoreReadOnlyError),
    ):
        retriever.tune()


@pytest.mark.parametrize(
    "tuned",
    [
        3,
        {"index": "ivf"},
        {"index": 1, "settings": {}},
        {"index": "ivf", "settings": {"nprobe": "x"}},
        {"index": "ivf", "settings": {"nprobe": 0}},
        {"index": "ivf", "settings": {"nprobe": 1.5}},
    ],
)
def test_a_manifest_that_is_no_such_thing(mean_color, vectors, tmp_path, tuned):
    path = tmp_path / "g.imgret"
    gallery(mean_color, vectors[:200], "ivf", path=path).close()
    content = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**content, "tuned": tuned, "crc32": None}))
    with pytest.raises(StoreCorruptError, match="expected the fields of format 2"):
        Retriever.open(path, embedder=mean_color)


@pytest.mark.slow
def test_the_plot_shows_every_try(mean_color, vectors):
    tuning = gallery(mean_color, vectors, "hnsw").tune(0.9)
    svg = ET.fromstring(tuning.to_svg())  # noqa: S314  # our own
    titles = [each.text for each in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(tuning.tries)
    assert all("ef_search=" in title for title in titles)
    assert "<svg" in tuning._repr_html_()
    assert tuning.to_dict()["chosen"]["settings"] == tuning.chosen.settings


def test_the_frontier_is_what_no_other_beats():
    points = [(0.9, 100, "a"), (0.95, 50, "b"), (0.8, 90, "c"), (0.99, 60, "d"), (0.99, 10, "e")]
    assert [each[2] for each in frontier(points)] == ["a", "d"]
    assert plot({}, title="<none>").count("&lt;none&gt;") == 2  # shown, and read aloud


# -- the plan -------------------------------------------------------------------------------


def test_the_ways_of_a_search(mean_color, vectors):
    retriever = gallery(mean_color, vectors, "hnsw")
    retriever.reindex("hnsw", M=4, ef_search=8)
    ways = {
        None: "index",
        5: "exact",
        700: "index, filtered",
        1400: "index, then filter",
    }
    for most, way in ways.items():
        where = None if most is None else {"n": {"$lt": most}}
        plan = retriever.explain(3, where=where)
        assert plan.way == way, plan
        assert plan.items == N
        assert plan.matching == pytest.approx(N if most is None else most, rel=0.1)
        assert plan.settings == {"ef_search": 8}
        assert plan.to_dict()["way"] == way
        assert str(plan).startswith(f"{way}: ")
        about = "about " if way == "index, then filter" else ""
        assert f"  matching  {about}{plan.matching:,} of 1,500 items\n" in str(plan)
        assert f"{plan.matching:,} of 1,500 items</td>" in plan._repr_html_()
        (hits,) = retriever.search_vectors(vectors[:1], 3, where=where)
        assert len(hits) == 3
    many = retriever.explain(3, where={"n": {"$lt": 100}}, n_queries=500)
    assert many.way == "exact"


def test_a_plan_refuses_what_a_search_refuses(mean_color, vectors):
    retriever = gallery(mean_color, vectors, "hnsw")
    with pytest.raises(InvalidInputError, match="expected a field that some item has"):
        retriever.explain(where={"m": 3})
    with pytest.raises(InvalidInputError, match=r"expected a field or one of the operators"):
        retriever.explain(where={"n": {"$near": 3}})
    with pytest.raises(InvalidInputError, match="k: expected a whole number"):
        retriever.explain(0)
    with pytest.raises(EmptyGalleryError):
        Retriever(embedder=mean_color).explain()


@pytest.mark.parametrize(
    ("reached", "expected"),
    [
        ([0.7, 0.8, 0.9, 0.9, 0.9], True),
        ([0.7, 0.8, 0.9, 0.9], False),
        ([0.3] * 6, False),  # until there are as many candidates as neighbours are wanted
        ([0.3] * 7, True),
        # One list and two hold too few candidates, so that four and eight are visited.
        ([0.8934, 0.9153, 0.8858, 0.8934], False),
        ([0.8934, 0.9153, 0.8858, 0.8934, 0.9310, 0.9310, 0.9310], True),
        ([0.9, 0.9990, 0.9989, 0.9988], True),  # noise
    ],
)
def test_more_of_an_option_is_tried_until_recall_rises_no_more(reached, expected):
    assert settled(reached) is expected
