"""Adding, updating, removing: what goes in, what is refused, and that nothing is lost."""

import io

import numpy as np
import pytest
from PIL import Image as PILImage

from imgret import Retriever, images
from imgret.errors import (
    DimensionError,
    DuplicateKeyError,
    ImageCorruptError,
    ImageFormatError,
    ImageNotFoundError,
    InvalidInputError,
    KeyNotFoundError,
    UnknownNameError,
)


@pytest.fixture
def retriever(mean_color):
    return Retriever(embedder=mean_color)


def test_a_folder_with_labels_from_parents(retriever, photos):
    report = retriever.add_folder(photos, labels="parent")
    assert (len(report.ok), report.total, len(retriever)) == (12, 12, 12)
    assert list(retriever)[:2] == ["lake/0.jpg", "lake/1.jpg"]
    assert retriever["sand/3.jpg"].label == "sand"
    assert retriever["sand/3.jpg"].path == str(photos / "sand" / "3.jpg")
    assert set(report.stages) >= {"read", "decode", "embed", "store"}
    assert report.images_per_second > 0


def test_labels_from_a_callable_and_a_mapping(mean_color, photos):
    by_name = Retriever(embedder=mean_color)
    by_name.add_folder(photos, labels=lambda path: path.stem)
    assert by_name["wood/2.jpg"].label == "2"
    by_key = Retriever(embedder=mean_color)
    by_key.add_folder(photos, labels={"wood/2.jpg": "oak"})
    assert (by_key["wood/2.jpg"].label, by_key["wood/1.jpg"].label) == ("oak", None)


