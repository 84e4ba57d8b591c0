"""Layout of a TIFF page: its tags, and checks that the page can be decoded.

Specifications: TIFF 6.0 and its supplements 1 and 2; BigTIFF. Any combination of the following is
decoded:

============  ==================================================================================
compression   none, CCITT (RLE, group 3 and 4), LZW, Deflate, PackBits, JPEG, LZMA, zstd
bits          1 to 16, unsigned, the same in all channels; palettes up to 8; JPEG and YCbCr 8;
              CCITT 1
photometric   grey from white or from black, RGB, palette, CMYK, YCbCr with subsampling
extra bands   alpha, straight or premultiplied; unspecified ones are ignored
layout        strips or tiles, contiguous or planar, either byte order, either order of bits
predictor     none, or horizontal differences of 8 or 16 bits
============  ==================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NoReturn, TypeAlias

from imgret.errors import ImageCorruptError, ImageUnsupportedError
from imgret.images.exif import ORIENTATION, tiff_tags
from imgret.images.tiff_data import CCITT, COMPRESSIONS, JPEG, PREDICTED, Rows

__all__ = [
    "BLACK",
    "CMYK",
    "HEADER_TAGS",
    "PALETTE",
    "RGB",
    "WHITE",
    "YCBCR",
    "AlphaKind",
    "Page",
    "Tags",
    "alpha_band",
    "read_page",
]

AlphaKind: TypeAlias = Literal["straight", "premultiplied"]
Tags: TypeAlias = dict[int, tuple[Any, ...]]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP = 266, 273, 277, 278
_STRIP_BYTES, _PLANAR, _T4, _T6, _PREDICTOR, _COLORS = 279, 284, 292, 293, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _INKS = 322, 323, 324, 325, 332
_EXTRA, _FORMAT, _TABLES, _LUMA, _SUBSAMPLING, _RANGE = 338, 339, 347, 529, 530, 532
HEADER_TAGS = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, ORIENTATION, _SAMPLES, _EXTRA}
)
"""Tags that the header of a TIFF is made from."""
_TAGS = HEADER_TAGS | frozenset(
    {_FILL_ORDER, _STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR, _T4, _T6}
    | {_PREDICTOR, _COLORS, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _INKS, _FORMAT}
    | {_TABLES, _LUMA, _SUBSAMPLING, _RANGE}
)

# Depths that a message names.
_NAMED = 5
WHITE, BLACK, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
_COLOR_BANDS = {WHITE: 1, BLACK: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
_PHOTOMETRICS = {
    WHITE: "grey from white",
    BLACK: "grey",
    RGB: "RGB",
    PALETTE: "palette",
    CMYK: "CMYK",
    YCBCR: "YCbCr",
    4: "transparency mask",
    # Writers disagree about the white point and the zero of a and b, and do not record them.
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
_NOT_UNDONE = {
    6: "old JPEG",
    9: "JBIG",
    10: "JBIG",
    32809: "ThunderScan",
    34661: "JBIG",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    33007: "JPEG 2000",
    34712: "JPEG 2000",
    34676: "SGI Log",
    34677: "SGI Log",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_SHARED_BYTES = 1 << 28  # limit for reading if strips or tiles share their data
_PIXEL_BITS = 512
_SHARES, _LEVELS = (0.299, 0.587, 0.114), (0, 255, 128, 255, 128, 255)  # YCbCr defaults
_FORMATS = {2: "signed", 3: "float", 5: "complex signed", 6: "complex float"}
_CHUNK_BYTES = 1 << 30  # limit for a strip or tile
_TILED_PIXELS = 1 << 22  # limit for all tiles together, if the image is small

Chunk: TypeAlias = tuple[int, int]
"""Offset and byte count of a strip or tile."""


@dataclass(frozen=True, slots=True)
class Page:
    """The layout of a page that can be decoded.

    Attributes
    ----------
    width, height, bits : int
    order : {"<", ">"}
        Byte order.
    photometric : int
        `WHITE` to `YCBCR`, as decompressed: JPEG turns YCbCr to RGB.
    bands : tuple of int
        Bands to decode: colour, then alpha.
    has_alpha : bool
    rows : Rows
        Packing of rows in strips and tiles.
    is_predicted : bool
        Whether differences from the pixel on the left are stored.
    unit : tuple of int
        Columns and rows of a block of YCbCr, else ``(1, 1)``.
    is_tiled : bool
    chunk_height : int
        Rows of a strip or tile.
    across : int
        Number of tiles side by side; 1 for strips.
    planes : tuple of tuple of chunks
        Strips or tiles of each plane; a single plane if bands are stored pixel by pixel.
    palette : tuple of int
        All red values, then green, then blue, 16 bits each; empty without a palette.
    luma, levels : tuple of float
        YCbCr only: coefficients of red, green and blue; black and white levels of each channel.
    """

    width: int
    height: int
    bits: int
    order: str
    photometric: int
    bands: tuple[int, ...]
    has_alpha: bool
    rows: Rows
    is_predicted: bool
    unit: tuple[int, int]
    is_tiled: bool
    chunk_height: int
    across: int
    planes: tuple[tuple[Chunk, ...], ...]
    palette: tuple[int, ...]
    luma: tuple[float, ...]
    levels: tuple[float, ...]


def alpha_band(tags: Tags) -> tuple[int, AlphaKind] | None:
    """Return which band is alpha, and whether it is straight or premultiplied.

    An undeclared fourth band of RGB is straight alpha, as OpenCV writes it; one that is declared
    as unspecified is not alpha.
    """
    samples, photometric = _first(tags, _SAMPLES, 1), _photometric(tags)
    color = _COLOR_BANDS.get(photometric, samples)
    extra = tags.get(_EXTRA, (2,) if photometric == RGB and samples == 4 else ())
    for at, kind in enumerate(extra[: max(0, samples - color)]):
        if kind in {1, 2}:
            return color + at, "premultiplied" if kind == 1 else "straight"
    return None


def read_page(data: bytes) -> Page:
    """Read the layout of the first page.

    Raises
    ------
    ImageUnsupportedError
        The page is of a kind that is not decoded.
    ImageCorruptError
        Its tags contradict each other, or point beyond the end of the data.
    struct.error, LookupError, ArithmeticError
        The header is damaged or truncated.
    """
    tags = tiff_tags(data, _TAGS)
    compression = _first(tags, _COMPRESSION, 1)
    samples = _first(tags, _SAMPLES, 1)
    photometric = _photometric(tags)
    bits = _check_pixels(tags, compression, photometric, samples)
    _check_coding(tags, compression, samples)
    is_planar = _is_planar(tags)
    interleaved = 1 if is_planar else samples
    unit = _block(tags, compression) if photometric == YCBCR else (1, 1)
    alpha = alpha_band(tags)
    if alpha and alpha[1] == "premultiplied" and photometric not in {BLACK, RGB}:
        _refuse(tags, "grey or RGB with premultiplied alpha")
    colors = tuple(range(_COLOR_BANDS[photometric]))
    (width,), (height,) = tags[_WIDTH][:1], tags[_HEIGHT][:1]
    is_tiled = _TILE_WIDTH in tags or _TILE_OFFSETS in tags
    if is_tiled:
        (chunk_width,), (chunk_height,) = tags[_TILE_WIDTH][:1], tags[_TILE_HEIGHT][:1]
    else:
        chunk_width, chunk_height = width, min(_first(tags, _ROWS_PER_STRIP, height), height)
    if chunk_width < 1 or chunk_height < 1:
        _contradict(f"strips or tiles of {chunk_width} x {chunk_height} pixels")
    if unit == (1, 1):
        size = (chunk_width * interleaved * bits + 7) // 8
    else:
        size = -(-chunk_width // unit[0]) * (unit[0] * unit[1] + 2)
    across, down = -(-width // chunk_width), -(-height // chunk_height)
    stored = across * down * chunk_width * chunk_height
    if chunk_height * size > _CHUNK_BYTES or (
        is_tiled and stored > max(_TILED_PIXELS, 4 * width * height)
    ):
        _refuse(tags, "smaller strips and tiles", f"{chunk_width} x {chunk_height} pixels")
    if (down > 1 or is_tiled) and chunk_height % unit[1]:
        _contradict(f"strips or tiles of {chunk_height} rows where YCbCr blocks have {unit[1]}")
    is_jpeg_ycbcr = photometric == YCBCR and compression == JPEG
    return Page(
        width=width,
        height=height,
        bits=bits,
        order={b"II": "<", b"MM": ">"}[data[:2]],
        photometric=RGB if is_jpeg_ycbcr else photometric,
        bands=(*colors, alpha[0]) if alpha else colors,
        has_alpha=alpha is not None,
        rows=Rows(
            compression,
            chunk_width,
            size,
            is_reversed=_first(tags, _FILL_ORDER, 1) == 2,
            samples=interleaved,
            is_ycbcr=is_jpeg_ycbcr,
            subsampling=tags.get(_SUBSAMPLING, ()),
            tables=bytes(tags.get(_TABLES, ())),
            options=_first(tags, _T6 if compression == 4 else _T4, 0) & 7,
        ),
        is_predicted=_first(tags, _PREDICTOR, 1) == 2,
        unit=unit,
        is_tiled=is_tiled,
        chunk_height=chunk_height,
        across=across,
        planes=_planes(data, tags, across * down, samples if is_planar else 1, chunk_height * size),
        palette=tags[_COLORS] if photometric == PALETTE else (),
        luma=tags.get(_LUMA, _SHARES),
        levels=tags.get(_RANGE, _LEVELS),
    )


def _first(tags: Tags, tag: int, default: int) -> int:
    value: int = tags.get(tag, (default,))[0]
    return value


def _photometric(tags: Tags) -> int:
    default = BLACK if _first(tags, _SAMPLES, 1) < 3 else RGB
    if _first(tags, _COMPRESSION, 1) in CCITT:
        default = WHITE
    return _first(tags, _PHOTOMETRIC, default)


def _contradict(reason: str) -> NoReturn:
    raise ImageCorruptError(f"the TIFF header contradicts itself: it gives {reason}")


def _refuse(tags: Tags, expected: str, found: str = "") -> NoReturn:
    compression = _first(tags, _COMPRESSION, 1)
    photometric = _photometric(tags)
    name = COMPRESSIONS.get(compression) or _NOT_UNDONE.get(compression, "unknown")
    depths = [str(depth) for depth in _depths(tags)[:_NAMED]]
    if len(_depths(tags)) > _NAMED:
        depths.append("...")
    what = (
        f"{name} compression (tag {compression}), "
        f"{_PHOTOMETRICS.get(photometric, 'unknown')} (photometric {photometric}), "
        f"{_first(tags, _SAMPLES, 1)} channels, bits {', '.join(depths)}"
    )
    raise ImageUnsupportedError(
        f"expected a TIFF of {expected}, found {f'{found} in ' if found else ''}{what}; save the "
        f"image as PNG, or as TIFF of 8-bit RGB with LZW"
    )


def _depths(tags: Tags) -> list[int]:
    return sorted(set(tags.get(_BITS, (1,))))


def _check_pixels(tags: Tags, compression: int, photometric: int, samples: int) -> int:
    """Check that pixels are of a kind that is decoded, and return the bits per channel."""
    if compression not in COMPRESSIONS:
        known = list(dict.fromkeys(COMPRESSIONS.values()))
        _refuse(tags, f"compression {', '.join(known[:-1])} or {known[-1]}")
    if photometric not in _COLOR_BANDS:
        _refuse(tags, "grey, RGB, palette, CMYK or YCbCr pixels")
    kinds = set(tags.get(_FORMAT, (1,))) - {1, 4}  # 4: unspecified
    if kinds:
        kind = _FORMATS.get(min(kinds), f"unknown (sample format {min(kinds)})")
        _refuse(tags, "1 to 16 unsigned bits per channel", f"{kind} numbers")
    depths = _depths(tags)
    if len(depths) > 1 or not 1 <= depths[0] <= 16:
        _refuse(tags, "1 to 16 bits per channel, the same in all channels")
    if len(tags.get(_BITS, (1,))) not in {1, samples}:
        _contradict(f"bits for {len(tags[_BITS])} channels where there are {samples}")
    if samples < _COLOR_BANDS[photometric]:
        _contradict(f"{samples} channels for {_PHOTOMETRICS[photometric]}")
    if photometric == PALETTE:
        _check_palette(tags)
    elif photometric == CMYK and _first(tags, _INKS, 1) != 1:
        _refuse(tags, "the inks cyan, magenta, yellow and black", "other inks")
    if not _is_planar(tags) and samples * depths[0] > _PIXEL_BITS:
        _refuse(tags, f"at most {_PIXEL_BITS} bits per pixel")
    return depths[0]


def _check_palette(tags: Tags) -> None:
    (bits,) = _depths(tags)
    if bits > 8:
        _refuse(tags, "at most 8 bits with a palette")
    if len(tags[_COLORS]) != 3 << bits or max(tags[_COLORS]) > 0xFFFF:
        _contradict(f"a palette of {len(tags[_COLORS])} numbers for {bits} bits")


def _is_planar(tags: Tags) -> bool:
    return _first(tags, _PLANAR, 1) == 2 and _first(tags, _SAMPLES, 1) > 1


def _check_coding(tags: Tags, compression: int, samples: int) -> None:
    """Check that pixels are coded in a way that is decoded."""
    if _first(tags, _PLANAR, 1) not in {1, 2} or _first(tags, _FILL_ORDER, 1) not in {1, 2}:
        _contradict("an unknown order of planes or bits")
    (bits,) = _depths(tags)
    if compression in CCITT and (bits, samples) != (1, 1):
        _refuse(tags, "one channel of 1 bit in CCITT compression")
    if compression == JPEG and (bits != 8 or (samples > 4 and not _is_planar(tags))):
        _refuse(tags, "at most 4 channels of 8 bits in JPEG compression")
    predictor = _first(tags, _PREDICTOR, 1)
    may_differ = bits in {8, 16} and compression in PREDICTED
    if predictor != 1 and (predictor != 2 or not may_differ):
        _refuse(
            tags,
            "no predictor, or horizontal differences of 8 or 16 bits in LZW, Deflate, LZMA or zstd",
            f"predictor {predictor}",
        )


def _block(tags: Tags, compression: int) -> tuple[int, int]:
    """Return the columns and rows of a stored block of YCbCr."""
    is_planar = _is_planar(tags)
    found = (*_depths(tags), _first(tags, _SAMPLES, 1), _first(tags, _PREDICTOR, 1))
    if found != (8, 3, 1) or (compression == JPEG and is_planar):
        _refuse(tags, "3 interleaved channels of 8 bits without predictor for YCbCr")
    levels = tags.get(_RANGE, _LEVELS)
    if len(tags.get(_LUMA, _SHARES)) != 3 or not all(tags.get(_LUMA, _SHARES)):
        _contradict("missing or zero coefficients of YCbCr")
    if len(levels) != 6 or any(a == b for a, b in zip(levels[::2], levels[1::2], strict=True)):
        _contradict("missing or equal black and white levels of YCbCr")
    across, down = tags.get(_SUBSAMPLING, (2, 2))
    if not {across, down} <= {1, 2, 4} or (is_planar and (across, down) != (1, 1)):
        _refuse(
            tags,
            "YCbCr that is interleaved and subsampled by 1, 2 or 4",
            f"subsampling by {across} x {down}",
        )
    return (1, 1) if compression == JPEG else (across, down)


def _planes(
    data: bytes, tags: Tags, chunks: int, planes: int, size: int
) -> tuple[tuple[Chunk, ...], ...]:
    """Return the strips or tiles of each plane."""
    starts = tags.get(_TILE_OFFSETS) or tags[_STRIP_OFFSETS]
    sizes = tags.get(_TILE_BYTES) or tags.get(_STRIP_BYTES)
    if len(starts) != chunks * planes or (sizes and len(sizes) != len(starts)):
        _contradict(f"{len(starts)} strips or tiles where {chunks * planes} make up the image")
    if sizes is None:  # each extends to the next
        ordered = sorted({*starts, len(data)})
        following = dict(pairwise(ordered))
        sizes = tuple(following.get(start, start) - start for start in starts)
    elif len(starts) == 1 and _first(tags, _COMPRESSION, 1) == 1:  # like libtiff: some are wrong
        sizes = (size,)
    if sum(sizes) > max(2 * len(data), _SHARED_BYTES):
        _contradict(f"strips or tiles of {sum(sizes):,} bytes in a file of {len(data):,}")
    if 0 in starts or 0 in sizes:
        _refuse(tags, "strips and tiles that all have data", "one without")
    if any(start + length > len(data) for start, length in zip(starts, sizes, strict=True)):
        raise ImageCorruptError(
            f"truncated or damaged: strips or tiles lie beyond the end of the {len(data)} bytes"
        )
    pairs = tuple(zip(starts, sizes, strict=True))
    return tuple(pairs[at : at + chunks] for at in range(0, len(pairs), chunks))
