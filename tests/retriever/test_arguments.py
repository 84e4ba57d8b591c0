"""Every public method with every kind of argument: one image, many, keys, labels, numbers."""

import datetime as dt
import decimal
import io
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from imgret import Retriever, images
from imgret.errors import InvalidInputError, KeyNotFoundError
from imgret.support import given as given_by

N = 3  # images where many are given


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for n in range(N):
        coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
        PilImage.fromarray(np.repeat(np.repeat(coarse, 8, 0), 8, 1)).save(root / f"{n}.png")
    return [root / f"{n}.png" for n in range(N)]


@pytest.fixture
def gallery(mean_color, files):
    made = Retriever(embedder=mean_color)
    made.add([str(path) for path in files], keys=list("abc"), labels=["x", "y", "x"])
    return made


def pixels(files):
    return [np.asarray(opened(path)) for path in files]


def opened(path):
    return PilImage.open(io.BytesIO(path.read_bytes()))


class Readable:
    """The least that a file object can be."""

    def __init__(self, data):
        self._data = data

    def read(self):
        return self._data


# One image: name -> how it is given.
ONE = {
    "str": lambda files: str(files[0]),
    "np.str_": lambda files: np.str_(files[0]),
    "Path": lambda files: files[0],
    "bytes": lambda files: files[0].read_bytes(),
    "bytearray": lambda files: bytearray(files[0].read_bytes()),
    "memoryview": lambda files: memoryview(files[0].read_bytes()),
    "BytesIO": lambda files: io.BytesIO(files[0].read_bytes()),
    "file": lambda files: io.BufferedReader(io.BytesIO(files[0].read_bytes())),
    "readable": lambda files: Readable(files[0].read_bytes()),
    "PIL": lambda files: opened(files[0]),
    "rgb": lambda files: pixels(files)[0],
    "rgba": lambda files: np.dstack([pixels(files)[0], np.full((32, 32), 255, np.uint8)]),
    "grey": lambda files: pixels(files)[0][..., 0],
    "grey3": lambda files: pixels(files)[0][..., :1],
}
# Many images, in order.
MANY = {
    "list": lambda files: [str(path) for path in files],
    "tuple": tuple,
    "generator": lambda files: (path for path in files),
    "map": lambda files: map(str, files),
    "glob": lambda files: iter(sorted(files[0].parent.glob("*.png"))),
    "values": lambda files: {path.name: path for path in files}.values(),
    "keys": lambda files: {str(path): 0 for path in files}.keys(),
    "Series": lambda files: pd.Series([str(path) for path in files], index=[7, 5, 3]),
    "Index": lambda files: pd.Index([str(path) for path in files]),
    "array of text": lambda files: np.array([str(path) for path in files]),
    "array of objects": lambda files: np.array(files, dtype=object),
    "stack": lambda files: np.stack(pixels(files)),
    "grey stack": lambda files: np.stack(pixels(files))[..., :1],
    "mixed": lambda files: [files[0], files[1].read_bytes(), opened(files[2])],
    "arrays": pixels,
}
# Neither.
NEITHER = {
    "None": lambda files: None,
    "number": lambda files: 5,
    "set": lambda files: {str(path) for path in files},
    "frozenset": frozenset,
    "mapping": lambda files: {path.name: path for path in files},
    "table": lambda files: pd.DataFrame({"path": [str(path) for path in files]}),
    "planes": lambda files: np.zeros((5, 30, 20), np.uint8),
    "deep": lambda files: np.zeros((2, 2, 30, 20, 3), np.uint8),
    "numbers": lambda files: np.arange(5),
    "scalar": lambda files: np.array(5),
}


