"""The suites pass honest parts and catch faulty ones."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from imgret.abc import Cropper, Embedder
from imgret.indexes import ExactIndex
from imgret.testing import CropperTests, EmbedderTests, IndexMachine, VectorIndexTests, strategies
from imgret.types import Box


class Means(Embedder):
    """Mean colours of a grid of cells."""

    def __init__(self, cells=2):
        self.cells = cells

    @property
    def dim(self):
        return 3 * self.cells**2 + 1

    @property
    def fingerprint(self):
        return hashlib.sha256(f"means {self.cells}".encode()).hexdigest()

    def config(self):
        return {"cells": self.cells}

    def _embed(self, images):
        return np.stack([self._one(image) for image in images])

    def _one(self, image):
        cells = [
            part.mean(axis=(0, 1)) if part.size else np.zeros(3)
            for band in np.array_split(image, self.cells, axis=0)
            for part in np.array_split(band, self.cells, axis=1)
        ]
        return np.append(np.concatenate(cells), 1).astype(np.float32)


class Bright(Cropper):
    """The box of what is brighter than the mean."""

    def __init__(self, margin=1):
        self.margin = margin

    def config(self):
        return {"margin": self.margin}

    def _detect(self, images):
        return [self._one(image) for image in images]

    def _one(self, image):
        rows, columns = np.nonzero(image.mean(axis=2) > image.mean())
        if not rows.size:
            return None
        low, high = self.margin, self.margin + 1
        return Box(columns.min() - low, rows.min() - low, columns.max() + high, rows.max() + high)


class TestMeans(EmbedderTests):
    def make(self):
        return Means()


class TestBright(CropperTests):
    def make(self):
        return Bright()


# Each of these breaks one promise, and the suite must say so by the test named.
FAULTY = {
    "embedder batch": ("test_the_batch_does_not_matter", "BatchEmbedder"),
    "embedder order": ("test_order_is_kept", "OrderEmbedder"),
    "embedder fingerprint": ("test_config_and_fingerprint", "FingerprintEmbedder"),
    "embedder constant": ("test_images_are_distinguished", "ConstantEmbedder"),
    "cropper fickle": ("test_the_same_twice", "FickleCropper"),
    "cropper writes": ("test_images_are_left_alone", "WritingCropper"),
    "index scores": ("test_answers_are_whole_ordered_and_truly_scored", "ScoreIndex"),
    "index order": ("test_answers_are_whole_ordered_and_truly_scored", "WorstFirstIndex"),
    "index misses": ("test_recall", "MissingIndex"),
    "index filter": ("test_the_index_itself_keeps_to_allowed_ids", "IgnoringIndex"),
    "index config": ("test_config_makes_a_twin", "ForgetfulIndex"),
    "index removal": ("test_removing", "UndeadIndex"),
    "index array": ("test_what_was_added_is_the_indexs_own", "BorrowingIndex"),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Names of the failed tests of the faulty parts, by class."""
    faulty = Path(__file__).with_name("faulty_parts.py")
    run = subprocess.run(  # our own interpreter
        [
            *(sys.executable, "-m", "pytest", str(faulty), "-q", "-rf", "--tb=no", "--no-header"),
            *("-p", "no:cacheprovider", "--import-mode=importlib"),
            f"--rootdir={tmp_path_factory.mktemp('root')}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    return [line for line in run.stdout.splitlines() if line.startswith("FAILED")]


@pytest.mark.slow
@pytest.mark.parametrize(("test", "part"), FAULTY.values(), ids=FAULTY)
def test_a_faulty_part_is_caught(verdicts, test, part):
    failed = [line for line in verdicts if f"Test{part}::" in line]
    assert any(test in line for line in failed), failed


def test_the_machine_catches_a_wrong_index():
    class Wrong(ExactIndex.__base__):
        is_exact = True

        def __init__(self):
            super().__init__(2, "l2")
            self.inner = ExactIndex(2, "l2")

        def _options(self):
            return {}

        def _add(self, vectors, ids):
            self.inner.add(vectors, ids)

        def _search(self, queries, k, allowed):
            found = self.inner.search(queries, k, allowed=allowed)
            return found.ids[:, ::-1], found.scores[:, ::-1]

        def _reconstruct(self, ids):
            return self.inner.reconstruct(ids)

        def _save(self, directory):
            raise NotImplementedError

        def _load(self, directory):
            raise NotImplementedError

    class Machine(IndexMachine):
        save_and_load = None

        def make(self):
            return Wrong()

    case = Machine.TestCase
    case.settings = settings(
        max_examples=200, deadline=None, phases=[Phase.generate], database=None, derandomize=True
    )
    with pytest.raises(AssertionError):
        case("runTest").runTest()


def test_suites_are_not_collected_themselves():
    assert not VectorIndexTests.__name__.startswith("Test")
    for suite in (VectorIndexTests, EmbedderTests, CropperTests):
        with pytest.raises(NotImplementedError, match=f"{suite.__name__}.make"):
            suite().make(*(() if suite is not VectorIndexTests else (2, "l2")))


def test_without_pytest_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from imgret.errors import MissingExtraError\n"
        "try:\n    import imgret.testing\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)  # ours
    assert "pip install 'imgret[testing]'" in run.stdout


@given(strategies.pictures())
def test_drawn_pictures_are_pictures(image):
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.size


@given(strategies.vectors(count=5, dim=3))
def test_drawn_vectors_have_a_direction(vectors):
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 3)
    assert vectors.any(axis=1).all()
