"""Results and galleries as data frames."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever
from imgret.evaluation import compare
from imgret.evaluation.tuning import Try, Tuning
from imgret.pages.result import Tabular

pd = pytest.importorskip("pandas", reason="needs the extra 'tables'")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "data-in-and-out.md"


@pytest.fixture
def gallery(mean_color, photos):
    retriever = Retriever(embedder=mean_color)
    (photos / "sand" / "copy.jpg").write_bytes((photos / "sand" / "0.jpg").read_bytes())
    (photos / "lake" / "moved.jpg").write_bytes((photos / "sand" / "1.jpg").read_bytes())
    retriever.add_folder(photos, labels="parent", metadata=lambda path: {"name": path.stem})
    return retriever


def test_a_gallery_is_a_row_an_item(gallery):
    frame = gallery.to_pandas()
    assert list(frame["key"]) == list(gallery)
    assert gallery.embeddings(frame["key"]).shape == (14, 48)
    for row in frame.itertuples():
        item = gallery[row.key]
        assert (row.label, row.path, row.metadata) == (item.label, item.path, item.metadata)
        assert row.box == tuple(item.box)
        assert row.size == item.size
        assert row.modified.value == item.mtime_ns
        assert row.modified.tzinfo == dt.UTC
    some = gallery.to_pandas({"label": "wood"})
    assert set(some["label"]) == {"wood"}
    assert list(pd.json_normalize(some["metadata"])["name"]) == ["0", "1", "2", "3"]


def test_what_an_item_lacks_is_missing(mean_color):
    retriever = Retriever(embedder=mean_color)
    columns = list(retriever.to_pandas().columns)  # of an empty gallery
    retriever.add_vectors(np.ones((2, 48)), keys=["a", "b"], labels=["x", None])
    frame = retriever.to_pandas()
    assert list(frame.columns) == columns
    assert frame[["path", "box", "size", "modified"]].isna().all(axis=None)
    assert frame["label"].isna().tolist() == [False, True]


def test_results_are_frames(gallery, photos):
    query = photos / "sand" / "0.jpg"
    report = gallery.evaluate(k=(1, 3))
    tries = [Try({"ef_search": 8}, 0.8, 0.7, 2e4), Try({"ef_search": 16}, 0.95, 0.9, 1e4)]
    results = {
        "search": gallery.search(query, 3),
        "search_many": gallery.search_many([query, query.read_bytes()], 2),
        "duplicates": gallery.duplicates(0.999),
        "outliers": gallery.outliers(4),
        "mislabelled": gallery.mislabelled(k=3, threshold=0.1),
        "clusters": gallery.clusters(3),
        "map2d": gallery.map2d("pca"),
        "evaluate": report,
        "compare": compare(report, report),
        "crop_report": gallery.crop_report("center"),
        "tune": Tuning("hnsw", 0.9, 2, 5, held_out=False, tries=tries, chosen=tries[1]),
        "add": gallery.add([query], keys=["again"]),
    }
    frames = {name: result.to_pandas() for name, result in results.items()}
    assert all(isinstance(result, Tabular) for result in results.values())
    lengths = {name: len(frame) for name, frame in frames.items()}
    assert lengths == {
        "search": 3,
        "search_many": 4,
        "duplicates": 4,
        "outliers": 4,
        "mislabelled": len(results["mislabelled"]),
        "clusters": 14,
        "map2d": 14,
        "evaluate": 14,
        "compare": 14,
        "crop_report": 14,
        "tune": 2,
        "add": 1,
    }
    many = frames["search_many"]
    assert many["query"].tolist() == [0, 0, 1, 1]
    assert many["query_path"].tolist()[:2] == [str(query)] * 2
    assert many["query_path"].isna().tolist() == [False, False, True, True]
    assert frames["duplicates"]["group"].tolist() == [0, 0, 1, 1]
    assert frames["evaluate"]["top1"].mean() == pytest.approx(report.metrics["top1"])
    assert (frames["compare"]["difference"] == 0).all()
    assert list(frames["tune"].columns) == ["ef_search", "recall", "farther", "qps", "chosen"]
    assert frames["tune"]["chosen"].tolist() == [False, True]
    assert frames["add"]["status"].tolist() == ["duplicate"]
    graph = gallery.neighbor_graph(2).to_pandas()
    assert graph["rank"].tolist() == [1, 2] * 15
    assert graph["key"].tolist() == [key for key in gallery for _ in range(2)]
    # The page lists the columns.
    text = PAGE.read_text(encoding="utf-8")
    for name, frame in frames.items():
        (row,) = re.findall(rf"^\| `{name}`.*$", text, re.MULTILINE)
        told = {word for code in re.findall("`([^`]+)`", row) for word in code.split()}
        if name not in {"search_many", "evaluate", "tune"}:  # said in words
            assert set(frame.columns) <= told, name
