"""Searching: right answers, whatever the index and the metric, and hits that explain themselves."""

import json

import numpy as np
import pytest

from imgret import Hits, Retriever
from imgret.errors import (
    DimensionError,
    EmptyGalleryError,
    ImageNotFoundError,
    InvalidInputError,
)


@pytest.fixture
def retriever(mean_color, photos):
    made = Retriever(embedder=mean_color)
    made.add_folder(photos, labels="parent")
    return made


def test_hits(retriever, photos):
    hits = retriever.search(photos / "sand" / "2.jpg", k=3)
    assert isinstance(hits, Hits)
    assert len(hits) == 3
    best = hits[0]
    assert (best.key, best.rank, best.label) == ("sand/2.jpg", 1, "sand")
    assert best.path == str(photos / "sand" / "2.jpg")
    assert best.box == (0, 0, 48, 40)
    assert best.distance is None
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert sorted((hit.score for hit in hits), reverse=True) == [hit.score for hit in hits]
    assert hits[-1] == hits[2] == hits[1:][1]
    shown = ", ".join(f"{hit.key!r} {hit.score:.3f}" for hit in hits)
    assert repr(hits) == f"<Hits: 3 [{shown}]>"
    assert repr(retriever.search(photos / "sand" / "2.jpg", k=4)) == f"<Hits: 4 [{shown}, ...]>"


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("index", ["exact", "flat", "hnsw", "ivf", "auto", "faiss:SQfp16"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # few points for ivf
def test_every_index_and_metric_finds_the_same(mean_color, photos, index, metric):
    made = Retriever(embedder=mean_color, index=index, metric=metric, dtype="float32")
    made.add_folder(photos)
    vectors = made.embeddings().astype(np.float64)
    query = vectors[5] + 0.01
    if metric == "l2":
        scores = -((vectors - query) ** 2).sum(axis=1)
    else:
        scores = vectors @ query
        if metric == "cosine":
            scores /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    (hits,) = made.search_vectors(query[None], k=12)
    order = np.argsort(-scores)
    assert [hit.key for hit in hits] == [list(made)[n] for n in order]
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], rtol=5e-3, atol=5e-3)
    if metric == "l2":
        assert hits[0].distance == pytest.approx(-hits[0].score)


def test_k_above_the_gallery_gives_all(retriever, photos):
    assert len(retriever.search(photos / "sand" / "2.jpg", k=1000)) == 12


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", True])
def test_a_bad_k(retriever, photos, k):
    with pytest.raises(InvalidInputError, match="k: expected a whole number of at least 1"):
        retriever.search(photos / "sand" / "2.jpg", k=k)
    with pytest.raises(InvalidInputError, match="k: expected"):
        retriever.search_vectors(np.ones((1, 48)), k=k)


def test_bad_queries(retriever, tmp_path):
    with pytest.raises(ImageNotFoundError, match="nowhere.jpg"):
        retriever.search(tmp_path / "nowhere.jpg")
    with pytest.raises(DimensionError, match="dimension 48, found 3"):
        retriever.search_vectors(np.ones((1, 3)))
    with pytest.raises(InvalidInputError, match="NaN"):
        retriever.search_vectors(np.full((1, 48), np.nan))
    with pytest.raises(InvalidInputError, match="direction"):
        retriever.search_vectors(np.zeros((1, 48)))
    with pytest.raises(InvalidInputError, match="expected several images.*found one"):
        retriever.search_many(str(tmp_path / "a.jpg"))


def test_an_empty_gallery(mean_color, make_picture):
    retriever = Retriever(embedder=mean_color)
    for search in (
        lambda: retriever.search(make_picture(0)),
        lambda: retriever.search_vectors(np.ones((1, 48))),
    ):
        with pytest.raises(EmptyGalleryError, match="add images first"):
            search()
    assert len(retriever) == 0
    assert list(retriever) == []


def test_a_threshold_leaves_out_lower_scores(retriever, photos):
    every = retriever.search(photos / "sand" / "2.jpg", k=12)
    cut = (every[3].score + every[4].score) / 2
    assert list(retriever.search(photos / "sand" / "2.jpg", k=12, threshold=cut)) == list(every[:4])
    none = retriever.search(photos / "sand" / "2.jpg", threshold=2.0)
    assert len(none) == 0
    assert none.label is None


def test_many_queries_give_what_each_gives(retriever, photos):
    paths = sorted(photos.rglob("*.jpg"))
    many = retriever.search_many(paths, k=4)
    for path, hits in zip(paths, many, strict=True):
        one = retriever.search(path, k=4)
        assert [hit.key for hit in hits] == [hit.key for hit in one]
        assert hits.query == path
    assert retriever.search_many([]) == []


