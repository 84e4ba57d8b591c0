"""Croppers find the box of the subject of an image.

``NoCrop`` and ``CenterCrop`` do not look at the pixels. ``SaliencyCropper`` finds what stands
out, with or without a network. ``AttentionCropper`` finds what an embedding comes from, and
``CombinedCropper`` what several croppers agree on. A new cropper is a subclass of
:class:`imgret.abc.Cropper`.
"""

from __future__ import annotations

from typing import Any

from imgret.croppers.attention import AttentionCropper
from imgret.croppers.combined import CombinedCropper
from imgret.croppers.fixed import CenterCrop, NoCrop
from imgret.croppers.maps import MapCropper
from imgret.croppers.saliency_cropper import SaliencyCropper

__all__ = [
    "AttentionCropper",
    "CenterCrop",
    "CombinedCropper",
    "MapCropper",
    "NoCrop",
    "SaliencyCropper",
    "saliency",
    "spectral",
]


def saliency(**options: Any) -> SaliencyCropper:
    """Make the cropper with the built-in network: ``SaliencyCropper("saliency", **options)``."""
    return SaliencyCropper("saliency", **options)


def spectral(**options: Any) -> SaliencyCropper:
    """Make the cropper without weights: ``SaliencyCropper("spectral", **options)``."""
    return SaliencyCropper("spectral", **options)
