"""Metadata of images: from a callable, a mapping, a file of rows, and EXIF."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from imgret import Retriever, images
from imgret.errors import InvalidInputError
from imgret.ingest import describe, read_sidecar

GPS = {1: "N", 2: (47.0, 30.0, 36.0), 3: "W", 4: (8.0, 15.0, 0.0)}
FACTS = {
    "date": "2024-05-01T12:30:15+02:00",
    "make": "Leica",
    "model": "M11",
    "latitude": 47.51,
    "longitude": -8.25,
}


def exif_of(main=None, taken=None, gps=None):
    exif = Pillow.Exif()
    exif.update({0x010F: "Leica", 0x0110: " M11 \0x", 0x0112: 1} if main is None else main)
    date = {0x9003: "2024:05:01 12:30:15", 0x9011: "+02:00"}
    exif.get_ifd(0x8769).update(date if taken is None else taken)
    exif.get_ifd(0x8825).update(GPS if gps is None else gps)
    return exif


def encoded(kind="jpeg", exif=None, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, kind, exif=exif_of() if exif is None else exif)
    return file.getvalue()


def facts_of(data):
    return images.exif_facts(images.header(data).exif)


# -- EXIF ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_date_camera_and_place_are_read(kind):
    assert facts_of(encoded(kind)) == FACTS


def test_a_tiff_is_its_own_block():
    # Pillow leaves out the directories below.
    assert facts_of(encoded("tiff")) == {"make": "Leica", "model": "M11"}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "gif"])
def test_a_picture_without_exif_has_no_facts(kind):
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(file, kind)
    assert facts_of(file.getvalue()) == {}


@pytest.mark.parametrize(
    ("parts", "changed"),
    [
        ({"taken": {0x9003: "2024:05:01 12:30:15"}}, {"date": "2024-05-01T12:30:15"}),
        ({"taken": {0x9003: "2024:05:01 12:30:15", 0x9011: "?"}}, {"date": "2024-05-01T12:30:15"}),
        ({"taken": {0x9004: "2023:01:02 03:04:05"}}, {"date": "2023-01-02T03:04:05"}),
        ({"taken": {0x9003: "0000:00:00 00:00:00"}}, {"date": None}),
        ({"taken": {0x9003: "2024:13:01 12:30:15"}}, {"date": None}),
        ({"main": {0x0132: "2022:01:02 03:04:05"}, "taken": {}},
         {"date": "2022-01-02T03:04:05", "make": None, "model": None}),
        ({"main": {0x010F: "   ", 0x0110: "a\tb\x07"}}, {"make": None, "model": "ab"}),
        ({"gps": {**GPS, 1: "S", 3: "E"}}, {"latitude": -47.51, "longitude": 8.25}),
        ({"gps": {**GPS, 1: "X"}}, {"latitude": None, "longitude": None}),
        ({"gps": {**GPS, 2: (91.0, 0.0, 0.0)}}, {"latitude": None, "longitude": None}),
        ({"gps": {2: GPS[2], 4: GPS[4]}}, {"latitude": None, "longitude": None}),
        ({"gps": {1: "N", 2: GPS[2]}}, {"latitude": None, "longitude": None}),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out(parts, changed):
    expected = {k: v for k, v in {**FACTS, **changed}.items() if v is not None}
    assert facts_of(encoded(exif=exif_of(**parts))) == expected


BLOCK = exif_of().tobytes()


@given(
    st.lists(st.tuples(st.integers(0, len(BLOCK) - 1), st.integers(0, 255)), max_size=12),
    st.integers(0, len(BLOCK)),
    st.sampled_from([b"", b"Exif\0\0", b"MM\0*"]),
)
def test_a_damaged_block_never_raises(changes, length, begin):
    block = bytearray(BLOCK)
    for at, byte in changes:
        block[at] = byte
    facts = images.exif_facts(begin + bytes(block[:length]))
    json.dumps(facts, allow_nan=False).encode()
    assert set(facts) <= set(FACTS)
    assert -90 <= facts.get("latitude", 0) <= 90
    assert -180 <= facts.get("longitude", 0) <= 180


def test_zero_denominators_and_loops_are_left_out():
    block = exif_of().tobytes().removeprefix(b"Exif\0\0")
    order = {b"II": "little", b"MM": "big"}[block[:2]]
    for number in (47, 30):  # as fractions: number / 1
        fraction = number.to_bytes(4, order) + (1).to_bytes(4, order)
        assert fraction in block
        damaged = block.replace(fraction, number.to_bytes(4, order) + bytes(4))
        assert "latitude" not in images.exif_facts(damaged)
        assert images.exif_facts(damaged)["make"] == "Leica"
    assert (
        images.exif_facts(b"II*\0\x08\0\0\0\xff\xff" + b"\x69\x87\4\0\1\0\0\0\x08\0\0\0" * 99) == {}
    )


@pytest.fixture
def retriever(mean_color):
    return Retriever(embedder=mean_color)


def test_exif_is_taken_on_request_only(retriever, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(seed=1))
    (tmp_path / "b.png").write_bytes(encoded("png", seed=2))
    retriever.add_folder(tmp_path, progress=False)
    assert retriever["a.jpg"].metadata == {}
    report = retriever.add_folder(tmp_path, exif=True, progress=False)  # of unchanged files, too
    assert (len(report.skipped), report.failed) == (2, [])
    assert [retriever[key].metadata for key in retriever] == [{"exif": FACTS}] * 2
    found = retriever.search_vectors(
        retriever.embeddings()[:1],
        where={"exif.date": {"$gte": "2024-05", "$lt": "2024-06"}, "exif.latitude": {"$gt": 47}},
    )
    assert len(found[0]) == 2
    (tmp_path / "a.jpg").write_bytes(encoded(seed=3, exif=Pillow.Exif()))
    retriever.add_folder(tmp_path, exif=True, progress=False)
    assert retriever["a.jpg"].metadata == {"exif": {}}  # of the new image, which has none


def test_exif_of_bytes_and_beside_given_metadata(retriever):
    data = encoded()
    retriever.add([data, data], keys=["x", "y"], metadata=[{"n": 1}, {"exif": "mine"}], exif=True)
    assert retriever["x"].metadata == {"n": 1, "exif": FACTS}
    assert retriever["y"].metadata == {"exif": "mine"}


@pytest.mark.slow
def test_hostile_exif_breaks_no_ingest(retriever, tmp_path):
    good = encoded()
    start = good.index(b"Exif\0\0") + 6
    rng = np.random.default_rng(0)
    for n in range(40):
        data = bytearray(good)
        data[start : start + len(BLOCK) - 6] = rng.bytes(len(BLOCK) - 6)
        data[start : start + 8] = good[start : start + 8]
        (tmp_path / f"{n}.jpg").write_bytes(data)
    report = retriever.add_folder(tmp_path, exif=True, progress=False)
    assert (len(report.ok), report.failed) == (40, [])


# -- callables, mappings and files of rows -------------------------------------------------------


def test_callable_and_mapping_give_metadata(retriever, photos):
    retriever.add_folder(photos, metadata=lambda path: {"stem": path.stem}, progress=False)
    assert retriever["lake/2.jpg"].metadata == {"stem": "2"}
    report = retriever.add_folder(
        photos, metadata={"lake/2.jpg": {"n": [1]}, "moon.jpg": {}}, progress=False
    )
    assert retriever["lake/2.jpg"].metadata == {"stem": "2", "n": [1]}  # added to
    assert report.unmatched == ["moon.jpg"]
    assert len(report.undescribed) == 11
    retriever.add_folder(photos, metadata=lambda _: None, progress=False)
    assert retriever["lake/3.jpg"].metadata == {"stem": "3"}


@pytest.mark.parametrize(
    "metadata", [5, lambda _: {"a": {1}}, lambda _: [1], {"lake/0.jpg": "text"}]
)
def test_metadata_that_is_none_is_refused_before_a_picture_is_read(retriever, photos, metadata):
    with pytest.raises(InvalidInputError, match="metadata.*expected"):
        retriever.add_folder(photos, metadata=metadata, progress=False)
    assert len(retriever) == 0


def test_csv(retriever, photos, tmp_path):
    table = tmp_path / "m.csv"
    table.write_text(
        "path,label,stars,zip,note,ratio\r\n"
        'lake/0.jpg,lake,4,00123,"two\nlines, ""quoted""",-1.5e2\r\n'
        "./sand/1.jpg,007,,+1,nan,1e999\r\n"
        "\r\n"
        f"{photos / 'wood' / '0.jpg'},,12345678901234567890,1_0,é,.5\r\n"
        "moon.jpg,,,,,\r\n",
        encoding="utf-8-sig",
    )
    report = retriever.add_folder(photos, metadata=table, prefix="p/", progress=False)
    assert retriever["p/lake/0.jpg"].metadata == {
        "stars": 4,
        "zip": "00123",
        "note": 'two\nlines, "quoted"',
        "ratio": -150.0,
    }
    assert retriever["p/sand/1.jpg"].metadata == {"zip": "+1", "note": "nan", "ratio": "1e999"}
    assert retriever["p/wood/0.jpg"].metadata["note"] == "é"
    assert [retriever[f"p/{k}"].label for k in ("lake/0.jpg", "sand/1.jpg", "sand/2.jpg")] == [
        "lake",
        "007",
        None,
    ]
    assert report.unmatched == ["p/moon.jpg"]
    assert len(report.undescribed) == 9
    assert "1 row of metadata without an image" in report.summary()
    assert "metadata without an image: p/moon.jpg" in str(report)
    assert "image without metadata: p/lake/1.jpg" in str(report)
    retriever.add_folder(photos, metadata=table, prefix="p/", labels="parent", progress=False)
    assert retriever["p/sand/1.jpg"].label == "sand"  # what is asked for in the call goes first


