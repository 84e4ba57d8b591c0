"""Image files, and what becomes of them when something happens to them."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, features

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds() -> dict[str, bytes]:
    """Return small files of every format that is decoded, each in several layouts."""
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (24, 31, 4), dtype=np.uint8)
    color = Image.fromarray(fine).resize((93, 71))
    rgb, gray = color.convert("RGB"), color.convert("L")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "somebody"
    found = dict(
        _saved(
            ("jpg", rgb, "JPEG", {"quality": 80, "exif": exif}),
            ("progressive.jpg", rgb, "JPEG", {"progressive": True}),
            ("gray.jpg", gray, "JPEG", {}),
            ("cmyk.jpg", rgb.convert("CMYK"), "JPEG", {}),
            ("png", color, "PNG", {}),
            ("palette.png", rgb.quantize(7), "PNG", {"bits": 4, "transparency": 3}),
            ("16.png", Image.fromarray(fine[..., 0].astype(np.uint16) * 257), "PNG", {}),
            ("gif", rgb.quantize(40), "GIF", {}),
            ("webp", color, "WEBP", {"lossless": True}),
            ("lossy.webp", rgb, "WEBP", {"exif": exif}),
            ("bmp", rgb, "BMP", {}),
            ("palette.bmp", rgb.quantize(16), "BMP", {}),
            ("tif", rgb, "TIFF", {}),
            ("lzw.tif", color, "TIFF", {"compression": "tiff_lzw"}),
            ("deflate.tif", gray, "TIFF", {"compression": "tiff_adobe_deflate"}),
            ("packbits.tif", rgb, "TIFF", {"compression": "packbits"}),
            ("jpeg.tif", rgb, "TIFF", {"compression": "jpeg"}),
            ("fax.tif", gray.convert("1"), "TIFF", {"compression": "group4"}),
        )
    )
    if features.check("avif"):
        found |= dict(_saved(("avif", rgb, "AVIF", {"speed": 10}), ("a.avif", color, "AVIF", {})))
    return found


def _saved(*kinds: tuple[str, Image.Image, str, dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for name, image, kind, options in kinds:
        file = io.BytesIO()
        image.save(file, kind, **options)
        yield name, file.getvalue()


def mutant(number: int, originals: dict[str, bytes]) -> tuple[str, bytes]:
    """Return the name of an original, and what became of it; the number decides."""
    chance = random.Random(number)
    name = chance.choice(sorted(originals))
    data = bytearray(originals[name])
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        # Headers come first, and are where most can go wrong.
        at = chance.randrange(min(len(data), chance.choice((64, 512, len(data)))) or 1)
        match chance.randrange(8):
            case 0 | 1 if data:
                data[at] ^= 1 << chance.randrange(8)
            case 2 if data:
                data[at] = chance.randrange(256)
            case 3:
                size = chance.choice((1, 2, 4))
                order = chance.choice("<>")
                value = chance.choice(_NUMBERS) & ((1 << 8 * size) - 1)
                data[at : at + size] = struct.pack(order + {1: "B", 2: "H", 4: "I"}[size], value)
            case 4:
                del data[at : at + chance.choice((1, 4, 100))]
            case 5:
                data[at:at] = chance.randbytes(chance.choice((1, 4, 100)))
            case 6:
                piece = data[at : at + chance.randrange(1, 200)]
                data[at:at] = piece * chance.choice((1, 2, 50))
            case _:
                other = originals[chance.choice(sorted(originals))]
                data[at:] = other[at:] if chance.random() < 0.5 else b""
    if name.endswith("png") and chance.random() < 0.7:
        data = _with_checksums(data)
    return name, bytes(data)


def _with_checksums(data: bytearray) -> bytearray:
    """Mend the checksums of a PNG, so that its decoder goes on."""
    at = 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        end = at + 8 + size
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data
