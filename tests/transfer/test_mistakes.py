"""Files of other programs, and files that are not what they should be."""

from __future__ import annotations

import datetime as dt
import json
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret import Retriever
from imgret.errors import (
    DimensionError,
    DuplicateKeyError,
    ImgretError,
    InvalidInputError,
    KeyNotFoundError,
    MissingExtraError,
    StoreMismatchError,
    StoreVersionError,
)
from imgret.transfer import import_items, load_items

pa = pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
pq = pytest.importorskip("pyarrow.parquet")

EXPORTS = Path(__file__).parents[1] / "data" / "exports"
VECTORS = np.random.default_rng(0).standard_normal((5, 48)).astype(np.float32)


def lists(vectors=VECTORS):
    return list(vectors)


def write(path, columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def exported(mean_color, photos, tmp_path):
    retriever = Retriever(embedder=mean_color)
    retriever.add_folder(photos, labels="parent")
    retriever.to_parquet(tmp_path / "x.parquet")
    return tmp_path / "x.parquet"


# -- tables of other programs ------------------------------------------------------------------


def test_a_table_of_img2dataset_with_embeddings(mean_color, tmp_path):
    """Its columns, and one of vectors beside them."""
    path = write(
        tmp_path / "00000.parquet",
        {
            "url": [f"http://example.org/{n}.jpg" for n in range(5)],
            "caption": ["a cat", None, "ein Hund", "", "x"],
            "key": [f"{n:09d}" for n in range(5)],
            "status": ["success"] * 5,
            "width": [256, 256, 256, None, 256],
            "exif": ['{"Make": "x"}'] * 5,
            "sha256": ["00" * 32] * 5,
            "similarity": [0.5, float("nan"), 1.0, 1.0, 1.0],
            "when": [dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)] * 5,
            "embedding": lists(),
        },
    )
    found = Retriever.from_parquet(path, embedder=mean_color)
    assert list(found) == [f"{n:09d}" for n in range(5)]
    first, second = found["000000000"], found["000000001"]
    assert first.metadata["caption"] == "a cat"
    assert first.metadata["width"] == 256
    assert first.metadata["when"] == "2024-01-02T03:04:05+00:00"
    assert "caption" not in second.metadata
    assert second.metadata["similarity"] is None
    assert found.search_vectors(VECTORS[2:3], 1)[0][0].key == "000000002"


def test_a_table_of_clip_retrieval_with_paths(mean_color, photos, tmp_path):
    names = [f"photos/sand/{n}.jpg" for n in range(4)] + ["lost.jpg"]
    path = write(
        tmp_path / "m.parquet", {"image_path": names, "label": [1, 2, 3, 4, None], "emb": lists()}
    )
    found = Retriever.from_parquet(path, embedder=mean_color, metric="ip")
    assert found.metric == "ip"
    assert list(found) == names
    assert found["photos/sand/0.jpg"].path == str(photos / "sand" / "0.jpg")  # beside the file
    assert found["lost.jpg"].path is None
    assert [found[name].label for name in names] == ["1", "2", "3", "4", None]


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_that_numpy_saved(mean_color, tmp_path, order):
    path = tmp_path / "x.npz"
    given = np.asarray(VECTORS, dtype=np.float64, order=order)
    np.savez(path, ids=np.arange(5), embeddings=given, labels=list("aabbc"))
    found = Retriever.from_parquet(path, embedder=mean_color)
    assert list(found) == list("01234")
    assert [found[key].label for key in found] == list("aabbc")
    assert np.allclose(found.embeddings(), VECTORS, atol=1e-3)


def test_columns_can_be_named(mean_color, tmp_path, capsys):
    path = write(
        tmp_path / "x.parquet",
        {"name": list("abcde"), "left": lists(VECTORS[:, :9]), "right": lists(), "key": [1] * 5},
    )
    with pytest.raises(InvalidInputError, match=r"several of another name: 'left', 'right'.*name"):
        Retriever.from_parquet(path, embedder=mean_color)
    found = Retriever.from_parquet(
        path, embedder=mean_color, key_column="name", vector_column="right"
    )
    assert list(found) == list("abcde")
    assert found["a"].metadata == {"key": 1}
    uri = str(tmp_path / "g.imgret")
    done = import_items(path, uri, embedder=mean_color, key="name", vector="right")
    assert done.columns == "keys from 'name', vectors from 'right'"
    for wrong, words in (("nam", "a column 'nam'"), ("left", "one vector of numbers per row")):
        options = {"vector_column": "name"} if wrong == "left" else {"key_column": wrong}
        with pytest.raises(InvalidInputError, match=words):
            Retriever.from_parquet(path, embedder=mean_color, **options)


