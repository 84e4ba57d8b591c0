"""What can be asked: several images, parts, keys; and hits that are re-ranked."""

import io
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from imgret import Retriever, registry, rerank
from imgret.errors import (
    EmptyGalleryError,
    ImageNotFoundError,
    InvalidInputError,
    KeyNotFoundError,
    UnknownNameError,
)
from imgret.rerank import (
    Asked,
    Diffusion,
    Diversity,
    KReciprocal,
    QueryExpansion,
    Reranker,
)
from imgret.types import Box, Neighbors

NAMES = tuple(registry.names("rerankers"))

DIM = 48


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def clusters(n=90, classes=5, seed=0, spread=0.7):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(size=(classes, DIM))
    return (centres[codes] + spread * rng.normal(size=(n, DIM))).astype(np.float32), codes


def gallery(embedder, *, metric="cosine", index="flat", pca=None, n=90):
    made = Retriever(embedder=embedder, metric=metric, index=index, dtype="float32")
    vectors, codes = clusters(n)
    made.add_vectors(
        vectors,
        keys=[f"k{i}" for i in range(n)],
        labels=[f"class {c}" for c in codes],
        metadata=[{"number": i} for i in range(n)],
    )
    if pca:
        made.project("pca", dim=pca, whiten=0.5)
    return made


def space(made):
    """The gallery's vectors as they are searched, and what turns others into such."""

    def searched(vectors):
        vectors = np.asarray(vectors, dtype=np.float64)
        if made.projection is not None:
            vectors = (vectors - made.projection.mean) @ made.projection.matrix.astype(np.float64)
        return unit(vectors) if made.metric == "cosine" else vectors

    return searched(made.embeddings()), searched


def scores_of(made, query, items):
    return -((items - query) ** 2).sum(axis=1) if made.metric == "l2" else items @ query


def keys_of(hits):
    return [hit.key for hit in hits]


@pytest.fixture
def retriever(mean_color, photos):
    made = Retriever(embedder=mean_color, dtype="float32")
    made.add_folder(photos, labels="parent")
    return made


# -- several images ------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("pca", [None, 6])
def test_several_pictures_are_one_query_by_rocchio(mean_color, photos, make_picture, metric, pca):
    made = Retriever(embedder=mean_color, metric=metric, dtype="float32")
    made.add_folder(photos)
    if pca:
        made.project("pca", dim=pca)
    likes, unlikes = [make_picture(s) for s in (1, 2, 77)], [make_picture(s) for s in (5, 6)]
    weights = np.array([1.0, 2.0, 0.5])
    items, searched = space(made)
    likeness, unlikeness = searched(made.embed(likes)), searched(made.embed(unlikes))
    query = weights @ likeness / weights.sum() - 0.3 * unlikeness.mean(axis=0)
    if metric == "cosine":
        query = unit(query)
    expected = scores_of(made, query, items)
    hits = made.search(
        likes, k=12, weights=weights.tolist(), negatives=unlikes, negative_weight=0.3
    )
    assert keys_of(hits) == [list(made)[n] for n in np.argsort(-expected)]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(expected)[::-1], atol=1e-4)


def test_a_list_of_one_is_that_one(retriever, photos):
    path = photos / "sand" / "2.jpg"
    one = retriever.search(path, k=5)
    assert list(retriever.search([path], k=5)) == list(one)
    alone = retriever.search((path, photos / "lake" / "1.jpg"), k=5, weights=[2, 0])
    assert keys_of(alone) == keys_of(one)
    np.testing.assert_allclose([h.score for h in alone], [h.score for h in one], atol=1e-6)


def test_negatives_go_down(retriever, photos):
    path = photos / "sand" / "2.jpg"
    before = keys_of(retriever.search(path, k=12))
    wrong = before[1]
    after = keys_of(retriever.search(path, k=12, negatives=photos / wrong, negative_weight=0.5))
    assert after.index(wrong) > before.index(wrong)
    assert after[0] == "sand/2.jpg"


