"""The croppers that come with imgret keep the contract of croppers."""

from imgret import registry
from imgret.testing import CropperTests


class TestSaliency(CropperTests):
    def make(self):
        return registry.create("croppers", "saliency")


class TestSpectral(CropperTests):
    def make(self):
        return registry.create("croppers", "spectral")


class TestAttention(CropperTests):
    def make(self):
        return registry.create("croppers", "attention")


class TestCombined(CropperTests):
    def make(self):
        return registry.create("croppers", "combined", croppers=["saliency", "spectral"])
