"""Files that may be valid are never called damaged; damaged ones are."""

import io
import struct

import cv2
import imagecodecs
import numpy as np
import PIL.AvifImagePlugin
import pytest
from PIL import Image as Pil
from PIL import ImageFile

from imgret import images
from imgret.errors import ImageCorruptError, ImageUnsupportedError

ROWS, COLUMNS = np.mgrid[:32, :64]
GRAY = (COLUMNS * 4).astype(np.uint8)
RGB = np.stack([COLUMNS * 4, ROWS * 7, 255 - COLUMNS * 4], axis=-1).astype(np.uint8)
ALPHA = np.clip(ROWS * 9, 0, 255).astype(np.uint8)


def save(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def over_white(color, alpha):
    weight = alpha[:, :, None] / 255
    return color * weight + 255 * (1 - weight)


class TestAvif:
    @pytest.mark.parametrize("premultiplied", [False, True])
    @pytest.mark.parametrize("has_alpha", [False, True])
    @pytest.mark.parametrize("range_", ["full", "limited"])
    @pytest.mark.parametrize("subsampling", ["4:0:0", "4:2:0", "4:4:4"])
    def test_range_and_alpha(self, subsampling, range_, has_alpha, premultiplied):
        color = np.dstack([GRAY] * 3) if subsampling == "4:0:0" else RGB
        data = save(
            Pil.fromarray(np.dstack([color, ALPHA]) if has_alpha else color),
            "AVIF",
            quality=100,
            range=range_,
            subsampling=subsampling,
            alpha_premultiplied=premultiplied,
        )
        wanted = over_white(color, ALPHA) if has_alpha else color
        found = images.decode(data).image
        assert np.abs(found.astype(int) - wanted).max() <= 8
        if subsampling == "4:0:0" and not has_alpha:
            assert (found.min(), found.max()) == (0, GRAY.max())
        assert images.header(data).channels == (1 if subsampling == "4:0:0" else 3)

    @pytest.mark.parametrize("bits", [8, 10, 12])
    def test_gray_of_more_bits(self, bits):
        deep = GRAY.astype(np.uint16 if bits > 8 else np.uint8) << (bits - 8)
        data = imagecodecs.avif_encode(deep, level=100, bitspersample=bits)
        found = images.decode(data).image
        assert np.abs(found[:, :, 1].astype(int) - GRAY).max() <= 1

    def test_gray_is_turned_once(self):
        exif = Pil.Exif()
        exif[0x0112] = 6
        data = save(Pil.fromarray(GRAY), "AVIF", subsampling="4:0:0", quality=100, exif=exif)
        found = images.decode(data).image
        assert found.shape == (64, 32, 3)
        assert np.abs(found[:, 0, 0].astype(int) - GRAY[0]).max() <= 3

    def test_limits_and_options_of_pillow_are_left_alone(self, monkeypatch):
        """They belong to whoever uses Pillow in the same process."""
        monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 10)
        data = save(Pil.fromarray(GRAY), "AVIF", subsampling="4:0:0")
        assert images.decode(data).size == (64, 32)
        assert Pil.MAX_IMAGE_PIXELS == 10

    def test_of_a_derived_kind(self):
        data = save(Pil.fromarray(RGB), "AVIF").replace(b"av01", b"iovl")
        with pytest.raises(ImageUnsupportedError, match="AVIF of an item of kind 'iovl'"):
            images.decode(data)

    def test_damaged(self):
        data = save(Pil.fromarray(RGB), "AVIF", quality=90)
        with pytest.raises(ImageCorruptError, match="neither OpenCV nor Pillow"):
            images.decode(data[:217] + bytes(len(data) - 217))


@pytest.mark.parametrize("brand", [b"avis", b"msf1"])
def test_a_sequence_without_a_still_image(brand):
    data = b"\0\0\0\x14ftyp" + brand + bytes(4) + brand + b"\0\0\0\x0cmoov" + bytes(4)
    with pytest.raises(ImageUnsupportedError, match="only a sequence"):
        images.decode(data)
    with pytest.raises(ImageCorruptError):
        images.decode(data[:-12] + b"\0\0\0\x0cmeta" + bytes(4))


