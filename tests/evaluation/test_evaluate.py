"""Evaluating: the figures are those of the rankings, and nothing is dropped in silence."""

import shutil

import numpy as np
import pytest

from imgret import Retriever, images
from imgret.abc import Embedder
from imgret.errors import EmptyGalleryError, ImageNotFoundError, InvalidInputError
from imgret.evaluation import metrics
from imgret.indexes import ExactIndex


def by_hand(retriever):
    """Leave-one-out rankings of a gallery, from its embeddings alone."""
    vectors = retriever.embeddings().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.array([retriever[key].label for key in retriever], dtype=object)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    relevant = labels[order] == labels[:, None]
    return relevant, relevant.sum(axis=1)


def clusters(n, classes, dim=48, *, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    vectors = rng.normal(size=(classes, dim))[labels] + 1.2 * rng.normal(size=(n, dim))
    return vectors, [f"class {label}" for label in labels]


@pytest.fixture
def large(mean_color):
    """More items than are searched at a time, one class larger than the others."""
    vectors, labels = clusters(700, 12)
    labels = ["big" if n % 3 == 0 else label for n, label in enumerate(labels)]
    made = Retriever(embedder=mean_color, dtype="float32")
    made.add_vectors(vectors, keys=[str(n) for n in range(700)], labels=labels)
    return made


# -- leave-one-out ---------------------------------------------------------------------------


def test_leave_one_out_by_hand(circle):
    report = circle.evaluate(k=(1, 2))
    assert report.queries == ("a0", "a1", "b0", "a2", "b1", "b2")
    assert report.labels == ("a", "a", "b", "a", "b", "b")
    # the nearest: a1, a0, a1, b0, b2, b1
    assert report.values["top1"].tolist() == [1, 1, 0, 0, 1, 1]
    # a1 sees a0, b0, a2...; b0 sees a1, a2, a0, b1, b2
    assert report.values["mrr"].tolist() == pytest.approx([1, 1, 1 / 4, 1 / 2, 1, 1])
    assert report.values["map2_min_k_r"][1] == pytest.approx(1 / 2)
    assert report.metrics["top1"] == pytest.approx(4 / 6)
    assert report.per_class["a"]["n_queries"] == 3
    assert report.per_class["a"]["top1"] == pytest.approx(2 / 3)
    assert report.per_class["b"]["map2"].keys() == {"hits", "min_k_r", "r"}


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [None, 500])
def test_leave_one_out_is_the_whole_matrix(large, blocks, monkeypatch):
    if blocks is not None:  # deep rankings come a few queries at a time
        monkeypatch.setattr("imgret.evaluation.judge._BLOCK_RANKS", blocks)
    report = large.evaluate()
    expected = metrics.per_query(*by_hand(large))
    assert report.values.keys() == expected.keys()
    for name, values in expected.items():  # float32 may swap two that are as near
        np.testing.assert_allclose(report.values[name], values, atol=1e-4, err_msg=name)


def test_nothing_is_embedded(circle, mean_color, monkeypatch):
    monkeypatch.setattr(type(mean_color), "_embed", lambda *_: 1 / 0)
    assert circle.evaluate(k=(1,)).n_queries == 6


def test_the_first_relevant_item_is_found_however_deep(mean_color):
    made = Retriever(embedder=mean_color, dtype="float32")
    angles = np.radians(np.arange(60))
    vectors = np.zeros((60, 48))
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    labels = ["x", *["y"] * 58, "x"]
    made.add_vectors(vectors, keys=[str(n) for n in range(60)], labels=labels)
    report = made.evaluate(k=(1,))
    assert report.values["mrr"][0] == pytest.approx(1 / 59)
    assert report.values["mrr"][59] == pytest.approx(1 / 59)


def test_removed_items_are_neither_asked_nor_found(circle):
    circle.remove(["a1", "b2"])
    report = circle.evaluate(k=(1,))
    assert report.queries == ("a0", "b0", "a2", "b1")
    # of the class b there is b1 alone left for b0
    assert report.values["recall1"].tolist() == [0, 0, 0, 0]
    assert report.values["mrr"].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 3, 1 / 2])


def test_an_approximate_index_is_measured_as_it_is_searched(circle, monkeypatch):
    asked = []
    search = ExactIndex._search

    def note(self, queries, k, allowed):
        asked.append(k)
        return search(self, queries, k, allowed)

    monkeypatch.setattr(ExactIndex, "_search", note)
    circle.reindex("exact")
    exact = circle.evaluate(k=(1,))
    assert asked == [6]  # the curves want all; ranked once
    asked.clear()
    monkeypatch.setattr(ExactIndex, "is_exact", False)
    again = circle.evaluate(k=(1,))
    assert asked == [6, 2]
    for name, values in exact.values.items():
        np.testing.assert_array_equal(again.values[name], values)


