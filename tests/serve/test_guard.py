"""Hosts, origins, tokens, limits, headers."""

import time

import pytest

from imgret.serve import Limits
from imgret.serve.guard import is_loopback

GALLERY = "/api/gallery"


# -- hosts and origins -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:8080", True),
        ("LOCALHOST", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("192.168.1.5:8080", True),  # an address is no name that others can point here
        ("photos.example", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("photos.example@evil.example", False),
        ("", False),
        ("[", False),
        ("localhost:port", True),
    ],
)
def test_hosts(serve, gallery, host, allowed):
    client = serve(gallery, hosts=["photos.example"])
    status = client.get(GALLERY, headers={"host": host}).status_code
    assert status == (200 if allowed else 421)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:8080"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_other_pages_may_not_change_anything(serve, gallery, headers, status):
    client = serve(gallery, write=True)
    answer = client("DELETE", "/api/items/rose/1.jpg", headers=headers)
    assert answer.status_code == status
    there = client.get("/api/items/rose/1.jpg/facts").status_code == 200
    assert there == (status == 403)


# -- token -----------------------------------------------------------------------------------------


def test_a_token(serve, gallery):
    client = serve(gallery, token="s3cret-token")
    refused = client.get(GALLERY)
    assert refused.status_code == 401
    assert "Authorization: Bearer" in refused.json()["error"]["message"]
    for given in ("Bearer s3cret-toke", "Bearer s3cret-token2", "Basic s3cret-token", "Bearer é"):
        headers = {"authorization": given.encode("latin-1")}
        assert client.get(GALLERY, headers=headers).status_code == 401
    headers = {"authorization": "Bearer s3cret-token"}
    assert client.get(GALLERY, headers=headers).status_code == 200
    assert client.get("/healthz").status_code == 200  # asked by what watches it
    assert client.get("/").status_code == 401


def test_a_link_with_the_token_sets_a_cookie(serve, gallery):
    client = serve(gallery, token="s3cret-token")
    assert client.get("/?token=wrong").status_code == 401
    answer = client.get("/?token=s3cret-token")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    named = cookie.split(";")[0]
    assert client.get(GALLERY, headers={"cookie": named}).status_code == 200
    assert client.get(GALLERY, headers={"cookie": "imgret_token=other"}).status_code == 401


# -- limits ----------------------------------------------------------------------------------------


def test_too_large_an_upload_is_refused_before_it_is_read(serve, gallery):
    client = serve(gallery, limits=Limits(bytes=1000))
    answer = client.post("/api/search", content=b"x" * 1001)
    assert answer.status_code == 413
    assert "at most" in answer.json()["error"]["message"]
    assert client.post("/api/search", content=b"x" * 1000).status_code == 422

    async def endless():
        for _ in range(3):
            yield b"x" * 400

    answer = client.post("/api/search", content=endless())  # no length is told
    assert answer.status_code == 413


def test_an_image_of_too_many_pixels(serve, gallery, flowers):
    client = serve(gallery, max_pixels=1000)
    data = (flowers / "rose" / "1.jpg").read_bytes()
    answer = client.post("/api/search", content=data)
    assert answer.status_code == 413
    assert "pixels" in answer.json()["error"]["message"]


def test_a_slow_request_is_given_up(serve, gallery, monkeypatch):
    client = serve(gallery, limits=Limits(seconds=0.05))
    monkeypatch.setattr(client.site, "facets", lambda: time.sleep(0.5))
    answer = client.get("/api/fields")
    assert answer.status_code == 504
    assert "--timeout" in answer.json()["error"]["message"]
    time.sleep(0.5)


def test_a_full_queue_is_refused(serve, gallery, monkeypatch):
    client = serve(gallery, limits=Limits(concurrency=1, waiting=2))
    monkeypatch.setattr(client.site, "facets", lambda: time.sleep(0.2) or [])
    answers = client.together(*[("GET", "/api/fields", {})] * 6)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200, 200, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert client.get("/api/fields").status_code == 200  # there is a place again


@pytest.mark.parametrize(
    "limits",
    [{"bytes": 0}, {"concurrency": 0}, {"seconds": 0}, {"waiting": -1}, {"hits": 0}],
)
def test_limits_are_checked(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        Limits(**limits)


# -- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["/", GALLERY, "/none", "/api/search", "/metrics"])
def test_every_answer_has_the_headers(client, url):
    headers = client.get(url).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers.get_list("content-security-policy") == [headers["content-security-policy"]]


def test_refusals_have_them_too(serve, gallery):
    client = serve(gallery, token="t")
    for answer in (client.get("/"), client.get("/", headers={"host": "evil.example"})):
        assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x.de", False)],
)
def test_is_loopback(host, expected):
    assert is_loopback(host) is expected
