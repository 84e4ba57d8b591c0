"""Test suites for authors of embedders, croppers, indexes and galleries.

Subclass a suite in a test module and define how the part is made; pytest does the rest::

    from imgret.testing import IndexMachine, VectorIndexTests

    class TestAnnoyIndex(VectorIndexTests):
        recall_floor = 0.8

        def make(self, dim, metric):
            return AnnoyIndex(dim, metric)

    class AnnoyMachine(IndexMachine):
        def make(self):
            return AnnoyIndex(4, "l2")

    TestAnnoyMachine = AnnoyMachine.TestCase

imgret's own parts pass the same suites. Needs the extra ``imgret[testing]``.
"""

from __future__ import annotations

from imgret.errors import MissingExtraError

try:
    import hypothesis  # noqa: F401  # asked for here so that the error says what to install
    import pytest
except ImportError as error:
    raise MissingExtraError.of("imgret.testing", extra="testing") from error

# Make failing assertions of the suites show their values, as in test modules.
for _module in ("croppers", "embedders", "galleries", "gallery_machine", "indexes", "machine"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from imgret.testing import strategies  # noqa: E402  # after the lines above
from imgret.testing.croppers import CropperTests  # noqa: E402  # the same
from imgret.testing.embedders import EmbedderTests  # noqa: E402  # the same
from imgret.testing.galleries import GalleryTests  # noqa: E402  # the same
from imgret.testing.gallery_machine import GalleryMachine  # noqa: E402  # the same
from imgret.testing.indexes import VectorIndexTests  # noqa: E402  # the same
from imgret.testing.machine import IndexMachine  # noqa: E402  # the same

__all__ = [
    "CropperTests",
    "EmbedderTests",
    "GalleryMachine",
    "GalleryTests",
    "IndexMachine",
    "VectorIndexTests",
    "strategies",
]
