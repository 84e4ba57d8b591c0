"""Data frames, columns and generators where sequences go."""

import numpy as np
import pandas as pd
import pytest

from imgret import Retriever
from imgret.errors import InvalidInputError


@pytest.fixture
def retriever(mean_color):
    return Retriever(embedder=mean_color)


@pytest.fixture
def frame(photos):
    paths = sorted(map(str, photos.rglob("*.jpg")))[:4]
    return pd.DataFrame(
        {
            "path": paths,
            "label": pd.Categorical(["a", "b", None, "a"]),
            "n": pd.array([1, 2, None, 4], dtype="Int64"),
            "price": [1.5, np.nan, 3, 4],
            "day": pd.to_datetime(["2024-05-01"] * 4),
        },
        index=list("wxyz"),
    )


def test_columns_and_rows_of_a_frame(retriever, frame):
    retriever.add(
        frame["path"],
        keys=frame.index,
        labels=frame["label"],
        metadata=frame[["n", "price", "day"]],
    )
    assert [retriever[key].label for key in "wxyz"] == ["a", "b", None, "a"]
    assert retriever["w"].metadata == {"n": 1, "price": 1.5, "day": "2024-05-01T00:00:00"}
    assert set(retriever["x"].metadata) == {"n", "day"}
    assert set(retriever["y"].metadata) == {"price", "day"}
    assert len(retriever.search_many(frame["path"], k=1)) == 4
    for labels in (pd.Series(["a"]), pd.Index(["a"]), {"a"}, np.array(["a"])):
        hits = retriever.search(frame["path"].iloc[0], where={"label": {"$in": labels}})
        assert {hit.key for hit in hits} == {"w", "z"}
    assert retriever.embeddings(frame.index[:2]).shape[0] == 2
    assert retriever.remove(frame.index[:2]) == 2


def test_a_whole_table_is_for_add_from(retriever, frame):
    with pytest.raises(InvalidInputError, match="add_from.. takes a table"):
        retriever.add(frame)
    retriever.add_from(frame, path_column="path")
    assert retriever[frame["path"].iloc[0]].label == "a"


def test_generators_of_everything(retriever, frame):
    retriever.add(
        (path for path in frame["path"]),
        keys=(f"k{n}" for n in range(4)),
        labels=iter("abab"),
        metadata=({"n": n} for n in range(4)),
    )
    vectors = retriever.embeddings()
    shapes = {
        "generator": (vector for vector in vectors),
        "column": pd.Series(list(vectors)),
        "frame": pd.DataFrame(vectors),
        "lists": vectors.tolist(),
    }
    for name, given in shapes.items():
        metadata = pd.DataFrame({"m": range(4)})
        keys = (f"{name}{n}" for n in range(4))
        retriever.add_vectors(given, keys=keys, labels=iter("abab"), metadata=metadata)
        assert retriever[f"{name}2"].metadata == {"m": 2}
        np.testing.assert_allclose(retriever.embeddings(f"{name}3")[0], vectors[3], rtol=1e-3)
    hits = retriever.search_vectors((vector for vector in vectors), k=1)
    assert len(hits) == 4


def test_labels_and_metadata_by_key(retriever, photos):
    labels = pd.Series({"lake/0.jpg": "water", "lake/1.jpg": None})
    metadata = pd.DataFrame({"n": [1, None]}, index=["lake/0.jpg", "lake/1.jpg"])
    report = retriever.add_folder(photos / "lake", prefix="lake/", labels=labels, metadata=metadata)
    assert retriever["lake/0.jpg"].label == "water"
    assert retriever["lake/0.jpg"].metadata == {"n": 1}
    assert retriever["lake/1.jpg"].label is None
    assert report.undescribed == ["lake/2.jpg", "lake/3.jpg"]
    again = retriever.add_from(photos / "lake", labels=pd.Series({"lake/2.jpg": "sea"}))
    assert len(again.skipped) == 4
    assert retriever["lake/2.jpg"].label == "sea"