def test_a_projection_and_another_metric_are_evaluated_as_searched(large):
    large.project("pca", dim=8)
    report = large.evaluate(k=(1,))
    hits = large.search_vectors(large.embeddings(), k=2)
    right = [
        next(hit for hit in row if hit.key != key).label == large[key].label
        for key, row in zip(large, hits, strict=True)
    ]
    assert report.values["top1"].tolist() == right
    assert report.config["projection"]


# -- queries -----------------------------------------------------------------------------------


def test_queries_of_a_folder_are_named_by_their_folders(gallery, queries):
    report = gallery.evaluate(queries)
    assert report.queries == (
        "lake/new.jpg",
        "moor/new.jpg",
        "sand/new.jpg",
        "wood/broken.jpg",
        "wood/new.jpg",
    )
    assert report.labels == ("lake", "moor", "sand", "wood", "wood")
    hits = gallery.search(queries / "sand" / "new.jpg", k=10)
    assert report.values["precision10"][2] == sum(hit.label == "sand" for hit in hits) / 10


def test_what_cannot_be_read_or_found_stays_in_the_denominator(gallery, queries):
    report = gallery.evaluate(queries)
    assert report.n_queries == 5
    assert [failure.query for failure in report.failed] == ["wood/broken.jpg"]
    assert report.failed[0].reason
    assert report.without_relevant == ("moor/new.jpg",)
    for values in report.values.values():
        assert values.shape == (5,)
        assert values[1] == values[3] == 0
    assert report.metrics["top10"] == pytest.approx(report.values["top10"].sum() / 5)
    assert any("1 of 5 queries could not be read" in text for text in report.warnings)
    assert any("moor/new.jpg" in text for text in report.warnings)


def test_no_query_can_be_read(gallery, queries):
    report = gallery.evaluate([queries / "wood" / "broken.jpg"], ["wood"])
    assert report.metrics["mrr"] == 0
    assert report.worst == ()


def test_a_query_without_direction_costs_only_itself(gallery, queries, monkeypatch):
    embed, calls = type(gallery.embedder)._embed, []

    def spoilt(self, pictures):
        vectors = embed(self, pictures)
        if not calls:
            vectors[0] = 0  # cosine knows no angle to it
        calls.append(len(pictures))
        return vectors

    monkeypatch.setattr(type(gallery.embedder), "_embed", spoilt)
    report = gallery.evaluate(queries)
    assert [failure.query for failure in report.failed] == ["lake/new.jpg", "wood/broken.jpg"]
    assert report.values["mrr"][0] == 0 < report.values["mrr"][2]


def test_labels_in_every_form(gallery, queries):
    paths = sorted(queries.glob("*/new.jpg"))
    listed = gallery.evaluate(paths, ["lake", "moor", "sand", "wood"])
    for labels in (
        "parent",
        lambda path: path.parent.name,
        {str(path): path.parent.name for path in paths},
        np.array(["lake", "moor", "sand", "wood"]),
    ):
        assert gallery.evaluate(iter(paths), labels).labels == listed.labels


def test_pictures_in_memory(gallery, make_picture):
    report = gallery.evaluate([make_picture(0), make_picture(11)], ["lake", "sand"], k=[2])
    assert report.queries == ("query-000001", "query-000002")
    assert report.values["top2"].tolist() == [1, 1]


# -- a query that is in the gallery -----------------------------------------------------------


def test_a_query_never_finds_itself(gallery, photos):
    report = gallery.evaluate(photos, k=(1, 3))
    alone = gallery.evaluate(k=(1, 3))
    for name, values in alone.values.items():  # JPEGs embed alike
        np.testing.assert_allclose(report.values[name], values, err_msg=name)
    assert {match.kind for match in report.matches} >= {"identical"}
    same = [match for match in report.matches if match.kind == "identical"]
    assert [(match.query, match.key) for match in same] == [(key, key) for key in gallery]


def test_a_copy_under_another_name_is_the_query_itself(gallery, photos, tmp_path):
    copy = tmp_path / "copy.jpg"
    shutil.copy(photos / "lake" / "0.jpg", copy)
    for image in (copy, copy.read_bytes()):
        report = gallery.evaluate([image], ["lake"], k=(1,))
        match = next(match for match in report.matches if match.kind == "identical")
        assert match.key == "lake/0.jpg"
        assert all(hit.key != "lake/0.jpg" for hit in report.worst[0].hits)
        found = report.values["recall1"][0]
        assert found == 0 or found == pytest.approx(1 / 3)  # of three, not four
        assert "lake/0.jpg" in report.warnings[0]


def test_duplicates_within_the_gallery_are_left_out_and_told_once(gallery, photos):
    shutil.copy(photos / "sand" / "1.jpg", photos / "wood" / "twin.jpg")
    gallery.add_folder(photos, labels="parent")
    report = gallery.evaluate(k=(1,))
    (match,) = [match for match in report.matches if match.kind == "identical"]
    assert {match.query, match.key} == {"sand/1.jpg", "wood/twin.jpg"}
    for worst in report.worst:
        if worst.query == "sand/1.jpg":
            assert all(hit.key != "wood/twin.jpg" for hit in worst.hits)


