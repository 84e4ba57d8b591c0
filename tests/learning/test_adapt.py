"""Learning from labels: it helps where it can, and leaves the gallery alone where it cannot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import Embedder, Retriever
from imgret.errors import InvalidInputError, StoreReadOnlyError
from imgret.learning.folds import CrossFit, sample_items
from imgret.learning.trial import try_out
from imgret.projections import Discriminant, IdentityProjection
from imgret.support.statistics import fold_of


class Flat(Embedder):
    """Never asked to embed here."""

    dim = 24
    fingerprint = "test:flat"

    def config(self):
        return {}

    def _embed(self, images):
        return np.ones((len(images), 24), dtype=np.float32)


def vectors_of(codes, *, signal=1.0, seed=0, dim=24):
    """Classes that differ in directions of little variance, hidden by others of much."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).normal(size=(int(max(codes)) + 1, dim)) * signal
    spread = np.geomspace(8, 0.3, dim)
    means[:, : dim // 2] = 0
    return (means[codes] + rng.normal(size=(len(codes), dim)) * spread).astype(np.float32)


def gallery(codes, labels=None, path=None, **how):
    made = (
        Retriever(embedder=Flat()) if path is None else Retriever.open(path, "a", embedder=Flat())
    )
    labels = [f"class {code}" for code in codes] if labels is None else labels
    made.add_vectors(
        vectors_of(codes, **how), keys=[str(n) for n in range(len(codes))], labels=labels
    )
    return made


CODES = np.repeat(np.arange(8), 30)


def top1(retriever, codes, seed=1):
    found = retriever.search_vectors(vectors_of(codes, seed=seed), 1)
    return np.mean([hits[0].label == f"class {c}" for hits, c in zip(found, codes, strict=True)])


def test_helps_new_queries_as_much_as_it_says():
    made = gallery(CODES)
    before = top1(made, CODES)
    report = made.adapt()
    assert report.applied
    assert made.projection.kind == "lda"
    assert made.index.dim == report.dim == 7
    assert report.top1.low > 0
    assert report.top1.low <= report.top1.after - report.top1.before <= report.top1.high
    assert top1(made, CODES) == pytest.approx(report.top1.after, abs=0.08)
    assert before == pytest.approx(report.top1.before, abs=0.08)
    assert (report.items, report.classes, report.queries) == (240, 8, 240)
    assert str(report).startswith("adapted: 7 dimensions")
    made.project(None)
    assert top1(made, CODES) == before


def test_leaves_the_gallery_alone_where_labels_say_nothing():
    labels = [f"class {c}" for c in np.random.default_rng(3).permutation(CODES)]
    made = gallery(CODES, labels, signal=0.0)
    report = made.adapt()
    assert not report.applied
    assert report.dim == 7  # of what was tried
    assert made.projection is None
    assert "the gallery is unchanged" in str(report)


def test_single_pictures_and_unlabelled_ones_stay_findable():
    codes = np.concatenate([CODES, [8, 9, 10, 10, 10]])
    labels = [f"class {c}" for c in codes[:-3]] + [None] * 3
    made = gallery(codes, labels)
    report = made.adapt()
    assert (report.singles, report.unlabelled, report.queries) == (2, 3, 240)
    kept = made.embeddings(["241", "244"])
    assert [hits[0].key for hits in made.search_vectors(kept, 1)] == ["241", "244"]


def test_is_kept_on_disk(tmp_path):
    with gallery(CODES, path=tmp_path / "g.imgret") as made:
        made.adapt(dim=4)
        expected = [hit.key for hit in made.search_vectors(vectors_of(CODES[:1], seed=2), 5)[0]]
    with Retriever.open(tmp_path / "g.imgret", embedder=Flat()) as again:
        assert (again.projection.kind, again.projection.dim_out) == ("lda", 4)
        found = again.search_vectors(vectors_of(CODES[:1], seed=2), 5)[0]
        assert [hit.key for hit in found] == expected
        with pytest.raises(StoreReadOnlyError):
            again.adapt()


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_is_judged_by_the_metric_of_the_gallery(metric):
    made = Retriever(embedder=Flat(), metric=metric)
    keys = [str(n) for n in range(len(CODES))]
    made.add_vectors(vectors_of(CODES), keys=keys, labels=[f"class {c}" for c in CODES])
    report = made.adapt()
    assert report.applied == (report.top1.low > 0)
    assert top1(made, CODES) == pytest.approx(
        report.top1.after if report.applied else report.top1.before, abs=0.1
    )


@pytest.mark.parametrize(
    ("codes", "labels"),
    [(CODES, [None] * 240), (CODES[:30], None), (np.arange(40), None), (CODES[20:40], None)],
)
def test_too_few_labels(codes, labels):
    made = gallery(codes, labels)
    with pytest.raises(InvalidInputError, match="label more images first"):
        made.adapt()


def test_more_dimensions_than_classes_give():
    with pytest.raises(InvalidInputError, match="1 to 7"):
        gallery(CODES).adapt(dim=8)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(2, 5))
def test_whoever_is_held_out_leaves_one_of_its_class(codes, folds):
    codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    fold = fold_of(codes, folds)
    for code in range(codes.max() + 1):
        own = fold[codes == code]
        if len(own) == 1:
            assert own[0] == -1
        else:
            assert len(set(own)) > 1
            assert np.ptp(np.bincount(own, minlength=folds)) <= 1


