"""The adapter of examples/sklearn_adapter.py beside scikit-learn itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import Pipeline

EXAMPLE = Path(__file__).parents[1] / "examples" / "sklearn_adapter.py"


@pytest.fixture
def adapter(mean_color):
    spec = importlib.util.spec_from_file_location("sklearn_adapter", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ImageNeighbors(n_neighbors=3, embedder=mean_color)


@pytest.fixture
def images_and_labels(photos):
    paths = sorted(photos.glob("*/*.jpg"))
    return np.array([str(path) for path in paths]), np.array([path.parent.name for path in paths])


def test_neighbours_are_those_of_scikit_learn(adapter, images_and_labels):
    paths, _ = images_and_labels
    fitted, asked = paths[:-3], paths[-3:]
    adapter.fit(fitted)
    vectors = adapter.transform(fitted)
    assert vectors.shape == (9, 48)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    reference = NearestNeighbors(n_neighbors=3, metric="cosine").fit(vectors)
    distances, indices = reference.kneighbors(adapter.transform(asked))
    found_distances, found_indices = adapter.kneighbors(list(asked))
    assert np.array_equal(found_indices, indices)
    assert np.allclose(found_distances, distances, atol=1e-5)
    assert np.array_equal(adapter.kneighbors(asked, 2, return_distance=False), indices[:, :2])


def test_it_is_a_step_of_a_pipeline(adapter, images_and_labels):
    paths, labels = images_and_labels
    pipeline = Pipeline([("embed", adapter), ("classify", KNeighborsClassifier(n_neighbors=1))])
    assert list(pipeline.fit(paths, labels).predict(paths)) == list(labels)
    assert clone(pipeline).get_params()["embed__n_neighbors"] == 3
    search = GridSearchCV(pipeline, {"classify__n_neighbors": [1, 2]}, cv=2, error_score="raise")
    search.fit(paths, labels)
    assert search.best_estimator_.named_steps["embed"].retriever_["0"].label == "lake"


def test_an_image_that_cannot_be_read_is_named(adapter, photos):
    (photos / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.jpg: "):
        adapter.fit([photos / "sand" / "0.jpg", photos / "bad.jpg"])
