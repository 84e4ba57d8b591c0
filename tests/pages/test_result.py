"""Results have one face: text, JSON, a page, a file, a notebook."""

import json

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import InvalidInputError
from imgret.evaluation import compare


@pytest.fixture(scope="module")
def results():
    """One of each kind that a small gallery gives, by name."""
    generator = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 15)
    vectors = generator.normal(size=(60, 1280)) + 3 * generator.normal(size=(4, 1280))[codes]
    retriever = Retriever()
    labels = [f"<class {code}>" for code in codes]
    retriever.add_vectors(vectors, keys=[str(n) for n in range(60)], labels=labels)
    many = Retriever(index="hnsw")
    many.add_vectors(generator.normal(size=(120, 1280)), keys=[str(n) for n in range(120)])
    return {
        "add": retriever.add(np.zeros((8, 8, 3), np.uint8), labels="<class 0>"),
        "search": retriever.search(np.full((8, 8, 3), 200, np.uint8), k=3),
        "classify": retriever.classify(np.full((8, 8, 3), 200, np.uint8)),
        "explain": retriever.explain(),
        "recall": retriever.recall(5, n_queries=20),
        "evaluate": retriever.evaluate(k=(1, 5)),
        "compare": compare(retriever.evaluate(k=(1, 5)), retriever.evaluate(k=(1, 5))),
        "adapt": retriever.adapt(),
        "calibrate": retriever.calibrate(),
        "clusters": retriever.clusters(4),
        "map": retriever.map2d(),
        "tune": many.tune(0.5, 3),
    }


KINDS = (
    *("add", "search", "classify", "explain", "recall", "evaluate", "compare", "adapt"),
    *("calibrate", "clusters", "map", "tune"),
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_json_is_text_of_the_dict(results, kind):
    result = results[kind]
    assert json.loads(result.to_json()) == json.loads(json.dumps(result.to_dict()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_stands_alone_and_escapes_names(results, kind):
    page = results[kind].to_html(title="<b>title</b>")
    assert page.startswith("<!doctype html>")
    assert "<title>&lt;b&gt;title&lt;/b&gt;</title>" in page
    assert "<class " not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_gets_a_styled_fragment(results, kind):
    fragment = results[kind]._repr_html_()
    assert fragment.startswith("<style>")
    assert '<div class="imgret">' in fragment
    assert "<html" not in fragment


@pytest.mark.parametrize("kind", KINDS)
def test_save_goes_by_the_suffix(results, kind, tmp_path):
    result = results[kind]
    result.save(tmp_path / "result.html")
    result.save(str(tmp_path / "result.json"))
    assert (tmp_path / "result.html").read_text(encoding="utf-8") == result.to_html()
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    with pytest.raises(InvalidInputError, match=r"ends in .html or .json, found '.png'"):
        result.save(tmp_path / "result.png")
    assert not (tmp_path / "result.png").exists()
