"""Decoder for BMPs of 16 and 32 bits per pixel, whose channels are given by bit masks.

OpenCV supports only some of these layouts and loses colours of others. Specification:
``BITMAPINFOHEADER`` up to ``BITMAPV5HEADER``, and the 52- and 56-byte headers that Adobe's programs
write.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["alpha_mask", "decode_masks", "has_masks"]

_RGB, _BITFIELDS, _ALPHABITFIELDS = 0, 3, 6


def has_masks(data: bytes) -> bool:
    """Whether `decode_masks` decodes a BMP of this kind."""
    (size,) = unpack_from("<I", data, 14)
    if size == 12:
        return False
    bits, compression = unpack_from("<HI", data, 28)
    return bits in {16, 32} and compression in {_RGB, _BITFIELDS, _ALPHABITFIELDS} and size != 64


def alpha_mask(data: bytes) -> int:
    """Return the bit mask of the alpha channel; 0 if there is none."""
    return _masks(data)[3] if has_masks(data) else 0


def decode_masks(data: bytes) -> NDArray[np.uint8]:
    """Decode to uint8 BGR, or BGRA if the header has an alpha mask.

    Returns
    -------
    array of shape (H, W, 3) or (H, W, 4)

    Raises
    ------
    ValueError, struct.error
        There are fewer pixels than the header gives, or a mask is not contiguous.
    """
    width, height, _, bits = unpack_from("<iiHH", data, 18)
    (start,) = unpack_from("<I", data, 10)
    stride = (width * bits // 8 + 3) // 4 * 4
    rows = abs(height)
    needed = stride * (rows - 1) + width * bits // 8  # the last row may lack its padding
    if start + needed > len(data):
        raise ValueError
    raw = np.frombuffer(data, np.uint8, needed, start)
    if needed < stride * rows:
        raw = np.concatenate([raw, np.zeros(stride * rows - needed, np.uint8)])
    words: Any = raw.reshape(rows, stride).view(f"<u{bits // 8}")[:, :width]
    if height > 0:
        words = words[::-1]
    red, green, blue, alpha = _masks(data)
    channels = [_channel(words, mask) for mask in (blue, green, red)]
    if alpha:
        opacity = _channel(words, alpha)
        # Programs without alpha support leave it at 0; like browsers, treat all zeros as opaque.
        channels.append(opacity if opacity.any() else np.full_like(opacity, 255))
    return np.dstack(channels)


def _masks(data: bytes) -> tuple[int, int, int, int]:
    """Return the masks of red, green, blue and alpha."""
    (size,) = unpack_from("<I", data, 14)
    bits, compression = unpack_from("<HI", data, 28)
    if compression == _RGB:
        return (0x7C00, 0x3E0, 0x1F, 0) if bits == 16 else (0xFF0000, 0xFF00, 0xFF, 0)
    red, green, blue = unpack_from("<3I", data, 54)
    has_alpha = size >= 56 or compression == _ALPHABITFIELDS
    return red, green, blue, unpack_from("<I", data, 66)[0] if has_alpha else 0


def _channel(words: Any, mask: int) -> Any:
    """Return the channel of a mask, scaled to 8 bits."""
    if mask == 0:
        return np.zeros(words.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    top = mask >> shift
    if top & (top + 1):
        raise ValueError
    if top <= 0xFFFF:
        values = (words >> words.dtype.type(shift)) & words.dtype.type(top)
        if top == 255:
            return values.astype(np.uint8)
        table = np.round(np.arange(top + 1) * (255 / top)).astype(np.uint8)
        return table[values]
    return (words >> words.dtype.type(mask.bit_length() - 8)).astype(np.uint8)
