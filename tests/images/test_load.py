"""Loading from everything that may hold an image."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageOps

from imgret import images
from imgret.errors import ImageCorruptError, ImageTooLargeError, InvalidInputError

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
ALPHA = np.linspace(0, 255, 12 * 20).astype(np.uint8).reshape(12, 20)
WEIGHT = ALPHA[:, :, None] / 255
OVER_WHITE = np.round(RGB * WEIGHT + 255 * (1 - WEIGHT)).astype(np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "Bild ä.png"
    Pil.fromarray(RGB).save(path)
    return path


def test_every_source_gives_the_same(path):
    data = path.read_bytes()
    with path.open("rb") as file:
        sources = [path, str(path), data, bytearray(data), memoryview(data), file, RGB]
        sources += [io.BytesIO(data), Pil.open(io.BytesIO(data)), pathlib.PurePath(path)]
        for source in sources:
            image = images.load(source)
            np.testing.assert_array_equal(image, RGB)
            assert image.dtype == np.uint8
            assert image.flags.c_contiguous


def test_a_file_is_read_from_where_it_stands():
    file = io.BytesIO(b"skipped" + images.encode(RGB, "png"))
    file.seek(7)
    np.testing.assert_array_equal(images.load(file), RGB)


def test_limits_are_handed_on(path):
    data = path.read_bytes()
    for source in (path, data, io.BytesIO(data), Pil.open(io.BytesIO(data))):
        with pytest.raises(ImageTooLargeError, match="found 20 x 12 = 240"):
            images.load(source, max_pixels=239)
    data = images.encode(np.zeros((400, 600, 3), np.uint8))
    assert images.load(data, min_side=33).shape == (100, 150, 3)


class TestArrays:
    def test_rgb_is_returned_itself(self):
        assert images.load(RGB) is RGB

    def test_a_view_is_made_contiguous(self):
        image = images.load(RGB[:, ::-1])
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, RGB[:, ::-1])

    @pytest.mark.parametrize("gray", [ALPHA, ALPHA[:, :, None], ALPHA[::-1]])
    def test_gray(self, gray):
        image = images.load(gray)
        np.testing.assert_array_equal(image, np.dstack([gray, gray, gray]))

    def test_alpha_is_laid_over_white(self):
        image = images.load(np.dstack([RGB, ALPHA]))
        assert np.abs(image.astype(int) - OVER_WHITE).max() <= 1
        assert (image[ALPHA == 0] == 255).all()
        np.testing.assert_array_equal(image[ALPHA == 255], RGB[ALPHA == 255])

    @pytest.mark.parametrize(
        "array",
        [
            RGB.astype(np.float32),
            RGB.astype(np.int64),
            RGB[:, :, :2],
            np.zeros((2, 12, 20, 3), np.uint8),
            np.zeros(9, np.uint8),
            np.zeros((0, 20, 3), np.uint8),
            np.zeros((12, 20, 5), np.uint8),
        ],
    )
    def test_others_are_refused(self, array):
        with pytest.raises(InvalidInputError) as caught:
            images.load(array)
        assert f"found {array.dtype} of shape {array.shape}" in str(caught.value)


class TestPil:
    @pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "LAB"])
    def test_modes_without_alpha(self, mode):
        picture = Pil.fromarray(RGB).convert("RGB" if mode == "LAB" else mode)
        np.testing.assert_array_equal(images.load(picture), np.asarray(picture.convert("RGB")))

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "PA"])
    def test_modes_with_alpha(self, mode):
        picture = Pil.fromarray(np.dstack([RGB, ALPHA]))
        picture = picture.convert(mode)
        white = Pil.new("RGBA", picture.size, "white")
        expected = Pil.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
        assert np.abs(images.load(picture).astype(int) - np.asarray(expected)).max() <= 1

    def test_palette_with_a_transparent_colour(self):
        picture = Pil.fromarray(np.array([[0, 1]], np.uint8), "P")
        picture.putpalette([1, 2, 3, 4, 5, 6])
        picture.info["transparency"] = 1
        assert images.load(picture).tolist() == [[[1, 2, 3], [255, 255, 255]]]

    @pytest.mark.parametrize("mode", ["I;16", "I"])
    def test_sixteen_bits(self, mode):
        deep = np.array([[0, 128, 129, 257, 65535]])
        picture = Pil.fromarray(deep.astype(np.uint16 if mode == "I;16" else np.int32))
        assert picture.mode == mode
        assert images.load(picture)[0, :, 0].tolist() == [0, 0, 1, 1, 255]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation(self, orientation):
        exif = Pil.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        Pil.fromarray(RGB).save(file, "PNG", exif=exif)
        picture = Pil.open(file)
        expected = np.asarray(ImageOps.exif_transpose(picture))
        np.testing.assert_array_equal(images.load(picture), expected)

    @pytest.mark.parametrize("mode", ["F", "La"])
    def test_modes_that_have_no_range_or_conversion(self, mode):
        with pytest.raises(InvalidInputError, match=f"of mode {mode}"):
            images.load(Pil.new(mode, (2, 2)))

    def test_damaged_file_behind_it(self, tmp_path):
        path = tmp_path / "half.png"
        path.write_bytes(images.encode(RGB, "png")[:300])
        with Pil.open(path) as picture, pytest.raises(ImageCorruptError, match=r"half\.png: PIL"):
            images.load(picture)


@pytest.mark.parametrize("source", [None, 7, [1, 2], RGB.tolist(), object()])
def test_what_holds_no_picture(source):
    with pytest.raises(InvalidInputError, match=f"found {type(source).__name__}"):
        images.load(source)


def test_text_file():
    with pytest.raises(InvalidInputError, match="opened in binary mode, found one that reads str"):
        images.load(io.StringIO("text"))


@pytest.mark.parametrize("value", [0, -1, 2.5, "9"])
@pytest.mark.parametrize("option", ["max_pixels", "min_side"])
def test_options_are_checked(option, value):
    for kind in ("jpeg", "png"):
        with pytest.raises(InvalidInputError, match=option):
            images.load(images.encode(RGB, kind), **{option: value})
