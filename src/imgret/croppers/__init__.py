"""Croppers find the box of the subject of a picture.

``NoCrop`` and ``CenterCrop`` do not look at the pixels; ``SaliencyCropper`` does, with or
without a network. A new cropper is a subclass of :class:`imgret.abc.Cropper`.
"""

from __future__ import annotations

from typing import Any

from imgret.croppers.fixed import CenterCrop, NoCrop
from imgret.croppers.saliency import SaliencyCropper

__all__ = ["CenterCrop", "NoCrop", "SaliencyCropper", "spectral"]


def spectral(**options: Any) -> SaliencyCropper:
    """Make the cropper without weights: ``SaliencyCropper("spectral", **options)``."""
    return SaliencyCropper("spectral", **options)
