"""Resizing, cropping, drawing, encoding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil

from imgret import images
from imgret.errors import InvalidInputError
from imgret.types import Box

SIDES = st.integers(1, 60)
PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def flat(rows, columns):
    return np.full((rows, columns, 3), (10, 100, 200), np.uint8)


@given(rows=SIDES, columns=SIDES, width=SIDES, height=SIDES)
def test_resize_gives_the_size_and_keeps_flat_colour(rows, columns, width, height):
    resized = images.resize(flat(rows, columns), width, height)
    assert resized.shape == (height, width, 3)
    assert (resized == (10, 100, 200)).all()


@given(rows=SIDES, columns=SIDES, width=SIDES, height=SIDES)
def test_resize_of_a_map_stays_within_its_range(rows, columns, width, height):
    array = np.random.default_rng(rows * columns).random((rows, columns), dtype=np.float32)
    resized = images.resize(array, width, height)
    assert resized.shape == (height, width)
    assert resized.dtype == np.float32
    assert array.min() - 1e-6 <= resized.min() <= resized.max() <= array.max() + 1e-6


def test_resize_averages_areas():
    expected = PHOTO.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(images.resize(PHOTO, 16, 12) - expected).max() <= 0.51


def test_resize_does_not_alias_where_the_other_axis_grows():
    stripes = np.zeros((4, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(images.resize(stripes, 16, 8).astype(int) - 100).max() <= 1


def test_resize_of_the_right_size_is_the_picture_itself():
    assert np.shares_memory(images.resize(PHOTO, 64, 48), PHOTO)


def test_resize_keeps_one_channel():
    assert images.resize(PHOTO[:, :, :1], 7, 5).shape == (5, 7, 1)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (2.5, 5)])
def test_resize_refuses_an_impossible_size(size):
    with pytest.raises(InvalidInputError, match=r"width|height"):
        images.resize(PHOTO, *size)


@given(
    short=st.integers(1, 60),
    long=st.integers(1, 60),
    size=st.integers(1, 40),
    margin=st.integers(0, 9),
)
def test_resize_center_crop_is_both_in_turn(short, long, size, margin):
    rows, columns = np.mgrid[:short, :long]
    image = np.stack([rows, columns, rows + columns], axis=2).astype(np.float32)
    scale = (size + margin) / min(short, long)
    whole = images.resize(image, max(1, round(long * scale)), max(1, round(short * scale)))
    top, left = (side - size for side in whole.shape[:2])
    expected = whole[top // 2 : top // 2 + size, left // 2 : left // 2 + size]
    found = images.resize_center_crop(image, size + margin, size)
    assert found.shape == expected.shape == (size, size, 3)
    # Whole pixels are cut off before or after: beside by 1.5 of the larger pixels an axis.
    assert np.abs(found - expected).max() <= 3 * max(1, 1 / scale)


def test_resize_center_crop_without_margin_takes_the_middle_square():
    square = PHOTO[:, 8:56]
    np.testing.assert_array_equal(
        images.resize_center_crop(PHOTO, 24, 24), images.resize(square, 24, 24)
    )


def test_resize_center_crop_of_a_strip_is_cheap():
    strip = np.zeros((1, 10_000_001, 3), np.uint8)
    strip[:, 5_000_000] = 255
    assert (images.resize_center_crop(strip, 256, 224) == 255).all()


def test_resize_center_crop_cannot_cut_out_more_than_there_is():
    with pytest.raises(InvalidInputError, match="at most side = 32, found 33"):
        images.resize_center_crop(PHOTO, 32, 33)


@given(rows=SIDES, columns=SIDES, size=SIDES)
def test_letterbox_holds_the_picture_and_padding(rows, columns, size):
    boxed = images.letterbox(flat(rows, columns), size, fill=7)
    assert boxed.shape == (size, size, 3)
    inside = (boxed == (10, 100, 200)).all(axis=2)
    assert (boxed[~inside] == 7).all()
    height, width = inside.any(axis=1).sum(), inside.any(axis=0).sum()
    assert height * width == inside.sum()
    assert max(height, width) == size
    assert abs(min(height, width) - size * min(rows, columns) / max(rows, columns)) <= 1
    middle = np.argwhere(inside).mean(axis=0)
    assert np.abs(middle - (size - 1) / 2).max() <= 0.5


@given(rows=SIDES, columns=SIDES, side=SIDES)
def test_thumbnail_never_enlarges(rows, columns, side):
    height, width = images.thumbnail(flat(rows, columns), side).shape[:2]
    assert max(height, width) == min(side, max(rows, columns))
    assert height <= rows
    assert width <= columns


def test_gray_is_the_luma_of_pillow():
    gray = images.to_gray(PHOTO)
    assert gray.dtype == np.float32
    assert np.abs(gray * 255 - np.asarray(Pil.fromarray(PHOTO).convert("L"))).max() <= 1.01
    assert images.to_gray(np.full((1, 1, 3), 255, np.uint8)) == 1


def test_blur_is_a_gaussian():
    array = np.zeros((41, 41), np.float32)
    array[20, 20] = 1
    blurred = images.blur(array, 2.0)
    rows, columns = np.mgrid[:41, :41] - 20
    expected = np.exp(-(rows**2 + columns**2) / 8) / (8 * np.pi)
    assert blurred.dtype == np.float32
    assert np.abs(blurred - expected).max() < 5e-4
    assert blurred.sum() == pytest.approx(1)


@pytest.mark.parametrize("sigma", [0, -1, float("nan"), float("inf")])
def test_blur_refuses(sigma):
    with pytest.raises(InvalidInputError, match="sigma"):
        images.blur(np.zeros((4, 4), np.float32), sigma)


def test_draw_box_draws_inside_the_box_only():
    image = flat(20, 30)
    box = Box(5, 4, 15, 12)
    drawn = images.draw_box(image, box, color=(1, 2, 3), thickness=2)
    changed = (drawn != image).any(axis=2)
    expected = np.zeros((20, 30), bool)
    expected[4:12, 5:15] = True
    expected[6:10, 7:13] = False
    np.testing.assert_array_equal(changed, expected)
    assert (drawn[changed] == (1, 2, 3)).all()
    assert (image == flat(20, 30)).all()


@given(
    corners=st.tuples(*[st.integers(-50, 50)] * 2, *[st.integers(1, 60)] * 2),
    thickness=st.integers(1, 9),
)
def test_draw_box_takes_any_box(corners, thickness):
    x, y, width, height = corners
    drawn = images.draw_box(flat(20, 30), Box(x, y, x + width, y + height), thickness=thickness)
    assert drawn.shape == (20, 30, 3)


@pytest.mark.parametrize(("kind", "levels"), [("jpeg", 40), ("png", 0)])
def test_encode_is_read_by_pillow(kind, levels, tmp_path):
    image = images.resize(PHOTO[:6, :8], 64, 48)
    path = tmp_path / "picture"
    path.write_bytes(images.encode(image, kind, quality=95))
    with Pil.open(path) as picture:
        assert picture.format == kind.upper()
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - image).max() <= levels


def test_quality_is_that_of_the_file():
    assert len(images.encode(PHOTO, quality=30)) < len(images.encode(PHOTO, quality=90))


@pytest.mark.parametrize("options", [{"format": "gif"}, {"quality": 0}, {"quality": 101}])
def test_encode_refuses(options):
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        images.encode(PHOTO, **options)


def test_encode_of_what_a_jpeg_cannot_hold(capfd):
    with pytest.raises(InvalidInputError, match="found 70000 x 1; make a thumbnail"):
        images.encode(np.zeros((1, 70_000, 3), np.uint8))
    assert capfd.readouterr() == ("", "")


def test_tint_mixes_as_much_as_is_asked():
    image = np.full((2, 3, 3), 100, dtype=np.uint8)
    strength = np.array([[0, 0.5, 1], [0, -1, 2]], dtype=np.float32)
    tinted = images.tint(image, strength, color=(200, 0, 100), most=0.5)
    assert (tinted[:, 0] == 100).all()
    assert tinted[0, 1].tolist() == [125, 75, 100]
    assert tinted[0, 2].tolist() == tinted[1, 2].tolist() == [150, 50, 100]
    assert (image == 100).all()
    with pytest.raises(InvalidInputError, match=r"strength: expected shape \(2, 3\)"):
        images.tint(image, strength.T)


def test_connected_parts_are_numbered():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
    numbers = images.connected(mask)
    assert (numbers > 0).tolist() == mask.tolist()
    assert numbers[0, 0] == numbers[1, 1]  # corners touch
    assert len({numbers[0, 0], numbers[0, 3], numbers[3, 0]}) == 3
    assert numbers.max() == 3
