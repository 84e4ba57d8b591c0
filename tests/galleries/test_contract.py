"""Galleries of every kind keep the contract."""

import pytest
from hypothesis import settings

from imgret.galleries.local import LocalGallery
from imgret.testing import GalleryMachine, GalleryTests


class TestDirectory(GalleryTests):
    kind = LocalGallery

    def new_uri(self, folder):
        return str(folder / "g.imgret")


class TestDirectoryByUri(TestDirectory):
    """Also by a URI, with what a URI escapes."""

    metrics = ("l2",)

    def new_uri(self, folder):
        return f"file://{folder}/my%20photos.imgret"


class TestMemory(GalleryTests):
    kind = LocalGallery

    def new_uri(self, folder):
        return str(folder / "g.imgret")

    def create(self, uri, spec):
        return LocalGallery.in_memory(spec)

    def again(self, gallery, uri):
        return gallery

    @pytest.mark.skip(reason="there is no place")
    def test_what_is_there_is_not_made_again(self): ...

    @pytest.mark.skip(reason="there is no place")
    def test_opened_for_reading(self): ...


class Machine(GalleryMachine):
    kind = LocalGallery

    def new_uri(self, folder):
        return str(folder / "g.imgret")


TestMachine = pytest.mark.slow(Machine.TestCase)
TestMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
