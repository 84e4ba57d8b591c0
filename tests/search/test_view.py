"""A view that implements only the hooks it must, and what is made of it, against plain loops."""

import numpy as np
import pytest

from imgret.errors import DimensionError, InvalidInputError, KeyNotFoundError
from imgret.projections import Discriminant, IdentityProjection, fit_pca
from imgret.search import view as module
from imgret.search.augment import augmented_embeddings
from imgret.search.view import Labels, Origin, View, padded
from imgret.support.statistics import fold_of
from imgret.types import Item, Neighbors


class Plain(View):
    """Items in lists, read three at a time, and searched with a loop."""

    def __init__(self, rows, ids=None, labels=None, *, metric="l2", projection=None):
        super().__init__(metric, projection or IdentityProjection(len(rows[0])))
        self.rows = np.asarray(rows, dtype=np.float32)
        self.known = list(range(len(rows))) if ids is None else ids
        self.names = [None] * len(rows) if labels is None else labels

    def _ids(self):
        return np.array(self.known, dtype=np.int64)

    def _search(self, vectors, k):
        return self._plain_search(vectors, min(k, len(self.known)))

    def _plain_search(self, vectors, k):
        items = self.scorable(self.projection.apply(self.rows))
        if self.metric == "l2":
            scores = -((vectors[:, None] - items) ** 2).sum(axis=2)
        else:
            scores = vectors @ items.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(scores, best, axis=1).astype(np.float32)
        return Neighbors(np.array(self.known)[best], found)

    def _places(self, ids):
        return [self.known.index(id_) for id_ in ids]

    def _embeddings(self, ids):
        for start in range(0, len(ids), 3):
            some = ids[start : start + 3]
            yield some, self.rows[self._places(some)]

    def _read(self, ids):
        return self.rows[self._places(ids)]

    def _items(self, ids):
        return {
            id_: Item(f"k{id_}", path=f"{id_}.jpg", sha256=b"%d" % id_, label=self.names[place])
            for id_, place in zip(ids, self._places(ids), strict=True)
        }

    def _part(self, kept):
        places = [place for place, id_ in enumerate(self.known) if kept(place, id_)]
        return Plain(
            self.rows[places],
            [self.known[place] for place in places],
            [self.names[place] for place in places],
            metric=self.metric,
            projection=self.projection,
        )

    def _without(self, ids):
        assert (np.diff(ids) > 0).all()
        return self._part(lambda _, id_: id_ not in ids.tolist())

    def _labelled(self):
        return self._part(lambda place, _: self.names[place] is not None)


IDS = [0, 2, 3, 7, 8, 11, 12, 20]
LABELS = ["b", "a", None, "b", "c", "a", None, "a"]
ROWS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)


@pytest.fixture
def plain():
    return Plain(ROWS, IDS, LABELS)


def numbers(pieces):
    """Ids and rows that were yielded in pieces."""
    ids, rows = zip(*pieces, strict=True)
    return np.concatenate(ids).tolist(), np.concatenate(rows)


def test_items_are_read_by_id(plain, monkeypatch):
    assert (len(plain), plain.dim, plain.dtype, plain.index) == (8, 4, "float32", None)
    assert plain.is_exact is False
    assert (plain.ids.tolist(), plain.facts()) == (IDS, {})
    assert plain.keys() == tuple(f"k{id_}" for id_ in IDS)
    monkeypatch.setattr(module, "_ITEMS", 3)
    assert [item.key for item in plain.items()] == list(plain.keys())
    assert [item.key for item in plain.items(np.array([20, 0, 7, 7]))] == ["k20", "k0", "k7", "k7"]
    assert list(plain.items(np.array([], dtype=np.int64))) == []
    assert list(plain.origins()) == [
        Origin(id_, f"{id_}.jpg", b"%d" % id_, label)
        for id_, label in zip(IDS, LABELS, strict=True)
    ]
    assert plain.require(["k11", "k0", "k11"]).tolist() == [11, 0, 11]
    assert plain.require(["k11"]).dtype == np.int64
    with pytest.raises(KeyNotFoundError, match="expected one of the 8 in the gallery, found 'k1'"):
        plain.require(["k0", "k1", "k4"])


@pytest.mark.parametrize(("name", "is_exact"), [("flat", True), ("exact", True), ("hnsw", False)])
def test_an_index_says_whether_it_is_exact(view_of, name, is_exact):
    assert view_of(np.eye(4), index=name).is_exact is is_exact