def test_nothing_held_out_is_searched():
    vectors = vectors_of(CODES)
    cross, identity = CrossFit(vectors, CODES, "cosine"), IdentityProjection(vectors.shape[1])
    assert sorted(np.concatenate(cross.held_out)) == list(range(240))
    for fold, held_out in enumerate(cross.held_out):
        found, scores = cross.neighbors(fold, held_out, 5, identity)
        assert found.shape == scores.shape == (80, 5)
        assert not np.isin(found, held_out).any()


def test_sampling_takes_whole_classes():
    codes = np.repeat(np.arange(100), 7)
    chosen = sample_items(codes, 70)
    assert len(chosen) == 70
    assert set(np.bincount(codes[chosen])) == {0, 7}
    assert (np.diff(chosen) > 0).all()
    assert len(sample_items(np.array([0] * 500 + [1] * 20), 100)) == 20
    assert sample_items(np.zeros(100, np.int64), 100).tolist() == list(range(100))
    few = np.repeat(np.arange(10), 5)
    assert set(np.bincount(few[sample_items(few, 10)])) <= {0, 2}  # no class is alone


def test_a_fold_has_no_more_dimensions_than_its_classes_give():
    cross = CrossFit(vectors_of(CODES[:90]), CODES[:90], "cosine")
    assert cross.projection(0, 0.3, 9).dim_out == 2
    assert cross.projection(0, 0.3, None).dim_out == 2
    assert cross.projection(0, 0.3, 1).dim_out == 1
    many = CrossFit(vectors_of(np.repeat([0, 1], 1000)), np.repeat([0, 1], 1000), "l2")
    found, _ = many.neighbors(0, many.held_out[0], 2000, IdentityProjection(24))
    assert found.shape == (len(many.held_out[0]), 2000 - len(many.held_out[0]))


def folds_of_hits(vectors, codes, projections):
    """Top-1 and average precision among 5, of each fold searched for among the rest: by l2."""
    fold = fold_of(codes, 3)
    found = []
    for number, projection in enumerate(projections):
        rest = fold != number
        applied = projection(vectors[rest], codes[rest]).apply(vectors).astype(np.float64)
        gaps = applied[fold == number][:, None] - applied[rest]
        near = np.argsort((gaps**2).sum(axis=2), axis=1)[:, :5]
        right = codes[rest][near] == codes[fold == number][:, None]
        average = [
            np.mean([row[: place + 1].mean() for place in np.flatnonzero(row)] or [0])
            for row in right
        ]
        found.append(np.array([right[:, 0], average]))
    return found


@pytest.mark.parametrize(("seed", "best"), [(3, 0.1), (8, 0.3), (30, 0.6)])
def test_each_fold_is_judged_with_what_did_best_on_others(seed, best):
    codes = np.repeat(np.arange(4), 11)
    vectors = vectors_of(codes, seed=seed, dim=8, signal=0.7)

    def fitted(shrinkage):
        return lambda rows, own: Discriminant([(rows, own)], 4).projection(shrinkage)

    tried = {value: folds_of_hits(vectors, codes, [fitted(value)] * 3) for value in (0.1, 0.3, 0.6)}
    after = []
    for fold in range(3):
        others = {v: sum(t[n].sum() for n in range(3) if n != fold) for v, t in tried.items()}
        after.append(tried[max(others, key=others.get)][fold])
    before = folds_of_hits(vectors, codes, [lambda *_: IdentityProjection(8)] * 3)
    trial = try_out(vectors, codes, "l2")
    assert trial.shrinkage == best
    for gain, plain, adapted in zip(
        (trial.top1, trial.map5), np.hstack(before), np.hstack(after), strict=True
    ):
        assert gain.before == pytest.approx(plain.mean())
        assert gain.after == pytest.approx(adapted.mean())
    alone = try_out(vectors, codes, "l2", shrinkage=0.6)
    assert alone.shrinkage == 0.6
    assert alone.top1.after == pytest.approx(np.hstack(tried[0.6])[0].mean())


def test_neighbours_of_some_items_where_others_are_held_out():
    retriever = gallery(CODES)
    assert retriever.adapt(dim=4).applied
    view = retriever.view()
    for id_ in view.ids[::9]:  # of each fold, some alone
        ((ids, found),) = view.nearest_unseen(np.array([id_]), 3)
        assert ids.tolist() == [id_]
        assert id_ not in found.ids


def test_parts_of_a_view_with_items_held_out_have_its_projection():
    retriever = gallery(CODES, [None if n % 4 == 0 else f"class {c}" for n, c in enumerate(CODES)])
    assert retriever.adapt(dim=4).dim == retriever.projection.dim_out == 4
    view = retriever.view()
    rest = view.held_out(view.ids[::9])
    queries = rest.project(vectors_of(CODES[:5], seed=1))
    assert not np.allclose(queries, view.project(vectors_of(CODES[:5], seed=1)), atol=1e-3)
    whole = rest.search(queries, len(rest))
    for part in (rest.labelled(), rest.without(view.ids[::5])):
        assert 100 < len(part) < len(rest)
        there = np.isin(whole.ids, part.ids)
        found = part.search(queries, len(part))
        assert np.array_equal(found.ids.ravel(), whole.ids[there])
        np.testing.assert_allclose(found.scores.ravel(), whole.scores[there], atol=1e-6)
