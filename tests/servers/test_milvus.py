"""The contract, on Milvus Lite."""

import itertools
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("pymilvus", reason="Milvus: pip install 'imgret[milvus]'")
pytest.importorskip("milvus_lite", reason="Milvus Lite: pip install 'imgret[milvus-lite]'")

from hypothesis import settings  # noqa: E402  # after the check

from imgret.galleries.milvus import MilvusGallery  # noqa: E402
from imgret.testing import GalleryMachine, GalleryTests  # noqa: E402

_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _file():
    """One database for all tests, kept open: each has a collection of its own."""
    with tempfile.TemporaryDirectory(prefix="imgret-milvus-") as folder:
        _Lite.file = Path(folder) / "all.db"
        yield


class _Lite:
    kind = MilvusGallery
    file: Path

    def new_uri(self, folder):
        del folder
        return f"milvus://{self.file}?collection=c{next(_numbers)}"


class TestMilvusLite(_Lite, GalleryTests):
    pass


class MilvusLiteMachine(_Lite, GalleryMachine):
    metric = "cosine"


TestMilvusLiteMachine = MilvusLiteMachine.TestCase
TestMilvusLiteMachine.settings = settings(max_examples=8, stateful_step_count=20, deadline=None)