def test_bad_files_cost_only_themselves(retriever, photos):
    good = (photos / "lake" / "0.jpg").read_bytes()
    (photos / "lake" / "00-empty.jpg").write_bytes(b"")
    (photos / "lake" / "01-text.jpg").write_text("no image at all")
    (photos / "lake" / "02-cut.jpg").write_bytes(good[: len(good) // 2])
    (photos / "lake" / "notes.txt").write_text("to be ignored")
    report = retriever.add_folder(photos)
    assert {line.key for line in report.failed} == {
        "lake/00-empty.jpg",
        "lake/01-text.jpg",
        "lake/02-cut.jpg",
    }
    assert all(line.reason and line.path.endswith(".jpg") for line in report.failed)
    assert report.ignored == 1
    assert len(retriever) == 12
    # The image after the bad ones has its own name and its own vector.
    (hits,) = retriever.search_many([photos / "lake" / "0.jpg"], k=1)
    assert hits[0].key == "lake/0.jpg"
    assert hits[0].score == pytest.approx(1, abs=1e-4)


def test_a_single_bad_picture_raises(retriever, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    empty = tmp_path / "empty.png"
    empty.touch()
    for path, error in (
        (text, ImageFormatError),
        (empty, ImageCorruptError),
        (tmp_path / "none.jpg", ImageNotFoundError),
        (tmp_path, ImageNotFoundError),
    ):
        with pytest.raises(error, match=path.name):
            retriever.add(path)
    assert len(retriever) == 0


def test_every_kind_of_picture(retriever, make_picture, tmp_path):
    array = make_picture(3)
    data = images.encode(array, "png")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    given = [array, data, path, str(path), io.BytesIO(data), PILImage.fromarray(array)]
    report = retriever.add(given, keys=[f"k{n}" for n in range(6)])
    assert not report.failed
    vectors = retriever.embeddings()
    assert (vectors == vectors[0]).all()


def test_default_keys(retriever, make_picture, photos):
    retriever.add(make_picture(1))
    retriever.add([make_picture(2), photos / "lake" / "0.jpg"])
    assert list(retriever) == ["image-000001", "image-000002", str(photos / "lake" / "0.jpg")]


def test_labels_and_metadata(retriever, make_picture):
    retriever.add(make_picture(1), keys="a", labels="cat", metadata={"year": 2020})
    retriever.add(
        [make_picture(2), make_picture(3)],
        keys=["b", "c"],
        labels=["dog", None],
        metadata=[{}, {"x": [1]}],
    )
    assert (retriever["a"].label, retriever["a"].metadata) == ("cat", {"year": 2020})
    assert (retriever["c"].label, retriever["c"].metadata) == (None, {"x": [1]})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keys": ["a", "a"]}, DuplicateKeyError, "'a' twice"),
        ({"keys": ["held", "b"]}, DuplicateKeyError, "'held' in the gallery"),
        ({"keys": ["a"]}, InvalidInputError, "keys: expected one for each of 2 images, found 1"),
        ({"keys": "ab"}, InvalidInputError, "keys: expected a list"),
        ({"keys": ["a", ""]}, InvalidInputError, "non-empty text"),
        ({"keys": ["a", 3]}, InvalidInputError, "non-empty text.*found 3"),
        ({"labels": ["a"]}, InvalidInputError, "labels: expected one for each"),
        ({"labels": ["a", 7]}, InvalidInputError, "label of .*found 7"),
        ({"metadata": [{}, 3]}, InvalidInputError, "metadata of .*found 3"),
        ({"duplicates": "maybe"}, InvalidInputError, "'add' or 'skip'"),
        ({"threads": 0}, InvalidInputError, "threads"),
    ],
)
def test_bad_arguments_add_nothing(retriever, make_picture, options, error, message):
    retriever.add(make_picture(0), keys="held")
    with pytest.raises(error, match=message):
        retriever.add([make_picture(1), make_picture(2)], **options)
    assert list(retriever) == ["held"]


def test_metadata_that_is_no_json_adds_nothing(retriever, make_picture):
    with pytest.raises(InvalidInputError, match="metadata of 'a'"):
        retriever.add(make_picture(1), keys="a", metadata={"x": float("nan")})
    with pytest.raises(InvalidInputError, match="metadata of 'a'"):
        retriever.add(make_picture(1), keys="a", metadata={"x": object()})
    assert len(retriever) == 0
    retriever.add(make_picture(1), keys="a")  # and it goes on working
    assert len(retriever.index) == 1


def test_adding_a_folder_again_takes_in_what_has_changed(retriever, photos, make_picture):
    retriever.add_folder(photos, labels="parent")
    again = retriever.add_folder(photos, labels="parent")
    assert (len(again.ok), len(again.skipped)) == (0, 12)
    changed = photos / "wood" / "1.jpg"
    changed.write_bytes(images.encode(make_picture(99), "jpeg", quality=90))
    (photos / "wood" / "new.jpg").write_bytes(images.encode(make_picture(98), "jpeg"))
    third = retriever.add_folder(photos, labels="parent")
    assert third.ok == ["wood/1.jpg", "wood/new.jpg"]
    assert len(retriever) == len(retriever.index) == 13
    assert retriever.search(changed, k=1)[0].key == "wood/1.jpg"


def test_a_touched_file_is_told_by_its_bytes(retriever, photos):
    retriever.add_folder(photos)
    before = retriever["lake/0.jpg"].mtime_ns
    (photos / "lake" / "0.jpg").touch()
    assert len(retriever.add_folder(photos).skipped) == 12
    assert retriever["lake/0.jpg"].mtime_ns != before


def test_two_folders_with_the_same_names(retriever, photos, tmp_path, make_picture):
    other = tmp_path / "other"
    (other / "lake").mkdir(parents=True)
    (other / "lake" / "0.jpg").write_bytes(images.encode(make_picture(77), "jpeg"))
    retriever.add_folder(photos)
    report = retriever.add_folder(other)
    assert "belongs to" in report.failed[0].reason
    assert retriever["lake/0.jpg"].path == str(photos / "lake" / "0.jpg")
    assert retriever.add_folder(other, prefix="other/").ok == ["other/lake/0.jpg"]


def test_a_moved_folder_is_recognised(retriever, photos, tmp_path):
    retriever.add_folder(photos)
    moved = photos.rename(tmp_path / "moved")
    assert len(retriever.add_folder(moved).skipped) == 12
    assert retriever["lake/0.jpg"].path == str(moved / "lake" / "0.jpg")


def test_duplicates_are_reported_and_by_default_kept(mean_color, photos):
    (photos / "lake" / "copy.jpg").write_bytes((photos / "lake" / "0.jpg").read_bytes())
    kept = Retriever(embedder=mean_color)
    report = kept.add_folder(photos)
    assert [(line.key, line.reason) for line in report.duplicate] == [
        ("lake/copy.jpg", "the same bytes as 'lake/0.jpg'")
    ]
    assert len(kept) == 13
    skipped = Retriever(embedder=mean_color)
    assert len(skipped.add_folder(photos, duplicates="skip").duplicate) == 1
    assert len(skipped) == 12
    later = skipped.add(photos / "lake" / "copy.jpg", keys="copy")
    assert later.duplicate[0].key == "copy"
    assert (skipped.embeddings(["copy"]) == skipped.embeddings(["lake/0.jpg"])).all()


def test_a_missing_folder(retriever, tmp_path):
    with pytest.raises(ImageNotFoundError, match=r"nowhere.*folder"):
        retriever.add_folder(tmp_path / "nowhere")


def test_vectors_made_elsewhere(retriever, make_picture):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5, 48))
    retriever.add_vectors(vectors, keys=list("abcde"), labels=["x"] * 5)
    (hits,) = retriever.search_vectors(vectors[2:3], k=2)
    assert hits[0].key == "c"
    assert (hits[0].path, hits[0].box) == (None, None)
    for bad, error in (
        (vectors[:, :5], DimensionError),
        (np.full((1, 48), np.nan), InvalidInputError),
        (np.zeros((1, 48)), InvalidInputError),
        (vectors[0], DimensionError),
        ("text", InvalidInputError),
    ):
        with pytest.raises(error):
            retriever.add_vectors(bad, keys=["f"])
    with pytest.raises(InvalidInputError, match="keys: expected one for each of 5"):
        retriever.add_vectors(vectors, keys=["f"])
    assert len(retriever) == 5