def test_what_cannot_be_one_query(retriever, photos):
    some = [photos / "sand" / "2.jpg", photos / "lake" / "1.jpg"]
    for wrong, message in (
        ([1.0], "weights: expected 2, one for each image, found [1.0]"),
        ([1, 2, 3], "expected 2, one for each image"),
        (["a", "b"], "expected 2, one for each image"),
        ([1, -1], "at least 0"),
        ([1, float("nan")], "finite"),
        ([0, 0], "not all 0"),
    ):
        with pytest.raises(InvalidInputError) as told:
            retriever.search(some, weights=wrong)
        assert message in str(told.value)
    with pytest.raises(InvalidInputError, match="image: expected at least one"):
        retriever.search([])
    with pytest.raises(InvalidInputError, match="negative_weight: expected"):
        retriever.search(some, negatives=some, negative_weight=-0.1)
    with pytest.raises(InvalidInputError, match="lower negative_weight"):
        retriever.search(some, negatives=some, negative_weight=1)
    with pytest.raises(ImageNotFoundError, match="nowhere"):
        retriever.search([*some, photos / "nowhere.jpg"])
    with pytest.raises(ImageNotFoundError, match="nowhere"):
        retriever.search(some[0], negatives=[photos / "nowhere.jpg"])


# -- a part of an image ---------------------------------------------------------------------


def test_a_box_is_searched_with_as_it_is(mean_color, photos, make_picture):
    made = Retriever(embedder=mean_color, cropper="center", dtype="float32")
    made.add_folder(photos)
    picture = make_picture(3)
    part = np.ascontiguousarray(picture[10:35, 5:40])
    (expected,) = made.search_vectors(mean_color.embed([part]), k=12)
    hits = made.search(picture, k=12, box=(5, 10, 40, 35))
    assert keys_of(hits) == keys_of(expected)
    np.testing.assert_allclose([h.score for h in hits], [h.score for h in expected], atol=1e-6)
    assert hits.box == Box(5, 10, 40, 35)
    whole = made.search(picture, k=1, box=np.array([0, 0, 48, 40]))
    assert whole[0].score != made.search(picture, k=1)[0].score  # which was cropped


def test_a_box_counts_pixels_of_the_picture_as_shown(retriever, make_picture):
    shown = make_picture(8)  # 48 wide, 40 high
    turned = PilImage.fromarray(np.ascontiguousarray(np.rot90(shown)))
    exif = PilImage.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    file = io.BytesIO()
    turned.save(file, "png", exif=exif)
    box = (30, 2, 48, 20)
    expected = retriever.search(shown, k=5, box=box)
    hits = retriever.search(file.getvalue(), k=5, box=box)
    np.testing.assert_allclose([h.score for h in hits], [h.score for h in expected], atol=1e-6)
    assert keys_of(hits) == keys_of(expected)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0, 0, 49, 40), "which is 48 pixels wide and 40 high, found (0, 0, 49, 40)"),
        ((-1, 0, 10, 10), "inside the image, which is 48 pixels wide"),
        ((0, 0, 10, 41), "40 high"),
        ((5, 5, 5, 9), "(5, 5, 5, 9), which is empty"),
        ((5, 9, 7, 2), "which is empty"),
        ((0.0, 0, 5, 5), "four whole numbers (x0, y0, x1, y1)"),
        ((0, 0, 5), "four whole numbers"),
        (7, "four whole numbers"),
    ],
)
def test_a_box_that_is_none(retriever, make_picture, box, message):
    with pytest.raises(InvalidInputError) as told:
        retriever.search(make_picture(1), box=box)
    assert message in str(told.value)


def test_a_box_is_of_one_picture(retriever, make_picture):
    with pytest.raises(InvalidInputError, match="box: expected a single image with it, found 2"):
        retriever.search([make_picture(1), make_picture(2)], box=(0, 0, 5, 5))