def test_an_export_can_be_read_as_a_plain_table(exported, mean_color):
    found = Retriever.from_parquet(exported, embedder=mean_color, key_column="sha256")
    assert len(found) == 12


def test_an_export_that_pandas_has_changed(exported, mean_color, tmp_path):
    pd = pytest.importorskip("pandas")
    before = Retriever.from_parquet(exported, embedder=mean_color)
    frame = pd.read_parquet(exported)
    frame = frame[frame["label"] != "sand"].assign(label="water")
    frame.to_parquet(tmp_path / "y.parquet")
    with pytest.raises(InvalidInputError, match="the embedder that made the vectors"):
        Retriever.from_parquet(tmp_path / "y.parquet")
    found = Retriever.from_parquet(tmp_path / "y.parquet", embedder=mean_color)
    assert len(found) == 8
    for key in found:
        assert found[key] == replace(before[key], label="water")
        assert np.array_equal(found.embeddings(key), before.embeddings(key))


# -- what is refused ---------------------------------------------------------------------------

TABLES = {
    "no vectors": ({"key": list("abcde")}, "a column of vectors, such as 'vector'"),
    "no keys": ({"caption": list("abcde"), "v": lists()}, "such as 'key', 'id' or 'image_path'"),
    "a key that is missing": ({"key": ["a", None, "c", "d", "e"], "v": lists()}, "row 2: .*None"),
    "a key twice": ({"key": list("abcda"), "v": lists()}, "'a'"),
    "a vector that is missing": (
        {"key": list("abcde"), "v": [*lists()[:4], None]},
        "row 5: expected a vector of 48 numbers in column 'v', found none",
    ),
    "vectors of several lengths": (
        {"key": list("abcde"), "v": [*lists()[:4], [1.0]]},
        "row 5: expected a vector of 48 numbers in column 'v', found one of 1",
    ),
    "a number that is missing": (
        {"key": list("abcde"), "v": [[None, *row[1:].tolist()] for row in VECTORS]},
        "found null",
    ),
    "a vector of zeros": ({"key": list("abcde"), "v": lists(VECTORS * 0)}, "only zeros"),
    "not a number": ({"key": list("abcde"), "v": lists(VECTORS * np.nan)}, "NaN or infinity"),
    "a key with NUL": ({"key": ["a\0", *"bcde"], "v": lists()}, "without NUL"),
}


@pytest.mark.parametrize(("columns", "words"), TABLES.values(), ids=TABLES)
def test_a_table_that_cannot_be_used(columns, words, mean_color, tmp_path):
    path = write(tmp_path / "x.parquet", columns)
    with pytest.raises(InvalidInputError, match=f"x.parquet.*{words}"):
        Retriever.from_parquet(path, embedder=mean_color)
    with pytest.raises(InvalidInputError):
        import_items(path, str(tmp_path / "new.imgret"), embedder=mean_color)
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_vectors_of_another_dimension(mean_color, exported, tmp_path):
    path = write(tmp_path / "y.parquet", {"key": list("abcde"), "v": lists(VECTORS[:, :9])})
    with pytest.raises(DimensionError, match="dimension 48, as embedder 'mean-color' makes them"):
        Retriever.from_parquet(path, embedder=mean_color)
    import_items(exported, str(tmp_path / "g.imgret"))
    with pytest.raises(DimensionError, match="dimension 48, as in .*found 9; import it into"):
        import_items(path, str(tmp_path / "g.imgret"))


def test_a_table_without_a_model(tmp_path):
    path = write(tmp_path / "y.parquet", {"key": list("abcde"), "v": lists()})
    with pytest.raises(InvalidInputError, match=r"the embedder that made the vectors \(48-d\)"):
        Retriever.from_parquet(path)


def test_vectors_of_another_model(exported, other_embedder, mean_color, tmp_path, photos):
    with pytest.raises(StoreMismatchError, match="expected the embedder it was made with"):
        Retriever.from_parquet(exported, embedder=other_embedder)
    with Retriever.open(tmp_path / "g.imgret", "a", embedder=other_embedder) as gallery:
        gallery.add(photos / "sand" / "0.jpg", keys="mine")
    with pytest.raises(StoreMismatchError, match="which cannot be compared; import it into"):
        import_items(exported, str(tmp_path / "g.imgret"))
    with Retriever.open(tmp_path / "g.imgret", embedder=other_embedder) as gallery:
        assert list(gallery) == ["mine"]