# Methods: name -> (call, what it says of how many it took).
TAKES_MANY = {
    "search_many": lambda r, x: len(r.search_many(x, 1)),
    "embed": lambda r, x: len(r.embed(x)),
    "classify_many": lambda r, x: len(r.classify_many(x, 1)),
    "evaluate": lambda r, x: len(r.evaluate(x, ["x"] * N, k=(1,), n_resamples=2).queries),
}
TAKES_ONE = {
    "classify": lambda r, x: r.classify(x, 1),
    "update": lambda r, x: r.update("a", image=x),
}
TAKES_BOTH = {
    "add": lambda r, x: r.add(x).total,
    "search": lambda r, x: len(r.search(x, 1)),
    "negatives": lambda r, x: len(r.search(images.load(r["c"].path), 1, negatives=x)),
}


@pytest.fixture
def labelled(mean_color, files):
    """A gallery with labels enough to name by."""
    made = Retriever(embedder=mean_color)
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((2, 48))
    made.add_vectors(
        np.repeat(centres, 20, 0) + 0.1 * rng.standard_normal((40, 48)),
        keys=[str(n) for n in range(40)],
        labels=["x"] * 20 + ["y"] * 20,
    )
    made.add([str(path) for path in files], keys=list("abc"), labels=["x", "y", "x"])
    return made


@pytest.mark.parametrize("kind", ONE)
@pytest.mark.parametrize("method", TAKES_MANY)
def test_one_image_where_many_are_meant_is_refused(labelled, files, method, kind):
    if method == "evaluate" and kind in {"str", "np.str_", "Path"}:
        pytest.skip("a path is a folder there")
    with pytest.raises(InvalidInputError, match=r"(images|queries): expected .*, found"):
        TAKES_MANY[method](labelled, ONE[kind](files))


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("method", TAKES_MANY)
def test_many_images_are_as_many_in_their_order(labelled, files, method, kind):
    assert TAKES_MANY[method](labelled, MANY[kind](files)) == N


@pytest.mark.parametrize("kind", MANY)
def test_the_order_is_kept(gallery, files, kind):
    if kind == "grey stack":
        pytest.skip("of other colours")
    assert [hits[0].key for hits in gallery.search_many(MANY[kind](files), 1)] == list("abc")
    made = Retriever(embedder=gallery.embedder)
    made.add(MANY[kind](files), keys=pd.Series(["p", "q", "r"]), labels=iter(["u", "v", "w"]))
    assert [(key, made[key].label) for key in made] == [("p", "u"), ("q", "v"), ("r", "w")]
    np.testing.assert_allclose(made.embeddings(), gallery.embeddings(), atol=1e-2)


@pytest.mark.parametrize("kind", NEITHER)
@pytest.mark.parametrize("method", [*TAKES_MANY, *TAKES_ONE, *TAKES_BOTH])
def test_what_is_neither_is_refused_by_name(labelled, files, method, kind):
    call = (TAKES_MANY | TAKES_ONE | TAKES_BOTH)[method]
    if kind == "None" and method in {"evaluate", "update", "negatives"}:
        pytest.skip("None is a default there")
    before = list(labelled)
    with pytest.raises(InvalidInputError, match=r"^(images?|queries|negatives): expected .*found"):
        call(labelled, NEITHER[kind](files))
    assert list(labelled) == before


@pytest.mark.parametrize("kind", ONE)
@pytest.mark.parametrize("method", TAKES_ONE)
def test_one_image_is_taken(labelled, files, method, kind):
    TAKES_ONE[method](labelled, ONE[kind](files))


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("method", TAKES_ONE)
def test_many_where_one_is_meant_are_refused(labelled, files, method, kind):
    with pytest.raises(InvalidInputError, match="image: expected one image"):
        TAKES_ONE[method](labelled, MANY[kind](files))


@pytest.mark.parametrize("kind", ONE)
def test_one_image_or_several(gallery, files, kind):
    query = ONE[kind](files)
    hits = gallery.search(query, 1)
    assert hits[0].key == "a" or kind.startswith("grey")
    assert len(gallery.search(files[0], 3, negatives=ONE[kind](files))) == 3
    report = gallery.add(ONE[kind](files), keys="new", labels="z")
    assert (report.total, gallery["new"].label) == (1, "z")


