"""TIFF, in 1,000 variants that tifffile and imagecodecs decode independently."""

import ctypes
import io
import itertools
import lzma
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import imagecodecs
import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image as Pil
from PIL import ImageFile, features

from imgret import images
from imgret.errors import ImageCorruptError, ImageTooLargeError, ImageUnsupportedError
from imgret.images import tiff, tiff_data
from imgret.images.tiff import decode_tiff
from imgret.images.tiff_page import read_page

HEIGHT, WIDTH = 37, 43  # no multiple of a strip or tile
NUMBERS = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH] / np.array([HEIGHT, WIDTH]).reshape(2, 1, 1)
# Smooth, so that lossy compression loses little, and different in each band.
SMOOTH = np.stack(
    [ROWS, COLUMNS, (ROWS + COLUMNS) / 2, np.minimum(1, ROWS * 2), 1 - COLUMNS], axis=-1
)
WHITE, BLACK, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
BANDS = {WHITE: 1, BLACK: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
COLORS = NUMBERS.integers(0, 1 << 16, (3, 256))


def by_pillow(name):
    """Compress bilevel rows as one strip; no other package here can."""

    def compress(chunk, variant):
        file = io.BytesIO()
        image = Pil.fromarray(chunk[:, :, 0] != 0)
        image.save(file, "TIFF", compression=name, strip_size=1 << 20)
        file.seek(0)
        with tifffile.TiffFile(file) as tiff:
            (start,), (size,) = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
        return file.getvalue()[start : start + size]

    return compress


def by_jpeg(chunk, variant):
    options = {}
    if variant.photometric == YCBCR:
        options = {"colorspace": "RGB", "outcolorspace": "YCBCR", "subsampling": variant.blocks}
    elif chunk.shape[2] == 3:
        options = {"colorspace": "RGB", "outcolorspace": "RGB"}
    elif chunk.shape[2] == 4:
        options = {"colorspace": "CMYK", "outcolorspace": "CMYK"}
    if chunk.shape[2] == 1:
        chunk = chunk[:, :, 0]
    return imagecodecs.jpeg8_encode(np.ascontiguousarray(chunk), level=100, **options)


# Of bytes, by the number of the tag.
COMPRESS = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32773: imagecodecs.packbits_encode,
    32946: zlib.compress,
    34925: lambda data: lzma.compress(data, lzma.FORMAT_XZ, preset=0),
    50000: imagecodecs.zstd_encode,
}
# Of pixels.
COMPRESS_PIXELS = {
    2: by_pillow("tiff_ccitt"),
    32771: by_pillow("tiff_ccitt"),
    3: by_pillow("group3"),
    4: by_pillow("group4"),
    7: by_jpeg,
}
PREDICTED = {5, 8, 32946, 34925, 50000}


@dataclass(frozen=True)
class Variant:
    compression: int = 1
    bits: int = 8
    photometric: int = RGB
    extra: tuple[int, ...] | None = ()  # None: bands there are, but not declared
    planar: bool = False
    tile: tuple[int, int] | None = None  # width, height
    strip: int = 16
    orientation: int = 1
    order: str = "<"
    big: bool = False
    reverse: bool = False  # the bits of bytes
    predictor: int = 1
    blocks: tuple[int, int] = (1, 1)  # of YCbCr
    tags: dict = field(default_factory=dict, hash=False)  # instead of the right ones

    @property
    def samples(self):
        return BANDS[self.photometric] + (1 if self.extra is None else len(self.extra))


def numbers_of(variant, shape=(HEIGHT, WIDTH)):
    """Return whole numbers as stored, of shape ``(*shape, samples)``."""
    top = 2**variant.bits - 1
    values = np.resize(SMOOTH, (*shape, 5)) if shape != (HEIGHT, WIDTH) else SMOOTH
    found = np.rint(values[:, :, np.arange(variant.samples) % 5] * top).astype(np.uint32)
    if 1 in (variant.extra or ()):  # premultiplied: no colour exceeds alpha
        alpha = found[:, :, -1:].astype(float) / top
        found[:, :, :-1] = np.rint(found[:, :, :-1] * alpha)
    return found


def pack(chunk, variant):
    """Make bytes of numbers ``(rows, columns, bands)``."""
    if variant.blocks != (1, 1) and variant.compression != 7:
        return pack_blocks(chunk, variant.blocks)
    if variant.bits in {8, 16, 32}:
        chunk = chunk.astype(f"{variant.order}u{variant.bits // 8}")
        if variant.predictor == 2:
            before = np.zeros_like(chunk)
            before[:, 1:] = chunk[:, :-1]
            chunk = (chunk - before).astype(chunk.dtype)
        return chunk.tobytes()
    bits = chunk[..., None] >> np.arange(variant.bits)[::-1] & 1
    return np.packbits(bits.reshape(len(chunk), -1).astype(np.uint8), axis=1).tobytes()


