"""ICC profiles as bytes: their colour space, and profiles made from primaries and a curve.

Specifications: ICC.1:2022; ITU-T H.273 for the code points of ``cICP`` and ``nclx``.
"""

from __future__ import annotations

from functools import lru_cache
from struct import pack
from typing import TypeAlias

import numpy as np

__all__ = [
    "MOST_BYTES",
    "SRGB",
    "Curve",
    "Primaries",
    "coded_profile",
    "make_profile",
    "profile_space",
]

Primaries: TypeAlias = tuple[float, float, float, float, float, float, float, float]
Curve: TypeAlias = float | None

MOST_BYTES = 8 << 20
"""Maximum size of a profile. Larger ones are ignored; printing profiles have 0.5 to 3 MB."""

SRGB: Primaries = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
# Code points of H.273: x and y of red, green, blue and white.
_PRIMARIES: dict[int, Primaries] = {
    1: SRGB,
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
# Gamma; None is the curve of sRGB, which also replaces those of television, as in browsers. PQ and
# HLG (16 and 18), which would need tone mapping, are left as they are.
_CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 2, 6, 13, 14, 15), None),
    4: 2.2,
    5: 2.8,
    8: 1.0,
}
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def profile_space(profile: bytes) -> str:
    """Return the colour space of a profile: ``"RGB"``, ``"GRAY"``, ...; empty if it is invalid."""
    if not 128 < len(profile) <= MOST_BYTES or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").strip()


def coded_profile(primaries: int, curve: int) -> bytes:
    """Return a profile for code points of H.273; empty if there is none or none is needed."""
    if primaries not in _PRIMARIES or curve not in _CURVES or (primaries == 1 and curve != 8):
        return b""
    return make_profile(_PRIMARIES[primaries], _CURVES[curve])


@lru_cache(maxsize=64)
def make_profile(primaries: Primaries, curve: Curve) -> bytes:
    """Return a display profile, version 4.

    Parameters
    ----------
    primaries : tuple of float
        Chromaticities x and y of red, green, blue and white.
    curve : float or None
        Gamma; None is the curve of sRGB.

    Raises
    ------
    ValueError, ArithmeticError
        The chromaticities do not span a triangle.
    """
    x, y = np.reshape(np.array(primaries, dtype=np.float64), (4, 2)).T
    if not (y > 0).all():
        raise ValueError
    xyz = np.array([x / y, np.ones(4), (1 - x - y) / y])
    try:
        colors = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
        cones = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ xyz[:, 3])
        adapt = np.linalg.solve(_BRADFORD, cones[:, None] * _BRADFORD)
    except np.linalg.LinAlgError as error:
        raise ValueError from error
    colors = adapt @ colors
    if curve is None:
        tone = pack(
            ">4s4xH2x5i", b"para", 3, *_fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        )
    else:
        tone = pack(">4s4xH2xi", b"para", 0, *_fixed(curve))
    tags = {
        b"wtpt": pack(">4s4x3i", b"XYZ ", *_fixed(*_D50)),
        b"chad": pack(">4s4x9i", b"sf32", *_fixed(*adapt.ravel())),
        **{
            b"rgb"[at : at + 1] + b"XYZ": pack(">4s4x3i", b"XYZ ", *_fixed(*colors[:, at]))
            for at in range(3)
        },
        **{b"rgb"[at : at + 1] + b"TRC": tone for at in range(3)},
    }
    table, body = pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(value))
        body += value
    head = pack(
        ">I4xI4s4s4s12x4s28x3i48x",
        128 + len(table) + len(body),
        0x04200000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        b"acsp",
        *_fixed(*_D50),
    )
    return head + table + body


def _fixed(*numbers: float) -> list[int]:
    return [round(float(number) * 65536) for number in numbers]
