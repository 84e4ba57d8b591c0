"""The images: found, split, checked and shown."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import images
from imgret.cli import main
from imgret.errors import ImageNotFoundError, InvalidInputError
from imgret.train import Augmentation, train
from imgret.train.data import Dataset, batches, find_classes, hold_out, random_crop, readable


def test_classes_are_the_subfolders(flowers):
    pictures = find_classes(flowers)
    assert pictures.classes == ("daisy", "rose", "tulip")
    assert len(pictures) == 24
    for path, label in zip(pictures.paths, pictures.labels, strict=True):
        assert path.parent.name == pictures.classes[label]


def test_a_picture_deeper_down_is_of_the_upper_folder(flowers, tmp_path):
    shutil.copytree(flowers, tmp_path / "deep")
    (tmp_path / "deep" / "rose" / "red").mkdir()
    (tmp_path / "deep" / "rose" / "000.jpg").rename(tmp_path / "deep" / "rose" / "red" / "0.jpg")
    pictures = find_classes(tmp_path / "deep")
    assert pictures.classes == ("daisy", "rose", "tulip")


def test_a_class_may_be_a_link(flowers, tmp_path):
    (tmp_path / "all").mkdir()
    for path in flowers.iterdir():
        (tmp_path / "all" / path.name).symlink_to(path)
    pictures = find_classes(tmp_path / "all")
    assert (pictures.classes, len(pictures)) == (("daisy", "rose", "tulip"), 24)
    (tmp_path / "all" / "again").symlink_to(flowers / "rose")
    with pytest.warns(UserWarning, match="rose: passed over, as again leads there too"):
        assert len(find_classes(tmp_path / "all")) == 24


def test_no_class_is_an_error(flowers, tmp_path):
    with pytest.raises(InvalidInputError, match=r"at least two classes, found none$"):
        find_classes(tmp_path)
    with pytest.raises(InvalidInputError, match="found none, and 8 images in no subfolder"):
        find_classes(flowers / "rose")
    with pytest.raises(ImageNotFoundError, match="found nothing"):
        find_classes(tmp_path / "nowhere")


def test_pictures_in_no_subfolder_are_told(flowers, tmp_path):
    shutil.copytree(flowers, tmp_path / "some")
    shutil.copy(flowers / "rose" / "000.jpg", tmp_path / "some")
    with pytest.warns(UserWarning, match="1 images lie in no subfolder"):
        assert len(find_classes(tmp_path / "some")) == 24


def test_one_class_is_an_error(flowers, tmp_path):
    shutil.copytree(flowers / "rose", tmp_path / "all" / "rose")
    with pytest.raises(InvalidInputError, match="found one, 'rose'"):
        find_classes(tmp_path / "all")


def test_validation_has_no_class_of_its_own(flowers, tmp_path):
    shutil.copytree(flowers / "rose", tmp_path / "valid" / "peony")
    with pytest.raises(InvalidInputError, match="3 classes that are trained, found also 'peony'"):
        find_classes(tmp_path / "valid", ("daisy", "rose", "tulip"))


def test_what_cannot_be_read_is_left_out_and_told(flowers, tmp_path):
    shutil.copytree(flowers, tmp_path / "some")
    (tmp_path / "some" / "rose" / "002.jpg").write_bytes(b"no picture")
    kept, failed = readable(find_classes(tmp_path / "some"), 2)
    assert len(kept) == 23
    assert [error.path.name for error in failed] == ["002.jpg"]


def test_two_classes_must_be_readable(flowers, tmp_path):
    shutil.copytree(flowers / "rose", tmp_path / "some" / "rose")
    (tmp_path / "some" / "tulip").mkdir()
    (tmp_path / "some" / "tulip" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(InvalidInputError, match=r"found 8 readable and 1 that .*/1\.jpg"):
        readable(find_classes(tmp_path / "some"), 1)


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    share=st.floats(0.05, 0.9),
    seed=st.integers(0, 9),
)
def test_holding_out_takes_some_of_each_class_and_never_all(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    pictures = Dataset([f"{n}" for n in range(len(labels))], labels, tuple("abcde"))
    kept, held = hold_out(pictures, share, seed)
    assert sorted(kept.paths + held.paths) == sorted(pictures.paths)
    for label, count in enumerate(counts):
        assert (kept.labels == label).any()
        assert (held.labels == label).any() == (count > 1)
    again, _ = hold_out(pictures, share, seed)
    assert again.paths == kept.paths


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    side=st.integers(32, 64),
    smallest=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_a_random_crop_is_a_square_of_the_picture(height, width, side, smallest, seed):
    image = np.full((height, width, 3), 77, dtype=np.uint8)
    how = Augmentation(smallest=smallest)
    cut = random_crop(image, side, how, np.random.default_rng(seed))
    assert cut.shape == (side, side, 3)
    assert (cut == 77).all()


def shown(pictures, threads, **changes):
    options = {"side": 32, "batch_size": 5, "augmentation": Augmentation(), "seed": [0, 1]}
    order = np.random.default_rng(0).permutation(len(pictures))
    return list(batches(pictures, order, threads=threads, **(options | changes)))


def test_batches_do_not_depend_on_threads(flowers):
    pictures = find_classes(flowers)
    alone, together = shown(pictures, 1), shown(pictures, 4)
    assert [len(rows) for _, rows in alone] == [5, 5, 5, 5, 4]
    assert sorted(np.concatenate([rows for _, rows in alone])) == list(range(24))
    for (pixels, rows), (same_pixels, same_rows) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(pixels, same_pixels)
        np.testing.assert_array_equal(rows, same_rows)
    another = shown(pictures, 1, seed=[0, 2])
    assert not np.array_equal(alone[0][0], another[0][0])


def test_a_last_batch_of_one_is_left_out(flowers):
    pictures = find_classes(flowers)
    assert [len(rows) for _, rows in shown(pictures, 2, batch_size=23)] == [23]


def test_images_of_too_many_pixels_are_left_out(flowers, tmp_path):
    shutil.copytree(flowers, tmp_path / "flowers")
    large = tmp_path / "flowers" / "rose" / "000.jpg"
    large.with_suffix(".png").write_bytes(images.encode(np.zeros((100, 100, 3), np.uint8), "png"))
    large.unlink()
    kept, failed = readable(find_classes(tmp_path / "flowers", max_pixels=9_999), 2)
    assert len(kept) == 23
    assert "10,000" in str(failed[0])
    kept, failed = readable(find_classes(tmp_path / "flowers", max_pixels=10_000), 2)
    assert (len(kept), failed) == (24, [])
    kept, held = hold_out(kept, 0.2, 0)
    assert kept.max_pixels == held.max_pixels == 10_000
    with pytest.raises(InvalidInputError, match="found 0 readable and 24 that are not"):
        train(tmp_path / "flowers", tmp_path / "x.onnx", max_pixels=99, progress=False)
    with pytest.raises(InvalidInputError, match="max_pixels: expected a whole number"):
        train(tmp_path / "flowers", tmp_path / "x.onnx", max_pixels=0, progress=False)


def test_the_limit_on_the_command_line(flowers, tmp_path, capsys):
    command = ["train", str(flowers), "-o", str(tmp_path / "x.onnx"), "--max-pixels", "99"]
    with pytest.raises(SystemExit):
        main(command)
    assert "found 0 readable and 24 that are not" in capsys.readouterr().err
