"""BMP in all its headers and layouts, and what is said of those that cannot be decoded."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import images
from imgret.errors import ImageCorruptError, ImageError, ImageUnsupportedError

ROWS, COLUMNS = np.mgrid[:7, :11]
RGB = np.stack([COLUMNS * 23, ROWS * 36, 255 - (COLUMNS + ROWS) * 15], axis=-1).astype(np.uint8)
ALPHA = np.clip(COLUMNS * 25, 0, 255).astype(np.uint8)

MASKS = {
    "565": (16, (0xF800, 0x7E0, 0x1F, 0)),
    "555": (16, (0x7C00, 0x3E0, 0x1F, 0)),
    "1555": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "bgr 565": (16, (0x1F, 0x7E0, 0xF800, 0)),
    "8888": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "888": (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    "rgba": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "abgr": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "10 bits": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
    "10 bits, alpha of 2": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    "16 bits": (32, (0xFFFF0000, 0xFF00, 0xFF, 0)),
    "17 bits": (32, (0x7F, 0x7F80, 0xFFFF8000, 0)),
    "20 bits": (32, (0xFFFFF000, 0xF, 0xFF0, 0)),
    "no blue": (16, (0xFF00, 0xFF, 0, 0)),
}


def pack(values, mask):
    """Return 8-bit values as the bits of a mask."""
    top = mask // (mask & -mask)
    return np.round(values / 255 * top).astype(np.uint64) * np.uint64(mask & -mask)


def back(values, mask):
    if not mask:
        return values * 0
    top = mask // (mask & -mask)
    return np.round(np.round(values / 255 * top) * (255 / top))


def bmp(bits, compression, rows, *, header=40, masks=(), top_down=False, palette=b"", size=(11, 7)):
    """Put a BMP together; ``rows`` are bytes, from the top of the image."""
    width, height = size
    body = b"".join(row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack(
            "<IiiHHIIiiII",
            header,
            width,
            -height if top_down else height,
            1,
            bits,
            compression,
            len(body),
            0,
            0,
            len(palette) // 4 if bits <= 8 else 0,
            0,
        )
        stored = struct.pack(f"<{len(masks)}I", *masks)
        if header == 40:
            info += stored
        else:
            info += stored[: header - 40]
            info += bytes(header - len(info))
    start = 14 + len(info) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + info + palette + body


def masked(name, *, header=40, top_down=False, alpha=ALPHA):
    bits, masks = MASKS[name]
    words = sum(
        pack(channel, mask)
        for channel, mask in zip([*RGB.transpose(2, 0, 1), alpha], masks, strict=True)
        if mask
    ).astype(f"<u{bits // 8}")
    stored = masks[:3] if header in {40, 52} else masks
    rows = [row.tobytes() for row in words]
    return bmp(bits, 3, rows, header=header, masks=stored, top_down=top_down)


def expected(name, *, header=40):
    _, masks = MASKS[name]
    rgb = np.dstack([back(RGB[:, :, at], masks[at]) for at in range(3)])
    if not masks[3] or header in {40, 52}:
        return rgb
    weight = back(ALPHA, masks[3])[:, :, None] / 255
    return rgb * weight + 255 * (1 - weight)


def assert_close(image, wanted, levels=1):
    assert image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).max() <= levels


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name, header, top_down):
    data = masked(name, header=header, top_down=top_down)
    # Of more than 16 bits only eight are used, and opacity is rounded before it is applied.
    is_exact = not MASKS[name][1][3] and name not in {"17 bits", "20 bits"}
    assert_close(images.decode(data).image, expected(name, header=header), 0 if is_exact else 1)


@pytest.mark.parametrize("name", ["565", "8888"])
def test_the_last_row_may_lack_its_padding(name):
    data = masked(name)
    padding = -11 * MASKS[name][0] // 8 % 4
    whole = images.decode(data).image
    np.testing.assert_array_equal(images.decode(data[: len(data) - padding]).image, whole)
    with pytest.raises(ImageCorruptError):
        images.decode(data[: len(data) - padding - 1])


def test_alpha_of_nothing_but_zeros_is_none():
    data = masked("8888", header=108, alpha=ALPHA * 0)
    assert_close(images.decode(data).image, RGB)


@pytest.mark.parametrize("header", [40, 108, 124])
@pytest.mark.parametrize("top_down", [False, True])
class TestWithoutMasks:
    def test_16_bits_are_555(self, header, top_down):
        _, masks = MASKS["555"]
        words = sum(pack(RGB[:, :, at], masks[at]) for at in range(3)).astype("<u2")
        rows = [row.tobytes() for row in words]
        data = bmp(16, 0, rows, header=header, top_down=top_down)
        assert_close(images.decode(data).image, expected("555"))

    def test_24_bits(self, header, top_down):
        rows = [row[:, ::-1].tobytes() for row in RGB]
        data = bmp(24, 0, rows, header=header, top_down=top_down)
        assert_close(images.decode(data).image, RGB, 0)

    def test_32_bits_have_no_alpha(self, header, top_down):
        rows = [np.dstack([RGB[:, :, ::-1], ALPHA])[row].tobytes() for row in range(7)]
        data = bmp(32, 0, rows, header=header, top_down=top_down)
        assert_close(images.decode(data).image, RGB, 0)

    @pytest.mark.parametrize("bits", [1, 4, 8])
    def test_palette(self, header, top_down, bits):
        index = (ROWS + COLUMNS) % 2**bits
        colors = np.arange(2**bits * 3).reshape(-1, 3).astype(np.uint8) * 5
        palette = np.dstack([colors[None], colors[None, :, :1] * 0]).tobytes()
        digits = (index[:, :, None] >> np.arange(bits)[::-1] & 1).reshape(7, -1).astype(np.uint8)
        rows = [np.packbits(row).tobytes() for row in digits]
        data = bmp(bits, 0, rows, header=header, top_down=top_down, palette=palette)
        assert_close(images.decode(data).image, colors[index][:, :, ::-1], 0)


def test_os2():
    index = (ROWS + COLUMNS) % 4
    colors = np.arange(48).reshape(16, 3).astype(np.uint8) * 5
    digits = (index[:, :, None] >> np.arange(4)[::-1] & 1).reshape(7, -1).astype(np.uint8)
    rows = [np.packbits(row).tobytes() for row in digits]
    data = bmp(4, 0, rows, header=12, palette=colors.tobytes())
    assert_close(images.decode(data).image, colors[index][:, :, ::-1], 0)
    data = bmp(24, 0, [row[:, ::-1].tobytes() for row in RGB], header=12)
    assert_close(images.decode(data).image, RGB, 0)
    data = bmp(24, 0, [row[:, ::-1].tobytes() for row in RGB], header=64)
    assert_close(images.decode(data).image, RGB, 0)


class TestRunLength:
    colors = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)

    def decode(self, bits, body, size):
        colors = self.colors[: 2**bits]
        palette = np.dstack([colors[None], colors[None, :, :1] * 0]).tobytes()
        return images.decode(
            bmp(bits, {8: 1, 4: 2}[bits], [body], palette=palette, size=size)
        ).image

    def test_8_bits(self):
        # From the bottom: a run, an absolute run of three and its padding, end of line; the end.
        body = bytes([3, 7, 0, 3, 1, 2, 3, 0, 0, 0, 6, 9, 0, 0, 0, 1])
        index = np.array([[9] * 6, [7, 7, 7, 1, 2, 3]])
        assert_close(self.decode(8, body, (6, 2)), self.colors[index][:, :, ::-1], 0)

    def test_4_bits(self):
        body = bytes([5, 0x12, 0, 4, 0x34, 0x56, 0, 0, 9, 0x78, 0, 1])
        index = np.array([[7, 8, 7, 8, 7, 8, 7, 8, 7], [1, 2, 1, 2, 1, 3, 4, 5, 6]])
        assert_close(self.decode(4, body, (9, 2)), self.colors[index][:, :, ::-1], 0)

    def test_pixels_that_are_jumped_over_are_of_the_first_colour(self):
        body = bytes([2, 5, 0, 2, 1, 1, 3, 6, 0, 1])
        index = np.array([[0, 0, 0, 6, 6, 6], [5, 5, 0, 0, 0, 0]])
        found = self.decode(8, body, (6, 2))
        wanted = self.colors[index][:, :, ::-1]
        np.testing.assert_array_equal(found[index != 0], wanted[index != 0])


@pytest.mark.parametrize(
    ("bits", "compression", "header", "what"),
    [
        (2, 0, 40, "BMP of 2 bits per pixel"),
        (64, 0, 124, "BMP of 64 bits per pixel"),
        (0, 4, 124, "BMP of compression JPEG"),
        (0, 5, 124, "BMP of compression PNG"),
        (24, 4, 64, "BMP of compression RLE24"),
        (1, 3, 64, "BMP of compression 3"),
        (32, 11, 124, "BMP of compression CMYK"),
    ],
)
def test_kinds_that_nothing_decodes_are_not_called_damaged(bits, compression, header, what):
    data = bmp(bits, compression, [bytes(44)] * 7, header=header, masks=(1,) * 4)
    with pytest.raises(ImageUnsupportedError, match=what) as caught:
        images.decode(data)
    assert "damaged" not in str(caught.value)
    assert not isinstance(caught.value, ImageCorruptError)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("part", [0.5, 0.8, 0.95])
def test_cut_short_is_damaged(name, part):
    data = masked(name, header=108)
    with pytest.raises(ImageCorruptError, match="damaged"):
        images.decode(data[: int(len(data) * part)])


@given(st.data())
def test_noise_in_the_header(data):
    damaged = bytearray(masked(data.draw(st.sampled_from(sorted(MASKS))), header=56))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(14, 69))] = data.draw(st.integers(0, 255))
    try:
        image = images.decode(bytes(damaged), max_pixels=10_000).image
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
