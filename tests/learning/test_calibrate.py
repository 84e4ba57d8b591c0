"""A gallery whose scores mean something: precision, probability, no match."""

import json

import numpy as np
import pytest

from imgret import Embedder, Retriever
from imgret.cli import main
from imgret.errors import (
    EmptyGalleryError,
    InvalidInputError,
    KeyNotFoundError,
    StoreCorruptError,
    StoreReadOnlyError,
)
from imgret.learning import (
    CalibrationReport,
    IsotonicCurve,
    Level,
    LogisticCurve,
    Pairs,
    ScoreCalibration,
    calibrate,
    calibration_error,
    given_pairs,
    near_pairs,
    threshold_of,
)
from imgret.learning.calibration import _level

DIM = 16


class Tiny(Embedder):
    """Mean colour, and zeros."""

    name = "tiny"
    dim = DIM
    fingerprint = "test:tiny"

    def config(self):
        return {}

    def _embed(self, given):
        rows = np.zeros((len(given), self.dim), dtype=np.float32)
        rows[:, :3] = [image.mean(axis=(0, 1)) + 1 for image in given]
        return rows


class Wide(Tiny):
    """The same, of another width."""

    dim = 64


def vectors_of(codes, seed, noise):
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).normal(size=(40, DIM))
    return (means[codes] + noise * rng.normal(size=(len(codes), DIM))).astype(np.float32)


CODES = np.arange(240) % 12


def gallery(path=None, *, metric="cosine", noise=0.8, codes=CODES, labels=None, **how):
    if path is None:
        made = Retriever(embedder=Tiny(), metric=metric, dtype="float32", **how)
    else:
        made = Retriever.open(path, "a", embedder=Tiny(), metric=metric, dtype="float32", **how)
    made.add_vectors(
        vectors_of(codes, 0, noise),
        keys=[str(n) for n in range(len(codes))],
        labels=[f"class {c}" for c in codes] if labels is None else labels,
    )
    return made


def judged(made, precision, seed=1, k=30):
    """Of hits for new images: whether they are right, and their probability."""
    codes = np.arange(600) % 12
    found = made.search_vectors(vectors_of(codes, seed, 0.8), k, precision=precision)
    hits = [
        (hit.label == f"class {c}", hit.probability)
        for hits, c in zip(found, codes, strict=True)
        for hit in hits
    ]
    right, likely = map(np.array, zip(*hits, strict=True))
    return right, likely


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("method", ["isotonic", "logistic"])
def test_probability_is_how_often_it_is_right(metric, method):
    made = gallery(metric=metric)
    report = made.calibrate(method=method, k=30)
    assert (report.method, report.pairs, report.images) == (method, 240 * 30, 240)
    assert report.error < 0.05
    right, likely = judged(made, 0.01)
    for low in (0.1, 0.3, 0.5, 0.7):
        some = (likely >= low) & (likely < low + 0.2)
        if some.sum() > 100:
            assert right[some].mean() == pytest.approx(likely[some].mean(), abs=0.12)
    assert right.mean() == pytest.approx(likely.mean(), abs=0.06)


def test_a_precision_is_one():
    made = gallery()
    made.calibrate(k=30)
    plain, _ = judged(made, 0.01)
    right, likely = judged(made, 0.8)
    assert likely.min() >= 0.8 - 1e-6
    assert right.mean() > 0.8 > plain.mean() + 0.2
    vectors = vectors_of(CODES[:3], 5, 0.8)
    (a, *_), (b, *_) = (
        made.search_vectors(vectors, 30, precision=0.8),
        made.search_vectors(vectors, 30, threshold=made.calibration.threshold(0.8)),
    )
    assert list(a) == list(b)
    (a, *_), (b, *_) = (
        made.search_vectors(vectors, 30, precision=0.01, threshold=0.6),
        made.search_vectors(vectors, 30, threshold=0.6),
    )
    assert list(a) == list(b)


