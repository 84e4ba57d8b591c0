"""The header: sizes without decoding."""

import contextlib
import io
import struct
import time
import tracemalloc
import zlib

import pytest
from PIL import Image as Pil

from imgret import images
from imgret.errors import ImageCorruptError, ImageFormatError, ImageTooLargeError


def save(kind, size=(31, 17), mode="RGB", **options):
    file = io.BytesIO()
    Pil.new(mode, size, 7).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("JPEG", save("JPEG")),
        ("JPEG", save("JPEG", progressive=True)),
        ("PNG", save("PNG")),
        ("WebP", save("WEBP")),
        ("WebP", save("WEBP", lossless=True)),
        ("WebP", save("WEBP", mode="RGBA")),
        ("GIF", save("GIF", mode="P")),
        ("TIFF", save("TIFF")),
        ("TIFF", save("TIFF", big_tiff=True)),
        ("BMP", save("BMP")),
        ("AVIF", save("AVIF")),
    ],
)
def test_format_and_size(name, data):
    head = images.header(data)
    assert (head.format, head.width, head.height, head.orientation) == (name, 31, 17, 1)
    assert head.size == (31, 17)
    assert head.bits == 8
    assert head.end == len(data) - (name == "GIF")  # of which the trailer is no part


def test_big_endian_tiff():
    data = b"MM\0*" + struct.pack(">IH", 8, 2)
    data += struct.pack(">HHIHH", 256, 3, 1, 300, 0) + struct.pack(">HHII", 257, 4, 1, 200)
    assert images.header(data + bytes(4)).size == (300, 200)


def test_bmp_of_the_first_kind():
    data = struct.pack("<2sIHHIIHHHH", b"BM", 0, 0, 0, 26, 12, 5, 4, 1, 24) + bytes(4 * 16)
    assert images.header(data).size == (5, 4)
    assert images.decode(data).image.shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("mode", "alpha"), [("RGB", None), ("RGBA", "straight"), ("LA", "straight"), ("L", None)]
)
def test_alpha_of_png(mode, alpha):
    assert images.header(save("PNG", mode=mode)).alpha == alpha


def test_damaged_exif_counts_as_upright():
    exif = Pil.Exif()
    exif[0x0112] = 6
    data = save("JPEG", exif=exif)
    assert images.header(data).orientation == 6
    for position in range(24, 40):  # the EXIF block, byte by byte
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        assert 1 <= images.header(bytes(damaged)).orientation <= 8


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_counts_as_upright(orientation):
    exif = Pil.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert images.header(save(kind, exif=exif)).orientation == 1


def test_segments_of_jpeg_that_hold_a_picture_are_passed_over():
    """A thumbnail has a frame and an end of its own."""
    inner = save("JPEG", size=(8, 8))
    data = save("JPEG")
    thumbnail = b"\xff\xe2" + struct.pack(">H", len(inner) + 2) + inner
    data = data[:2] + thumbnail + data[2:]
    assert images.header(data).size == (31, 17)
    assert images.header(data[:-2]).end is None


BOMB = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
BOMB += chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")


def jpeg_of_size(width, height):
    data = bytearray(save("JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        BOMB,
        BOMB[:-20],  # too large comes before truncated
        jpeg_of_size(60000, 60000),
        b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0, 0, 0),
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xfe\xff\x00" * 2,
        struct.pack("<2sIHHIIiiHHI", b"BM", 0, 0, 0, 54, 40, 60000, -60000, 1, 24, 0),
        b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIIHHII", 256, 4, 1, 60000, 257, 4, 1, 60000),
    ],
    ids=["png", "png truncated", "jpeg", "gif", "webp", "bmp", "tiff"],
)
def test_a_bomb_is_refused_before_memory_is_spent(data):
    tracemalloc.start()
    try:
        with pytest.raises(
            ImageTooLargeError, match=r"at most 100,000,000 pixels .* found 6\d{4} x"
        ):
            images.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_max_pixels_is_the_last_size_allowed():
    data = save("PNG")
    assert images.decode(data, max_pixels=31 * 17).size == (31, 17)
    with pytest.raises(ImageTooLargeError, match="found 31 x 17 = 527"):
        images.decode(data, max_pixels=31 * 17 - 1)


def test_limits_of_the_decoder_are_told_in_the_same_way():
    with pytest.raises(ImageTooLargeError, match="found 60000 x 60000"):
        images.decode(BOMB, max_pixels=10**12)


@pytest.mark.parametrize(
    "data",
    [
        b"hello, this is text",
        b"<svg></svg>",
        b"BM, a text of two letters and more",
        b"\0" * 99,
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(99),
    ],
)
def test_what_is_no_picture_is_called_so(data):
    with pytest.raises(ImageFormatError, match=r"expected an image \(JPEG, PNG"):
        images.header(data)


def test_no_data():
    with pytest.raises(ImageCorruptError, match="empty"):
        images.header(b"")


@pytest.mark.parametrize("size", [(0, 17), (31, 0)])
def test_a_side_of_nothing(size):
    data = bytearray(save("PNG"))
    data[16:24] = struct.pack(">II", *size)
    with pytest.raises(ImageCorruptError, match=f"{size[0]} x {size[1]}"):
        images.header(bytes(data))


def test_extents_that_take_no_bytes():
    """As many as 65,535 items of 65,535 extents each can be announced in a few bytes."""
    data = bytearray(save("AVIF"))
    at = data.index(b"iloc") + 4
    data[at + 4 : at + 8] = b"\0\0\xff\xff"  # sizes of 0, and many items
    data[at + 8 : at + 4000] = b"\xff" * 3992
    data[at - 8 : at - 4] = (4000).to_bytes(4, "big")
    began = time.process_time()
    with contextlib.suppress(ImageCorruptError):
        images.header(bytes(data))
    assert time.process_time() - began < 0.5