@pytest.mark.parametrize("kind", MANY)
def test_several_images_are_one_query(gallery, files, kind):
    hits = gallery.search(MANY[kind](files), 3)
    assert isinstance(hits.query, tuple)
    assert len(hits.query) == N
    assert len(gallery.search(files[0], 3, negatives=MANY[kind](files))) == 3
    assert gallery.add(MANY[kind](files), keys=map(str, range(N))).total == N


def test_equal_bytes_are_known_to_be_equal(gallery, files):
    data = files[0].read_bytes()
    report = gallery.add([bytearray(data), memoryview(data)], duplicates="skip")
    assert len(report.duplicate) == 2


# -- keys -----------------------------------------------------------------------------------


def test_a_text_is_one_key(gallery):
    with pytest.raises(KeyNotFoundError, match="'abc'"):
        gallery.embeddings("abc")
    np.testing.assert_array_equal(gallery.embeddings("b"), gallery.embeddings(["b"]))
    with pytest.raises(KeyNotFoundError, match="'abc'"):
        gallery.remove("abc")
    assert len(gallery) == 3


@pytest.mark.parametrize(
    "keys",
    [
        lambda: ["c", "a"],
        lambda: ("c", "a"),
        lambda: iter("ca"),
        lambda: pd.Series(["c", "a"]),
        lambda: np.array(["c", "a"]),
        {"c": 1, "a": 2}.keys,
    ],
)
def test_several_keys_in_their_order(gallery, keys):
    expected = gallery.embeddings()[[2, 0]]
    np.testing.assert_array_equal(gallery.embeddings(keys()), expected)
    assert [hit.key for hit in gallery.search_key(keys(), 5)] == ["b"]
    assert [hit.key for hit in gallery.search_key("b", 5, negatives=keys())] == []
    assert gallery.keep_whole(keys()).total == 2
    assert gallery.remove(keys()) == 2
    assert list(gallery) == ["b"]


def test_a_set_of_keys_where_the_order_does_not_matter(gallery):
    assert gallery.remove({"a", "b"}) == 2


@pytest.mark.parametrize(
    "wrong", [None, 5, b"a", {"a": 1}, ["a", None], [1], pd.DataFrame({"a": [1]})]
)
def test_what_is_no_key(gallery, wrong):
    calls = [gallery.remove, gallery.keep_whole, gallery.search_key]
    if wrong is not None:
        calls.append(gallery.embeddings)
    for call in calls:
        with pytest.raises(InvalidInputError, match=r"^keys?(\[\d\])?: expected a string"):
            call(wrong)
    for call in (gallery.__getitem__, lambda key: gallery.update(key, label="x")):
        with pytest.raises(InvalidInputError, match="key: expected a string"):
            call(wrong)
    assert len(gallery) == 3


@pytest.mark.parametrize("name", ["keys", "labels", "metadata"])
@pytest.mark.parametrize(
    "given_as",
    [
        set,
        frozenset,
        dict.fromkeys,
        lambda values: pd.DataFrame({"x": [*values, 1], "y": [*values, 1]}),  # metadata of 5
        lambda values: "text",
        lambda values: b"text",
        lambda values: 5,
        lambda values: [*values, "one more"],
    ],
)
def test_one_each_must_have_an_order_and_the_number(gallery, files, name, given_as):
    given_ = {"keys": ["r", "s", "t", "u"]} | {name: given_as(["d", "e", "f", "g"])}
    for call in (
        lambda: gallery.add_vectors(np.eye(4, 48), **given_),
        lambda: gallery.add([files[0]] * 4, **given_),
    ):
        with pytest.raises(InvalidInputError, match=f"^{name}: expected"):
            call()
    assert len(gallery) == 3


def test_labels_as_a_set_in_evaluate_and_add_folder(gallery, files):
    with pytest.raises(InvalidInputError, match="labels: expected .* a set, which has no order"):
        gallery.evaluate(files, {"x", "y", "z"})
    with pytest.raises(InvalidInputError, match="labels: expected"):
        gallery.add_folder(files[0].parent, labels={"x", "y", "z"})