def test_levels_are_what_new_queries_get():
    made = gallery()
    report = made.calibrate(method="logistic", k=30)
    every, _ = judged(made, 0.01)
    for level in report.levels[:2]:
        right, _ = judged(made, level.precision)
        assert right.mean() == pytest.approx(level.measured, abs=0.05)
        assert right.sum() / every.sum() == pytest.approx(level.recall, abs=0.1)


def test_a_stranger_has_no_match():
    made = gallery(noise=0.3)
    made.calibrate()
    known = made.search_vectors(vectors_of(CODES[:60], 3, 0.3), precision=0.9)
    strangers = made.search_vectors(vectors_of(CODES[:60] + 20, 3, 0.3), precision=0.9)
    assert np.mean([not hits for hits in known]) < 0.1
    assert np.mean([not hits for hits in strangers]) > 0.6
    alone = next(hits for hits in strangers if not hits)
    assert alone.best_score < alone.threshold
    assert repr(alone).startswith(f"<Hits: no match: the best score is {alone.best_score:.3f}")


def test_an_adapted_gallery_is_not_flattered():
    """Of few images in many directions: a projection knows those it was fitted to by heart."""
    rng = np.random.default_rng(0)
    means = np.random.default_rng(7).normal(size=(10, 59)) * 0.15

    def drawn(n):
        vectors = rng.normal(size=(n, 64)) * 0.3
        vectors[:, :5] += rng.normal(size=(n, 5)) * 3
        vectors[:, 5:] += means[np.arange(n) % 10]
        return vectors

    made = Retriever(embedder=Wide(), dtype="float32")
    made.add_vectors(
        drawn(200),
        keys=[str(n) for n in range(200)],
        labels=[f"class {n % 10}" for n in range(200)],
    )
    assert made.adapt().applied
    made.calibrate(k=30)
    assert made.calibration.projection == made.projection.fingerprint
    found = made.search_vectors(drawn(600), 30)
    right = np.array([[h.label == f"class {n % 10}" for h in hits] for n, hits in enumerate(found)])
    likely = np.array([[h.probability for h in hits] for hits in found])
    sure = likely > 0.7
    assert sure.sum() > 3000
    assert right[sure].mean() > likely[sure].mean() - 0.04


# -- bound to what is searched ---------------------------------------------------------------


def test_is_refused_for_other_scores_and_good_again_for_the_same():
    made = gallery()
    vector = vectors_of(CODES[:1], 1, 0.8)
    with pytest.raises(InvalidInputError, match=r"found none; call calibrate\(\)"):
        made.search_vectors(vector, precision=0.5)
    assert made.search_vectors(vector)[0][0].probability is None
    made.calibrate()
    assert made.search_vectors(vector)[0][0].probability is not None
    made.project("pca", dim=6)
    assert made.calibration is None
    assert made.search_vectors(vector)[0][0].probability is None
    with pytest.raises(InvalidInputError, match=r"of another projection.*call calibrate\(\)"):
        made.search_vectors(vector, precision=0.5)
    made.project(None)
    assert made.search_vectors(vector, precision=0.5)
    made.project("pca", dim=6)
    made.calibrate()
    assert made.search_vectors(vector, precision=0.5)
    assert made.augmented(3).calibration is None


def test_holds_for_scores_of_its_kind_alone():
    made = gallery()
    made.calibrate()
    vector = vectors_of(CODES[:1], 1, 0.8)
    for how in ("alpha-qe", "k-reciprocal", "diffusion", ("mmr", "diffusion")):
        with pytest.raises(InvalidInputError, match="found those of a re-ranking"):
            made.search_vectors(vector, precision=0.5, rerank=how)
        assert made.search_vectors(vector, rerank=how)[0][0].probability is None
    (hits,) = made.search_vectors(vector, 5, precision=0.5, rerank="mmr")
    assert all(hit.probability >= 0.5 for hit in hits)
    with pytest.raises(InvalidInputError, match="found those of a query of several images"):
        made.search_key(["1", "2"], precision=0.5)
    with pytest.raises(InvalidInputError, match="found those of a query of several images"):
        made.search_key("1", negatives="2", precision=0.5)
    assert made.search_key(["1", "2"])[0].probability is None
    assert made.search_key("1", precision=0.5)[0].probability >= 0.5