# -- by key ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pca", [None, 7])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_by_key(mean_color, metric, pca):
    made = gallery(mean_color, metric=metric, pca=pca)
    items, _ = space(made)
    expected = scores_of(made, items[4], items)
    order = [n for n in np.argsort(-expected, kind="stable") if n != 4]
    hits = made.search_key("k4", k=10)
    assert keys_of(hits) == [f"k{n}" for n in order[:10]]
    np.testing.assert_allclose(
        [hit.score for hit in hits], expected[order[:10]], rtol=1e-4, atol=1e-4
    )
    query = items[[4, 9]].mean(axis=0) - 0.25 * items[7]
    query = unit(query) if metric == "cosine" else query
    expected = scores_of(made, query, items)
    hits = made.search_key(["k4", "k9", "k4"], k=10, negatives="k7", weights=[1, 2, 1])
    left = [n for n in np.argsort(-expected, kind="stable") if n not in {4, 9, 7}]
    assert keys_of(hits) == [f"k{n}" for n in left[:10]]


@settings(max_examples=25)
@given(
    st.sets(st.integers(0, 29), min_size=1, max_size=4),
    st.sets(st.integers(0, 29), max_size=3),
    st.integers(1, 40),
    st.integers(0, 30),
    st.sampled_from([None, "alpha-qe", "k-reciprocal", "diffusion", "mmr", ("average-qe", "mmr")]),
)
def test_by_key_never_short_never_itself(small, keys, negatives, k, most, how):
    asked = {f"k{n}" for n in keys | negatives}
    passing = {f"k{n}" for n in range(30) if n < most} - asked
    hits = small.search_key(
        [f"k{n}" for n in keys],
        k,
        negatives=[f"k{n}" for n in negatives],
        where={"number": {"$lt": most}},
        rerank=how,
    )
    found = keys_of(hits)
    assert len(found) == len(set(found)) == min(k, len(passing))
    assert set(found) <= passing


@pytest.fixture(scope="module")
def small():
    from imgret import Embedder

    class Nothing(Embedder):
        name = "nothing"
        dim = DIM
        fingerprint = "nothing"

        def config(self):
            return {}

        def _embed(self, given):
            return np.ones((len(given), DIM), dtype=np.float32)

    return gallery(Nothing(), n=30)


def test_by_a_key_that_is_not_there(mean_color):
    made = gallery(mean_color)
    for ask in (
        lambda: made.search_key("nobody"),
        lambda: made.search_key(["k1", "nobody"]),
        lambda: made.search_key("k1", negatives=["nobody"]),
    ):
        with pytest.raises(KeyNotFoundError, match="found 'nobody'"):
            ask()
    with pytest.raises(InvalidInputError, match="key: expected at least one"):
        made.search_key([])
    with pytest.raises(InvalidInputError, match="weights"):
        made.search_key("k1", weights=[1, 2])
    with pytest.raises(EmptyGalleryError):
        Retriever(embedder=mean_color).search_key("k1")


def test_by_key_reads_no_picture(retriever, photos, monkeypatch):
    def no_more(*_):
        raise AssertionError("an image was embedded")

    monkeypatch.setattr(type(retriever.embedder), "_embed", no_more)
    hits = retriever.search_key("sand/2.jpg", k=12)
    assert len(hits) == 11
    assert hits.query == str(photos / "sand" / "2.jpg")
    several = retriever.search_key(["sand/2.jpg", "lake/1.jpg"], negatives="wood/0.jpg")
    assert len(several) == 9
    assert several.query == (str(photos / "sand" / "2.jpg"), str(photos / "lake" / "1.jpg"))
    assert several.negatives == (str(photos / "wood" / "0.jpg"),)