def test_images_that_were_cropped_otherwise(exported, mean_color, tmp_path):
    with Retriever.open(tmp_path / "g.imgret", "a", embedder=mean_color, cropper="center"):
        pass
    with pytest.raises(StoreMismatchError, match="cropped by 'center'.*found 'none'"):
        import_items(exported, str(tmp_path / "g.imgret"))


def test_another_metric_than_that_of_the_file(exported, mean_color):
    with pytest.raises(StoreMismatchError, match="expected metric 'cosine'"):
        Retriever.from_parquet(exported, embedder=mean_color, metric="l2")


def with_header(path, change):
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"imgret"])
    change(header)
    pq.write_table(table.replace_schema_metadata({b"imgret": json.dumps(header)}), path)


def test_a_file_of_a_newer_imgret(exported):
    with_header(exported, lambda header: header.update(version=2, created_with="9.0"))
    with pytest.raises(StoreVersionError, match=r"found 2 \(written by imgret 9.0\); upgrade"):
        Retriever.from_parquet(exported)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(version="x"),
        lambda header: header.pop("gallery"),
        lambda header: header["gallery"].pop("dim"),
        lambda header: header["gallery"].update(dim=0),
        lambda header: header["gallery"].update(metric="cosin"),
        lambda header: header["gallery"].update(embedder={"name": 3}),
        lambda header: header["gallery"].update(files=[]),
        lambda header: header.update(projection="!"),
        lambda header: header.update(projection="AAAA"),
    ],
)
def test_a_header_that_is_damaged(exported, change):
    with_header(exported, change)
    with pytest.raises(InvalidInputError, match="expected the header that `imgret export` writes"):
        Retriever.from_parquet(exported)