def test_a_wrong_precision_is_told_before_a_picture_is_read():
    made = gallery()
    made.calibrate()
    for wrong in (0, 1, 2, -1, "high", True):
        with pytest.raises(InvalidInputError, match="precision: expected a number over 0 and"):
            made.search("nowhere.jpg", precision=wrong)
    with pytest.raises(InvalidInputError, match="which none reaches in this calibration"):
        made.search("nowhere.jpg", precision=0.99999)


def test_is_kept_in_the_manifest_alone(tmp_path):
    path = tmp_path / "g.imgret"
    vector = vectors_of(CODES[:1], 1, 0.8)
    with gallery(path) as made:
        files = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
        assert "calibration" not in json.loads(files["manifest.json"])
        made.calibrate()
        threshold = made.calibration.threshold(0.7)
        written = json.loads((path / "manifest.json").read_text())
        kept = written.pop("calibration")
        before = json.loads(files.pop("manifest.json"))
        assert written.pop("crc32") != before.pop("crc32")
        assert written == before
        del files["manifest.copy.json"]
        assert {name: (path / name).read_bytes() for name in files} == files
        assert (kept["method"], kept["metric"], kept["projection"]) == ("isotonic", "cosine", None)
        likely = np.interp(0.7, kept["scores"], kept["probabilities"])
        assert made.calibration.probability(0.7) == pytest.approx(likely)
        made.save(tmp_path / "copy.imgret")
    for again in (
        Retriever.load(path, embedder=Tiny()),
        Retriever.open(path, embedder=Tiny()),
        Retriever.load(tmp_path / "copy.imgret", embedder=Tiny()),
    ):
        assert again.calibration.threshold(0.7) == threshold
        assert again.search_vectors(vector, precision=0.5)
        again.close()
    with (
        Retriever.open(path, embedder=Tiny()) as reader,
        pytest.raises(StoreReadOnlyError),
    ):
        reader.calibrate()


