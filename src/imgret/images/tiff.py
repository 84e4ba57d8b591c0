"""TIFF: the first page to uint8 RGB and alpha.

Specifications: TIFF 6.0 and its supplements 1 and 2; BigTIFF. What is decoded is what the checks
of `_page` let through, any combination of it:

=============  ===================================================================================
compression    none, CCITT (RLE, group 3 and 4), LZW, Deflate, PackBits, JPEG, LZMA, zstd
bits           1 to 16 unsigned, the same in all channels; palettes 1 to 8; JPEG and YCbCr 8; CCITT 1
photometric    grey from white or black, RGB, palette, CMYK, YCbCr with subsampling
extra bands    one of alpha, straight or premultiplied; unspecified ones are passed over
layout         strips or tiles, contiguous or planar, either byte order, either order of bits
predictor      none, or horizontal differences of 8 and 16 bits
=============  ===================================================================================

The compression is undone in `tiff_data`, everything else here by NumPy, a band of rows at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from imgret.errors import ImageCorruptError, ImageUnsupportedError
from imgret.images.exif import tiff_tags
from imgret.images.tiff_data import COMPRESSIONS, JPEG, RAW, Damaged, Rows, Unavailable, take, unpack

__all__ = ["alpha_kind", "decode_tiff"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP = 266, 273, 277, 278
_STRIP_BYTES, _PLANAR, _T4, _T6, _PREDICTOR, _COLORS = 279, 284, 292, 293, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _INKS = 322, 323, 324, 325, 332
_EXTRA, _FORMAT, _TABLES, _LUMA, _SUBSAMPLING, _RANGE = 338, 339, 347, 529, 530, 532
_TAGS = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _STRIP_OFFSETS, _SAMPLES}
    | {_ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR, _T4, _T6, _PREDICTOR, _COLORS, _TILE_WIDTH}
    | {_TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _INKS, _EXTRA, _FORMAT, _TABLES, _LUMA}
    | {_SUBSAMPLING, _RANGE}
)

_WHITE, _BLACK, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOR_BANDS = {_WHITE: 1, _BLACK: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_CCITT = frozenset({2, 3, 4, 32771})
_PREDICTABLE = frozenset({5, 8, 32946, 34925, 50000})
# Seen in files, to name them.
_NOT_DECODED = {
    6: "old JPEG",
    9: "JBIG",
    10: "JBIG",
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    33007: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI Log",
    34677: "SGI Log",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_PHOTOMETRICS = {
    4: "transparency mask",
    # Writers differ by the white point and by 1 to 2 levels of a and b, and do not say so.
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
_FORMATS = {2: "signed", 3: "float", 5: "complex", 6: "complex"}

_CHUNK_BYTES = 1 << 30  # the most that one strip or tile may hold
_BAND_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class _Page:
    """The layout of a page, checked."""

    width: int
    height: int
    bits: int
    order: str
    photometric: int
    is_predicted: bool
    rows: Rows
    # Strips stand one below the other; tiles also ``across`` beside each other.
    is_tiled: bool
    chunk_height: int
    across: int
    # The offsets and byte counts of each plane, one where bands are stored pixel by pixel.
    planes: tuple[tuple[tuple[int, int], ...], ...]
    # Bands that are needed: of colour, then of alpha; and all that are stored side by side.
    bands: tuple[int, ...]
    has_alpha: bool
    interleaved: int
    unit: tuple[int, int]
    tags: dict[int, tuple[Any, ...]]


def alpha_kind(extra: tuple[int, ...]) -> Literal["straight", "premultiplied"] | None:
    """Return what the ExtraSamples tag says about alpha."""
    kinds: dict[int, Literal["straight", "premultiplied"]] = {1: "premultiplied", 2: "straight"}
    return next((kinds[kind] for kind in extra if kind in kinds), None)


def decode_tiff(data: bytes, *, path: Path | None = None) -> tuple[Any, Any | None]:
    """Decode the first page of a TIFF whose size has been checked.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : Path, optional
        Named in errors.

    Returns
    -------
    rgb : uint8 array of shape (height, width, 3)
        As stored, before the orientation is applied.
    alpha : uint8 array of shape (height, width), or None
        Straight or premultiplied as `alpha_kind` says.

    Raises
    ------
    ImageUnsupportedError
        Of a kind that is not decoded here.
    ImageCorruptError
        Truncated or damaged, or the tags contradict each other.
    """
    try:
        page = _page(data, path)
        rgb = np.empty((page.height, page.width, 3), np.uint8)
        alpha = np.empty((page.height, page.width), np.uint8) if page.has_alpha else None
        for top, samples in _bands(data, page):
            bottom = top + len(samples)
            if page.has_alpha:
                alpha[top:bottom] = _to_8_bits(samples[:, :, -1], page.bits)  # type: ignore[index]
                samples = samples[:, :, :-1]  # noqa: PLW2901  # without alpha
            rgb[top:bottom] = _color(samples, page)
    except Unavailable:
        raise ImageUnsupportedError(
            f"the installed Pillow cannot decode TIFF compressed with "
            f"{COMPRESSIONS[page.rows.compression]}; install a wheel of Pillow from PyPI, or save "
            f"the image as PNG",
            path,
        ) from None
    except Damaged as error:
        raise ImageCorruptError(
            f"damaged TIFF data ({COMPRESSIONS[page.rows.compression]}): {error}", path
        ) from error
    except (struct.error, LookupError, ArithmeticError) as error:
        raise ImageCorruptError("the TIFF header is damaged or cut short", path) from error
    return rgb, alpha


def _page(data: bytes, path: Path | None) -> _Page:  # noqa: C901, PLR0912, PLR0914, PLR0915  # one check after the other
    """Read the tags and let through what can be decoded."""

    def corrupt(reason: str) -> ImageCorruptError:
        return ImageCorruptError(f"the TIFF header contradicts itself: {reason}", path)

    def unsupported(found: str, expected: str) -> ImageUnsupportedError:
        return ImageUnsupportedError(
            f"expected a TIFF of {expected}, found {found} ({name} compression, {max(bits)} bits, "
            f"photometric {photometric}); save it as PNG or as 8-bit RGB TIFF",
            path,
        )

    tags = tiff_tags(data, _TAGS)

    def first(tag: int, default: int) -> int:
        value: int = tags.get(tag, (default,))[0]
        return value

    width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    bits = tags.get(_BITS, (1,))
    samples = first(_SAMPLES, 1)
    compression = first(_COMPRESSION, 1)
    name = COMPRESSIONS.get(compression) or _NOT_DECODED.get(compression) or f"{compression}"
    default = _WHITE if compression in _CCITT else _BLACK if samples < 3 else _RGB
    photometric = first(_PHOTOMETRIC, default)

    if compression not in COMPRESSIONS:
        known = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        raise unsupported(f"{name} (tag {compression})", f"compression {known}")
    if photometric not in _COLOR_BANDS:
        raise unsupported(
            _PHOTOMETRICS.get(photometric, f"photometric {photometric}"),
            "grey, RGB, palette, CMYK or YCbCr pixels",
        )
    kinds = set(tags.get(_FORMAT, (1,))) - {1, 4}
    if kinds:
        kind = _FORMATS.get(min(kinds), f"sample format {min(kinds)}")
        raise unsupported(f"{kind} of {max(bits)} bits", "1 to 16 unsigned bits per channel")
    if len(bits) not in {1, samples}:
        raise corrupt(f"{len(bits)} numbers of bits for {samples} channels")
    depth = bits[0]
    if set(bits) != {depth} or not 1 <= depth <= 16:
        found = ", ".join(map(str, bits[:8]))
        raise unsupported(f"{found}", "1 to 16 bits per channel, the same in all")

    color = _COLOR_BANDS[photometric]
    extra = tags.get(_EXTRA, ())
    if samples < color:
        raise corrupt(f"{samples} channels where photometric {photometric} has {color}")
    alpha = next(
        (color + at for at, kind in enumerate(extra[: samples - color]) if kind in {1, 2}), None
    )
    if alpha is not None and alpha_kind(extra) == "premultiplied" and photometric not in {1, 2}:
        raise unsupported("premultiplied alpha", "grey or RGB where alpha is premultiplied")
    bands = (*range(color), *(() if alpha is None else (alpha,)))
    if photometric == _PALETTE and (depth > 8 or len(tags[_COLORS]) != 3 << depth):
        if depth > 8:
            raise unsupported("a palette of more", "at most 8 bits where there is a palette")
        raise corrupt(f"a palette of {len(tags[_COLORS])} numbers for {depth} bits")
    if photometric == _CMYK and first(_INKS, 1) != 1:
        raise unsupported("other inks", "the inks cyan, magenta, yellow and black")

    is_planar = first(_PLANAR, 1) == 2 and samples > 1
    fill = first(_FILL_ORDER, 1)
    if first(_PLANAR, 1) not in {1, 2} or fill not in {1, 2}:
        raise corrupt("an unknown order of planes or bits")
    interleaved = 1 if is_planar else samples
    if compression in _CCITT and (depth != 1 or samples != 1):
        raise unsupported("another depth", "one channel of 1 bit in CCITT compression")
    if compression == JPEG and (depth != 8 or interleaved > 4):
        raise unsupported("others", "at most 4 channels of 8 bits in JPEG compression")
    predictor = first(_PREDICTOR, 1)
    if predictor not in {1, 2} or (
        predictor == 2 and (depth not in {8, 16} or compression not in _PREDICTABLE)
    ):
        raise unsupported(
            f"predictor {predictor}", "no predictor, or differences of 8 or 16 bits in LZW, Deflate"
        )

    subsampling = tags.get(_SUBSAMPLING, (2, 2))
    unit, is_ycbcr = (1, 1), photometric == _YCBCR
    if is_ycbcr:
        if depth != 8 or samples != 3 or predictor != 1 or len(subsampling) != 2:
            raise unsupported("other YCbCr", "3 channels of 8 bits where colours are YCbCr")
        if compression != JPEG:
            unit = subsampling
            if not set(unit) <= {1, 2, 4} or (is_planar and unit != (1, 1)):
                raise unsupported(
                    f"subsampling {unit[0]} x {unit[1]}",
                    "YCbCr subsampled by 1, 2 or 4, in one plane",
                )
        elif is_planar:
            raise unsupported("several", "YCbCr in JPEG compression in one plane")

    is_tiled = _TILE_OFFSETS in tags or _TILE_WIDTH in tags
    if is_tiled:
        chunk_width, chunk_height = tags[_TILE_WIDTH][0], tags[_TILE_HEIGHT][0]
        where, counts = tags.get(_TILE_OFFSETS, tags.get(_STRIP_OFFSETS)), tags.get(_TILE_BYTES)
        counts = counts or tags.get(_STRIP_BYTES)
    else:
        chunk_width, chunk_height = width, min(first(_ROWS_PER_STRIP, height), height)
        where, counts = tags.get(_STRIP_OFFSETS), tags.get(_STRIP_BYTES)
    if where is None or chunk_width < 1 or chunk_height < 1:
        raise corrupt("no strips and no tiles")
    across, down = -(-width // chunk_width), -(-height // chunk_height)
    if chunk_height % unit[1] and down > 1:
        raise unsupported("others", "strips of whole blocks where YCbCr is subsampled")
    if is_planar or compression == JPEG or unit == (1, 1):
        row = (chunk_width * interleaved * depth + 7) // 8
    else:
        row = -(-chunk_width // unit[0]) * (unit[0] * unit[1] + 2)
    if chunk_height * row > _CHUNK_BYTES or (
        is_tiled and chunk_width * chunk_height > max(1 << 22, 4 * width * height)
    ):
        raise unsupported(f"{chunk_width} x {chunk_height} pixels", "smaller strips or tiles")
    chunks = across * down
    planes = _planes(data, where, counts, chunks, samples if is_planar else 1)
    if planes is None:
        raise corrupt(
            f"{len(where)} strips or tiles where {chunks * (samples if is_planar else 1)} fit"
        )
    if any(not size or not start for plane in planes for start, size in plane):
        raise unsupported("one without", "strips and tiles that all have data")
    if any(start + size > len(data) for plane in planes for start, size in plane):
        raise ImageCorruptError(
            f"truncated or damaged: strips or tiles lie behind the end of the TIFF of "
            f"{len(data)} bytes",
            path,
        )
    return _Page(
        width=width,
        height=height,
        bits=depth,
        order={b"II": "<", b"MM": ">"}[data[:2]],
        photometric=_RGB if is_ycbcr and compression == JPEG else photometric,
        is_predicted=predictor == 2,
        rows=Rows(
            compression,
            chunk_width,
            row,
            is_reversed=fill == 2,
            samples=interleaved,
            is_ycbcr=is_ycbcr and not is_planar,
            subsampling=tags.get(_SUBSAMPLING, ()),
            tables=bytes(tags.get(_TABLES, ())),
            options=first(_T6 if compression == 4 else _T4, 0),
        ),
        is_tiled=is_tiled,
        chunk_height=chunk_height,
        across=across,
        planes=planes,
        bands=bands,
        has_alpha=alpha is not None,
        interleaved=interleaved,
        unit=unit,
        tags=tags,
    )


def _planes(
    data: bytes,
    starts: tuple[int, ...],
    sizes: tuple[int, ...] | None,
    chunks: int,
    planes: int,
) -> tuple[tuple[tuple[int, int], ...], ...] | None:
    """Return offset and byte count of the chunks of each plane; None where their number is wrong."""
    needed = chunks * planes
    if len(starts) != needed:
        return None
    if sizes is None:  # each goes on to the next
        following = {
            start: stop
            for start, stop in zip(sorted(starts), [*sorted(starts)[1:], len(data)], strict=True)
        }
        sizes = tuple(following[start] - start for start in starts)
    if len(sizes) != needed:
        return None
    pairs = tuple(zip(starts, sizes, strict=True))
    return tuple(pairs[at : at + chunks] for at in range(0, needed, chunks))


def _bands(data: bytes, page: _Page) -> Iterator[tuple[int, Any]]:
    """Yield the first row and the samples ``(rows, width, bands)`` of a few rows after another."""
    view = memoryview(data)
    across, each = page.across, -(-page.chunk_height // page.unit[1])
    # A row of tiles, or as many strips as make a band.
    step = across if across > 1 else max(1, _BAND_BYTES // (each * page.rows.size))
    for start in range(0, len(page.planes[0]), step):
        stop = min(start + step, len(page.planes[0]))
        top = start // across * page.chunk_height
        total = each * (stop - start)
        if not page.is_tiled:  # whose last may have fewer rows
            total = min(total, -(-(page.height - top) // page.unit[1]))
        planes = [page.planes[band] for band in page.bands] if len(page.planes) > 1 else page.planes
        unpacked = [
            unpack([view[at : at + size] for at, size in plane[start:stop]], page.rows, each, total)
            for plane in planes
        ]
        rows = total if across > 1 else max(1, _BAND_BYTES // page.rows.size)
        for first in range(0, total, rows):
            last = min(first + rows, total)
            samples = _samples([take(part, first, last, page.rows) for part in unpacked], page)
            if across > 1:
                _, columns, channels = samples.shape
                tiles = samples.reshape(across, page.chunk_height, columns, channels)
                samples = tiles.swapaxes(0, 1).reshape(page.chunk_height, -1, channels)
            at = top + first * page.unit[1]
            if at < page.height:
                yield at, samples[: page.height - at, : page.width]


def _samples(planes: list[Any], page: _Page) -> Any:
    """Make numbers ``(rows, columns, bands)`` of bytes ``(rows, bytes)``."""
    if page.unit != (1, 1):
        return _subsampled(planes[0], page)
    found = []
    for packed in planes:
        shape = (len(packed), page.rows.width, page.interleaved)
        if page.bits == 8:
            numbers = packed.reshape(shape)
        elif page.bits == 16:
            numbers = packed.view(page.order + "u2").astype(np.uint16, copy=False).reshape(shape)
        else:
            numbers = _bits(packed, shape[1] * shape[2], page.bits).reshape(shape)
        if page.is_predicted:
            numbers = np.cumsum(numbers, axis=1, dtype=numbers.dtype)
        found.append(numbers)
    if len(page.planes) > 1:
        return np.concatenate(found, axis=2)
    (numbers,) = found
    return numbers if page.bands == tuple(range(page.interleaved)) else numbers[:, :, page.bands]


def _bits(packed: Any, count: int, bits: int) -> Any:
    """Take numbers of some bits, the highest first, out of rows of bytes."""
    at = np.arange(count) * bits
    # A number lies within three bytes.
    padded = np.pad(packed, ((0, 0), (0, 2))).astype(np.uint32)
    three = padded[:, :-2] << 16 | padded[:, 1:-1] << 8 | padded[:, 2:]
    numbers = three[:, at // 8] >> (24 - bits - at % 8).astype(np.uint32) & (2**bits - 1)
    return numbers.astype(np.uint8 if bits < 8 else np.uint16)


def _subsampled(packed: Any, page: _Page) -> Any:
    """Take YCbCr apart that is stored in blocks of several Y and one Cb and Cr."""
    across, down = page.unit
    blocks = packed.reshape(len(packed), -1, across * down + 2)
    shape = (len(packed), blocks.shape[1], down, across)
    y = blocks[:, :, :-2].reshape(shape).swapaxes(1, 2).reshape(len(packed) * down, -1)
    chroma = blocks[:, :, -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.dstack([y, chroma])[:, : page.rows.width]


def _to_8_bits(numbers: Any, bits: int) -> Any:
    if bits == 8:
        return numbers
    return cv2.convertScaleAbs(np.ascontiguousarray(numbers), alpha=255 / (2**bits - 1))


def _color(samples: Any, page: _Page) -> Any:
    """Make uint8 RGB, or one channel of grey that broadcasts, of the samples of colour."""
    if page.photometric == _PALETTE:
        colors = np.array(page.tags[_COLORS], np.uint16).reshape(3, -1).T
        # Some writers fill in 8 bits, which libtiff takes as such, too.
        palette = colors.astype(np.uint8) if colors.max() < 256 else _to_8_bits(colors, 16)
        return palette[samples[:, :, 0]]
    samples = _to_8_bits(samples, page.bits)
    if page.photometric == _YCBCR:
        return _from_ycbcr(samples, page.tags)
    if page.photometric == _CMYK:
        paper = cv2.bitwise_not(np.ascontiguousarray(samples))
        return cv2.multiply(paper[:, :, :3], np.repeat(paper[:, :, 3:], 3, axis=2), scale=1 / 255)
    if samples.ndim == 2:  # as OpenCV returns one channel
        samples = samples[:, :, None]
    return ~samples if page.photometric == _WHITE else samples


def _from_ycbcr(samples: Any, tags: dict[int, tuple[Any, ...]]) -> Any:
    red, green, blue = tags.get(_LUMA, (0.299, 0.587, 0.114))
    low, high = np.array(tags.get(_RANGE, (0, 255, 128, 255, 128, 255)), np.float32).reshape(3, 2).T
    y, cb, cr = np.moveaxis((samples - low) / (high - low) * np.float32([255, 127, 127]), 2, 0)
    r = y + cr * (2 - 2 * red)
    b = y + cb * (2 - 2 * blue)
    g = (y - r * red - b * blue) / green
    return np.clip(np.rint(np.dstack([r, g, b])), 0, 255).astype(np.uint8)