def test_labels_are_numbered_as_they_occur(plain):
    ids, codes, names = plain.labels
    assert (ids.tolist(), codes.tolist(), names) == (
        [0, 2, 7, 8, 11, 20],
        [0, 1, 0, 2, 1, 1],
        [*"bac"],
    )
    assert ids.dtype == codes.dtype == np.int64
    asked = np.array([[20, 3, 0], [99, 1, 8]])
    assert plain.labels.of(asked).tolist() == [[1, -1, 0], [-1, -1, 2]]
    nothing = Plain(ROWS).labels
    assert ([len(each) for each in nothing], nothing.of(asked).tolist()) == (
        [0] * 3,
        [[-1] * 3] * 2,
    )
    assert Labels(np.array([5]), np.array([0]), ["a"]).of(np.array([4, 5, 6])).tolist() == [
        -1,
        0,
        -1,
    ]


def test_parts_are_views(plain):
    assert plain.without(np.array([20, 0, 20])).ids.tolist() == IDS[1:-1]
    assert plain.labelled().ids.tolist() == [0, 2, 7, 8, 11, 20]
    for among in (None, plain.ids[::-1]):
        sample = plain.sample(5, 0, among=among)
        assert len(set(sample.tolist())) == 5
        assert set(sample.tolist()) <= set(IDS)
        assert (np.diff(sample) > 0).all()
        assert plain.sample(99, 0, among=among).tolist() == IDS
    assert plain.sample(9, 1, among=np.array([7, 3])).tolist() == [3, 7]
    draws = {tuple(plain.sample(3, seed).tolist()) for seed in range(20)}
    assert {id_ for draw in draws for id_ in draw} == set(IDS)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("projected", [False, True])
def test_vectors_are_projected_embeddings(metric, projected):
    projection = fit_pca([ROWS], 2) if projected else None
    plain = Plain(ROWS, IDS, metric=metric, projection=projection)
    vectors = (ROWS - projection.mean) @ projection.matrix if projected else ROWS
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    some, places = np.array([12, 0, 7]), [6, 0, 3]
    np.testing.assert_array_equal(plain.embeddings(some), ROWS[places])
    np.testing.assert_allclose(plain.read(some), vectors[places], atol=1e-6)
    np.testing.assert_allclose(plain.project(ROWS), vectors, atol=1e-6)
    for pieces, ids, expected in (
        (plain.blocks(), IDS, vectors),
        (plain.scan(), IDS, vectors),
        (plain.blocks(plain.ids[2:7]), IDS[2:7], vectors[2:7]),
        (plain.embedding_blocks(), IDS, ROWS),
        (plain.embedding_blocks(plain.ids[2:7]), IDS[2:7], ROWS[2:7]),
    ):
        found, rows = numbers(pieces)
        assert found == ids
        np.testing.assert_allclose(rows, expected, atol=1e-6)
    with pytest.raises(InvalidInputError, match="these: expected" if not projected else "NaN"):
        plain.project(ROWS * np.nan, "these")
    refused = plain.refusals(np.stack([ROWS[0], ROWS[0] * np.nan]))
    assert refused[0] is None
    assert "NaN" in refused[1]


# -- searching -------------------------------------------------------------------------------------


def best_ids(query, rows, ids, k):
    scores = [-float(((query - row) ** 2).sum()) for row in rows]
    return [ids[place] for place in np.argsort(np.negative(scores), kind="stable")[:k]]


def test_a_search_has_k_columns_or_as_many_as_there_are(plain):
    queries = ROWS[:2] + np.float32(0.1)
    for k in (1, 2, 8, 9, 10**30):
        found = plain.search(queries, k)
        assert found.ids.shape == found.scores.shape == (2, min(k, 8))
        for query, row in zip(queries, found.ids.tolist(), strict=True):
            assert row == best_ids(query, ROWS, IDS, k)
    for k in (0, 1.5):
        with pytest.raises(InvalidInputError, match="k: expected"):
            plain.search(queries, k)
    with pytest.raises(DimensionError, match="queries: expected"):
        plain.search(queries[:, :3], 1)
    plain._most = lambda: 11  # a bound, where counting is slow
    found = plain.search(queries, 10)
    assert found.ids[:, 8:].tolist() == [[-1, -1]] * 2
    assert found.scores[:, 8:].tolist() == [[-np.inf, -np.inf]] * 2


