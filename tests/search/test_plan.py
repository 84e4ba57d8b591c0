"""The plan of a search, as text, as JSON and as a page."""

from dataclasses import replace

from imgret.search.plan import SearchPlan

PLAN = SearchPlan(
    way="index, then filter",
    index="hnsw",
    settings={"efSearch": 64, "M": 16},
    k=10,
    n_queries=1,
    items=12_000,
    matching=9000,
    compared=1500,
    reason="most items match",
)


def test_a_plan_says_the_way_and_what_it_costs():
    assert str(PLAN).splitlines() == [
        "index, then filter: most items match",
        "  index     hnsw (efSearch=64, M=16)",
        "  matching  about 9,000 of 12,000 items",
        "  compared  about 1,500 vectors per query",
    ]
    exact = replace(PLAN, way="exact", settings={})
    assert str(exact).splitlines()[1:3] == [
        "  index     hnsw",
        "  matching  9,000 of 12,000 items",
    ]
    page = PLAN.to_html()
    for text in ("index, then filter", "most items match", "about 9,000 of 12,000 items"):
        assert text in page
    assert PLAN.to_dict() == {
        "way": "index, then filter",
        "index": "hnsw",
        "settings": {"efSearch": 64, "M": 16},
        "k": 10,
        "n_queries": 1,
        "items": 12_000,
        "matching": 9000,
        "compared": 1500,
        "reason": "most items match",
    }
