"""RAW photographs: the preview that the camera embedded, else the developed sensor data.

LibRaw reads them through rawpy, an extra. The embedded preview is the JPEG of the camera, with its
colours, and takes milliseconds; developing takes seconds.

Specifications: Adobe DNG 1.7; TIFF/EP (ISO 12234-2) for the containers of most makers.
"""

from __future__ import annotations

import io
import re
import struct
from importlib.util import find_spec
from pathlib import Path
from struct import unpack_from
from typing import Any, NamedTuple

import numpy as np

from imgret.errors import (
    ImageCorruptError,
    ImageTooLargeError,
    ImageUnsupportedError,
    MissingExtraError,
)

__all__ = ["Raw", "develop", "is_raw", "open_raw", "reads_raw"]

# Makers' containers that are not TIFF: Fujifilm, Olympus, Panasonic, Canon CR3 and CRW, Sigma,
# Minolta.
_BEGINS = re.compile(
    rb"(?s)FUJIFILMCCD-RAW|IIRO|IIRS|MMOR|IIU\0|.{4}ftypcrx |II\x1a\0\0\0HEAPCCDR|FOVb|\0MRM"
)
_MAKE, _PHOTOMETRIC, _SUBDIRECTORIES, _DNG = 0x010F, 0x0106, 0x014A, 0xC612
_SENSOR = {32803, 34892}  # colour filter array, linear raw
_MOST_DIRECTORIES = 16
# Shorter side of a preview that is good enough for any embedder, and for a look at the image.
_LEAST_PREVIEW = 512
# Shorter side from which sensor data are developed at half their resolution: four sensor pixels
# give one of the image, without interpolation.
_HALVED = 2048
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # of EXIF, by what LibRaw calls flip


class Raw(NamedTuple):
    """What a RAW photograph contains.

    Attributes
    ----------
    preview : bytes
        JPEG embedded by the camera, at least 512 pixels high and wide; empty if there is none.
    orientation : int
        EXIF orientation of the sensor data, and of a preview that has none of its own.
    size : tuple of int
        Width and height in pixels of the developed image, orientation applied.
    """

    preview: bytes
    orientation: int
    size: tuple[int, int]


def reads_raw() -> bool:
    """Whether the extra that reads RAW photographs is installed."""
    return find_spec("rawpy") is not None


def is_raw(data: bytes) -> bool:
    """Whether data are those of a RAW photograph, by their content."""
    if _BEGINS.match(data) is not None:
        return True
    if data[:4] not in {b"II*\0", b"MM\0*"}:
        return False
    if data[8:10] == b"CR":  # Canon's CR2
        return True
    try:
        return _has_sensor_data(data)
    except (struct.error, LookupError):
        return False


def open_raw(data: bytes, *, path: Path | str | None = None) -> Raw:
    """Read the directory of a RAW photograph and its embedded preview.

    Raises
    ------
    ImageCorruptError, ImageUnsupportedError
        LibRaw cannot read it.
    MissingExtraError
        rawpy is not installed.
    """
    with _opened(data, path) as raw:
        sizes, orientation = raw.sizes, _ORIENTATIONS.get(raw.sizes.flip, 1)
        size = _developed((sizes.width, sizes.height))
        if orientation > 4:
            size = size[::-1]
        return Raw(_preview(raw), orientation, size)


def develop(data: bytes, max_pixels: int, *, path: Path | str | None = None) -> Any:
    """Develop the sensor data to uint8 RGB, orientation applied.

    White balance is that of the camera, and colours are sRGB.

    Raises
    ------
    ImageTooLargeError
        The sensor has more than ``max_pixels`` pixels.
    ImageCorruptError, ImageUnsupportedError, MissingExtraError
        As for `open_raw`.
    """
    with _opened(data, path) as raw:
        size = (raw.sizes.raw_width, raw.sizes.raw_height)
        if size[0] * size[1] > max_pixels:
            raise ImageTooLargeError(
                f"expected at most {max_pixels:,} pixels to decode, found a sensor of {size[0]} x "
                f"{size[1]} = {size[0] * size[1]:,}; if there is memory for it, raise max_pixels, "
                f"which Retriever, images.load and images.decode take (--max-pixels on the command "
                f"line)",
                path,
            )
        try:
            pixels = raw.postprocess(
                use_camera_wb=True,
                half_size=min(raw.sizes.width, raw.sizes.height) >= _HALVED,
                output_bps=8,
            )
        except _errors() as error:
            raise _refusal(error, path) from error
        return np.ascontiguousarray(pixels)