def test_values_float16_cannot_hold_add_nothing(mean_color):
    retriever = Retriever(embedder=mean_color, metric="l2")
    with pytest.raises(InvalidInputError, match="dtype='float32'"):
        retriever.add_vectors(np.full((1, 48), 1e6), keys=["big"])
    assert len(retriever) == 0
    wide = Retriever(embedder=mean_color, metric="l2", dtype="float32")
    wide.add_vectors(np.full((1, 48), 1e6), keys=["big"])
    assert len(wide) == 1


def test_removing(retriever, photos):
    retriever.add_folder(photos)
    assert retriever.remove("lake/0.jpg") == 1
    assert retriever.remove(["lake/1.jpg", "lake/2.jpg", "lake/2.jpg"]) == 2
    assert len(retriever) == 9
    assert "lake/0.jpg" not in retriever
    with pytest.raises(KeyNotFoundError, match="'lake/0.jpg'"):
        retriever.remove(["lake/3.jpg", "lake/0.jpg"])
    assert "lake/3.jpg" in retriever  # all or nothing
    keys = {hit.key for hit in retriever.search(photos / "lake" / "0.jpg", k=100)}
    assert len(keys) == 9
    retriever.add(photos / "lake" / "0.jpg", keys="lake/0.jpg")  # a key can come back
    assert retriever.search(photos / "lake" / "0.jpg", k=1)[0].key == "lake/0.jpg"