def test_the_vote(retriever, photos):
    hits = retriever.search(photos / "sand" / "2.jpg", k=1)
    assert hits.label == "sand"


def test_hits_as_data(retriever, photos):
    hits = retriever.search(photos / "sand" / "2.jpg", k=2)
    dicts = hits.to_dicts()
    assert json.loads(json.dumps(dicts)) == dicts
    assert set(dicts[0]) == {"key", "rank", "score", "label", "path", "box", "metadata"}
    frame = hits.to_pandas()
    assert list(frame["key"]) == [hit.key for hit in hits]
    none = retriever.search(photos / "sand" / "2.jpg", threshold=2.0)
    assert list(none.to_pandas().columns) == list(frame.columns)


def test_hits_draw_themselves(retriever, photos):
    hits = retriever.search(photos / "sand" / "2.jpg", k=2)
    drawn = hits._repr_html_()
    assert drawn.count("data:image/jpeg;base64,") == 3
    (photos / "sand" / "2.jpg").unlink()  # and say so where an image is gone
    assert hits.to_html().count("data:image/jpeg;base64,") == 1


def test_hits_show_what_was_there_when_they_were_found(retriever, photos):
    (before,) = retriever.search_vectors(retriever.embeddings(["lake/1.jpg"]), k=2)
    retriever.update("lake/1.jpg", label="sea")
    retriever.remove(before[1].key)
    assert before[0].label == "lake"
    (after,) = retriever.search_vectors(retriever.embeddings(["lake/1.jpg"]), k=2)
    assert after[0].label == "sea"


def test_hits_outlive_their_gallery(mean_color, photos, tmp_path):
    with Retriever.open(tmp_path / "g.imgret", "a", embedder=mean_color) as retriever:
        retriever.add_folder(photos)
        (hits,) = retriever.search_vectors(retriever.embeddings(["lake/1.jpg"]), k=2)
    assert hits[0].key == "lake/1.jpg"


def test_projection(mean_color, photos):
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(photos)
    before = [hit.key for hit in retriever.search(photos / "lake" / "0.jpg", k=12)]
    retriever.project("pca", dim=6)
    assert retriever.index.dim == 6
    assert "pca to 6-d" in repr(retriever)
    assert retriever.search(photos / "lake" / "0.jpg", k=1)[0].key == "lake/0.jpg"
    retriever.project(None)
    assert [hit.key for hit in retriever.search(photos / "lake" / "0.jpg", k=12)] == before
    with pytest.raises(InvalidInputError):
        retriever.project("pca", dim=100)
    with pytest.raises(InvalidInputError, match="'pca' or None"):
        retriever.project("umap")
    assert retriever.projection is None


def test_reindex_embeds_nothing(retriever, photos, monkeypatch):
    def no_more(*_):
        raise AssertionError("an image was embedded")

    before = [hit.key for hit in retriever.search(photos / "lake" / "0.jpg", k=12)]
    query = retriever.embeddings(["lake/0.jpg"])
    monkeypatch.setattr(type(retriever.embedder), "_embed", no_more)
    for name, options in (("hnsw", {"M": 8}), ("exact", {}), ("flat", {})):
        retriever.reindex(name, **options)
        assert retriever.index.name == name
        (hits,) = retriever.search_vectors(query, k=12)
        assert [hit.key for hit in hits] == before
    with pytest.raises(InvalidInputError, match="'hnsw' cannot be made"):
        retriever.reindex("hnsw", m=8)
    assert retriever.index.name == "flat"


def test_an_index_that_needs_more_items_says_so_and_loses_nothing(mean_color, photos):
    retriever = Retriever(embedder=mean_color, index="faiss:IVF64,PQ4x8")
    with pytest.warns(UserWarning, match="stored, but cannot be searched yet"):
        retriever.add_folder(photos)
    assert len(retriever) == 12
    with pytest.raises(InvalidInputError):
        retriever.search(photos / "lake" / "0.jpg")
    retriever.reindex("flat")
    assert retriever.search(photos / "lake" / "0.jpg", k=1)[0].key == "lake/0.jpg"


def test_a_cropper_sees_gallery_and_query_alike(mean_color, photos):
    retriever = Retriever(embedder=mean_color, cropper="center")
    retriever.add_folder(photos)
    box = retriever["lake/0.jpg"].box
    assert box.width < 48
    hit = retriever.search(photos / "lake" / "0.jpg", k=1)[0]
    assert hit.key == "lake/0.jpg"
    assert hit.score == pytest.approx(1, abs=1e-4)


def test_the_repr_tells_what_it_is_made_of(retriever):
    text = repr(retriever)
    for word in ("12 items", "in memory", "mean-color", "48-d", "'none'", "'flat'", "'cosine'"):
        assert word in text
