"""What the API answers."""

import base64
import json
import threading
import time
from urllib.parse import quote

import numpy as np
import pytest

from imgret import Retriever, images
from imgret.curation import draw_map, find_duplicates


def soon(true, seconds=30):
    """Wait until something is true: a change by others is seen after a second or so."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return true()


def error_of(answer):
    return answer.json()["error"]["message"]


def ended(client, view):
    """Ask for a view of the gallery until the work on it has ended."""
    while (answer := client.get(f"/api/curate/{view}").json())["state"] == "running":
        assert answer["done"] <= answer["total"]
    return answer


# -- searching -------------------------------------------------------------------------------------


def test_search_by_image_finds_what_the_library_finds(client, gallery, flowers):
    data = (flowers / "rose" / "2.jpg").read_bytes()
    found = client.post("/api/search", content=data, params={"limit": 5}).json()
    with Retriever.open(gallery) as retriever:
        expected = retriever.search(data, 5)
    assert [hit["key"] for hit in found["hits"]] == [hit.key for hit in expected]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx(
        [hit.score for hit in expected], abs=1e-4
    )
    assert found["hits"][0]["metadata"] == {"n": 2, "place": {"row": 0}}
    assert (found["size"], found["more"], found["offset"]) == ([160, 120], True, 0)


def test_a_plain_search_is_answered_as_any_other(client, flowers):
    data = (flowers / "rose" / "2.jpg").read_bytes()
    asked = [
        {},
        {"limit": "7", "offset": "3"},
        {"where": '{"label": "rose"}', "limit": "5"},
        {"limit": "0"},
        {"limit": "201"},
        {"limit": ""},
        {"limit": "1_0"},
        {"offset": "-1"},
        {"offset": "\N{SUPERSCRIPT TWO}"},
        {"offset": "9" * 5000},
        {"offset": "9999", "limit": "2"},
        {"where": "[1"},
        {"where": ""},
    ]
    for params in asked:
        # An unknown parameter is ignored, so that FastAPI's own route gets the request.
        answers = [
            client.post("/api/search", content=data, params=all_of)
            for all_of in (params, {**params, "unknown": "1"})
        ]
        plain, checked = (answer.json() for answer in answers)
        for page in (plain, checked):
            page.pop("seconds", None)
        assert plain == checked, params
        assert answers[0].status_code == answers[1].status_code
    empty = client.post("/api/search", content=b"")
    assert (empty.status_code, empty.json()) == (
        400,
        client.post("/api/search", content=b"", params={"unknown": "1"}).json(),
    )
    twice = client.post("/api/search?limit=5&limit=6", content=data).json()
    assert len(twice["hits"]) == 6


def test_pages_follow_on_each_other(client, flowers):
    data = (flowers / "rose" / "2.jpg").read_bytes()
    whole = client.post("/api/search", content=data, params={"limit": 36}).json()
    assert not whole["more"]
    keys = []
    for offset in range(0, 36, 7):
        params = {"limit": 7, "offset": offset}
        page = client.post("/api/search", content=data, params=params).json()
        keys += [hit["key"] for hit in page["hits"]]
        assert [hit["rank"] for hit in page["hits"]] == list(
            range(offset + 1, offset + 1 + len(page["hits"]))
        )
        assert page["more"] == (offset + 7 < 36)
    assert keys == [hit["key"] for hit in whole["hits"]]


def test_items_and_marks_are_parts_of_a_query(client, gallery, flowers):
    found = client.get("/api/search", params={"like": "rose/1.jpg", "limit": 5}).json()
    with Retriever.open(gallery) as retriever:
        expected = [hit.key for hit in retriever.search_key("rose/1.jpg", 5)]
        data = (flowers / "tulip" / "0.jpg").read_bytes()
        marked = retriever.search(
            data, 5, keys=["tulip/1.jpg", "tulip/2.jpg"], negative_keys="rose/0.jpg"
        )
    assert [hit["key"] for hit in found["hits"]] == expected
    params = {"like": ["tulip/1.jpg", "tulip/2.jpg"], "unlike": "rose/0.jpg", "limit": 5}
    found = client.post("/api/search", content=data, params=params).json()
    assert [hit["key"] for hit in found["hits"]] == [hit.key for hit in marked]
    assert not {hit["key"] for hit in found["hits"]} & {"tulip/1.jpg", "tulip/2.jpg", "rose/0.jpg"}


def test_a_box_and_a_filter(client, gallery, flowers):
    data = (flowers / "rose" / "2.jpg").read_bytes()
    params = {
        "box": "10,20,90,100",
        "where": json.dumps({"label": {"$ne": "rose"}, "place.row": 1}),
        "limit": 6,
    }
    found = client.post("/api/search", content=data, params=params).json()
    with Retriever.open(gallery) as retriever:
        where = {"label": {"$ne": "rose"}, "place.row": 1}
        expected = retriever.search(data, 6, box=(10, 20, 90, 100), where=where)
    assert [hit["key"] for hit in found["hits"]] == [hit.key for hit in expected]
    assert found["box"] == [10, 20, 90, 100]


def test_words(serve, tmp_path, flowers, request):
    pytest.importorskip("tokenizers")
    model = request.path.parents[1] / "data" / "models" / "clip"
    with Retriever.open(tmp_path / "c.imgret", "a", embedder=model) as retriever:
        retriever.add_folder(flowers, progress=False)
        expected = [hit.key for hit in retriever.search_text("a red rose", 4, negative_text="snow")]
    client = serve(tmp_path / "c.imgret")
    assert client.get("/api/gallery").json()["reads_text"] is True
    params = {"text": "a red rose", "not_text": "snow", "limit": 4}
    found = client.get("/api/search", params=params).json()
    assert [hit["key"] for hit in found["hits"]] == expected


def test_the_class_of_an_image(client, gallery, flowers):
    data = (flowers / "daisy" / "3.jpg").read_bytes()
    with Retriever.open(gallery) as retriever:
        expected = retriever.classify(data)
    found = client.post("/api/classify", content=data).json()
    assert (found["label"], found["confidence"]) == (
        expected.label,
        pytest.approx(expected.confidence, abs=1e-4),
    )
    assert client.get("/api/classify", params={"key": "daisy/3.jpg"}).json()["votes"]


def test_why_a_hit_is_similar(client, gallery, flowers):
    data = (flowers / "rose" / "3.jpg").read_bytes()
    with Retriever.open(gallery) as retriever:
        expected = retriever.explain_match(data, "rose/4.jpg")
    found = client.post("/api/explain", content=data, params={"key": "rose/4.jpg"}).json()
    assert (found["method"], found["score"]) == (
        expected.method,
        pytest.approx(expected.score, abs=1e-4),
    )
    assert [tuple(r["hit"]) for r in found["regions"]] == [tuple(r.hit) for r in expected.regions]
    for side in ("query", "hit"):
        head, _, coded = found[side].partition(",")
        assert head == "data:image/jpeg;base64"
        assert images.load(base64.b64decode(coded)).shape == (120, 160, 3)
    params = {"key": "rose/4.jpg", "like": "rose/3.jpg"}
    by_item = client.get("/api/explain", params=params).json()
    assert by_item["score"] == pytest.approx(found["score"], abs=1e-3)
    for params, status in (({"key": "none"}, 400), ({"key": "none", "like": "rose/3.jpg"}, 404)):
        assert client.get("/api/explain", params=params).status_code == status


@pytest.mark.parametrize(
    ("params", "status", "message"),
    [
        ({}, 400, "image: expected"),
        ({"like": "none.jpg"}, 404, "found 'none.jpg'"),
        ({"like": "rose/1.jpg", "limit": 0}, 400, "limit"),
        ({"like": "rose/1.jpg", "limit": "many"}, 400, "limit"),
        ({"like": "rose/1.jpg", "offset": 10_000}, 400, "pages through 10000 hits"),
        ({"like": "rose/1.jpg", "where": "{"}, 400, "where: expected JSON"),
        ({"like": "rose/1.jpg", "where": '{"lable": 1}'}, 400, "lable"),
        ({"like": "rose/1.jpg", "box": "1,2,3"}, 400, "box: expected x0,y0,x1,y1"),
        ({"like": "rose/1.jpg", "threshold": "nan"}, 400, "threshold"),
        ({"text": "rose"}, 422, "expected an embedder that reads text"),
    ],
)
def test_mistakes_of_a_search(client, params, status, message):
    answer = client.get("/api/search", params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert message in error_of(answer)


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"GIF89a\x10\x00\x10\x00", 422), (b"\x00" * 1000, 422), (b"<svg/>", 422)],
)
def test_a_broken_upload(client, data, status):
    for route in ("search", "classify"):
        answer = client.post(f"/api/{route}", content=data)
        assert answer.status_code == status
        assert error_of(answer)


@pytest.mark.parametrize("where", ["{", '{"lable": 1}', '{"n": {"$no": 1}}'])
@pytest.mark.parametrize("other", [{}, {"text": "rose"}, {"like": "rose/1.jpg"}])
def test_a_wrong_filter_is_named_before_a_broken_upload(client, where, other):
    params = {"where": where, **other}
    answer = client.post("/api/search", content=b"\x00" * 1000, params=params)
    assert (answer.status_code, error_of(answer)[:6]) == (400, "where:")


def test_a_cut_off_jpeg(client, flowers):
    data = (flowers / "rose" / "2.jpg").read_bytes()[:700]
    assert client.post("/api/search", content=data).status_code == 422


def test_messages_name_no_folder_of_the_server(client, gallery):
    message = error_of(client.get("/api/search", params={"text": "rose"}))
    assert "general.onnx" in message
    assert "/models/" not in message
    message = error_of(client.get("/api/items/rose%2Fno%2F1.jpg/facts"))
    assert "rose/no/1.jpg" in message


# -- items -----------------------------------------------------------------------------------------


def test_items(client):
    page = client.get("/api/items", params={"limit": 4, "offset": 2}).json()
    assert (page["total"], len(page["items"]), page["offset"]) == (36, 4, 2)
    where = json.dumps({"label": "tulip"})
    assert client.get("/api/items", params={"where": where}).json()["total"] == 12
    facts = client.get("/api/items/rose/1.jpg/facts").json()
    assert (facts["label"], facts["size"], facts["metadata"]["n"]) == ("rose", [160, 120], 1)


@pytest.mark.parametrize("route", ["thumbnail", "image"])
def test_pictures(client, flowers, route):
    answer = client.get(f"/api/items/{quote('rose/1.jpg', safe='')}/{route}")
    assert answer.headers["content-type"] == "image/jpeg"
    shown = images.load(answer.content)
    assert np.abs(shown.astype(int) - images.load(flowers / "rose" / "1.jpg")).mean() < 4


@pytest.mark.parametrize("key", ["a/image", "thumbnail", "x y&z?#%2F+.jpg", "ünï/❤.jpg", "a//b"])
def test_any_key(serve, tmp_path, flowers, key):
    with Retriever.open(tmp_path / "k.imgret", "a") as retriever:
        retriever.add(flowers / "rose" / "0.jpg", keys=key, labels="rose")
    client = serve(tmp_path / "k.imgret", write=True)
    named = quote(key, safe="")
    assert client.get(f"/api/items/{named}/facts").json()["key"] == key
    assert client.get(f"/api/items/{named}/thumbnail").status_code == 200
    changed = client("PATCH", f"/api/items/{named}", json={"label": "tulip"})
    assert changed.json() == {"key": key, "label": "tulip", "removed": False}
    assert client("DELETE", f"/api/items/{named}").json()["removed"]
    assert client.get(f"/api/items/{named}/facts").status_code == 404


def test_an_item_without_a_picture(serve, tmp_path, flowers):
    with Retriever.open(tmp_path / "k.imgret", "a") as retriever:
        retriever.add_vectors(np.eye(2, retriever.embedder.dim), keys=["a", "b"])
        retriever.add(flowers / "rose" / "0.jpg", keys="c")
    client = serve(tmp_path / "k.imgret")
    assert client.get("/api/items/a/facts").json()["image"] is False
    answer = client.get("/api/items/a/image")
    assert (answer.status_code, "without" in error_of(answer)) == (404, True)
    assert client.get("/api/items/none/thumbnail").status_code == 404
    assert client.get("/api/items/c/thumbnail", params={"side": 5000}).status_code == 400


def test_a_picture_that_is_gone(client, flowers, tmp_path, gallery, serve):
    with Retriever.open(tmp_path / "k.imgret", "a") as retriever:
        lost = tmp_path / "lost.jpg"
        lost.write_bytes((flowers / "rose" / "0.jpg").read_bytes())
        retriever.add(lost, keys="lost")
    lost.unlink()
    answer = serve(tmp_path / "k.imgret").get("/api/items/lost/thumbnail")
    assert answer.status_code == 404
    assert "put the file back, or index the folder it was moved to" in error_of(answer)


@pytest.mark.parametrize("route", ["thumbnail", "image"])
def test_a_picture_that_is_another_by_now(flowers, tmp_path, serve, route):
    with Retriever.open(tmp_path / "k.imgret", "a") as retriever:
        photo = tmp_path / "a.jpg"
        photo.write_bytes((flowers / "rose" / "0.jpg").read_bytes())
        retriever.add(photo, keys="a")
    photo.write_bytes((flowers / "tulip" / "0.jpg").read_bytes())
    answer = serve(tmp_path / "k.imgret").get(f"/api/items/a/{route}")
    assert answer.status_code == 404
    assert "not the one that was indexed" in error_of(answer)


# -- facets and curation ---------------------------------------------------------------------------


def test_fields(client):
    fields = {facet["field"]: facet for facet in client.get("/api/fields").json()}
    assert list(fields) == ["label", "n", "place.row"]
    assert {v["value"]: v["items"] for v in fields["label"]["values"]} == dict.fromkeys(
        ("daisy", "rose", "tulip"), 12
    )
    assert (fields["n"]["least"], fields["n"]["most"]) == (0, 11)
    for facet in fields.values():
        for each in facet["values"]:  # and what is told is found
            where = json.dumps({facet["field"]: each["value"]})
            total = client.get("/api/items", params={"where": where}).json()["total"]
            assert total == each["items"]


def test_curation(client, gallery):
    with Retriever.open(gallery) as retriever:
        outliers = [each.key for each in retriever.outliers(5)]
        map_ = retriever.map2d()
    assert [each["key"] for each in client.get("/api/curate/outliers?n=5").json()] == outliers
    assert client.get("/api/curate/clusters?n=3").status_code == 200
    assert isinstance(client.get("/api/curate/mislabelled").json(), list)
    drawn = ended(client, "map")
    assert drawn["keys"] == list(map_.keys)
    assert drawn["x"] == pytest.approx(map_.coordinates[:, 0].tolist(), abs=1e-5)


def test_a_map_is_laid_out_in_the_background_and_kept(client, monkeypatch):
    held, calls = threading.Event(), []

    def lay_out(retriever, *, progress):
        calls.append(retriever)
        progress(1, 4)
        held.wait(30)
        return draw_map(retriever.view(), method="pca")

    monkeypatch.setattr("imgret.serve.app._PATIENCE", 0.2)
    monkeypatch.setattr(Retriever, "map2d", lay_out)
    found = client.get("/api/curate/map").json()
    assert (found["state"], found["done"], found["total"], found["keys"]) == ("running", 1, 4, [])
    held.set()
    found = ended(client, "map")
    assert (found["method"], len(found["x"]), len(calls)) == ("pca", 36, 1)


def test_a_map_of_too_few_images(serve, gallery):
    with Retriever.open(gallery, "r+") as retriever:
        retriever.remove(retriever.view().keys()[2:])
    answer = serve(gallery).get("/api/curate/map")
    assert answer.status_code == 400
    assert error_of(answer) == "map2d: expected at least 3 items, found 2"


def test_duplicates(serve, gallery, flowers, tmp_path):
    small = tmp_path / "small.jpg"
    small.write_bytes(images.encode(images.thumbnail(images.load(flowers / "rose/1.jpg"), 90)))
    with Retriever.open(gallery, "r+") as retriever:
        retriever.add(small, keys="small.jpg")
    client = serve(gallery)
    found = ended(client, "duplicates")
    assert (found["state"], found["hidden"], found["removable"], found["unhashed"]) == (
        "done",
        0,
        1,
        0,
    )
    (group,) = found["groups"]
    first, second = group["files"]
    assert (first["key"], second["key"], group["best"]) == ("rose/1.jpg", "small.jpg", 0)
    assert (second["width"], second["height"], second["size"]) == (90, 68, small.stat().st_size)
    assert second["mtime_ns"] == str(small.stat().st_mtime_ns)
    assert str(tmp_path) not in json.dumps(found)
    assert client.get("/api/curate/duplicates").json() == found  # not searched again
    small.unlink()
    with Retriever.open(gallery, "r+") as retriever:
        retriever.remove("small.jpg")

    def none_left():
        found = client.get("/api/curate/duplicates").json()
        return found["state"] == "done" and found["groups"] == []

    assert soon(none_left)


def test_a_failed_search_for_duplicates_is_tried_again(client, monkeypatch):
    class Failing:
        calls = 0

        def __call__(self, *args, **options):
            self.calls += 1
            if self.calls == 1:
                raise OSError("the disk went away")
            return find_duplicates(*args, **options)

    monkeypatch.setattr("imgret.serve.duplicates.find_duplicates", Failing())

    def state():
        found = ended(client, "duplicates")
        return found["state"], found["message"]

    assert state() == ("failed", "the disk went away")
    assert state() == ("done", "")


# -- changes ---------------------------------------------------------------------------------------


def test_reading_is_the_default(client):
    for method, options in (("PATCH", {"json": {"label": "x"}}), ("DELETE", {})):
        answer = client(method, "/api/items/rose/1.jpg", **options)
        assert answer.status_code == 403
        assert "--write" in error_of(answer)
    assert client.get("/api/gallery").json()["writable"] is False


def test_two_tabs_relabel(serve, gallery):
    client = serve(gallery, write=True)
    url = "/api/items/rose/1.jpg"
    assert client("PATCH", url, json={"label": "tulip", "expected": "rose"}).status_code == 200
    answer = client("PATCH", url, json={"label": "daisy", "expected": "rose"})
    assert answer.status_code == 409
    assert "found 'tulip'" in error_of(answer)
    assert client.get(f"{url}/facts").json()["label"] == "tulip"
    assert client("PATCH", url, json={"label": None}).json()["label"] is None
    counts = {v["value"]: v["items"] for v in client.get("/api/fields").json()[0]["values"]}
    assert counts["rose"] == 11  # counted again
    assert client("DELETE", "/api/items/none").status_code == 404


def test_another_process_writes(serve, gallery):
    client = serve(gallery, write=True)
    with Retriever.open(gallery, "r+") as other:
        answer = client("DELETE", "/api/items/rose/1.jpg")
        assert answer.status_code == 409
        other.remove("rose/2.jpg")
    assert soon(lambda: client.get("/api/items/rose/2.jpg/facts").status_code == 404)
    assert client("DELETE", "/api/items/rose/1.jpg").status_code == 200


# -- the rest --------------------------------------------------------------------------------------


def test_health_and_metrics(client, flowers):
    assert client.get("/healthz").json()["status"] == "ok"
    data = (flowers / "rose" / "2.jpg").read_bytes()
    client.post("/api/search", content=data)
    client.get("/api/search", params={"like": "none"})
    text = client.get("/metrics").text
    assert 'imgret_requests_total{route="/api/search",status="200"} 1.0' in text
    assert 'imgret_requests_total{route="/api/search",status="404"} 1.0' in text
    assert "imgret_items 36.0" in text
    assert "imgret_batch_images_count 1.0" in text


def test_the_description(client):
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {"/api/search", "/api/items/{key}/thumbnail", "/api/classify"} <= set(paths)
    assert "requestBody" in paths["/api/search"]["post"]


def test_the_page_and_its_parts(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name in ("../app.py", "..%2f..%2fetc%2fpasswd", "none.js", "index.html"):
        assert client.get(f"/assets/{name}").status_code == 404
    assert client.get("/none").json()["error"]["kind"] == "Not Found"