def test_updating(retriever, photos, make_picture):
    retriever.add_folder(photos, labels="parent")
    retriever.update("lake/0.jpg", label="sea")
    assert retriever["lake/0.jpg"].label == "sea"
    retriever.update("lake/0.jpg", metadata={"seen": True})
    assert retriever["lake/0.jpg"].metadata == {"seen": True}
    retriever.update("lake/0.jpg", label=None, image=make_picture(55))
    item = retriever["lake/0.jpg"]
    assert (item.label, item.metadata, item.path) == (None, {"seen": True}, None)
    assert retriever.search(make_picture(55), k=1)[0].key == "lake/0.jpg"
    assert len(retriever) == len(retriever.index) == 12


def test_updating_with_the_same_picture_keeps_the_vector(retriever, photos):
    retriever.add_folder(photos)
    retriever.update("lake/0.jpg", image=photos / "lake" / "0.jpg", label="sea")
    assert retriever["lake/0.jpg"].label == "sea"
    assert len(retriever) == 12


def test_a_failed_update_changes_nothing(retriever, photos, tmp_path):
    retriever.add_folder(photos, labels="parent")
    before = retriever["lake/0.jpg"]
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    with pytest.raises(ImageFormatError, match="bad.jpg"):
        retriever.update("lake/0.jpg", image=bad, label="sea")
    with pytest.raises(KeyNotFoundError, match="'none'"):
        retriever.update("none", label="sea")
    with pytest.raises(InvalidInputError, match="label"):
        retriever.update("lake/0.jpg", label=3)
    assert retriever["lake/0.jpg"] == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"embedder": "genral"}, UnknownNameError, "Did you mean 'general'"),
        ({"cropper": "nope"}, UnknownNameError, "known: .*none"),
        ({"index": "nope"}, UnknownNameError, "known: .*flat"),
        ({"index": "faiss:Nonsense"}, InvalidInputError, "Nonsense"),
        ({"metric": "euclid"}, InvalidInputError, "'cosine', 'ip', 'l2'"),
        ({"dtype": "float64"}, InvalidInputError, "float16"),
        ({"embedder": 3}, InvalidInputError, "embedder: expected a registered name"),
        ({"index": object()}, InvalidInputError, "index: expected a registered name"),
    ],
)
def test_parts_that_are_not_there(mean_color, options, error, message):
    with pytest.raises(error, match=message):
        Retriever(**{"embedder": mean_color, **options})


def test_an_index_object_must_fit(mean_color):
    from imgret import FlatIndex

    with pytest.raises(InvalidInputError, match="empty index of dimension 48"):
        Retriever(embedder=mean_color, index=FlatIndex(7))
    index = FlatIndex(48)
    assert Retriever(embedder=mean_color, index=index)._gallery.live._make(48, 0) is index


def test_an_embedding_that_cannot_be_searched_costs_only_itself(mean_color, photos, make_picture):
    class Odd(type(mean_color)):
        """Knows nothing of dark images, and too much of bright ones."""

        def _embed(self, given):
            vectors = super()._embed(given)
            for row, image in enumerate(given):
                if image.max() < 10:
                    vectors[row] = 0
                if image.min() > 245:
                    vectors[row] = 1e6
            return vectors

    for name, level in (("dark", 0), ("white", 255)):
        flat = np.full((8, 8, 3), level, np.uint8)
        (photos / "lake" / f"1-{name}.png").write_bytes(images.encode(flat, "png"))
    retriever = Retriever(embedder=Odd())
    report = retriever.add_folder(photos)
    assert [line.key for line in report.failed] == ["lake/1-dark.png", "lake/1-white.png"]
    assert "only zeros" in report.failed[0].reason
    assert "dtype='float32'" in report.failed[1].reason
    assert len(retriever) == len(retriever.index) == 12
    with pytest.raises(InvalidInputError, match="dark: embedding: .*only zeros"):
        retriever.add(photos / "lake" / "1-dark.png", keys="dark")
    with pytest.raises(InvalidInputError, match="only zeros"):
        retriever.add_vectors(np.zeros((1, 48)), keys=["nothing"])
    assert len(retriever) == 12