@pytest.mark.parametrize("missing", [math.nan, np.float32("nan"), np.nan, pd.NA, pd.NaT, None])
def test_a_missing_label_of_pandas_is_none(gallery, files, missing, tmp_path):
    gallery.add_vectors(np.eye(2, 48), keys=["d", "e"], labels=["x", missing])
    assert (gallery["d"].label, gallery["e"].label) == ("x", None)
    gallery.add([files[0]], keys=["f"], labels=pd.Series([missing]))
    assert gallery["f"].label is None
    gallery.update("d", label=missing)
    assert gallery["d"].label is None
    gallery.add_folder(files[0].parent, labels=lambda path: missing, prefix="p/")
    assert gallery["p/0.png"].label is None
    with pytest.raises(InvalidInputError, match="expected a class name for every query"):
        gallery.evaluate(files, ["x", missing, "y"])


def test_texts_of_numpy_are_texts(gallery, files):
    names = np.array(["d", "e"])
    gallery.add_vectors(np.eye(2, 48), keys=names, labels=names, metadata=[{"n": s} for s in names])
    assert {type(gallery[key].label) for key in "de"} == {str}
    assert gallery.search_key(np.str_("d"), where={"label": np.str_("e")})[0].key == "e"
    assert gallery[np.str_("d")].metadata == {"n": "d"}
    report = gallery.evaluate(files, np.array(["x", "y", "x"]), n_resamples=2)
    assert len(report.queries) == 3


# -- metadata and filters ---------------------------------------------------------------------


def test_numbers_of_numpy_in_metadata_and_filters(gallery):
    facts = {
        "year": np.int64(2020),
        "size": np.float32(0.5),
        "good": np.bool_(True),
        "deep": {"list": [np.uint8(3), (np.float64(1.5), np.str_("t"))]},
    }
    gallery.add_vectors(np.eye(1, 48), keys=["d"], metadata=[facts])
    stored = gallery["d"].metadata
    plain = {"year": 2020, "size": 0.5, "good": True, "deep": {"list": [3, [1.5, "t"]]}}
    assert stored == plain
    for where in (
        {"year": np.int64(2020)},
        {"year": {"$gte": np.float32(2019.5)}},
        {"good": np.bool_(True)},
        {"year": {"$in": [np.int32(1), np.int64(2020)]}},
        {"year": {"$in": np.array([1, 2020])}},
        {"$and": ({"year": np.int16(2020)}, {"size": {"$lt": np.float64(1)}})},
    ):
        assert [hit.key for hit in gallery.search_vectors(np.ones((1, 48)), where=where)[0]] == [
            "d"
        ]
        assert gallery.explain(where=where) is not None
    gallery.update("d", metadata={"year": np.int64(7)})
    assert gallery["d"].metadata == {"year": 7}


@pytest.mark.parametrize(
    "value",
    [
        np.arange(3),
        np.float32("nan"),
        math.nan,
        math.inf,
        dt.date(2020, 1, 1),
        np.datetime64("2020-01-01"),
        decimal.Decimal("1.5"),
        {1, 2},
        b"bytes",
        1j,
        pd.NA,
        object(),
    ],
)
def test_what_json_has_not_is_refused_by_item_and_field(gallery, files, value):
    for facts, field in (({"f": value}, "f"), ({"a": {"b": [0, value]}}, r"a\.b\[1\]")):
        for call in (
            lambda facts: gallery.add_vectors(np.eye(1, 48), keys=["d"], metadata=[facts]),
            lambda facts: gallery.add(files[0], keys="d", metadata=facts),
            lambda facts: gallery.update("a", metadata=facts),
            lambda facts: gallery.add_folder(files[0].parent, metadata=lambda _: facts),
        ):
            with pytest.raises(InvalidInputError, match=rf"metadata of '.*': '{field}': expected"):
                call(facts)
    assert list(gallery) == list("abc")


