"""Built-in embedders."""

from __future__ import annotations

from typing import Any

from imgret.embedders.onnx import OnnxEmbedder
from imgret.embedders.views import TwoViewEmbedder

__all__ = [
    "OnnxEmbedder",
    "TwoViewEmbedder",
    "flowers102",
    "flowers102_large",
    "flowers102_resnet",
    "general",
]


def general(**options: Any) -> OnnxEmbedder:
    """Make the embedder for any photo: ``OnnxEmbedder("general", **options)``."""
    return OnnxEmbedder("general", **options)


def flowers102(**options: Any) -> OnnxEmbedder:
    """Make the compact embedder for flowers: ``OnnxEmbedder("flowers102", **options)``."""
    return OnnxEmbedder("flowers102", **options)


def flowers102_large(**options: Any) -> OnnxEmbedder:
    """Make the better embedder for flowers: ``OnnxEmbedder("flowers102-large", **options)``."""
    return OnnxEmbedder("flowers102-large", **options)


def flowers102_resnet(**options: Any) -> OnnxEmbedder:
    """Make the reference network for flowers: ``OnnxEmbedder("flowers102-resnet", **options)``."""
    return OnnxEmbedder("flowers102-resnet", **options)