def pack_blocks(chunk, blocks):
    across, down = blocks
    rows, columns = -(-chunk.shape[0] // down) * down, -(-chunk.shape[1] // across) * across
    padding = ((0, rows - chunk.shape[0]), (0, columns - chunk.shape[1]), (0, 0))
    chunk = np.pad(chunk, padding, mode="edge").astype(np.uint8)
    shaped = chunk.reshape(rows // down, down, columns // across, across, 3).swapaxes(1, 2)
    y = shaped[..., 0].reshape(rows // down, columns // across, -1)
    chroma = shaped[..., 1:].mean(axis=(2, 3)).round().astype(np.uint8)
    return np.concatenate([y, chroma], axis=2).tobytes()


def chunks_of(numbers, variant):
    planes = [numbers[:, :, [band]] for band in range(variant.samples)]
    for plane in planes if variant.planar else [numbers]:
        if variant.tile:
            wide, high = variant.tile
            rows, columns = (
                -(-side // n) * n for side, n in zip(plane.shape[:2], (high, wide), strict=True)
            )
            padding = ((0, rows - plane.shape[0]), (0, columns - plane.shape[1]), (0, 0))
            padded = np.pad(plane, padding, mode="edge")
            for top, left in itertools.product(range(0, rows, high), range(0, columns, wide)):
                yield padded[top : top + high, left : left + wide]
        else:
            for top in range(0, len(plane), variant.strip):
                yield plane[top : top + variant.strip]


def write(variant, numbers=None):
    """Return a TIFF; every layout, by forty lines of the specification."""
    if variant.compression == 50000 and not tiff_data._has(50000):
        pytest.skip("this Pillow lacks zstd")
    numbers = numbers_of(variant) if numbers is None else numbers
    parts = []
    for chunk in chunks_of(numbers, variant):
        if variant.compression in COMPRESS_PIXELS:
            kind = chunk.astype(np.uint8)
            part = COMPRESS_PIXELS[variant.compression](kind, variant)
        else:
            part = bytes(COMPRESS.get(variant.compression, bytes)(pack(chunk, variant)))
        if variant.reverse and variant.compression != 7:
            part = bytes(imagecodecs.bitorder_decode(part))
        parts.append(part)
    start = 16 if variant.big else 8
    *starts, end = itertools.accumulate(map(len, parts), initial=start)
    word = "Q" if variant.big else "I"
    where, sizes = (324, 325) if variant.tile else (273, 279)
    tags = {
        256: ("I", [numbers.shape[1]]),
        257: ("I", [numbers.shape[0]]),
        258: ("H", [variant.bits] * variant.samples),
        259: ("H", [variant.compression]),
        262: ("H", [variant.photometric]),
        266: ("H", [2 if variant.reverse else 1]),
        where: (word, starts),
        274: ("H", [variant.orientation]),
        277: ("H", [variant.samples]),
        sizes: (word, [len(part) for part in parts]),
        284: ("H", [2 if variant.planar else 1]),
        317: ("H", [variant.predictor]),
    }
    if variant.tile:
        tags |= {322: ("I", [variant.tile[0]]), 323: ("I", [variant.tile[1]])}
    else:
        tags[278] = ("I", [variant.strip])
    if variant.extra:
        tags[338] = ("H", variant.extra)
    if variant.photometric == PALETTE:
        tags[320] = ("H", COLORS[:, : 2**variant.bits].ravel().tolist())
    if variant.photometric == YCBCR:
        tags[530] = ("H", variant.blocks)
    tags |= variant.tags
    tags = {tag: entry for tag, entry in tags.items() if entry}
    return assemble(parts, tags, end, variant.order, big=variant.big)


def assemble(parts, tags, end, order, *, big=False):
    entry, count = ("HHQ8s", "Q") if big else ("HHI4s", "H")
    room = 8 if big else 4
    entries, longer = [], b""
    behind = end + struct.calcsize("<" + count) + len(tags) * struct.calcsize("<" + entry) + room
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{kind.removesuffix('/')}", *values)
        number = {"b": 1, "B": 7, "H": 3, "I": 4, "I/": 5, "Q": 16}[kind]
        if len(value) > room:
            value, longer = (
                struct.pack(order + ("Q" if big else "I"), behind + len(longer)),
                longer + value,
            )
        size = len(values) // len(kind)  # a fraction is two numbers
        entries.append(struct.pack(order + entry, tag, number, size, value))
    head = {"<": b"II", ">": b"MM"}[order]
    if big:
        head += struct.pack(order + "HHHQ", 43, 8, 0, end)
    else:
        head += struct.pack(order + "HI", 42, end)
    directory = struct.pack(order + count, len(tags))
    return b"".join([head, *parts, directory, *entries, bytes(room), longer])


def expected_of(data, variant):
    """Decode by tifffile, convert by the formulas of the specification."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages[0]
        numbers = page.asarray()
    if variant.planar and variant.samples > 1:
        numbers = np.moveaxis(numbers, 0, 2)
    numbers = numbers.reshape(HEIGHT, WIDTH, variant.samples).astype(float)
    return colors_of(numbers, variant)


def colors_of(numbers, variant):
    """Return RGB from 0 to 255 as stored; alpha and its kind, or None."""
    if variant.compression == 7 and variant.photometric == YCBCR:
        variant = replace(variant, photometric=RGB)  # as tifffile decodes it
    values, kind = numbers / (2**variant.bits - 1), variant.photometric
    color = values[:, :, : BANDS[kind]]
    if kind == WHITE:
        color = 1 - color
    elif kind == PALETTE:
        color = COLORS.T[numbers[:, :, 0].astype(int)] / 0xFFFF
    elif kind == CMYK:
        color = (1 - color[:, :, :3]) * (1 - color[:, :, 3:])
    elif kind == YCBCR:
        y, b, r = np.moveaxis(numbers - [0, 128, 128], 2, 0)
        color = np.dstack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b]) / 255
        color = color.clip(0, 1)
    if color.shape[2] == 1:
        color = color.repeat(3, axis=2)
    extra = (2,) if variant.extra is None and kind == RGB else variant.extra or ()
    for at, meaning in enumerate(extra):
        if meaning:
            alpha = values[:, :, BANDS[kind] + at] * 255
            return color * 255, alpha, "straight" if meaning == 2 else "premultiplied"
    return color * 255, None, None


def turned(image, orientation):
    """Turn and mirror as the specification of the tag says."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    return {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image,
        6: image[:, ::-1],
        7: image[::-1, ::-1],
        8: image[::-1],
    }[orientation]


def check(variant):
    data = write(variant)
    color, alpha, kind = expected_of(data, variant)
    # Half a level of rounding; inks are rounded before and after they are multiplied. Decoders of
    # JPEG differ by a level.
    levels = 1.51 if variant.photometric == CMYK or variant.compression == 7 else 0.51
    assert images.header(data).alpha == kind, variant
    if alpha is None:
        found = images.decode(data).image
        color = turned(color, variant.orientation)
    else:  # before it is laid over anything
        found, found_alpha = decode_tiff(data)
        assert np.abs(found_alpha - alpha).max() <= 0.51, variant
    assert found.shape == color.shape, variant
    assert np.abs(found - color).max() <= levels, variant


PIXELS = [
    *((WHITE, bits, ()) for bits in (1, 2, 4, 8, 16)),
    *((BLACK, bits, ()) for bits in (1, 2, 3, 4, 8, 10, 12, 14, 16)),
    *((PALETTE, bits, ()) for bits in (1, 2, 4, 8)),
    *((RGB, bits, ()) for bits in (4, 8, 12, 16)),
    *((kind, bits, (extra,)) for kind in (BLACK, RGB) for bits in (8, 16) for extra in (0, 1, 2)),
    (RGB, 8, None),
    (RGB, 16, None),
    (RGB, 8, (0, 2)),
    (RGB, 16, (0, 0)),
    (WHITE, 8, (2,)),
    (PALETTE, 8, (2,)),
    (CMYK, 8, ()),
    (CMYK, 16, ()),
    (CMYK, 8, (2,)),
]
LAYOUTS = list(itertools.product([None, (16, 16), (48, 32)], [False, True]))


@pytest.mark.slow
@pytest.mark.parametrize("compression", COMPRESS)
def test_equals_tifffile(compression):
    """These must all be decoded; with what follows some 2,200 variants."""
    chance = np.random.default_rng(compression)
    pixels_and_layouts = list(itertools.product(PIXELS, LAYOUTS))
    for count, ((photometric, bits, extra), (tile, planar)) in enumerate(pixels_and_layouts):
        # All else changes as it comes, so that each meets each.
        may_differ = compression in PREDICTED and bits in {8, 16}
        variant = Variant(
            compression,
            bits,
            photometric,
            extra,
            planar,
            tile,
            strip=int(chance.choice([1, 7, 16, 100])),
            orientation=1 + (count + count // 8) % 8,
            order="<>"[int(chance.integers(2))],
            big=chance.random() < 0.2,
            reverse=chance.random() < 0.1,
            predictor=1 + int(may_differ and chance.random() < 0.5),
        )
        check(variant)
    assert len(pixels_and_layouts) > 200


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [1, 7])
def test_inks_may_be_converted_by_a_profile(bits, compression):
    variant = Variant(compression, bits if compression == 1 else 8, CMYK, tile=(16, 16))
    usual, _ = decode_tiff(write(variant))
    inks, _ = decode_tiff(write(variant), from_cmyk=lambda cmyk: cmyk[:, :, 1:])
    expected = np.rint(SMOOTH[:, :, 1:4] * 255)
    assert np.abs(inks - expected).max() <= (0 if compression == 1 else 2)
    unusable, _ = decode_tiff(write(variant), from_cmyk=lambda cmyk: None)
    np.testing.assert_array_equal(unusable, usual)


@pytest.mark.parametrize("compression", [3, 4])
@pytest.mark.parametrize("photometric", [WHITE, BLACK])
@pytest.mark.parametrize("tile", [None, (16, 16), (48, 32)])
def test_ccitt_equals_tifffile(compression, photometric, tile):
    for orientation, reverse in itertools.product(range(1, 9), [False, True]):
        check(
            Variant(compression, 1, photometric, (), False, tile, 16, orientation, reverse=reverse)
        )


@pytest.mark.parametrize(("compression", "strip"), [(2, 100), (32771, 1)])
def test_ccitt_by_runs(compression, strip):
    """Which tifffile does not decode."""
    numbers = np.kron(NUMBERS.integers(0, 2, (5, 6)), np.ones((8, 8)))[:HEIGHT, :WIDTH, None]
    variant = Variant(compression, 1, WHITE, strip=strip)
    found = images.decode(write(variant, numbers.astype(np.uint16))).image
    np.testing.assert_array_equal(found, 255 - 255 * numbers.repeat(3, 2).astype(np.uint8))


@pytest.mark.parametrize("tile", [None, (16, 16), (48, 32)])
@pytest.mark.parametrize(
    ("photometric", "blocks"),
    [(WHITE, (1, 1)), (BLACK, (1, 1)), (RGB, (1, 1)), (CMYK, (1, 1))]
    + [(YCBCR, blocks) for blocks in [(1, 1), (2, 1), (2, 2)]],
)
def test_jpeg_equals_tifffile(photometric, blocks, tile):
    for orientation in range(1, 9):
        variant = Variant(7, 8, photometric, (), False, tile, 16, orientation, blocks=blocks)
        check(variant)
    if photometric in {RGB, CMYK}:
        check(replace(variant, planar=True))
    if photometric == RGB:
        check(replace(variant, extra=(2,)))
        check(replace(variant, extra=(1,), planar=True))


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("blocks", [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("tile", [None, (16, 16), (48, 32)])
def test_ycbcr(compression, blocks, tile):
    """Subsampled colour without JPEG, which tifffile does not decode."""
    if blocks == (1, 1):
        check(Variant(compression, 8, YCBCR, planar=True, tile=tile))
    variant = Variant(compression, 8, YCBCR, tile=tile, blocks=blocks)
    numbers = numbers_of(variant).astype(float)
    for top, left in itertools.product(range(0, HEIGHT, blocks[1]), range(0, WIDTH, blocks[0])):
        block = numbers[top : top + blocks[1], left : left + blocks[0], 1:]
        padding = [(0, n - m) for n, m in zip(blocks[::-1], block.shape, strict=False)]
        block[:] = np.pad(block, [*padding, (0, 0)], mode="edge").mean(axis=(0, 1)).round()
    expected, _, _ = colors_of(numbers, variant)
    assert np.abs(images.decode(write(variant)).image - expected).max() <= 0.6


def test_ycbcr_of_limited_range_and_other_shares():
    shares, (black, white) = (0.2126, 0.7152, 0.0722), (16, 235)
    colors = SMOOTH[:, :, :3]
    y = colors @ shares
    b, r = ((colors[:, :, at] - y) / (2 - 2 * shares[at]) for at in (2, 0))
    numbers = np.dstack([black + y * (white - black), 128 + b * 224, 128 + r * 224])
    tags = {
        529: ("I/", [2126, 10_000, 7152, 10_000, 722, 10_000]),
        532: ("I/", [black, 1, white, 1, 128, 1, 240, 1, 128, 1, 240, 1]),
    }
    data = write(Variant(photometric=YCBCR, tags=tags), np.rint(numbers).astype(np.uint16))
    assert np.abs(images.decode(data).image - colors * 255).max() <= 3
    for wrong in ({532: ("I/", [1, 1] * 6)}, {529: ("I/", [0, 1] * 3)}):
        with pytest.raises(ImageCorruptError, match="YCbCr"):
            images.decode(write(Variant(photometric=YCBCR, tags=wrong)))
    usual = images.decode(write(Variant(photometric=YCBCR))).image
    no_fractions = {532: ("I/", [1, 0] * 6)}
    found = images.decode(write(Variant(photometric=YCBCR, tags=no_fractions))).image
    np.testing.assert_array_equal(found, usual)


# What is not decoded, and what the error must name.
REFUSED = {
    **{
        f"compression {tag}": (Variant(compression=tag), f"tag {tag}")
        for tag in (
            *(0, 6, 9, 10, 99, 22610, 32766, 32809, 32895, 32896, 32898, 32908, 32909, 32946 + 1),
            *(33003, 33005, 33007, 34661, 34676, 34677, 34712, 34713, 34718, 34719, 34720, 34886),
            *(34887, 34892, 34926, 34927, 34933, 34934, 50001, 50002, 52546, 65000, 65535),
        )
    },
    **{
        f"photometric {kind}": (Variant(tags={262: ("H", [kind])}), f"photometric {kind}")
        for kind in (4, 8, 9, 10, 32803, 32844, 32845, 34892, 51177)
    },
    "signed": (Variant(bits=16, tags={339: ("H", [2] * 3)}), "signed numbers"),
    "half float": (Variant(bits=16, tags={339: ("H", [3] * 3)}), "float numbers"),
    "complex": (Variant(bits=16, tags={339: ("H", [6] * 3)}), "complex float numbers"),
    "32 bits": (Variant(bits=32, photometric=BLACK), "bits 32"),
    "float": (Variant(bits=32, photometric=BLACK, tags={339: ("H", [3])}), "float numbers"),
    "100 bands": (Variant(extra=(0,) * 97), "at most 512 bits per pixel"),
    "5, 6 and 5 bits": (Variant(bits=16, tags={258: ("H", [5, 6, 5])}), "bits 5, 6"),
    "predictor of floats": (Variant(8, tags={317: ("H", [3])}), "predictor 3"),
    "predictor of 12 bits": (Variant(8, 12, tags={317: ("H", [2])}), "predictor 2"),
    "predictor without compression": (Variant(tags={317: ("H", [2])}), "predictor 2"),
    "wide palette": (Variant(bits=16, photometric=PALETTE), "palette"),
    "other inks": (Variant(photometric=CMYK, tags={332: ("H", [2])}), "inks"),
    "premultiplied inks": (Variant(photometric=CMYK, extra=(1,)), "premultiplied"),
    "planar YCbCr": (
        Variant(photometric=YCBCR, planar=True, tags={530: ("H", [2, 2])}),
        "by 2 x 2",
    ),
    "deep YCbCr": (Variant(bits=16, photometric=YCBCR), "YCbCr"),
    "colour in CCITT": (Variant(photometric=RGB, tags={259: ("H", [4])}), "CCITT group 4"),
    "deep JPEG": (Variant(bits=12, tags={259: ("H", [7])}), "JPEG compression"),
    "sparse": (
        Variant(photometric=BLACK, strip=19, tags={273: ("I", [8, 0]), 279: ("I", [817, 0])}),
        "one without",
    ),
    "huge tiles": (
        Variant(tile=(16, 16), tags={322: ("I", [1 << 16]), 323: ("I", [1 << 16])}),
        "tiles",
    ),
}


def test_numbers_may_be_bytes():
    tags = {258: ("b", [8, 8, 8]), 262: ("b", [RGB]), 274: ("b", [6]), 277: ("b", [3])}
    variant = Variant(orientation=6)
    data = write(Variant(orientation=6, tags=tags))
    assert images.header(data).orientation == 6
    np.testing.assert_array_equal(images.decode(data).image, images.decode(write(variant)).image)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_unsupported(name, tmp_path):
    variant, words = REFUSED[name]
    path = tmp_path / "a.tif"
    path.write_bytes(write(variant))
    with pytest.raises(ImageUnsupportedError, match=words) as caught:
        images.load(path)
    assert caught.value.path == path
    assert "save the image as PNG" in str(caught.value)


class TestDamage:
    """Damaged data are refused, not decoded in part, and nothing is printed about them."""

    noise = NUMBERS.integers(0, 256, (64, 64, 3)).astype(np.uint16)
    coarse = np.kron(NUMBERS.integers(0, 2, (16, 16)), np.ones((4, 4)))[:, :, None]

    # How many of 80 files in which 16 bytes were changed; Pillow refuses no more of any kind.
    @pytest.mark.parametrize(
        ("compression", "least"),
        [(4, 30), (5, 60), (8, 80), (32946, 80), (34925, 80), (50000, 10), (7, 5)],
    )
    @pytest.mark.parametrize("tile", [None, (32, 32)])
    def test_changed_bytes(self, compression, least, tile, capfd):
        chance = np.random.default_rng(1)
        numbers = self.coarse.astype(np.uint16) if compression == 4 else self.noise
        bits, kind = (1, WHITE) if compression == 4 else (8, RGB)
        variant = Variant(compression, bits, kind, tile=tile, strip=32)
        if compression == 50000:  # literal bytes of noise can take any value
            numbers = np.resize(SMOOTH[:, :, :3] * 200, (64, 64, 3)).astype(np.uint16)
        data = write(variant, numbers)
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            end = max(np.add(tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts))
        good = images.decode(data).image
        refused = refused_by_pillow = 0
        for _ in range(80):
            damaged = bytearray(data)
            for at in chance.integers(8, end, 16):
                damaged[at] ^= int(chance.integers(1, 256))
            by_pillow = pillow_refuses(damaged)
            refused_by_pillow += by_pillow
            found = False
            with suppress(ImageCorruptError):
                found = images.decode(bytes(damaged)) is not None
            assert not (found and by_pillow)
            refused += not found
        assert refused >= max(least, refused_by_pillow)
        np.testing.assert_array_equal(images.decode(data).image, good)

    @pytest.mark.parametrize("compression", [*COMPRESS, *COMPRESS_PIXELS])
    def test_nothing_is_printed(self, compression, capfd):
        bits, kind = (1, WHITE) if compression in {2, 3, 4, 32771} else (8, RGB)
        data = bytearray(write(Variant(compression, bits, kind)))
        data[8:200] = bytes(range(192))
        with suppress(ImageCorruptError):
            images.decode(bytes(data))
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("compression", [*COMPRESS, 7])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    def test_a_short_strip(self, compression, tile):
        variant = Variant(compression, tile=tile)
        data = write(variant)
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            starts, sizes = tiff.pages[0].dataoffsets, list(tiff.pages[0].databytecounts)
        sizes[1] //= 2
        short = {(325 if tile else 279): ("I", sizes)}
        with pytest.raises(ImageCorruptError, match="damaged TIFF data"):
            images.decode(write(replace(variant, tags=short)))
        behind = {(324 if tile else 273): ("I", [*starts[:-1], len(data)])}
        with pytest.raises(ImageCorruptError, match="beyond the end"):
            images.decode(write(replace(variant, tags=behind)))


def pillow_refuses(data):
    try:
        with Pil.open(io.BytesIO(bytes(data))) as image:
            image.load()
    except OSError:
        return True
    return False


class TestTags:
    """Tags that are missing, twice there, or at odds with each other."""

    def decode(self, variant=None, **tags):
        variant = variant or Variant()
        return images.decode(write(replace(variant, tags=tags["tags"]))).image

    @pytest.mark.parametrize("compression", [1, 5, 8])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    @pytest.mark.parametrize("planar", [False, True])
    def test_no_byte_counts(self, compression, tile, planar):
        variant = Variant(compression, tile=tile, planar=planar)
        expected = images.decode(write(variant)).image
        found = self.decode(variant, tags={(325 if tile else 279): None})
        np.testing.assert_array_equal(found, expected)

    def test_no_rows_per_strip_means_one_strip(self):
        expected = images.decode(write(Variant())).image
        found = self.decode(Variant(strip=100), tags={278: None})
        np.testing.assert_array_equal(found, expected)

    def test_a_wrong_byte_count_of_one_bare_strip(self):
        expected = images.decode(write(Variant())).image
        found = self.decode(Variant(strip=100), tags={279: ("I", [5])})
        np.testing.assert_array_equal(found, expected)

    def test_bits_given_once(self):
        expected = images.decode(write(Variant())).image
        np.testing.assert_array_equal(self.decode(tags={258: ("H", [8])}), expected)

    def test_no_photometric(self):
        for kind in (BLACK, RGB):
            expected = images.decode(write(Variant(photometric=kind))).image
            found = self.decode(Variant(photometric=kind), tags={262: None})
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("tile", [None, (16, 16)])
    @pytest.mark.parametrize("change", [-1, 1])
    def test_another_number_of_strips(self, tile, change):
        starts = [8] * (3 if tile is None else 9)
        tags = {(324 if tile else 273): ("I", (starts * 2)[: len(starts) + change])}
        with pytest.raises(ImageCorruptError, match="strips or tiles where"):
            self.decode(Variant(tile=tile), tags=tags)

    @pytest.mark.parametrize(
        "tags",
        [
            {277: ("H", [2])},
            {277: ("H", [2]), 258: ("H", [8, 8])},
            {258: ("H", [8, 8])},
            {278: ("I", [0])},
            {284: ("H", [3])},
            {266: ("H", [3])},
            {273: None},
            {262: ("H", [3])},
            {262: ("H", [3]), 320: ("H", [0] * 12)},
            {262: ("H", [6]), 530: ("H", [2])},
        ],
        ids=str,
    )
    def test_contradictions(self, tags):
        with pytest.raises(ImageCorruptError, match="header"):
            self.decode(tags=tags)

    def test_the_first_of_two_sizes_counts(self):
        """As for libtiff; the limit of pixels is checked by the size that is decoded."""
        data = write(Variant())
        directory = struct.unpack_from("<I", data, 4)[0]
        (count,) = struct.unpack_from("<H", data, directory)
        entries = [
            data[at : at + 12] for at in range(directory + 2, directory + 2 + 12 * count, 12)
        ]
        shift = 24  # of what lies behind the directory
        for at, entry in enumerate(entries):
            tag, kind, values, where = struct.unpack("<HHII", entry)
            if values * {3: 2, 4: 4}[kind] > 4:
                entries[at] = struct.pack("<HHII", tag, kind, values, where + shift)
        twice = [
            *entries[:1], struct.pack("<HHII", 256, 4, 1, 20_000),
            *entries[1:2], struct.pack("<HHII", 257, 4, 1, 20_000), *entries[2:],
        ]  # fmt: skip
        behind = data[directory + 2 + 12 * count :]
        double = b"".join([data[:directory], struct.pack("<H", count + 2), *twice, behind])
        assert images.header(double).size == (WIDTH, HEIGHT)
        np.testing.assert_array_equal(images.decode(double).image, images.decode(data).image)

    def test_strips_that_share_their_data(self):
        """A few small ones may; a file that asks for gigabytes is refused at once."""
        data = images.decode(write(Variant(strip=1))).image[:1]
        shared = self.decode(Variant(strip=1), tags={273: ("I", [8] * HEIGHT)})
        np.testing.assert_array_equal(shared, data.repeat(HEIGHT, axis=0))
        much = {
            256: ("I", [1000]), 257: ("I", [10_000]), 278: ("I", [1]),
            273: ("I", [8] * 10_000), 279: ("I", [60_000] * 10_000),
        }  # fmt: skip
        with pytest.raises(ImageCorruptError, match="600,000,000 bytes in a file of"):
            self.decode(Variant(5, strip=1), tags=much)

    def test_an_eight_bit_palette(self):
        """Some writers fill in 0 to 255 where 65,535 is white."""
        small = COLORS // 256
        found = self.decode(Variant(photometric=PALETTE), tags={320: ("H", small.ravel().tolist())})
        numbers = numbers_of(Variant(photometric=PALETTE))[:, :, 0]
        np.testing.assert_array_equal(found, small.T[numbers])


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("photometric", [RGB, CMYK])
def test_every_load_gives_the_same(photometric, tile):
    """Of planes of 16 bits OpenCV returns memory that it has not filled."""
    data = write(Variant(1, 16, photometric, (2,), True, tile))
    first = images.decode(data).image
    for _ in range(5):
        images.decode(write(Variant(bits=16, photometric=WHITE)))
        np.testing.assert_array_equal(images.decode(data).image, first)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [BLACK, RGB])
@pytest.mark.parametrize("extra", [(), (2,)])
def test_tiles_are_turned_as_a_whole(bits, photometric, extra):
    for orientation in range(1, 9):
        variant = Variant(1, bits, photometric, extra, tile=(16, 16), orientation=orientation)
        upright = images.decode(write(replace(variant, orientation=1))).image
        found = images.decode(write(variant)).image
        np.testing.assert_array_equal(found, turned(upright, orientation))


BANDS_OF = [
    Variant(strip=1),
    Variant(strip=7, planar=True, extra=(2,)),
    Variant(bits=4, photometric=BLACK, strip=100),
    Variant(bits=16, tile=(16, 16), extra=(1,)),
    Variant(tile=(48, 32), planar=True),
    Variant(photometric=YCBCR, blocks=(2, 2), strip=8),
    Variant(photometric=YCBCR, blocks=(4, 4), strip=20),
    Variant(photometric=YCBCR, blocks=(2, 2), tile=(16, 16)),
]


@pytest.mark.parametrize("most", [1, 300, 1000, 4000])
@pytest.mark.parametrize("variant", BANDS_OF)
def test_an_image_is_decoded_in_bands(variant, most, monkeypatch):
    data = write(variant)
    rgb, alpha = decode_tiff(data)
    monkeypatch.setattr(tiff, "_BAND_NUMBERS", most)
    for found, whole in zip(decode_tiff(data), (rgb, alpha), strict=True):
        np.testing.assert_array_equal(found, whole)
    page, below = read_page(data), 0
    least = 1 if variant.tile is None else variant.tile[1]  # a row of tiles is decoded at once
    for top, samples in tiff._bands(data, page):
        assert top == below
        rows = len(samples) // variant.blocks[1]
        assert len(samples) > 0
        assert rows <= max(1, least, most // (page.rows.width * page.rows.samples))
        below += len(samples)
    assert below == HEIGHT


def test_strips_of_a_row_are_decoded_together(monkeypatch):
    data = write(Variant(strip=1))
    for rows in (1, 7, HEIGHT):
        monkeypatch.setattr(tiff, "_BAND_NUMBERS", rows * WIDTH * 3)
        tops = [top for top, _ in tiff._bands(data, read_page(data))]
        assert tops == list(range(0, HEIGHT, rows))


@pytest.mark.parametrize(("most", "shown"), [(255, 255), (256, 1), (0xFFFF, 255)])
def test_a_palette_is_of_eight_bits_if_all_its_colours_are(most, shown):
    colors = [0, most] * 3
    variant = Variant(bits=1, photometric=PALETTE, tags={320: ("H", colors)})
    rgb, _ = decode_tiff(write(variant))
    assert np.unique(rgb).tolist() == [0, shown]


def test_the_first_page_counts():
    file = io.BytesIO()
    small, large = (Pil.new("RGB", (side, side), "red") for side in (8, 64))
    small.save(file, "TIFF", save_all=True, append_images=[large])
    assert images.decode(file.getvalue()).size == (8, 8)


class TestPillow:
    """Settings of Pillow, which are the process's, neither help nor harm."""

    @pytest.mark.parametrize("compression", [*COMPRESS, *COMPRESS_PIXELS])
    def test_limits(self, compression, monkeypatch):
        bits, kind = (1, WHITE) if compression in {2, 3, 4, 32771} else (8, RGB)
        data = write(Variant(compression, bits, kind, strip=1))
        expected = images.decode(data).image
        monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 1)
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        np.testing.assert_array_equal(images.decode(data).image, expected)
        with pytest.raises(ImageTooLargeError):
            images.decode(data, max_pixels=WIDTH * HEIGHT - 1)
        with pytest.raises(ImageCorruptError):
            images.decode(data[:-300])

    def test_without_zstd(self, monkeypatch):
        """What there is and what not is asked for when decoding fails."""
        data = bytearray(write(Variant(50000)))
        data[8:20] = bytes(12)
        with pytest.raises(ImageCorruptError, match="libtiff cannot decode them"):
            images.decode(bytes(data))
        monkeypatch.setattr(tiff_data, "_has", lambda compression: False)
        with pytest.raises(ImageUnsupportedError, match="cannot decode TIFF with zstd compression"):
            images.decode(bytes(data))

    def test_what_it_has(self, monkeypatch):
        assert tiff_data._has(5)
        assert tiff_data._has(50000) or int(PIL.__version__.split(".")[0]) < 12
        tiff_data._has.cache_clear()
        monkeypatch.setattr(features, "check", lambda name: False)
        assert not tiff_data._has(5)
        tiff_data._has.cache_clear()

    @pytest.mark.slow
    def test_errors_are_told_apart_by_thread(self, capfd):
        good = write(Variant(4, 1, WHITE))
        expected = images.decode(good).image
        damaged = bytearray(good)
        damaged[8:60] = bytes(range(52))

        def decode(data):
            try:
                return images.decode(bytes(data)).image
            except ImageCorruptError:
                return None

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(decode, [good, damaged] * 200))
        assert all(image is None for image in found[1::2])
        assert all(np.array_equal(image, expected) for image in found[::2])
        assert capfd.readouterr() == ("", "")

    def test_reports_for_others_are_passed_on(self, capfd):
        images.decode(write(Variant(4, 1, WHITE)))
        damaged = bytearray(write(Variant(5, strip=100)))
        damaged[8:60] = bytes(52)
        assert pillow_refuses(damaged)
        assert capfd.readouterr().err

    def test_a_libtiff_that_cannot_be_reached(self, monkeypatch):
        def refuse(name):
            raise OSError(name)

        monkeypatch.setattr(ctypes, "CDLL", refuse)
        tiff_data._listen.__wrapped__()