def test_padding():
    found = Neighbors(np.array([[4]]), np.array([[0.5]], np.float32))
    assert padded(found, 1) is found
    ids, scores = padded(found, 3)
    assert (ids.tolist(), scores.tolist()) == ([[4, -1, -1]], [[0.5, -np.inf, -np.inf]])
    assert (ids.dtype, scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("at_once", [2**20, 10, 1])
def test_items_find_their_neighbours(plain, monkeypatch, at_once):
    monkeypatch.setattr(module, "_NEIGHBORS", at_once)
    asked = plain.ids[1:]
    for method, k, itself in (("nearest", 4, True), ("nearest_others", 4, False)):
        done = []
        for part, found in getattr(plain, method)(asked, k):
            assert found.ids.shape == found.scores.shape == (part.stop - part.start, k)
            for id_, row in zip(asked[part].tolist(), found.ids.tolist(), strict=True):
                query, others = ROWS[IDS.index(id_)], [i for i in IDS if itself or i != id_]
                assert row == best_ids(query, ROWS[[IDS.index(i) for i in others]], others, k)
                done.append(id_)
        assert done == asked.tolist()
    every = [found.ids for _, found in plain.nearest_others(plain.ids, 20)]
    assert all(set(IDS) >= set(row) - {-1} for ids in every for row in ids.tolist())
    assert sum((ids >= 0).sum() for ids in every) == 8 * 7


# -- held out --------------------------------------------------------------------------------------


@pytest.fixture
def adapted():
    """Thirty items of three classes, and two of none, with a projection fitted to the classes."""
    rng = np.random.default_rng(1)
    codes = np.arange(32) % 3
    rows = (rng.normal(size=(32, 5)) + 2 * np.eye(5)[codes]).astype(np.float32)
    labels = [None if n in {4, 9} else "zxy"[code] for n, code in enumerate(codes)]
    labels[31] = "alone"
    kept = [n for n in range(32) if n not in {4, 9}]
    fit = Discriminant([(rows[kept], np.where(np.array(kept) == 31, 3, codes[kept]))], 4)
    ids = [2 * n + 1 for n in range(32)]
    return Plain(rows, ids, labels, projection=fit.projection(0.25, 2))


def refitted(plain, left_out):
    """Ids, vectors and projection without some items, by hand."""
    kept = [n for n, id_ in enumerate(plain.known) if id_ not in left_out]
    named = [n for n in kept if plain.names[n] is not None]
    names = sorted({plain.names[n] for n in named})
    codes = np.array([names.index(plain.names[n]) for n in named])
    projection = Discriminant([(plain.rows[named], codes)], len(names)).projection(0.25, 2)
    return [plain.known[n] for n in kept], projection.apply(plain.rows[kept]), projection


def test_labelled_items_search_as_if_they_were_new(adapted):
    ids, codes, _ = adapted.labels
    folds = fold_of(codes, 3)
    for asked in (ids, ids[folds == 2][:2], ids[folds == -1]):
        done = {}
        for block, found in adapted.nearest_unseen(asked, 40):
            assert found.ids.shape == (len(block), 40)
            done |= dict(zip(block.tolist(), zip(*found, strict=True), strict=True))
        assert sorted(done) == [id_ for id_ in asked.tolist() if folds[ids == id_] >= 0]
        for id_, (row, scores) in done.items():
            left_out = ids[folds == folds[ids == id_]].tolist()
            others, rows, projection = refitted(adapted, left_out)
            query = projection.apply(adapted.rows[[adapted.known.index(id_)]])[0]
            expected = np.array([-float(((query - each) ** 2).sum()) for each in rows])
            order = np.argsort(-expected, kind="stable")
            assert row.tolist() == [others[n] for n in order] + [-1] * (40 - len(others))
            np.testing.assert_allclose(scores[: len(others)], expected[order], rtol=1e-3, atol=1e-3)


def test_items_search_the_others_where_no_label_was_used(plain):
    done = []
    for block, found in plain.nearest_unseen(plain.ids[:5], 9):
        assert found.ids.shape == (len(block), 9)
        for id_, row in zip(block.tolist(), found.ids.tolist(), strict=True):
            others = [i for i in IDS if i != id_]
            rows = ROWS[[IDS.index(i) for i in others]]
            assert row == [*best_ids(ROWS[IDS.index(id_)], rows, others, 7), -1, -1]
            done.append(id_)
    assert done == IDS[:5]
    assert type(plain.held_out(plain.ids[:2])) is Plain


def test_a_view_without_some_items_is_a_view(adapted):
    held_out = adapted.ids[[0, 4, 5]]
    rest = adapted.held_out(held_out)
    ids, vectors, projection = refitted(adapted, held_out.tolist())
    places = [adapted.known.index(id_) for id_ in ids]
    np.testing.assert_allclose(rest.projection.matrix, projection.matrix, atol=1e-5)
    assert (rest.metric, rest.dtype, rest.dim, len(rest)) == ("l2", "float32", 2, 29)
    assert (rest.ids.tolist(), rest.keys()) == (ids, tuple(f"k{id_}" for id_ in ids))
    assert rest.require([f"k{ids[5]}", f"k{ids[2]}"]).tolist() == [ids[5], ids[2]]
    some = np.array([ids[5], ids[2]])
    assert [item.key for item in rest.items(some)] == [f"k{id_}" for id_ in some]
    np.testing.assert_array_equal(rest.embeddings(some), adapted.embeddings(some))
    np.testing.assert_allclose(rest.read(some), vectors[[5, 2]], atol=1e-4)
    np.testing.assert_array_equal(numbers(rest.embedding_blocks())[1], adapted.rows[places])
    found = rest.search(vectors[:3], 4)
    for query, row in zip(vectors[:3], found.ids.tolist(), strict=True):
        assert row == best_ids(query, vectors, ids, 4)
    named = {id_: adapted.names[place] for id_, place in zip(ids, places, strict=True)}
    labels = rest.labels
    assert {
        int(id_): labels.names[code] for id_, code in zip(labels.ids, labels.codes, strict=True)
    } == {id_: name for id_, name in named.items() if name is not None}
    for part, kept in (
        (rest.without(some), [id_ for id_ in ids if id_ not in some]),
        (rest.labelled(), [id_ for id_ in ids if named[id_] is not None]),
    ):
        assert part.ids.tolist() == kept
        assert part.projection is rest.projection
        assert set(part.search(vectors[:1], 99).ids[0].tolist()) == set(kept)


# -- augmented -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize(("k", "alpha"), [(1, 1.0), (2, 0.0), (4, 2.0), (30, 1.0)])
@pytest.mark.parametrize("first", [0, 5])
def test_augmented_embeddings_are_weighted_means(first, metric, projected, k, alpha):
    rows = np.random.default_rng(2).normal(size=(12, 4)).astype(np.float32)
    rows[5:9] = rows[4]  # so that the nearest two are not the item itself
    rows[:3] *= np.float32(0.01)
    if metric != "cosine" and not projected:
        rows[9] = 0
    projection = fit_pca([rows], 3) if projected else None
    plain = Plain(rows, [n + first for n in range(12)], metric=metric, projection=projection)
    vectors = (rows - projection.mean) @ projection.matrix if projected else rows
    ids, found = numbers(augmented_embeddings(plain, k, alpha))
    assert ids == plain.known
    near = plain.search(plain.project(rows), k).ids - first
    lengths = [float(np.linalg.norm(vector)) for vector in vectors]
    for n in range(12):
        members = [n, *(m for m in near[n].tolist() if m != n)][:k]
        weights = [1.0]
        for m in members[1:]:
            both = lengths[n] * lengths[m]
            cosine = float(vectors[n] @ vectors[m]) / both if both else 0
            weights.append(cosine**alpha if cosine > 0 else 0)
        if metric == "cosine":
            weights = [w / lengths[m] for w, m in zip(weights, members, strict=True)]
        expected = sum(w * rows[m] for w, m in zip(weights, members, strict=True)) / sum(weights)
        np.testing.assert_allclose(found[n], expected, atol=1e-4)


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("wrong", [[[np.nan, 0, 0, 0]], [[1.0, 2.0]], [1.0, 2.0, 3.0, 4.0]])
def test_what_cannot_be_searched_is_called_by_its_name(projected, wrong):
    rows = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    view = Plain(rows, projection=fit_pca([rows], 2) if projected else None)
    with pytest.raises(InvalidInputError, match="^queries: expected "):
        view.project(wrong, "queries")