# -- re-ranked -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("pca", [None, 8])
def test_never_short_and_in_order(mean_color, name, metric, pca):
    made = gallery(mean_color, metric=metric, pca=pca)
    queries, _ = clusters(4, seed=5)
    for where, matching in ((None, 90), ({"number": {"$lt": 17}}, 17), ({"label": "class 1"}, 18)):
        for k in (1, 10, 100):
            for hits in made.search_vectors(queries, k, where=where, rerank=name):
                found = keys_of(hits)
                assert len(found) == len(set(found)) == min(k, matching)
                assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
                if where == {"label": "class 1"}:
                    assert {hit.label for hit in hits} == {"class 1"}
                if name != "mmr":
                    assert all(np.diff([hit.score for hit in hits]) <= 1e-6)


@pytest.mark.parametrize("index", ["hnsw", "faiss:SQfp16"])
def test_of_what_another_index_finds(mean_color, index):
    made, exact = gallery(mean_color, index=index), gallery(mean_color)
    queries, _ = clusters(3, seed=5)
    for name in NAMES:
        found = made.search_vectors(queries, 10, rerank=name)
        expected = exact.search_vectors(queries, 10, rerank=name)
        for a, b in zip(found, expected, strict=True):
            assert len(set(keys_of(a)) & set(keys_of(b))) >= 9


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("pca", [None, 8])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_query_expansion_is_a_second_search(mean_color, metric, pca, alpha):
    made = gallery(mean_color, metric=metric, pca=pca)
    items, searched = space(made)
    queries, _ = clusters(2, seed=5)
    found = made.search_vectors(queries, 90, rerank=QueryExpansion(k=4, alpha=alpha))
    for query, hits in zip(searched(queries), found, strict=True):
        near = np.argsort(-scores_of(made, query, items))[:4]
        cosines = unit(items[near]) @ unit(query)
        weights = np.where(cosines > 0, np.maximum(cosines, 0) ** alpha, 0)
        moved = (query + weights @ items[near]) / (1 + weights.sum())
        expected = scores_of(made, unit(moved) if metric == "cosine" else moved, items)
        assert keys_of(hits) == [f"k{n}" for n in np.argsort(-expected)]
        np.testing.assert_allclose(
            [hit.score for hit in hits], np.sort(expected)[::-1], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("pca", [None, 8])
def test_k_reciprocal_of_everything_is_that_of_the_gallery(mean_color, pca):
    made = gallery(mean_color, pca=pca)
    items, searched = space(made)
    queries, _ = clusters(4, seed=5)
    how = {"k1": 9, "k2": 3, "lam": 0.4, "candidates": 90}
    rows, scores = rerank.k_reciprocal(searched(queries), items, **how)
    found = made.search_vectors(queries, 90, rerank=KReciprocal(**how))
    for hits, score, row in zip(found, scores, rows, strict=True):
        np.testing.assert_allclose([hit.score for hit in hits], score, atol=1e-5)
        assert keys_of(hits)[:20] == [f"k{n}" for n in row[:20]]


def test_k_reciprocal_of_some_is_nearly_that_of_the_gallery(mean_color):
    made = gallery(mean_color, n=600)
    items, searched = space(made)
    queries, _ = clusters(20, seed=5)
    rows, _ = rerank.k_reciprocal(searched(queries), items, candidates=40, k1=10)
    found = made.search_vectors(queries, 20, rerank=KReciprocal(k1=10, candidates=40))
    shared = [
        len(set(keys_of(hits)) & {f"k{n}" for n in row[:20]}) / 20
        for hits, row in zip(found, rows, strict=True)
    ]
    assert np.mean(shared) > 0.95


@pytest.mark.parametrize("pca", [None, 8])
def test_diffusion_of_everything_is_that_of_the_gallery(mean_color, pca):
    made = gallery(mean_color, pca=pca)
    items, searched = space(made)
    queries, _ = clusters(4, seed=5)
    how = {"k": 9, "k_query": 5, "alpha": 0.8, "gamma": 2.0, "iterations": 200}
    expected = rerank.diffuse(searched(queries), items, **how)
    found = made.search_vectors(queries, 90, rerank=Diffusion(candidates=90, **how))
    for hits, row in zip(found, expected, strict=True):
        scores = np.array([row[int(hit.key[1:])] for hit in hits])
        np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-5)