@pytest.mark.parametrize("content", [5, "isotonic", [0.5]])
def test_a_manifest_with_another_kind_of_calibration(tmp_path, content):
    path = tmp_path / "g.imgret"
    gallery(path).close()
    manifest = json.loads((path / "manifest.json").read_text())
    changed = {**manifest, "calibration": content, "crc32": None}
    (path / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(StoreCorruptError, match="calibration"):
        Retriever.open(path, embedder=Tiny())


# -- pairs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("pca", [None, 5])
def test_given_pairs_have_the_scores_of_a_search(metric, pca):
    made = gallery(metric=metric)
    if pca:
        made.project("pca", dim=pca)
    pairs = [(str(n), str((7 * n + 1) % 240), n % 3 == 0) for n in range(0, 200, 5)]
    found = given_pairs(made._gallery.view(), iter(pairs))
    assert found.same.tolist() == [same for *_, same in pairs]
    for (a, b, _), score in zip(pairs, found.scores, strict=True):
        hits = {hit.key: hit.score for hit in made.search_key(a, 240)}
        assert score == pytest.approx(hits[b], rel=1e-4, abs=1e-4)


def test_near_pairs_are_the_nearest_labelled_others():
    labels = [None if n % 5 == 0 else f"class {c}" for n, c in enumerate(CODES)]
    made = gallery(labels=labels)
    found = near_pairs(made._gallery.view(), k=9, n_queries=1000, seed=0)
    assert set(found.queries.tolist()) == {n for n in range(240) if n % 5}
    for query in (1, 77):
        mine = found.queries == query
        hits = [hit for hit in made.search_key(str(query), 9) if hit.label is not None]
        assert found.others[mine].tolist() == [int(hit.key) for hit in hits]
        assert found.same[mine].tolist() == [hit.label == labels[query] for hit in hits]
        np.testing.assert_allclose(found.scores[mine], [hit.score for hit in hits], atol=1e-6)
    few = near_pairs(made._gallery.view(), k=9, n_queries=20, seed=0)
    assert len(np.unique(few.queries)) == 20


def test_given_pairs_calibrate():
    made = gallery(labels=[None] * 240)
    rng = np.random.default_rng(0)
    pairs = [
        (str(a), str(b), bool(CODES[a] == CODES[b]))
        for a, b in rng.integers(0, 240, (3000, 2)).tolist()
        if a != b
    ]
    report = made.calibrate(pairs, method="logistic")
    assert report.pairs == len(pairs)
    assert report.same == sum(same for *_, same in pairs)
    assert report.error < 0.05


def test_ten_pairs_of_each_kind_are_enough():
    made = gallery()
    same = [(str(n), str(n + 12), True) for n in range(10)]
    different = [(str(n), str(n + 25), False) for n in range(10)]
    report = made.calibrate(same + different, method="logistic")
    assert (report.pairs, report.same) == (20, 10)
    with pytest.raises(InvalidInputError, match="at least 10 of one class .* found 10 and 9"):
        made.calibrate(same + different[1:])


@pytest.mark.parametrize("count", [24, 30, 36, 42])
def test_three_queries_are_enough(count):
    """They are in three of five folds at most."""
    pairs = [(str(q), str(q + n + 3), n % 2 == 0) for q in range(3) for n in range(count)]
    report = gallery().calibrate(pairs, method="logistic")
    assert (report.pairs, report.images) == (3 * count, 3)


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([("1", "2", True), ("3", "nobody", False)], KeyNotFoundError, "found 'nobody'"),
        ([("1", "2")], InvalidInputError, r"pairs\[0\]: expected \(key, key, True or False\)"),
        ([("1", "2", True), ("1", 2, True)], InvalidInputError, r"pairs\[1\]"),
        ([("1", "2", "yes")], InvalidInputError, r"pairs\[0\]"),
        ([7], InvalidInputError, r"pairs\[0\]"),
        ([("1", "1", True)], InvalidInputError, "expected two items, found '1' twice"),
        ([], InvalidInputError, "found 0 and 0"),
        ([("1", str(n), True) for n in range(2, 40)], InvalidInputError, "found 38 and 0"),
        ([("1", str(n), n % 2 == 0) for n in range(2, 40)], InvalidInputError, "more images"),
    ],
)
def test_pairs_that_are_none(pairs, error, message):
    made = gallery()
    with pytest.raises(error, match=message):
        made.calibrate(pairs)
    assert made.calibration is None


@pytest.mark.parametrize("labels", [[None] * 240, ["one"] * 240, ["one"] * 5 + [None] * 235])
def test_too_few_labels(labels):
    with pytest.raises(InvalidInputError, match="label more images"):
        gallery(labels=labels).calibrate()


def test_bad_options():
    made = gallery()
    with pytest.raises(InvalidInputError, match="method: expected 'isotonic' or 'logistic'"):
        made.calibrate(method="platt")
    with pytest.raises(InvalidInputError, match="k: expected"):
        made.calibrate(k=0)
    with pytest.raises(InvalidInputError, match="n_queries: expected"):
        made.calibrate(n_queries=0)
    with pytest.raises(EmptyGalleryError):
        Retriever(embedder=Tiny()).calibrate()


