"""Built-in embedders."""

from __future__ import annotations

from typing import Any

from imgret.embedders.onnx import OnnxEmbedder

__all__ = ["OnnxEmbedder", "general"]


def general(**options: Any) -> OnnxEmbedder:
    """Make the embedder for any photo: ``OnnxEmbedder("general", **options)``."""
    return OnnxEmbedder("general", **options)
