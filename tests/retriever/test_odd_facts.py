"""Facts of a gallery that make no sense, and numbers out of bounds: an error that says where."""

import copy
import json
import shutil
import sqlite3

import numpy as np
import pytest

from imgret import FlatIndex, HNSWIndex, OnnxEmbedder, Retriever
from imgret.errors import ImgretError, InvalidInputError, StoreCorruptError
from imgret.galleries.local.database import sum_rows

ROWS = np.random.default_rng(0).standard_normal((40, 48)).astype(np.float32)
ODD = (None, True, -1, 10**30, "x", [], {"a": 1}, float("nan"))


@pytest.fixture
def gallery(tmp_path, mean_color):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=mean_color, index="hnsw") as writer:
        writer.add_vectors(
            ROWS,
            keys=[f"k{n}" for n in range(40)],
            labels=["a", "b"] * 20,
            metadata=[{"n": n} for n in range(40)],
        )
    return path


def use(path, embedder):
    for retriever in (
        Retriever.load(path, embedder=embedder),
        Retriever.open(path, embedder=embedder),
    ):
        with retriever:
            retriever.search_vectors(ROWS[:1], 3, where={"n": {"$lt": 30}})
            assert retriever["k0"].metadata is not None
            assert repr(retriever)


def places(value, at=()):
    for key in value:
        yield (*at, key)
        if isinstance(value[key], dict):
            yield from places(value[key], (*at, key))


def test_whatever_a_manifest_says(gallery, mean_color):
    file = gallery / "manifest.json"
    good, refused = json.loads(file.read_text()), []
    for place in places(good):
        for odd in ODD:
            content = copy.deepcopy(good)
            inside = content
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = odd
            if place != ("crc32",):  # a checksum would notice every change
                content["crc32"] = None
            file.write_text(json.dumps(content))
            try:
                use(gallery, mean_color)
            except ImgretError as error:
                refused.append(str(error))
    assert len(refused) > 50
    assert [text for text in refused if str(gallery) not in text] == []
    file.write_text(json.dumps(good))
    use(gallery, mean_color)


@pytest.mark.parametrize(
    "index",
    [
        {"name": "hnsw", "config": {"M": 10**9}},
        {"name": "hnsw", "config": {"ef_search": 10**12}},
        {"name": "hnsw", "config": {"dim": 3}},
        {"name": "hnsw", "config": {"no": 3}},
        {"name": "auto", "config": {"no": 3}},
        {"name": "no", "config": {}},
    ],
)
def test_an_index_that_cannot_be_made(gallery, mean_color, index):
    file = gallery / "manifest.json"
    content = {**json.loads(file.read_text()), "index": index, "crc32": None}
    file.write_text(json.dumps(content))
    shutil.rmtree(gallery / "index", ignore_errors=True)
    with pytest.raises(ImgretError, match=r"g\.imgret: its index cannot be made: .* reindex\(\)"):
        use(gallery, mean_color)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000])
def test_a_manifest_of_many_levels(gallery, mean_color, text):
    (gallery / "manifest.json").write_text(text)
    with pytest.raises(StoreCorruptError, match=r"manifest\.json: expected JSON, found .*deep"):
        use(gallery, mean_color)


@pytest.mark.parametrize("metadata", ["no JSON", "[1]", "null", '"x"', "[" * 100_000, "1"])
@pytest.mark.parametrize("how", [Retriever.load, Retriever.open])
def test_metadata_that_are_no_object(gallery, mean_color, metadata, how):
    db = sqlite3.connect(gallery / "catalog.sqlite")
    db.execute("UPDATE items SET metadata = ? WHERE id = 0", (metadata,))
    sum_rows(db, "id = 0")
    db.commit()
    db.close()
    with how(gallery, embedder=mean_color) as retriever:
        assert retriever["k1"].metadata == {"n": 1}
        with pytest.raises(StoreCorruptError, match=r"g\.imgret.*the row of item 0 .*'k0'"):
            retriever["k0"]


def test_a_loaded_gallery_is_named_by_where_it_came_from(gallery, mean_color):
    db = sqlite3.connect(gallery / "catalog.sqlite")
    db.execute("UPDATE counts SET rows = 7")
    db.commit()
    db.close()
    with pytest.raises(StoreCorruptError, match=r"g\.imgret.catalog\.sqlite: "):
        Retriever.load(gallery, embedder=mean_color)


@pytest.mark.parametrize(
    "ask",
    [
        lambda r: r.reindex("hnsw", M=10**9),
        lambda r: r.reindex("hnsw", ef_construction=10**12),
        lambda r: r.reindex("hnsw", dim=3),
        lambda r: r.reindex("auto", no=3),
        lambda r: HNSWIndex(8).configure(ef_search=10**12),
        lambda r: HNSWIndex(10**12),
        lambda r: FlatIndex(10**12),
        lambda r: OnnxEmbedder("general", size=100_000),
    ],
)
def test_numbers_out_of_all_bounds(mean_color, ask):
    retriever = Retriever(embedder=mean_color)
    retriever.add_vectors(ROWS, keys=[f"k{n}" for n in range(40)])
    with pytest.raises(InvalidInputError, match="expected"):
        ask(retriever)
    assert len(retriever.search_vectors(ROWS[:1], 3)[0]) == 3


def test_a_filter_of_many_levels(mean_color):
    retriever = Retriever(embedder=mean_color)
    retriever.add_vectors(ROWS, keys=[f"k{n}" for n in range(40)])
    value: object = "x"
    where: dict[str, object] = {"label": "x"}
    for _ in range(5_000):
        value, where = [value], {"$not": where}
    for filter_ in (where, {"label": value}):
        with pytest.raises(
            InvalidInputError, match=r"levels of nesting|found (\[)+\.\.\."
        ) as caught:
            retriever.search_vectors(ROWS[:1], 3, where=filter_)
        assert len(str(caught.value)) < 300