def test_the_figures_are_of_pictures_held_out():
    """Where the score says nothing, no figure may say it does."""
    rng = np.random.default_rng(0)
    queries = np.repeat(np.arange(400), 5)
    pairs = Pairs(queries, rng.integers(400, 800, 2000), rng.random(2000), rng.random(2000) < 0.5)
    calibration, report = calibrate(pairs, method="isotonic", metric="cosine", projection=None)
    assert report.error < 0.1
    assert report.levels[0].recall < 0.05
    assert calibration.probability(0.5) == pytest.approx(0.5, abs=0.1)
    text = str(report)
    assert "2000 pairs of 400 images" in text
    facts = json.loads(report.to_json())
    assert [level["precision"] for level in facts["levels"]] == [0.9, 0.95, 0.99]


@pytest.mark.parametrize("kind", [IsotonicCurve, LogisticCurve])
def test_each_pair_is_judged_without_the_fold_of_its_query(kind):
    """Against a loop over pairs; many scores are equal."""
    rng = np.random.default_rng(0)
    queries, others = rng.integers(0, 43, (2, 600))
    scores = np.round(rng.normal(size=600), 1)
    same = rng.random(600) < 1 / (1 + np.exp(-4 * scores))
    learned, report = calibrate(
        Pairs(queries, others, scores, same), method=kind.method, metric="ip", projection="a"
    )
    assert learned == ScoreCalibration(kind.fit(scores, same), "ip", "a")
    fold = np.random.default_rng(0).permutation(np.arange(43) % 5)
    without = [(fold[queries] != n) & (fold[others] != n) for n in range(5)]
    fits = [kind.fit(scores[rest], same[rest]) for rest in without]
    mine = [fits[n] for n in fold[queries]]
    likely = [float(curve.probability(score)) for curve, score in zip(mine, scores, strict=True)]
    assert report.error == pytest.approx(calibration_error(likely, same))
    assert [level.precision for level in report.levels] == [0.9, 0.95, 0.99]
    for level in report.levels:
        least = [curve.threshold(level.precision) for curve in mine]
        kept = scores >= [np.inf if score is None else score for score in least]
        assert level.threshold == learned.curve.threshold(level.precision)
        assert level.measured == (same[kept].mean() if kept.any() else None)
        assert level.recall == kept[same].mean()
    assert report.levels[0].recall > 0.2
    counts = (report.method, report.pairs, report.same, report.images, report.queries)
    assert counts == (kind.method, 600, same.sum(), 43, "images")


def test_the_lowest_score_of_a_precision_is_kept():
    queries, others = np.repeat(np.arange(50), 6), np.tile(np.arange(50, 56), 50)
    same = np.arange(300) % 20 != 7
    pairs = Pairs(queries, others, np.full(300, 0.25), same)
    _, report = calibrate(pairs, method="isotonic", metric="cosine", projection=None)
    assert report.levels[0] == Level(0.9, 0.25, 0.95, 1.0)
    assert report.levels[2] == Level(0.99, None, None, 0.0)


@pytest.mark.parametrize(
    ("same", "kept", "measured", "recall"),
    [([1, 0], [1, 0], 1.0, 1.0), ([1, 1, 0, 0], [1, 0, 1, 1], 1 / 3, 0.5), ([0], [0], None, 0.0)],
)
def test_a_level_by_hand(same, kept, measured, recall):
    found = _level(0.5, LogisticCurve(1.0, 0.25, 9.0), np.array(same, bool), np.array(kept, bool))
    assert found == Level(0.5, -0.25, measured, recall)


def test_a_precision_without_a_calibration():
    with pytest.raises(InvalidInputError, match=r"scores are calibrated, found none; call calib"):
        threshold_of(0.5, None, of_another_projection=False)
    with pytest.raises(InvalidInputError, match=r"of texts are .* --text`"):
        threshold_of(0.5, None, of_another_projection=False, of_texts=True)
    with pytest.raises(InvalidInputError, match="expected a number over 0 and below 1, found 2"):
        threshold_of(2, None, of_another_projection=False)