def test_a_class_that_lies_close_together_is_no_class_of_copies(mean_color):
    rng = np.random.default_rng(0)
    vectors = np.eye(2, 48)[np.repeat([0, 1], 12)] + rng.normal(size=(24, 48)) * 0.01
    made = Retriever(embedder=mean_color, dtype="float32")
    made.add_vectors(
        np.concatenate([vectors, vectors[:1] + 1e-4]),
        keys=[*(f"{n}" for n in range(24)), "copy"],
        labels=[*np.repeat(["a", "b"], 12).tolist(), "a"],
    )
    cosines = made.embeddings()[:12] @ made.embeddings()[:12].T
    assert cosines.min() > 0.98  # the threshold alone would tell of them all
    report = made.evaluate(k=(1,))
    assert [{match.query, match.key} for match in report.matches] == [{"0", "copy"}]


def test_a_near_identical_item_is_told_and_counted(gallery, photos, tmp_path):
    image = images.load(photos / "lake" / "2.jpg")
    again = tmp_path / "again.jpg"
    again.write_bytes(images.encode(image, "jpeg", quality=80))
    report = gallery.evaluate([again], ["lake"], k=(1,), near_identical=0.999)
    (match,) = report.matches
    assert (match.query, match.key, match.kind) == (str(again), "lake/2.jpg", "near-identical")
    assert 0.999 <= match.cosine < 1
    assert report.values["top1"][0] == 1
    assert gallery.evaluate([again], ["lake"], k=(1,), near_identical=1.0).matches == ()


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["x.jpg"],), {}, "labels: expected one for each query, found None"),
        ((["x.jpg", "y.jpg"], ["a"]), {}, "labels: expected one for each of 2.*found 1"),
        ((["x.jpg"], "a"), {}, "labels: expected a list, 'parent'.*found 'a'"),
        ((["x.jpg"], [None]), {}, "class name for every query, found none for 1 of 1.*x.jpg"),
        ((["x.jpg"], [3]), {}, "labels: expected text.*found 3 for 'x.jpg'"),
        (([b"x"], "parent"), {}, "query-000001 does not come from a file"),
        (([], []), {}, "queries: expected at least one image"),
        ((b"x", ["a"]), {}, r"queries: expected several.*found one \(bytes\).*a folder by path"),
        ((7, ["a"]), {}, "queries: expected several images.*found 7"),
        ((None, ["a"]), {}, "labels: expected None without queries"),
        ((), {"k": 5}, "k: expected a sequence of ranks"),
        ((), {"k": ()}, "k: expected at least one rank"),
        ((), {"k": (5, 5)}, "k: expected at least one rank, each only once"),
        ((), {"k": (0,)}, "k: expected a whole number of at least 1, found 0"),
        ((), {"n_resamples": 0}, "n_resamples"),
        ((), {"seed": -1}, "seed"),
        ((), {"near_identical": 1.5}, "near_identical: expected a cosine"),
        ((), {"threads": 0}, "threads"),
    ],
)
def test_bad_input_is_told(gallery, arguments, options, message):
    with pytest.raises(InvalidInputError, match=message):
        gallery.evaluate(*arguments, **options)


def test_a_folder_without_pictures_or_labels(gallery, tmp_path, photos):
    with pytest.raises(ImageNotFoundError, match="lost"):
        gallery.evaluate(tmp_path / "lost")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="at least one image, found none in .*empty"):
        gallery.evaluate(tmp_path / "empty")
    with pytest.raises(InvalidInputError, match="found none for 4 of 4, the first '0.jpg'"):
        gallery.evaluate(photos / "lake")


def test_a_gallery_without_items_or_labels(mean_color, photos):
    made = Retriever(embedder=mean_color)
    with pytest.raises(EmptyGalleryError):
        made.evaluate()
    made.add_folder(photos)
    with pytest.raises(InvalidInputError, match="a gallery with labels, found 12 items without"):
        made.evaluate()


def test_items_without_a_label_are_wrong_answers(circle):
    circle.update("a1", label=None)
    report = circle.evaluate(k=(1,))
    assert "a1" not in report.queries
    assert report.values["top1"][0] == 0
    assert any("1 of 6 items have no label" in text for text in report.warnings)


def test_a_k_beyond_the_gallery_is_told(circle):
    report = circle.evaluate(k=(1, 10))
    assert report.values["precision10"].tolist() == [2 / 10] * 6
    assert any("k = 10 goes beyond the 5 items" in text for text in report.warnings)


def test_an_embedder_that_fails_is_an_error_not_a_zero(gallery, queries, monkeypatch):
    assert isinstance(gallery.embedder, Embedder)
    monkeypatch.setattr(type(gallery.embedder), "_embed", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gallery.evaluate(queries)


def test_what_was_learned_from_the_same_labels_is_told(large, mean_color):
    assert not any("flatters" in warning for warning in large.evaluate().warnings)
    assert large.adapt().applied
    report = large.evaluate()
    assert any("learned from the labels of these very items" in text for text in report.warnings)
    assert report.config["projection"]["kind"] == "lda"
