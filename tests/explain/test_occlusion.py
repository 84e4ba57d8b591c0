"""Occlusion: works with every embedder, and finds what was planted."""

from pathlib import Path

import numpy as np
import pytest

from imgret import OnnxEmbedder, Retriever
from imgret.embedders import TwoViewEmbedder
from imgret.explain.occlude import GRID

MODELS = Path(__file__).parents[1] / "data" / "models"


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (230, 150), (115, 75)])
def test_the_heat_is_where_the_flower_is(planted, mean_color, middle_of_heat, metric, x, y):
    retriever = Retriever(embedder=mean_color, metric=metric)
    retriever.add(planted(115, 75), keys="a")
    found = retriever.explain_match(planted(x, y), planted(x, y))
    assert found.method == "occlusion"
    assert "expected an OnnxEmbedder" in found.reason
    assert found.query_map.shape == found.hit_map.shape == (GRID, GRID)
    for heat in (found.query, found.hit):
        at_x, at_y = middle_of_heat(heat)
        # Half a place more at each side: heat is greatest at the centre of a place.
        assert x - 20 <= at_x < x + 110
        assert y - 15 <= at_y < y + 105
        assert heat.values.sum() + heat.rest == pytest.approx(found.score, abs=1e-4)


@pytest.mark.slow
def test_it_can_be_asked_for(flowers, folder):
    found = flowers.explain_match(folder / "rose" / "0.jpg", "rose/1.jpg", method="occlusion")
    assert (found.method, found.reason) == ("occlusion", "")
    exact = flowers.explain_match(folder / "rose" / "0.jpg", "rose/1.jpg")
    assert exact.method == "exact"
    assert found.score == exact.score
    # The grid covers what the network sees, and so the same as the exact one.
    assert found.query.area == pytest.approx(exact.query.area)


@pytest.mark.slow
def test_two_views_are_not_a_sum_over_places(planted, middle_of_heat):
    retriever = Retriever(embedder=TwoViewEmbedder("general", "center"))
    retriever.add(planted(115, 75), keys="a")
    found = retriever.explain_match(planted(115, 75), planted(115, 75))
    assert found.method == "occlusion"
    assert found.reason.startswith("two-view: expected an OnnxEmbedder")
    at_x, at_y = middle_of_heat(found.query)
    assert 115 <= at_x < 205
    assert 75 <= at_y < 165


def test_a_transformer_that_takes_one_token(folder):
    retriever = Retriever(embedder=MODELS / "dinov2")
    retriever.add_folder(folder / "rose", progress=False)
    found = retriever.explain_match(folder / "rose" / "0.jpg", "1.jpg")
    assert found.method == "occlusion"
    assert "pooling" in found.reason
    assert np.isfinite(found.query_map).all()


def test_a_text_has_heat_on_the_hit_alone(folder):
    retriever = Retriever(embedder=OnnxEmbedder(MODELS / "clip"))
    retriever.add_folder(folder / "rose", progress=False)
    hit = retriever.search_text("a red rose", 1)[0]
    found = retriever.explain_match(None, hit, text="a red rose")
    assert found.score == pytest.approx(hit.score, abs=1e-3)
    assert found.query is None
    assert found.query_map is None
    assert found.regions == ()
    assert found.query_name == "a red rose"
    assert found.hit_map.shape == (GRID, GRID)
    assert "a red rose" in found.to_html()
    assert found.to_dict()["query_map"] is None


@pytest.mark.slow
def test_a_large_image_is_made_smaller_first(planted, monkeypatch):
    from imgret.explain import occlude

    seen = []
    of_hidden = occlude._hidden
    monkeypatch.setattr(
        occlude, "_hidden", lambda image, *rest: seen.append(image.shape) or of_hidden(image, *rest)
    )
    retriever = Retriever()
    retriever.add(planted(115, 75), keys="a")
    large = planted(460, 300, size=(1280, 960), side=360)
    retriever.explain_match(large, planted(115, 75), method="occlusion")
    assert (512, 683, 3) in seen
    assert max(seen) == (512, 683, 3)
