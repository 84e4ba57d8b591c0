"""More than 8 bits a channel, and layouts that Pillow does not write."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageOps

from imgret import images

ROWS, COLUMNS = np.mgrid[:40, :60]
RGB = np.stack([COLUMNS * 4, ROWS * 6, (COLUMNS + ROWS) * 2], axis=-1).astype(np.uint8)
ALPHA = np.clip(COLUMNS * 5, 0, 255).astype(np.uint8)


def assert_close(found, expected, levels):
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= levels


def png(rows, *, bits, color, extra=b"", size=None):
    """Write a PNG that Pillow cannot write; ``rows`` are bytes."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        )

    width, height = size
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    if extra:
        extra = chunk(extra[:4], extra[4:])
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


class TestSixteenBits:
    """Scaled by 257 and rounded; Pillow truncates or clips, so it is no oracle here."""

    deep = (RGB.astype(np.uint16) * 257 + 100).astype(np.uint16)
    expected = np.round(deep / 257).astype(np.uint8)

    @pytest.mark.parametrize("kind", ["png", "tiff"])
    def test_rgb(self, kind):
        data = cv2.imencode(f".{kind}", self.deep[:, :, ::-1])[1].tobytes()
        assert_close(images.decode(data).image, self.expected, 0)

    @pytest.mark.parametrize("kind", ["png", "tiff"])
    def test_gray(self, kind):
        data = cv2.imencode(f".{kind}", self.deep[:, :, 0])[1].tobytes()
        assert_close(images.decode(data).image, self.expected[:, :, [0, 0, 0]], 0)

    @pytest.mark.parametrize("kind", ["png", "tiff"])
    def test_alpha(self, kind):
        deep = np.dstack([self.deep[:, :, ::-1], ALPHA.astype(np.uint16) * 257])
        data = cv2.imencode(f".{kind}", deep)[1].tobytes()
        weight = ALPHA[:, :, None] / 255
        expected = np.round(self.deep / 257 * weight + 255 * (1 - weight))
        assert_close(images.decode(data).image, expected.astype(np.uint8), 1)

    def test_transparent_gray_level_is_compared_before_scaling(self):
        level = int(self.deep[0, 3, 0])
        near = self.deep[:1, :, 0].copy()
        near[0, 10] = level + 1  # the same in 8 bits
        data = png(
            [near.astype(">u2").tobytes()],
            bits=16,
            color=0,
            extra=b"tRNS" + struct.pack(">H", level),
            size=(60, 1),
        )
        found = images.decode(data).image
        assert found[0, 3].tolist() == [255] * 3
        assert found[0, 10].tolist() == [round((level + 1) / 257)] * 3


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_deep_avif(has_alpha, bits):
    color = np.dstack([RGB[:, :, ::-1], ALPHA] if has_alpha else [RGB[:, :, ::-1]])
    deep = color.astype(np.uint16) << (bits - 8)
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100]
    data = cv2.imencode(".avif", deep, options)[1].tobytes()
    assert images.header(data).bits == bits
    with Pil.open(io.BytesIO(data)) as picture:
        seen = picture.convert("RGBA")
    expected = Pil.alpha_composite(Pil.new("RGBA", seen.size, "white"), seen).convert("RGB")
    assert_close(images.decode(data).image, np.asarray(expected), 2)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_transparent_gray_level_of_few_bits(bits):
    top = 2**bits - 1
    values = np.arange(8) % (top + 1)
    packed = np.packbits(((values[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8))
    data = png([packed.tobytes()], bits=bits, color=0, extra=b"tRNS\0\1", size=(8, 1))
    expected = np.where(values == 1, 255, values * 255 // top)
    assert images.decode(data).image[0, :, 0].tolist() == expected.tolist()


def tiff(samples, *, photometric, bits, orientation=1, extra=None, width=None):
    """Write an uncompressed TIFF that neither Pillow nor OpenCV would write."""
    height, columns, channels = samples.shape
    tags = {
        256: (3, width or columns),
        257: (3, height),
        258: (3, bits),
        259: (3, 1),
        262: (3, photometric),
        273: (4, 8),
        274: (3, orientation),
        277: (3, channels),
        278: (3, height),
        279: (4, samples.nbytes),
    }
    if extra is not None:
        tags[338] = (3, extra)
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, value)
        for tag, (kind, value) in sorted(tags.items())
        if tag != 258
    )
    # Bits per sample: one value each, kept behind the directory.
    size = 2 + 12 * (len(tags)) + 4
    offset = 8 + samples.nbytes
    depth = struct.pack(f"<{channels}H", *[bits] * channels)
    where = struct.unpack("<I", depth.ljust(4, b"\0"))[0] if channels < 3 else offset + size
    entry = struct.pack("<HHII", 258, 3, channels, where)
    directory = struct.pack("<H", len(tags)) + entries[:24] + entry + entries[24:] + bytes(4)
    head = b"II*\0" + struct.pack("<I", offset)
    return head + samples.astype("<u2" if bits == 16 else "u1").tobytes() + directory + depth


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("extra", "premultiplied"), [(1, True), (2, False)])
def test_tiff_alpha_is_straight_or_premultiplied(bits, extra, premultiplied):
    weight = ALPHA[:, :, None] / 255
    color = np.round(RGB * weight).astype(np.uint8) if premultiplied else RGB
    samples = np.dstack([color, ALPHA])
    if bits == 16:
        samples = samples.astype(np.uint16) * 257
    data = tiff(samples, photometric=2, bits=bits, extra=extra)
    expected = np.round(RGB * weight + 255 * (1 - weight)).astype(np.uint8)
    assert_close(images.decode(data).image, expected, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_tiff_is_turned_once(channels, orientation):
    samples = RGB[:, :, :channels].astype(np.uint16) * 257
    data = tiff(samples, photometric=2 if channels == 3 else 1, bits=16, orientation=orientation)
    exif = Pil.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Pil.fromarray(RGB).save(file, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Pil.open(file)))
    expected = expected[:, :, [0, 1, 2] if channels == 3 else [0, 0, 0]]
    assert_close(images.decode(data).image, expected, 0)


def test_tiff_where_zero_is_white():
    data = tiff(RGB[:, :, :1].astype(np.uint16) * 257, photometric=0, bits=16)
    assert_close(images.decode(data).image, 255 - RGB[:, :, [0, 0, 0]], 1)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiff_of_packed_bits(bits):
    levels = np.linspace(0, 2**bits - 1, 40 * 60).round().astype(np.uint16).reshape(40, 60, 1)
    packed = np.packbits((levels >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(40, -1))
    data = tiff(packed.reshape(40, -1, 1), photometric=1, bits=bits, width=60)
    expected = np.round(levels / (2**bits - 1) * 255).astype(np.uint8)
    assert_close(images.decode(data).image, expected[:, :, [0, 0, 0]], 0)