@pytest.mark.parametrize("codec", [b"vvc1", b"j2k1", b"avc1"])
def test_heic_of_another_codec(codec):
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(Pil.fromarray(RGB)).save(file)
    data = file.getvalue().replace(b"hvc1", codec)
    with pytest.raises(ImageUnsupportedError, match=f"HEIC of an item of kind '{codec.decode()}'"):
        images.decode(data)


def jpeg_frame(**changes):
    """Return a JPEG whose frame says something else of itself."""
    data = bytearray(save(Pil.fromarray(RGB), "JPEG"))
    start = data.index(b"\xff\xc0")
    for name, value in changes.items():
        data[start + {"kind": 1, "bits": 4, "channels": 9}[name]] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (jpeg_frame(kind=0xC3), "lossless JPEG"),
        (jpeg_frame(kind=0xC5), "hierarchical JPEG"),
        (jpeg_frame(bits=12), "JPEG of 12 bits per channel"),
        (jpeg_frame(kind=0xC1, bits=12), "JPEG of 12 bits per channel"),
        (jpeg_frame(channels=2), "JPEG of 2 channels"),
    ],
)
def test_jpeg_of_another_kind(data, what):
    with pytest.raises(ImageUnsupportedError, match=f"found a {what}; save it as"):
        images.decode(data)


def test_truncated_files_that_pillow_may_be_asked_to_take(monkeypatch):
    """A setting of somebody else's does not make half an image a whole one."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = save(Pil.fromarray(RGB), "BMP")
    with pytest.raises(ImageCorruptError):
        images.decode(data[: len(data) // 2])


def test_a_second_decoder_is_no_way_around_the_size():
    data = bytearray(save(Pil.fromarray(RGB), "GIF"))
    data[6:10] = struct.pack("<HH", 60_000, 1)
    with pytest.raises(ImageCorruptError):
        images.decode(bytes(data), max_pixels=100_000)


def test_what_one_of_two_decoders_takes_is_not_called_damaged(monkeypatch):
    """Nor is it believed: of damaged GIFs Pillow makes images that are wrong."""
    data = save(Pil.fromarray(RGB).quantize(64), "GIF")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    with pytest.raises(ImageUnsupportedError, match="one decoder reads them and another"):
        images.decode(data)


def test_gray_avif_where_pillow_was_built_without_it(monkeypatch):
    data = save(Pil.fromarray(GRAY), "AVIF", subsampling="4:0:0")
    monkeypatch.setattr(PIL.AvifImagePlugin, "SUPPORTED", False)
    with pytest.raises(ImageUnsupportedError):
        images.decode(data)


def test_jpeg_that_gives_its_height_after_the_first_scan():
    data = bytearray(save(Pil.fromarray(RGB), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 7] = b"\0\0"
    with pytest.raises(ImageUnsupportedError, match="gives it after the first scan"):
        images.decode(bytes(data))


def test_pil_without_a_decoder():
    class Missing(Pil.Image):
        def load(self):
            raise OSError("decoder jpeg2k not available")

    picture = Missing()
    picture._mode, picture._size = "RGB", (4, 4)
    with pytest.raises(ImageUnsupportedError, match="decoder jpeg2k not available"):
        images.load(picture)


def test_a_message_names_a_few_of_thousands_of_depths():
    count = 3000
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, count, 8), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 8), (277, 3, 1, count), (278, 3, 1, 8), (279, 4, 1, 192)]
    depths = struct.pack(f"<{count}H", *range(1, count + 1))
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    data = b"II*\0" + struct.pack("<I", 8 + len(depths)) + depths + table + bytes(4)
    with pytest.raises(ImageUnsupportedError, match=r"bits 1, 2, 3, 4, 5, \.\.\.; save") as found:
        images.decode(data)
    assert len(str(found.value)) < 400