# -- numbers ----------------------------------------------------------------------------------

NO_NUMBER = [math.nan, np.float32("nan"), "0.5", True, np.bool_(True), [0.5], 1j]


@pytest.mark.parametrize("wrong", NO_NUMBER, ids=repr)
@pytest.mark.parametrize(
    ("name", "call"),
    {
        "threshold": lambda r, x: r.search_vectors(np.ones((1, 48)), threshold=x),
        "threshold ": lambda r, x: r.search_many([np.zeros((4, 4, 3), np.uint8)], threshold=x),
        "threshold  ": lambda r, x: r.search(np.zeros((4, 4, 3), np.uint8), threshold=x),
        "threshold   ": lambda r, x: r.search_key("a", threshold=x),
        "threshold    ": lambda r, x: r.classify(np.zeros((4, 4, 3), np.uint8), threshold=x),
        "threshold     ": lambda r, x: r.duplicates(x),
        "threshold      ": lambda r, x: r.mislabelled(threshold=x),
        "precision": lambda r, x: r.search_key("a", precision=x),
        "negative_weight": lambda r, x: r.search_key("a", negatives="b", negative_weight=x),
        "weights": lambda r, x: r.search_key(["a", "b"], weights=[1, x]),
        "near_identical": lambda r, x: r.evaluate(near_identical=x),
        "recall": lambda r, x: r.tune(x),
        "whiten": lambda r, x: r.project("pca", dim=2, whiten=x),
        "alpha": lambda r, x: r.augmented(2, alpha=x),
        "shrinkage": lambda r, x: r.adapt(shrinkage=x),
        "seed": lambda r, x: r.clusters(2, seed=x),
        "seed ": lambda r, x: r.recall(2, seed=x),
        "seed  ": lambda r, x: r.map2d(seed=x),
        "threads": lambda r, x: r.embed([], threads=x),
        "dim": lambda r, x: r.adapt(dim=x),
        "k": lambda r, x: r.search_key("a", x),
        "k ": lambda r, x: r.evaluate(k=[x]),
        "n": lambda r, x: r.clusters(x),
        "box": lambda r, x: r.search(np.zeros((9, 9, 3), np.uint8), box=(0, 0, 5, x)),
    }.items(),
)
def test_what_is_no_number_is_refused_by_name(labelled, name, call, wrong):
    if name.strip() == "weights" and isinstance(wrong, (bool, np.bool_)):
        pytest.skip("counts as 1 beside numbers")
    with pytest.raises(InvalidInputError, match=rf"^{name.strip()}: expected"):
        call(labelled, wrong)


def test_numbers_of_numpy_are_numbers(gallery, files):
    loaded = images.load(files[0])
    box = np.array([0, 0, 16, 16])
    hits = gallery.search(
        loaded, np.int64(2), box=box, threshold=np.float32(-1), weights=np.array([1], np.int32)
    )
    assert len(hits) == 2
    assert hits.box == (0, 0, 16, 16)
    several = gallery.search(files, np.uint8(1), weights=iter([np.float32(1), 2, np.int64(3)]))
    assert len(several) == 1
    several = gallery.search(
        files, 1, weights=pd.Series([1.0, 2.0, 3.0]), negative_weight=np.float16(0)
    )
    assert len(several) == 1


# -- the functions themselves -----------------------------------------------------------------

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100)
@given(st.dictionaries(st.text(), plain_values, max_size=4))
def test_plain_metadata_and_filters_stay_as_they_are(facts):
    assert given_by.plain_metadata(facts, "k") == facts
    assert given_by.plain_filter(facts) == facts


@settings(max_examples=50)
@given(st.lists(st.text(), max_size=5))
def test_texts_are_the_same_however_they_are_given(names):
    for form in (list, tuple, iter, lambda x: pd.Series(x, dtype=object)):
        assert given_by.texts(form(names), "keys") == names
