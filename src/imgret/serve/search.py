"""Routes that search with an image, words or items: hits, the class, and why a hit is similar."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple, final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query, Request, Response
from starlette.routing import Match, Route

from imgret import images
from imgret.errors import InvalidInputError
from imgret.retriever import Retriever
from imgret.search.hits import Hits
from imgret.search.query import check_box, cut
from imgret.serve import answers
from imgret.serve.parameters import (
    JPEG,
    MOST,
    UPLOAD,
    Box,
    Keys,
    Limit,
    Offset,
    Text,
    Where,
    box_of,
    filter_of,
)
from imgret.serve.site import Site
from imgret.serve.work import Batcher, Executor
from imgret.types import Embeddings, Image

__all__ = ["PlainSearch", "add_search", "search_uploads"]

_PREVIEW = 1024  # pixels a side
_HEAT = 512  # the same, of a heat map
_NUMBER = re.compile("[0-9]{1,9}")


class _Upload(NamedTuple):
    """A search with one image and nothing else."""

    data: bytes
    box: tuple[int, int, int, int] | None
    where: str | None
    threshold: float | None
    offset: int
    limit: int


@final
class PlainSearch(Route):
    """The route of a search with an image and nothing else but paging and a filter.

    It comes before FastAPI's, which takes 0.17 ms to find and check the parameters of each request,
    where this takes 0.06. A request of any other form does not match, and neither does a wrong one:
    FastAPI's route says what is wrong with it.
    """

    def __init__(self, work: Executor, runs: Batcher[_Upload, bytes]) -> None:
        super().__init__("/api/search", self._answer, methods=["POST"], include_in_schema=False)
        self._work, self._runs = work, runs

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, MutableMapping[str, Any]]:
        """Take a request of this form."""
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != "POST":
            return Match.NONE, {}
        asked = _plain(scope["query_string"], self._work.limits.hits)
        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if asked is None or not length.strip(b"0"):
            return Match.NONE, {}
        return Match.FULL, {"endpoint": self.endpoint, "route": self, "asked": asked}

    async def _answer(self, request: Request) -> Response:
        asked = request.scope["asked"]._replace(data=await request.body())
        async with self._work.place():
            page = await self._runs(asked)
        return Response(page, media_type="application/json")


def _plain(query: bytes, hits: int) -> _Upload | None:
    """Return what a query string asks for; None if it has other parameters or wrong values."""
    named = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    given = {"offset": "0", "limit": "30", **dict(named)}
    where = given.pop("where", None)
    is_plain = len(given) == 2 and len({name for name, _ in named}) == len(named)
    if not is_plain or not all(_NUMBER.fullmatch(value) for value in given.values()):
        return None
    offset, limit = int(given["offset"]), int(given["limit"])
    if not 1 <= limit <= MOST or offset + limit > hits:
        return None
    return _Upload(b"", None, where, None, offset, limit)


def add_search(
    router: APIRouter, site: Site, work: Executor, runs: Batcher[_Upload, bytes]
) -> None:
    """Add the routes."""
    _add_hits(router, site, work, runs)
    _add_classes(router, site, work)
    _add_explanations(router, site, work)


def _add_hits(router: APIRouter, site: Site, work: Executor, runs: Batcher[_Upload, bytes]) -> None:
    limits = work.limits

    async def search(  # noqa: PLR0917  # the parameters of a URL, by name
        request: Request,
        text: Text = None,
        not_text: Text = None,
        like: Keys = None,
        unlike: Keys = None,
        box: Box = None,
        where: Where = None,
        threshold: float | None = None,
        offset: Offset = 0,
        limit: Limit = 30,
    ) -> Response:
        """Search with an image, with words, with items, or with all of these as one query."""
        upload = await request.body() or None
        region = box_of(box)
        if offset + limit > limits.hits:
            raise InvalidInputError(
                f"offset: expected at most {limits.hits - limit}, found {offset}; this server "
                f"pages through {limits.hits} hits"
            )
        if upload is not None and not (text or not_text or like or unlike):
            query = _Upload(upload, region, where, threshold, offset, limit)
            async with work.place():
                page = await runs(query)
        else:
            options = {
                "text": text,
                "negative_text": not_text,
                "keys": like,
                "negative_keys": unlike,
                "box": region,
                "where": filter_of(where),
                "threshold": threshold,
            }
            page = await work(partial(_search, site, upload, offset, limit, options))
        # Checked and written where it was made, in a thread: FastAPI would do both again here.
        return Response(page, media_type="application/json")

    names = "search_by_words", "search_by_image"
    _with_and_without_upload(router, "/search", search, names, response_model=answers.SearchPage)

    @router.post("/preview", response_class=Response, responses=JPEG, openapi_extra=UPLOAD)
    async def preview(request: Request) -> Response:
        """Return a JPEG of an image that the browser may not be able to show, such as TIFF."""
        upload = await request.body()

        def small() -> bytes:
            whole = images.load(upload, max_pixels=site.max_pixels, min_side=_PREVIEW)
            return images.encode(images.thumbnail(whole, _PREVIEW), "jpeg", quality=88)

        return Response(
            await work(small), media_type="image/jpeg", headers={"cache-control": "no-store"}
        )


def _add_classes(router: APIRouter, site: Site, work: Executor) -> None:
    async def classify(
        request: Request,
        key: Annotated[str | None, Query(description="An item, instead of an image.")] = None,
        k: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> answers.NameFacts:
        """Name the class of an image, by the labels of the nearest items."""
        upload = await request.body()
        return await work(partial(_classify, site, upload or None, key, k))

    _with_and_without_upload(router, "/classify", classify, ("classify_item", "classify_image"))


def _add_explanations(router: APIRouter, site: Site, work: Executor) -> None:
    async def explain(
        request: Request,
        key: Annotated[str, Query(description="The hit.")],
        like: Annotated[str | None, Query(description="An item, instead of an image.")] = None,
        text: Annotated[str | None, Query(description="Words, instead of an image.")] = None,
        box: Box = None,
    ) -> answers.ExplanationFacts:
        """Show which places of two images make them similar."""
        upload = await request.body() or None
        return await work(partial(_explain, site, upload, key, like, text, box_of(box)))

    _with_and_without_upload(router, "/explain", explain, ("explain_items", "explain_image"))


def _with_and_without_upload(
    router: APIRouter,
    path: str,
    endpoint: Callable[..., Any],
    names: tuple[str, str],
    **options: Any,
) -> None:
    """Add a route for GET, and for POST with an image, by the names in the description."""
    for method, name, extra in (("GET", names[0], None), ("POST", names[1], UPLOAD)):
        router.add_api_route(
            path, endpoint, methods=[method], operation_id=name, openapi_extra=extra, **options
        )


# -- hits ----------------------------------------------------------------------------------------


def search_uploads(site: Site, uploads: Sequence[_Upload]) -> list[bytes]:
    """Answer searches with an image each; those that ask for the same are one batch."""
    # Only a thread of its own is not slower if all cores embed meanwhile.
    from imgret.indexes.faiss.base import threads  # noqa: PLC0415  # loads Faiss

    started = time.perf_counter()
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, each in enumerate(uploads):
        k = each.offset + each.limit + 1  # one more tells whether there are further ones
        alike.setdefault((k, each.where, each.threshold, each.box is None), []).append(place)
    pages = [b""] * len(uploads)
    with site.use() as retriever, threads(0.0):
        for (k, where, threshold, _), places in alike.items():
            wanted = filter_of(where)
            if wanted is not None:
                retriever.view(wanted)  # raises what is wrong with it before an image is read
            vectors = _embed(site, retriever, [uploads[place] for place in places])
            found = retriever.search_vectors(vectors, k, where=wanted, threshold=threshold)
            for place, hits in zip(places, found, strict=True):
                each = uploads[place]
                size = images.header(each.data).size
                pages[place] = _page(
                    hits, each.offset, each.limit, box=each.box, size=size, started=started
                )
    return pages


def _embed(site: Site, retriever: Retriever, uploads: Sequence[_Upload]) -> Embeddings:
    """Embed uploads, all of them with a box or none."""
    if uploads[0].box is None:
        return retriever.embed([each.data for each in uploads], threads=1)
    parts = [cut(each.data, check_box(each.box), site.max_pixels) for each in uploads]
    return site.embed_parts(retriever, parts)


def _search(
    site: Site, upload: bytes | None, offset: int, limit: int, options: dict[str, Any]
) -> bytes:
    started = time.perf_counter()
    with site.use() as retriever:
        hits = retriever.search(upload, offset + limit + 1, **options)
        size = None if upload is None else images.header(upload).size
        return _page(hits, offset, limit, box=hits.box, size=size, started=started)


def _page(
    hits: Hits,
    offset: int,
    limit: int,
    *,
    box: tuple[int, int, int, int] | None,
    size: tuple[int, int] | None,
    started: float,
) -> bytes:
    page = answers.SearchPage(
        hits=[
            answers.HitFacts(
                key=hit.key,
                rank=hit.rank,
                score=hit.score,
                label=hit.label,
                probability=hit.probability,
                box=hit.box,
                metadata=dict(hit.metadata),
                image=hit.path is not None,
            )
            for hit in hits[offset : offset + limit]
        ],
        offset=offset,
        more=len(hits) > offset + limit,
        no_match=hits.no_match,
        box=box,
        size=size,
        seconds=time.perf_counter() - started,
    )
    return page.model_dump_json().encode()


# -- classes and reasons -------------------------------------------------------------------------


def _classify(site: Site, upload: bytes | None, key: str | None, k: int) -> answers.NameFacts:
    with site.use() as retriever:
        if upload is None and key is None:
            raise InvalidInputError("key: expected an image or a key, found neither")
        name = retriever.classify(site.file_of(str(key)).read() if upload is None else upload, k)
        return answers.NameFacts(
            label=name.label,
            confidence=name.confidence,
            threshold=name.threshold,
            votes=dict(name.votes),
        )


def _explain(  # noqa: PLR0917  # what a URL says, by name
    site: Site,
    upload: bytes | None,
    key: str,
    like: str | None,
    text: str | None,
    box: tuple[int, int, int, int] | None,
) -> answers.ExplanationFacts:
    with site.use() as retriever:
        query: Any = upload
        if query is None and like is not None:
            query = site.file_of(like).read()
        if query is None and text is None:
            raise InvalidInputError("like: expected an image, an item or words, found none")
        words = None if query is not None else text
        found = site.explain(retriever, query, key, text=words, box=box)
    return answers.ExplanationFacts(
        method=found.method,
        reason=found.reason or "",
        score=found.score,
        query=None if found.query is None else _data_url(found.query.overlay()),
        hit=_data_url(found.hit.overlay()),
        regions=[
            answers.RegionFacts(query=each.query, hit=each.hit, share=each.share)
            for each in found.regions
        ],
    )


def _data_url(image: Image) -> str:
    data = images.encode(images.thumbnail(image, _HEAT), "jpeg", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
