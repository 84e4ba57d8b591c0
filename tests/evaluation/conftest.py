"""Galleries whose rankings can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from imgret import Retriever, images


def at_angles(*degrees):
    """Unit vectors of 48 dimensions, as the embedder of the tests makes."""
    radians = np.radians(degrees)
    vectors = np.zeros((len(degrees), 48))
    vectors[:, 0], vectors[:, 1] = np.cos(radians), np.sin(radians)
    return vectors


@pytest.fixture
def circle(mean_color):
    """Two classes on a circle; the neighbours of each item are those of the next angles."""
    made = Retriever(embedder=mean_color, dtype="float32")
    made.add_vectors(
        at_angles(0, 10, 21, 33, 60, 72),
        keys=["a0", "a1", "b0", "a2", "b1", "b2"],
        labels=["a", "a", "b", "a", "b", "b"],
    )
    return made


@pytest.fixture
def gallery(mean_color, photos):
    """The twelve photos, labelled by their folders."""
    made = Retriever(embedder=mean_color)
    made.add_folder(photos, labels="parent")
    return made


@pytest.fixture
def queries(tmp_path, make_picture):
    """A folder of one new image a class, one of a class the gallery lacks, one broken."""
    root = tmp_path / "queries"
    for number, label in enumerate(("lake", "sand", "wood", "moor")):
        (root / label).mkdir(parents=True)
        data = images.encode(make_picture(100 + number), "jpeg", quality=90)
        (root / label / "new.jpg").write_bytes(data)
    (root / "wood" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return root