def test_jsonl(retriever, photos, tmp_path):
    table = tmp_path / "m.jsonl"
    rows = [
        {"key": "lake/0.jpg", "stars": 4.0, "tags": ["a", None], "deep": {"x": True}},
        {"file": "lake/1.jpg", "label": "water"},
    ]
    table.write_text("\n\n".join(map(json.dumps, rows)))
    retriever.add_folder(photos, metadata=str(table), progress=False)
    assert retriever["lake/0.jpg"].metadata == {
        "stars": 4.0,
        "tags": ["a", None],
        "deep": {"x": True},
    }
    assert retriever["lake/1.jpg"].label == "water"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.txt", "", r"expected a metadata file .csv, .jsonl, .ndjson, found '.txt'"),
        ("m.csv", "", "line 1: expected a header row"),
        ("m.csv", "name,a\nx,1\n", "one of them key, path, file, found"),
        ("m.csv", "key,a,a\n", "different names"),
        ("m.csv", "key,a\nx,1,2\n", "line 2: expected 2 cells, found 3"),
        ("m.csv", "key,a\nx,1\ny\n", "line 3: expected 2 cells, found 1"),
        ("m.csv", "key,a\nx,1\nx,2\n", "line 3: expected each image once, found 'x' as in line 2"),
        ("m.csv", "key,a\n,1\n", "line 2: expected text for 'key', found ''"),
        ("m.csv", 'key,a\nx,"1\n', "expected CSV"),
        ("m.csv", "key,path\nx,y\n", "found 'path' beside 'key'"),
        ("m.csv", b"key,a\nx,\xff\n", "expected UTF-8"),
        ("m.jsonl", "[1]\n", "line 1: expected a JSON object, found .1."),
        ("m.jsonl", '{"key": "x"}\n{"key": ', "line 2: expected a JSON object, found"),
        ("m.jsonl", '{"key": "x", "a": NaN}', "NaN, which is not JSON"),
        ("m.jsonl", '{"a": 1}', "line 1: expected one of key, path, file"),
        ("m.jsonl", '{"key": 5}', "expected text for 'key', found 5"),
        ("m.jsonl", "[" * 100_000, "line 1: expected a JSON object"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, name, text, message):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidInputError, match=message) as raised:
        read_sidecar(file, tmp_path, "")
    assert str(raised.value).startswith(str(file))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_sidecar(tmp_path / "m.csv", tmp_path, "")
    assert describe([], None) == ([], [], [])
