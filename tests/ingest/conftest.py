"""Parts that are quick and whose answers can be worked out by hand."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import closing
from types import ModuleType

import numpy as np
import pytest

from imgret import images
from imgret.abc import Cropper, Embedder
from imgret.demo import samples
from imgret.galleries.local import LocalGallery
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.ingest import IngestReport, Writer, embed_sources, folder_sources
from imgret.types import Box, Part


class MeanColor(Embedder):
    """The mean colour, 0 to 1: what is embedded shows in the vector."""

    name = "mean"
    batch_size = 5
    dim = 3
    fingerprint = "mean"

    def __init__(self, *, min_side=None, fails_on=None):
        self.min_side = min_side
        self.fails_on = fails_on  # the number of an image, from 1
        self.seen = []
        self.running = self.most = 0

    def config(self):
        return {}

    def _embed(self, images_):
        self.running += 1
        self.most = max(self.most, self.running)
        self.seen += [image.shape for image in images_]
        if self.fails_on is not None and len(self.seen) >= self.fails_on:
            raise RuntimeError("out of memory")
        time.sleep(0.002)
        self.running -= 1
        return np.array([image.mean((0, 1)) / 255 for image in images_])


class Alone(MeanColor):
    thread_safe = False


class Middle(Cropper):
    """The box in the middle, ``part`` of each side; None where the image is dark."""

    name = "middle"

    def __init__(self, part=0.5):
        self.part = part
        self.seen = []
        self.running = self.most = 0

    def config(self):
        return {}

    def _detect(self, images_):
        self.running += 1
        self.most = max(self.most, self.running)
        time.sleep(0.001)
        self.seen += [image.shape for image in images_]
        self.running -= 1
        return [self._box(image) for image in images_]

    def _box(self, image):
        if image.mean() < 20:
            return None
        height, width = image.shape[:2]
        x, y = round(width * (1 - self.part) / 2), round(height * (1 - self.part) / 2)
        return Box(x, y, width - x, height - y)


class MiddleAlone(Middle):
    thread_safe = False


class NoCrop(Cropper):
    name = "none"
    crops = False

    def config(self):
        return {}

    def _detect(self, images_):
        raise AssertionError("must not be asked")


def picture(number: int, *, size=(40, 30), quality=95) -> bytes:
    """A JPEG of one colour, another for each number."""
    color = np.array([number * 37 % 200 + 40, number * 91 % 200 + 40, number * 53 % 200 + 40])
    return images.encode(
        np.broadcast_to(color.astype(np.uint8), (size[1], size[0], 3)).copy(), quality=quality
    )


def vector(data: bytes) -> np.ndarray:
    return images.decode(data).image.mean((0, 1)) / 255


def flower(seed=0, *, size=(64, 48)) -> bytes:
    return images.encode(samples.draw("daisy", seed, size=size), quality=90)


def outcomes_of(sources, embedder=None, cropper=None, **options):
    runs = embed_sources(list(sources), embedder or MeanColor(), cropper or NoCrop(), **options)
    return [outcome for run in runs for outcome in run]


def ingest(store, sources, embedder=None, cropper=None, *, duplicates="add", threads=2):
    """What a retriever does with sources."""
    report = IngestReport()
    gallery = LocalGallery(store)
    writer = Writer(gallery, report, skip_duplicates=duplicates == "skip")
    try:
        for run in embed_sources(
            list(sources),
            embedder or MeanColor(),
            cropper or NoCrop(),
            find_twin=gallery.copy_of,
            refuse=store.refusals,
            threads=threads,
            on_stage=report.add_stage,
        ):
            writer.take(run)
    finally:
        writer.commit()
    return report


def ingest_folder(store, folder, *, labels=None, prefix="", **options):
    found = folder_sources(folder, labels, prefix, LocalGallery(store))
    report = ingest(store, found.sources, **options)
    report.record(found.failed)
    report.ignored = sum(found.ignored.values())
    return report


def content_of(store):
    """Key -> vector, of what is live."""
    ids = store.catalog.live_ids()
    items = store.catalog.items(ids)
    rows = store.read(ids) if len(ids) else []
    return {items[id_].key: row for id_, row in zip(ids.tolist(), rows, strict=True)}


def item(store, key):
    (id_,) = store.catalog.require([key])
    return store.catalog.items([id_])[id_]


@pytest.fixture
def kit() -> ModuleType:
    """The functions and classes of this module."""
    return sys.modules[__name__]


@pytest.fixture
def store():
    part = Part("x")
    manifest = Manifest(3, "cosine", "float32", part, "mean", part, Part("flat"))
    with closing(Store.in_memory(manifest)) as made:
        yield made


@pytest.fixture
def folder(tmp_path):
    """Seven images in two folders, and files that are none."""
    root = tmp_path / "photos"
    for number, name in enumerate(
        ("a/1.jpg", "a/2.JPG", "a/b/3.jpeg", "c/4.jpg", "c/5.jpg", "6.jpg", "7.jpe")
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number))
    (root / "notes.txt").write_text("no image")
    (root / "a" / "noending").write_text("no image")
    return root


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    left = {t.name for t in threading.enumerate() if t.name.startswith("imgret")}
    assert left <= {"imgret-watch"}  # which ends a second after the last run of a model