def test_an_export_that_lost_a_column_or_has_other_values(exported):
    table = pq.read_table(exported)
    pq.write_table(table.drop_columns(["box"]), exported)
    with pytest.raises(InvalidInputError, match="the columns of an export, found none .*'box'"):
        Retriever.from_parquet(exported)
    place = table.schema.get_field_index("metadata")
    pq.write_table(table.set_column(place, "metadata", pa.array(["[1]"] * 12)), exported)
    with pytest.raises(InvalidInputError, match="row 1: expected an item as exported.*JSON object"):
        Retriever.from_parquet(exported)


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_files_that_are_cut_or_something_else(exported, mean_color, tmp_path, kind):
    gallery = Retriever.from_parquet(exported, embedder=mean_color)
    whole = tmp_path / f"whole.{kind}"
    gallery.to_parquet(whole)
    data = whole.read_bytes()
    bad = tmp_path / f"bad.{kind}"
    for content in (b"", b"no table", data[: len(data) // 2], data[:-30]):
        bad.write_bytes(content)
        with pytest.raises(InvalidInputError, match=f"bad.{kind}: "):
            Retriever.from_parquet(bad, embedder=mean_color)
    flipped = bytearray(data)
    for place in range(60, 400):
        flipped[place] ^= 0xFF
    bad.write_bytes(flipped)
    with pytest.raises(InvalidInputError, match=f"bad.{kind}"):
        Retriever.from_parquet(bad, embedder=mean_color)


@pytest.mark.parametrize("kind", ["parquet", "npz"])
@given(
    bytes_=st.dictionaries(st.integers(0, 3000), st.integers(0, 255), min_size=1, max_size=4),
    length=st.none() | st.integers(0, 3000),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_noticed_or_harmless(kind, bytes_, length, tmp_path):
    """Checksums cover the columns of Parquet, and everything in an archive."""
    data = bytearray((EXPORTS / f"version-1.{kind}").read_bytes())
    for place, byte in bytes_.items():
        data[place] = byte
    path = tmp_path / f"x.{kind}"
    path.write_bytes(data[:length])
    with suppress(ImgretError):
        gallery = load_items(path)
        assert list(gallery) == ["a.jpg", "b é", "c", "d"]
        assert np.array_equal(gallery.embeddings(), expected())


def expected():
    vectors = (np.arange(4 * 48).reshape(4, 48) % 7 - 2.9).astype(np.float16)
    return vectors.astype(np.float32)


def test_arrays_that_do_not_fit(mean_color, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, keys=list("abcd"), vectors=VECTORS)
    with pytest.raises(InvalidInputError, match="'keys' with one entry for each of 5 vectors"):
        Retriever.from_parquet(path, embedder=mean_color)
    np.savez(path, keys=np.array(list("abcde"), dtype=object), vectors=VECTORS)
    with pytest.raises(InvalidInputError, match="Python objects, which could run code"):
        Retriever.from_parquet(path, embedder=mean_color)
    with zipfile.ZipFile(path, "w") as archive:  # claims more than memory holds
        archive.writestr("keys.npy", b"\x93NUMPY\x01\x00\x00\x00")
    with pytest.raises(InvalidInputError, match="expected an array 'keys'"):
        Retriever.from_parquet(path, embedder=mean_color)


def test_an_array_that_claims_more_than_it_has(mean_color, tmp_path):
    path = tmp_path / "x.npz"
    head = repr({"descr": "<f4", "fortran_order": False, "shape": (10**9, 48)}).ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vectors.npy", b"\x93NUMPY\x01\x00" + b"\x76\x00" + head.encode())
        with archive.open("ids.npy", "w") as member:
            np.lib.format.write_array(member, np.arange(5))
    with pytest.raises(InvalidInputError, match="x.npz"):
        Retriever.from_parquet(path, embedder=mean_color)


CSVS = {
    "other columns": ("a,b\n1,2\n", "line 1: expected the columns 'key' and 'label'"),
    "a column twice": ("key,label,label\na,b,c\n", "'label' twice"),
    "a short row": ("key,label\na\n", "line 2: expected 2 cells, found 1"),
    "no key": ("key,label\n,b\n", "line 2: expected a key"),
    "a key twice": ("key,label\na,b\na,c\n", "line 3: expected each key once, found 'a' as in"),
    "a quote that is open": ('key,label\n"a,b\n', "expected CSV"),
    "other bytes": (b"key,label\n\xff\xfe,b\n", "expected CSV in UTF-8"),
}


@pytest.mark.parametrize(("content", "words"), CSVS.values(), ids=CSVS)
def test_a_csv_that_cannot_be_used(content, words, exported, tmp_path):
    import_items(exported, str(tmp_path / "g.imgret"))
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInputError, match=f"x.csv.*{words}"):
        import_items(path, str(tmp_path / "g.imgret"))


def test_a_csv_of_items_that_are_not_there(exported, tmp_path, mean_color):
    path, uri = tmp_path / "x.csv", str(tmp_path / "g.imgret")
    path.write_text("key,label\nsand/0.jpg,beach\nlost.jpg,beach\n")
    with pytest.raises(InvalidInputError, match="expected a file with embeddings, found CSV"):
        import_items(path, uri)
    import_items(exported, uri)
    with pytest.raises(KeyNotFoundError, match="line 3: .*'lost.jpg'; a CSV file has no embed"):
        import_items(path, uri)
    with Retriever.open(uri, embedder=mean_color) as gallery:
        assert gallery["sand/0.jpg"].label == "sand"


def test_a_key_twice_in_an_import_into_a_gallery(exported, tmp_path, mean_color):
    uri = str(tmp_path / "g.imgret")
    import_items(exported, uri)
    path = write(tmp_path / "y.parquet", {"key": list("abcda"), "v": lists()})
    with pytest.raises(DuplicateKeyError, match="each key once, found 'a' twice"):
        import_items(path, uri)
    with Retriever.open(uri, embedder=mean_color) as gallery:
        assert len(gallery) == 12


@pytest.mark.parametrize(
    ("name", "words"),
    [("x.txt", ".parquet, .npz, .csv"), ("none/x.npz", "no folder"), ("photos", "one of")],
)
def test_a_path_that_cannot_be_written(exported, mean_color, tmp_path, name, words):
    gallery = Retriever.from_parquet(exported, embedder=mean_color)
    with pytest.raises(InvalidInputError, match=words if name != "photos" else "ends in"):
        gallery.to_parquet(tmp_path / name)


def test_a_path_that_is_not_there():
    for name in ("none.parquet", "none.npz", "none.csv"):
        with pytest.raises(InvalidInputError, match=f"{name}: expected a file, found nothing"):
            Retriever.from_parquet(name)


def test_what_is_missing_is_named(exported, mean_color, monkeypatch):
    gallery = Retriever.from_parquet(exported, embedder=mean_color)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    for call in (
        lambda: gallery.to_parquet("y.parquet"),
        lambda: Retriever.from_parquet(exported),
        gallery.to_pandas,
        gallery.search_vectors(VECTORS[:1])[0].to_pandas,
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'imgret\[tables\]'"):
            call()
