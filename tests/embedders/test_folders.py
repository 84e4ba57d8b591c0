"""Folders of two towers pass the suite for embedders, texts included."""

from pathlib import Path

import pytest

from imgret.embedders import OnnxEmbedder
from imgret.testing import EmbedderTests

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.filterwarnings("ignore:a text of")
MODELS = Path(__file__).parents[1] / "data" / "models"


class TestClip(EmbedderTests):
    """Texts of any length."""

    def make(self):
        return OnnxEmbedder(MODELS / "clip")


class TestSiglip(EmbedderTests):
    """Texts filled up to 64 tokens."""

    def make(self):
        return OnnxEmbedder(MODELS / "siglip")


class TestDinov2(EmbedderTests):
    """Images only."""

    def make(self):
        return OnnxEmbedder(MODELS / "dinov2")
