"""The contract, on Milvus Lite and on a real server."""

import pytest

pytest.importorskip("pymilvus", reason="Milvus: pip install 'imgret[milvus]'")

from hypothesis import settings

from imgret.galleries.milvus import MilvusGallery
from imgret.testing import GalleryMachine, GalleryTests


class _Lite:
    kind = MilvusGallery
    engine = None

    @pytest.fixture(autouse=True, scope="session")
    @classmethod
    def _started(cls, lite):
        _Lite.engine = lite

    def new_uri(self, folder):
        del folder
        return self.engine.new_uri()


class _Standalone:
    kind = MilvusGallery
    engine = None

    @pytest.fixture(autouse=True, scope="session")
    @classmethod
    def _started(cls, standalone):
        _Standalone.engine = standalone

    @pytest.fixture(autouse=True)
    def _dropped(self, standalone):
        yield
        standalone.drop()

    def new_uri(self, folder):
        del folder
        return self.engine.new_uri()


class TestMilvusLite(_Lite, GalleryTests):
    pass


class TestMilvusStandalone(_Standalone, GalleryTests):
    pass


class MilvusLiteMachine(_Lite, GalleryMachine):
    metric = "cosine"


class MilvusStandaloneMachine(_Standalone, GalleryMachine):
    metric = "l2"


TestMilvusLiteMachine = MilvusLiteMachine.TestCase
TestMilvusLiteMachine.settings = settings(max_examples=8, stateful_step_count=20, deadline=None)
TestMilvusStandaloneMachine = pytest.mark.usefixtures("standalone")(
    MilvusStandaloneMachine.TestCase
)
TestMilvusStandaloneMachine.settings = settings(
    max_examples=5, stateful_step_count=15, deadline=None
)
