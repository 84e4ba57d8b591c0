"""Parts that each break one promise; collected by test_suites.py alone."""

import itertools

import numpy as np

from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.indexes import ExactIndex
from imgret.testing import CropperTests, EmbedderTests, VectorIndexTests


class Base(Embedder):
    dim = 4
    fingerprint = "base"

    def config(self):
        return {}

    def _embed(self, images):
        return np.stack(
            [np.append(image.mean(axis=(0, 1)), 1).astype(np.float32) for image in images]
        )


class Batch(Base):
    def _embed(self, images):
        found = super()._embed(images)
        return found - found.mean(axis=0) + 1


class Order(Base):
    def _embed(self, images):
        return np.sort(super()._embed(images), axis=0)


class Fingerprint(Base):
    count = itertools.count()

    @property
    def fingerprint(self):
        return f"print {next(self.count)}"


class Constant(Base):
    def _embed(self, images):
        return np.ones((len(images), 4), dtype=np.float32)


class Fickle(Cropper):
    count = itertools.count()

    def config(self):
        return {}

    def _detect(self, images):
        return [(0, 0, 1, 1 + next(self.count) % 7) for _ in images]


class Writing(Fickle):
    def _detect(self, images):
        for image in images:
            image[0, 0] = 0
        return [None for _ in images]


class Wrapped(VectorIndex):
    supports_allowed = True
    supports_remove = True

    def __init__(self, dim, metric, wide=1):
        super().__init__(dim, metric)
        self.wide = wide
        self.inner = ExactIndex(dim, metric)

    def _options(self):
        return {"wide": self.wide}

    def _add(self, vectors, ids):
        self.inner.add(vectors, ids)

    def _remove(self, ids):
        self.inner.remove(ids)

    def _search(self, queries, k, allowed):
        return self.inner.search(queries, k, allowed=allowed)

    def _reconstruct(self, ids):
        return self.inner.reconstruct(ids)

    def _save(self, directory):
        (directory / "inner").mkdir()
        self.inner.save_state(directory / "inner")

    def _load(self, directory):
        self.inner.load_state(directory / "inner")


class Score(Wrapped):
    def _search(self, queries, k, allowed):
        ids, scores = super()._search(queries, k, allowed)
        return ids, scores * np.float32(1.01)


class WorstFirst(Wrapped):
    def _search(self, queries, k, allowed):
        ids, scores = super()._search(queries, k, allowed)
        return ids[:, ::-1], scores[:, ::-1]


class Missing(Wrapped):
    def _search(self, queries, k, allowed):
        if allowed is not None:
            return super()._search(queries, k, allowed)
        return super()._search(queries, k, self.ids[: max(k, len(self) // 2)])


class Ignoring(Wrapped):
    def _search(self, queries, k, allowed):  # that is the fault
        return super()._search(queries, k, None)


class Forgetful(Wrapped):
    def _options(self):
        return {"wide": self.wide + 1}


class Undead(Wrapped):
    def _remove(self, ids):
        pass


class Borrowing(Wrapped):
    def _add(self, vectors, ids):
        super()._add(vectors, ids)
        self.kept = [*getattr(self, "kept", []), (vectors, ids)]

    def _search(self, queries, k, allowed):
        lent = ExactIndex(self.dim, self.metric)
        for vectors, ids in self.kept:
            lent.add(vectors, ids)
        return lent.search(queries, k, allowed=self.inner.ids if allowed is None else allowed)


class TestBatchEmbedder(EmbedderTests):
    make = Batch


class TestOrderEmbedder(EmbedderTests):
    make = Order


class TestFingerprintEmbedder(EmbedderTests):
    make = Fingerprint


class TestConstantEmbedder(EmbedderTests):
    make = Constant


class TestFickleCropper(CropperTests):
    make = Fickle


class TestWritingCropper(CropperTests):
    make = Writing


class IndexCase(VectorIndexTests):
    metrics = ("l2",)


class TestScoreIndex(IndexCase):
    make = staticmethod(Score)


class TestWorstFirstIndex(IndexCase):
    make = staticmethod(WorstFirst)


class TestMissingIndex(IndexCase):
    make = staticmethod(Missing)


class TestIgnoringIndex(IndexCase):
    make = staticmethod(Ignoring)


class TestForgetfulIndex(IndexCase):
    make = staticmethod(Forgetful)


class TestUndeadIndex(IndexCase):
    make = staticmethod(Undead)


class TestBorrowingIndex(IndexCase):
    make = staticmethod(Borrowing)