def _developed(size: tuple[int, int]) -> tuple[int, int]:
    if min(size) < _HALVED:
        return size
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _has_sensor_data(data: bytes) -> bool:
    """Whether a TIFF is a DNG, or has sensor data and names the maker of the camera."""
    order = "<" if data[:2] == b"II" else ">"
    waiting = [unpack_from(f"{order}I", data, 4)[0]]
    has_make = False
    for visited in range(_MOST_DIRECTORIES):
        if not waiting or not (at := waiting.pop()):
            break
        (entries,) = unpack_from(f"{order}H", data, at)
        for place in range(at + 2, at + 2 + 12 * min(entries, 1024), 12):
            tag, kind, count = unpack_from(f"{order}HHI", data, place)
            if tag == _DNG:
                return True
            has_make |= tag == _MAKE and not visited
            is_photometric = tag == _PHOTOMETRIC and has_make
            if is_photometric and unpack_from(f"{order}H", data, place + 8)[0] in _SENSOR:
                return True
            if tag == _SUBDIRECTORIES and kind in {4, 13} and count <= _MOST_DIRECTORIES:
                where = place + 8
                if count > 1:
                    (where,) = unpack_from(f"{order}I", data, where)
                waiting += unpack_from(f"{order}{count}I", data, where)
        follows = at + 2 + 12 * entries
        if follows + 4 <= len(data):
            waiting.insert(0, unpack_from(f"{order}I", data, follows)[0])
    return False


def _opened(data: bytes, path: Path | str | None) -> Any:
    try:
        import rawpy  # noqa: PLC0415  # an extra
    except ImportError:
        what = "reading RAW photographs" if path is None else f"{path}: reading a RAW photograph"
        raise MissingExtraError.of(what, extra="raw") from None
    try:
        return rawpy.imread(io.BytesIO(data))
    except _errors() as error:
        raise _refusal(error, path) from error


def _errors() -> tuple[type[BaseException], ...]:
    import rawpy  # noqa: PLC0415  # loaded

    return (rawpy.LibRawError, rawpy.NotSupportedError)


def _preview(raw: Any) -> bytes:
    """Return the embedded JPEG; empty if there is none, or a small one."""
    import rawpy  # noqa: PLC0415  # loaded

    from imgret.images.headers import header  # noqa: PLC0415  # which asks this module

    try:
        found = raw.extract_thumb()
    except _errors():  # none, or of a kind that LibRaw does not return: there are the sensor data
        return b""
    if found.format != rawpy.ThumbFormat.JPEG:
        return b""
    try:
        head = header(found.data)
    except (ImageCorruptError, ImageUnsupportedError):
        return b""
    is_fit = head.format == "JPEG" and head.end is not None and not head.unsupported
    return bytes(found.data) if is_fit and min(head.size) >= _LEAST_PREVIEW else b""


def _refusal(error: BaseException, path: Path | str | None) -> Exception:
    import rawpy  # noqa: PLC0415  # loaded

    first = error.args[0] if error.args else error
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
    if isinstance(error, (rawpy.LibRawFileUnsupportedError, rawpy.NotSupportedError)):
        return ImageUnsupportedError(
            f"expected a RAW photograph that LibRaw reads, found one of a kind or a camera that it "
            f"does not know ({text}); convert it to DNG or JPEG",
            path,
        )
    return ImageCorruptError(f"damaged RAW data: LibRaw reports {text}", path)