def test_diffusion_leaves_the_rest_in_order(mean_color):
    made = gallery(mean_color, n=30)
    query = clusters(1, seed=5)[0]
    (plain,) = made.search_vectors(query, 30)
    (hits,) = made.search_vectors(query, 30, rerank=Diffusion(candidates=30, k=1, k_query=1))
    unreached = [hit.key for hit in hits if hit.score == 0]
    assert len(unreached) > 5
    assert unreached == [key for key in keys_of(plain) if key in set(unreached)]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_mmr_keeps_scores_and_changes_the_order(mean_color, metric):
    made = gallery(mean_color, metric=metric)
    items, searched = space(made)
    queries, _ = clusters(3, seed=5)
    found = made.search_vectors(queries, 12, rerank=Diversity(candidates=40, lam=0.5))
    for query, hits in zip(searched(queries), found, strict=True):
        scores = scores_of(made, query, items)
        left = np.argsort(-scores)[:40].tolist()
        chosen = []
        while len(chosen) < 12:
            best = max(
                left,
                key=lambda n: (
                    0.5 * scores[n]
                    - 0.5
                    * max(
                        (scores_of(made, items[c], items[n : n + 1])[0] for c in chosen), default=0
                    )
                ),
            )
            chosen.append(best)
            left.remove(best)
        assert keys_of(hits) == [f"k{n}" for n in chosen]
        np.testing.assert_allclose([hit.score for hit in hits], scores[chosen], atol=1e-3)
        if metric == "l2":
            assert hits[0].distance == -hits[0].score


def test_mmr_has_a_threshold_before_it(mean_color):
    made = gallery(mean_color)
    query = clusters(1, seed=5)[0]
    (plain,) = made.search_vectors(query, 90)
    cut = (plain[14].score + plain[15].score) / 2
    diverse = Diversity(candidates=60, lam=0.1)
    (hits,) = made.search_vectors(query, 10, rerank=diverse, threshold=cut)
    assert len(hits) == 10
    assert all(hit.score >= cut for hit in hits)
    (hits,) = made.search_vectors(query, 50, rerank=diverse, threshold=cut)
    assert set(keys_of(hits)) == set(keys_of(plain[:15]))
    (none,) = made.search_vectors(query, 50, rerank=diverse, threshold=2.0)
    assert none.best_score == pytest.approx(plain[0].score)


def test_a_threshold_is_one_of_the_scores_there_are(mean_color):
    made = gallery(mean_color)
    query = clusters(1, seed=5)[0]
    (every,) = made.search_vectors(query, 60, rerank="k-reciprocal")
    cut = (every[9].score + every[10].score) / 2
    (hits,) = made.search_vectors(query, 60, rerank="k-reciprocal", threshold=cut)
    assert list(hits) == list(every[:10])
    (none,) = made.search_vectors(query, 60, rerank="k-reciprocal", threshold=0.5)
    assert none.best_score == every[0].score
    (after,) = made.search_vectors(query, 60, rerank=("mmr", "k-reciprocal"), threshold=cut)
    assert set(keys_of(after)) == set(keys_of(hits))
    (before,) = made.search_vectors(query, 60, rerank=("k-reciprocal", "mmr"), threshold=cut)
    assert set(keys_of(before)) == set(keys_of(hits))


def test_scores_that_are_no_distances_are_not_shown_as_such(mean_color):
    made = gallery(mean_color, metric="l2")
    query = clusters(1, seed=5)[0]
    for name, has in (("k-reciprocal", False), ("diffusion", False), ("alpha-qe", True)):
        (hits,) = made.search_vectors(query, 5, rerank=name)
        assert (hits[0].distance is not None) is has


