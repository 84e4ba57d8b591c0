"""Searches by image that are answered together, each as if it were alone."""

import asyncio
import json
import threading

import pytest

from imgret.serve import Limits, app, work
from imgret.serve.work import Batcher


@pytest.fixture
def one_thread(monkeypatch):
    """Let one thread do all, so that requests wait for it."""
    monkeypatch.setattr(work, "worker_count", lambda: 1)


def asked(runs, *given):
    """Ask for everything at once; return answers and exceptions."""

    async def ask():
        return await asyncio.gather(*map(runs, given), return_exceptions=True)

    return asyncio.run(ask())


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3, 64])
def test_what_waits_is_answered_together(one_thread, most):
    sizes, begun = [], threading.Event()

    def double(given):
        sizes.append(len(given))
        begun.wait(0.2 if len(sizes) == 1 else 0)  # meanwhile the others come
        return [2 * each for each in given]

    runs = Batcher(double, most)
    assert asked(runs, *range(40)) == [2 * n for n in range(40)]
    assert sum(sizes) == 40
    assert max(sizes) <= most
    if most > 1:
        assert len(sizes) < 40
    assert asked(runs, 50) == [100]  # in another event loop
    assert sizes[-1] == 1
    runs.close()


def test_one_that_is_wrong_harms_no_other(one_thread):
    def inverse(given):
        return [1 / each for each in given]

    runs = Batcher(inverse, 8)
    found = asked(runs, 1, 2, 0, 4, 0, 5)
    assert [each for each in found if not isinstance(each, Exception)] == [1, 0.5, 0.25, 0.2]
    assert [type(each) for each in found].count(ZeroDivisionError) == 2
    runs.close()


def test_what_is_given_up_is_not_answered(one_thread):
    seen, go_on = [], threading.Event()

    def slow(given):
        seen.extend(given)
        go_on.wait(10)
        return given

    runs = Batcher(slow, 1)

    async def ask():
        first = asyncio.create_task(runs("first"))
        second = asyncio.create_task(runs("second"))
        third = asyncio.create_task(runs("third"))
        await asyncio.sleep(0.05)
        first.cancel()
        second.cancel()
        go_on.set()
        assert await third == "third"

    asyncio.run(ask())
    assert seen == ["first", "third"]
    runs.close()


def test_many_loops_and_threads():
    """No request is left over, however they meet."""
    runs = Batcher(list, 4)
    found = {}

    def ask(start):
        given = range(start, start + 50)
        found[start] = asked(runs, *given) == list(given)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == dict.fromkeys(range(0, 400, 50), True)
    runs.close()


# -- searches --------------------------------------------------------------------------------------


@pytest.fixture
def sizes(one_thread, monkeypatch):
    """Record the numbers of searches that are answered together."""
    found, answer = [], app.search_uploads

    def recorded(site, uploads):
        found.append(len(uploads))
        return answer(site, uploads)

    monkeypatch.setattr(app, "search_uploads", recorded)
    return found


def test_searches_of_one_run_are_what_each_is_alone(serve, gallery, flowers, sizes):
    client = serve(gallery, limits=Limits(concurrency=32))
    photo = {
        (species, n): (flowers / species / f"{n}.jpg").read_bytes()
        for species in ("daisy", "rose", "tulip")
        for n in range(4)
    }
    tulips = json.dumps({"label": "tulip"})
    questions = [
        (photo["rose", 0], {"limit": 5}, 200),
        (photo["rose", 1], {"limit": 5}, 200),
        (photo["rose", 2], {"limit": 3, "offset": 2}, 200),  # as many hits, of which two are left
        (photo["rose", 3], {"limit": 9}, 200),
        (photo["daisy", 0], {"limit": 5, "where": tulips}, 200),
        (photo["daisy", 1], {"limit": 5, "where": tulips}, 200),
        (photo["daisy", 2], {"limit": 5, "threshold": 2}, 200),
        (photo["daisy", 3], {"limit": 5, "box": "10,20,90,100"}, 200),
        (photo["tulip", 0], {"limit": 5, "box": "0,0,60,60"}, 200),
        (photo["tulip", 1], {"limit": 5, "box": "0,0,500,500"}, 400),
        (photo["tulip", 2][:700], {"limit": 5}, 422),
        (b"no image", {"limit": 5}, 422),
        (photo["tulip", 3], {"limit": 5, "where": '{"lable": 1}'}, 400),
        (photo["tulip", 3], {"limit": 5, "where": "{"}, 400),
    ]
    calls = [
        ("POST", "/api/search", {"content": data, "params": params})
        for data, params, _ in questions
    ]
    together = client.together(*calls)
    assert max(sizes) > 4
    assert [answer.status_code for answer in together] == [status for *_, status in questions]
    client = serve(gallery)  # which remembers nothing
    for call, answer in zip(calls, together, strict=True):
        found, expected = answer.json(), client(call[0], call[1], **call[2]).json()
        if "hits" in found:
            found.pop("seconds"), expected.pop("seconds")
            scores = [[hit.pop("score") for hit in page["hits"]] for page in (found, expected)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-5)
        assert found == expected
    pages = [answer.json() for answer in together]
    assert [len(page.get("hits", ())) for page in pages[:9]] == [5, 5, 3, 9, 5, 5, 0, 5, 5]
    assert {hit["label"] for page in pages[4:6] for hit in page["hits"]} == {"tulip"}
    assert pages[6]["no_match"].startswith("no match: the best score is")
    assert [page["box"] for page in pages[7:9]] == [[10, 20, 90, 100], [0, 0, 60, 60]]


def test_searches_by_image_have_the_limits_of_all(serve, gallery, flowers, one_thread, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(
        app, "search_uploads", lambda _, given: [b"{}"] * len(given) if go_on.wait(0.5) else []
    )
    data = (flowers / "rose" / "1.jpg").read_bytes()
    client = serve(gallery, limits=Limits(concurrency=1, waiting=2, seconds=0.1))
    answers = client.together(*[("POST", "/api/search", {"content": data})] * 5)
    assert sorted(answer.status_code for answer in answers) == [503, 503, 504, 504, 504]
    go_on.set()
    assert client.post("/api/search", content=data).status_code == 200