def test_a_report_says_where_no_score_reaches_a_precision():
    levels = (Level(0.9, 0.5, 0.95, 0.25), Level(0.99, None, None, 0.0))
    report = CalibrationReport("isotonic", 20, 10, 5, 0.0125, levels)
    assert str(report).splitlines() == [
        "isotonic: 20 pairs of 5 images with other images, 10 of one class",
        "expected calibration error 0.0125, cross-validated",
        "precision  from score   measured   recall",
        "0.9            0.5000     0.9500   0.2500",
        "0.99             none          -   0.0000",
    ]
    shown = report._repr_html_()
    for cells in (["0.9", "0.5000", "0.9500", "0.2500"], ["0.99", "none", "-", "0.0000"]):
        assert "".join(f"<td>{cell}</td>" for cell in cells) in shown


# -- as data, and on the command line --------------------------------------------------------


def test_probability_is_among_the_data():
    made = gallery()
    vector = vectors_of(CODES[:1], 1, 0.8)
    (before,) = made.search_vectors(vector, 3)
    assert "probability" not in before.to_dicts()[0]
    made.calibrate()
    (hits,) = made.search_vectors(vector, 3)
    assert json.loads(json.dumps(hits.to_dicts())) == hits.to_dicts()
    assert hits.to_dicts()[0]["probability"] == hits[0].probability
    assert list(hits.to_pandas()["probability"]) == [hit.probability for hit in hits]
    made.add_vectors(vector, keys=["new"])  # what was found before stays as it was
    assert before[0].probability is None


@pytest.mark.slow
def test_the_commands(tmp_path, capsys):
    from imgret import images

    path = tmp_path / "g.imgret"
    rng = np.random.default_rng(0)
    codes = np.arange(100) % 5
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[16:48, 16:48] = (200, 30, 40)
    (tmp_path / "known.png").write_bytes(images.encode(picture, "png"))
    (tmp_path / "odd.png").write_bytes(images.encode(255 - np.roll(picture, 20), "png"))
    with Retriever.open(path, "a") as made:
        means = np.maximum(rng.normal(size=(5, 1280)), 0) * 0.05
        means[0] = made.embed([picture])[0]
        made.add_vectors(
            means[codes] * rng.uniform(0.5, 1.5, (100, 1280)),
            keys=[str(n) for n in range(100)],
            labels=[f"class {c}" for c in codes],
        )

    def ran(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return ended.value.code, *capsys.readouterr()

    search = ("search", path, tmp_path / "known.png", tmp_path / "odd.png")
    code, _, err = ran(*search, "--precision", 0.9)
    assert code == 1
    assert "imgret calibrate GALLERY" in err
    code, out, err = ran("calibrate", path, "--method", "logistic")
    assert (code, err) == (0, "")
    assert out.startswith("logistic: ")
    code, out, _ = ran("calibrate", path, "--json")
    assert json.loads(out)["method"] == "isotonic"
    assert ran("calibrate", path, "--method", "magic")[0] == 1
    code, out, _ = ran(*search, "--precision", 0.9, "--html", tmp_path / "page.html")
    assert code == 0
    assert f"{tmp_path / 'known.png'}: class 0" in out
    assert f"{tmp_path / 'odd.png'}: no match: the best score is 0." in out
    assert "no match: the best score" in (tmp_path / "page.html").read_text()
    _, out, _ = ran(*search, "--precision", 0.9, "--json")
    known, odd = map(json.loads, out.splitlines())
    assert all(hit["probability"] >= 0.9 for hit in known["hits"])
    assert odd["hits"] == []
    assert odd["best_score"] < odd["threshold"]
    code, _, err = ran(*search, "--precision", 1)
    assert (code, "below 1" in err) == (1, True)
    code, out, _ = ran(*search[:3], "--rerank", "alpha-qe", "--rerank", "mmr", "-k", 3)
    assert (code, len(out.splitlines())) == (0, 4)
    code, _, err = ran(*search[:3], "--rerank", "magic")
    assert (code, "known: alpha-qe" in err) == (1, True)