def test_one_after_the_other(mean_color):
    made = gallery(mean_color)
    queries, _ = clusters(3, seed=5)
    expanded = QueryExpansion(k=5)
    by_hand = []
    for query in unit(queries):
        (near,) = made.search_vectors(query[None], 5)
        items = unit(made.embeddings(keys_of(near)))
        moved = query + ((items @ query) ** 3)[:, None].T @ items
        by_hand += made.search_vectors(moved, 10, rerank=KReciprocal(k1=8))
    found = made.search_vectors(queries, 10, rerank=(expanded, KReciprocal(k1=8)))
    for a, b in zip(found, by_hand, strict=True):
        assert keys_of(a) == keys_of(b)


def test_every_search_ranks_anew(retriever, photos):
    paths = sorted(photos.rglob("*.jpg"))[:3]
    for name in NAMES:
        many = retriever.search_many(paths, k=4, rerank=name)
        vectors = retriever.search_vectors(retriever.embed(paths), k=4, rerank=[name])
        for path, a, b in zip(paths, many, vectors, strict=True):
            assert keys_of(retriever.search(path, k=4, rerank=name)) == keys_of(a) == keys_of(b)
    assert retriever.search_many([], rerank="mmr") == []


def test_what_is_no_re_ranker(mean_color):
    made = gallery(mean_color)
    query = clusters(1)[0]
    with pytest.raises(UnknownNameError, match="alpha-qe, average-qe, diffusion.*'k-reciprocal'"):
        made.search_vectors(query, rerank="k-reciprical")
    for wrong in (3, KReciprocal, [None], {"mmr"}):
        with pytest.raises(
            InvalidInputError,
            match="reranker: expected a registered name or an",
        ):
            made.search_vectors(query, rerank=wrong)
    for make, name in (
        (lambda: QueryExpansion(k=0), "k: expected"),
        (lambda: QueryExpansion(alpha=-1), "alpha"),
        (lambda: KReciprocal(lam=2), "lam"),
        (lambda: KReciprocal(k1=0), "k1"),
        (lambda: Diffusion(alpha=1), "alpha"),
        (lambda: Diffusion(candidates=0), "candidates"),
        (lambda: Diversity(lam=-0.5), "lam"),
    ):
        with pytest.raises(InvalidInputError, match=name):
            make()


class Backwards(Reranker):
    """The worst first; or, if told so, of a shape of its own."""

    name = "backwards"
    candidates = 5
    scores: ClassVar = "own"

    def __init__(self, lost=0):
        self.lost = lost

    def _rank(self, asked, k, searched):
        ids = asked.found.ids[:, :k][:, ::-1].copy()
        ids = ids[:, self.lost :]
        scores = np.tile(-np.arange(k, dtype=np.float32), (len(ids), 1))
        return Asked(asked.queries, Neighbors(ids, scores))


def test_a_re_ranker_of_ones_own(mean_color):
    made = gallery(mean_color)
    query = clusters(1, seed=5)[0]
    (plain,) = made.search_vectors(query, 5)
    (hits,) = made.search_vectors(query, 5, rerank=Backwards())
    assert keys_of(hits) == keys_of(plain)[::-1]
    with pytest.raises(InvalidInputError, match=r"backwards: expected .* of shape \(1, 5\), found"):
        made.search_vectors(query, 5, rerank=Backwards(lost=1))


# -- how it looks ----------------------------------------------------------------------------


def test_the_grid_shows_all_that_was_asked_with(retriever, photos):
    some = [photos / "sand" / "2.jpg", photos / "lake" / "1.jpg"]
    hits = retriever.search(some, k=2, negatives=photos / "wood" / "0.jpg")
    drawn = hits._repr_html_()
    assert drawn.count("data:image/jpeg;base64,") == 5
    assert drawn.count('class="unlike"') == 1
    assert "<title>Images like 2.jpg</title>" in hits.to_html()
    assert hits.query == tuple(some)
    boxed = retriever.search(some[0], k=1, box=(10, 10, 30, 30))
    pictures = boxed._repr_html_().split("base64,")
    assert pictures[1] != retriever.search(some[0], k=1)._repr_html_().split("base64,")[1]


def test_no_match_is_told(retriever, photos):
    path = photos / "sand" / "2.jpg"
    hits = retriever.search(path, threshold=2.0)
    assert not hits
    assert repr(hits) == "<Hits: no match: the best score is 1.000, below 2.000>"
    assert "no match: the best score is 1.000" in hits._repr_html_()
    assert "no match" in hits.to_html()
    assert (hits.best_score, hits.threshold) == (pytest.approx(1, abs=1e-4), 2.0)
    found = retriever.search(path, k=2)
    assert found
    assert found.no_match == ""
    assert found.best_score == found[0].score
    nothing = retriever.search(path, where={"label": "nowhere"})
    assert (nothing.best_score, nothing.no_match, repr(nothing)) == (
        None,
        "no match",
        "<Hits: no match>",
    )


# -- augmented -------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "ip"])
@pytest.mark.parametrize("pca", [None, 8])
@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_augmented_items_are_means_where_they_are_searched(mean_color, metric, pca, alpha):
    made = gallery(mean_color, metric=metric, pca=pca)
    items, _ = space(made)
    other = made.augmented(6, alpha=alpha)
    found, _ = space(other)
    if metric == "cosine":
        expected = rerank.augment_gallery(items, k=6, alpha=alpha)
    else:
        expected = []
        for n, item in enumerate(items):
            scores = items @ item
            near = [n, *(m for m in np.argsort(-scores) if m != n and m in np.argsort(-scores)[:6])]
            near = near[:6]
            cosines = unit(items[near]) @ unit(item)
            weights = np.where(cosines > 0, np.maximum(cosines, 0) ** alpha, 0)
            expected.append(weights @ items[near] / weights.sum())
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max() + 1e-5)


def test_augmented_is_another_gallery_of_the_same_items(mean_color, photos, tmp_path):
    made = Retriever(embedder=mean_color, index="hnsw")
    made.add_folder(photos, labels="parent", metadata=lambda path: {"name": path.name})
    made.remove("sand/1.jpg")
    made.project("pca", dim=5)
    before = made.embeddings()
    other = made.augmented(3)
    np.testing.assert_array_equal(made.embeddings(), before)
    assert list(other) == list(made)
    assert [other[key] for key in other] == [made[key] for key in made]
    assert other.index.name == "hnsw"
    assert other.projection is made.projection
    hits = other.search(photos / "lake" / "0.jpg", k=3)
    assert hits[0].path == str(photos / "lake" / "0.jpg")
    other.save(tmp_path / "other.imgret")
    again = Retriever.load(tmp_path / "other.imgret", embedder=mean_color)
    assert keys_of(again.search(photos / "lake" / "0.jpg", k=3)) == keys_of(hits)
    alone = made.augmented(1)
    np.testing.assert_allclose(alone.embeddings(), before, atol=1e-3)


def test_augmented_of_many_is_made_in_pieces(mean_color, monkeypatch):
    from imgret.search import augment

    made = gallery(mean_color)
    whole = made.augmented(5).embeddings()
    monkeypatch.setattr(augment, "_BLOCK", 7)
    np.testing.assert_allclose(made.augmented(5).embeddings(), whole, atol=1e-5)


def test_augmented_of_nothing(mean_color):
    with pytest.raises(EmptyGalleryError):
        Retriever(embedder=mean_color).augmented()
    with pytest.raises(InvalidInputError, match="k: expected"):
        gallery(mean_color).augmented(0)
