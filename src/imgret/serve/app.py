"""The application: routes, errors, metrics; those that search are in `imgret.serve.search`."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable
from functools import cache, partial
from http import HTTPStatus
from importlib import resources
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from imgret import images
from imgret.errors import (
    EmptyGalleryError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImgretError,
    InvalidInputError,
    KeyNotFoundError,
    MissingExtraError,
    StoreError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
    UnknownNameError,
    UnsupportedError,
)
from imgret.files import ItemFile
from imgret.pages.review import FORMAT, ReviewGroup
from imgret.retriever import Retriever
from imgret.serve import answers
from imgret.serve.guard import Guard, Limits
from imgret.serve.metrics import Metrics, MetricsMiddleware
from imgret.serve.parameters import JPEG, Key, Limit, Offset, Where, filter_of
from imgret.serve.search import PlainSearch, add_search, search_uploads
from imgret.serve.site import Site
from imgret.serve.work import Batcher, Busy, Executor, TooSlow
from imgret.types import Item, Json
from imgret.version import __version__

__all__ = ["create_app"]

_log = logging.getLogger(__name__)

_THUMBNAIL, _LARGE = (96, 512), (512, 2048)  # least and most pixels a side
_PATIENCE = 2.0  # seconds a request waits for work in the background
# The status of an error, the most special class first.
_STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (KeyNotFoundError, HTTPStatus.NOT_FOUND),
    (ImageNotFoundError, HTTPStatus.NOT_FOUND),
    (ImageTooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (ImageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (StoreReadOnlyError, HTTPStatus.FORBIDDEN),
    (StoreLockedError, HTTPStatus.CONFLICT),
    (StoreNotFoundError, HTTPStatus.CONFLICT),
    (EmptyGalleryError, HTTPStatus.CONFLICT),
    (UnsupportedError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (MissingExtraError, HTTPStatus.NOT_IMPLEMENTED),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (InvalidInputError, HTTPStatus.BAD_REQUEST),
    (UnknownNameError, HTTPStatus.BAD_REQUEST),
)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    int(status): {"model": answers.Error, "description": status.phrase}
    for status in sorted(
        {
            *(status for _, status in _STATUS),
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.GATEWAY_TIMEOUT,
            HTTPStatus.SERVICE_UNAVAILABLE,
        }
    )
}
_ASSETS = {
    "app.css": "text/css",
    "page.css": "text/css",
    "api.js": "text/javascript",
    "app.js": "text/javascript",
    "ask.js": "text/javascript",
    "crop.js": "text/javascript",
    "detail.js": "text/javascript",
    "dom.js": "text/javascript",
    "duplicates.js": "text/javascript",
    "explain.js": "text/javascript",
    "facets.js": "text/javascript",
    "hits.js": "text/javascript",
    "keys.js": "text/javascript",
    "map.js": "text/javascript",
    "marks.js": "text/javascript",
    "name.js": "text/javascript",
    "query.js": "text/javascript",
    "results.js": "text/javascript",
    "start.js": "text/javascript",
    "views.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

# The folders of an absolute path, which are nobody's business but the server's.
_FOLDERS = re.compile(
    r"""(?<![^\s('"=])(?:[A-Za-z]:)?(?:[\\/][^\s\\/:,;()'"]+)+[\\/](?=[^\s\\/])"""
)


def create_app(
    site: Site,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: Iterable[str] = (),
) -> Guard:
    """Make the application, for any ASGI server.

    Parameters
    ----------
    site : Site
        What is served; closed when the server shuts down.
    limits : Limits, optional
    token : str, optional
        Secret that every request must have; see ``imgret.serve.guard``.
    hosts : iterable of str
        Host names the server may be called by besides ``localhost`` and addresses.

    Returns
    -------
    Guard
        The ASGI application.
    """
    limits = Limits() if limits is None else limits
    metrics = Metrics()
    site.observe = metrics.batches.observe
    runs = Batcher(partial(search_uploads, site), limits.concurrency)
    app = FastAPI(
        title="imgret",
        version=__version__,
        summary="Search a gallery of images by image and by words.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan(runs, site),
    )
    _add_errors(app)
    _add_metrics(app, metrics, site)
    work = Executor(limits)
    app.router.routes.insert(0, PlainSearch(work, runs))
    app.include_router(_api(site, work, runs))
    app.include_router(_pages())
    return Guard(app, hosts=hosts, token=token, limits=limits)


def _lifespan(
    runs: Batcher[Any, Any], site: Site
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(runs.close)
        await anyio.to_thread.run_sync(site.close)

    return lifespan


# -- errors and metrics --------------------------------------------------------------------------


def _problem(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    return JSONResponse({"error": {"kind": kind, "message": message}}, status, headers)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ImgretError)
    async def refused(_: Request, error: ImgretError) -> Response:
        status = next(
            (status for kind, status in _STATUS if isinstance(error, kind)),
            HTTPStatus.INTERNAL_SERVER_ERROR,
        )
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("%s", error, exc_info=error)
        message = _FOLDERS.sub("", str(error.args[0] if error.args else ""))
        return _problem(status, type(error).__name__, message)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        message = f"{place}: {first['msg']}, found {first.get('input')!r}"
        return _problem(HTTPStatus.BAD_REQUEST, "InvalidInputError", message)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        return _problem(error.status_code, phrase, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Busy)
    async def busy(_: Request, __: Busy) -> Response:
        message = "expected a server with a free place, found it busy; try again in a moment"
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "Busy", message, {"retry-after": "1"})

    @app.exception_handler(TooSlow)
    async def slow(_: Request, __: TooSlow) -> Response:
        message = "the request took longer than the server allows (--timeout)"
        return _problem(HTTPStatus.GATEWAY_TIMEOUT, "TooSlow", message)

    @app.exception_handler(MemoryError)
    async def memory(_: Request, __: MemoryError) -> Response:
        message = "the server has too little memory for this request"
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "MemoryError", message)


def _add_metrics(app: FastAPI, metrics: Metrics, site: Site) -> None:
    app.add_middleware(MetricsMiddleware, metrics=metrics)

    @app.get("/metrics", include_in_schema=False)
    async def show() -> Response:
        if site.is_open:
            with site.use() as retriever:
                metrics.items.set(len(retriever))
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/healthz", include_in_schema=False)
    async def health() -> Json:
        return {"status": "ok" if site.is_open else "waiting", "version": __version__}


# -- pages ---------------------------------------------------------------------------------------


@cache
def _asset(name: str) -> bytes:
    folder = resources.files("imgret.pages")
    place = folder / name if name == "page.css" else folder / "serve" / name
    return place.read_bytes()


def _pages() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        return HTMLResponse(_asset("index.html"), headers={"cache-control": "no-cache"})

    @router.get("/assets/{name}")
    async def asset(name: str) -> Response:
        if name not in _ASSETS:  # a name from this list, never a path
            raise HTTPException(404, f"no asset {name!r}")
        return Response(
            _asset(name), media_type=_ASSETS[name], headers={"cache-control": "no-cache"}
        )

    return router


# -- the API -------------------------------------------------------------------------------------


def _api(site: Site, work: Executor, runs: Batcher[Any, bytes]) -> APIRouter:
    router = APIRouter(prefix="/api", responses=_REFUSALS)
    add_search(router, site, work, runs)  # first, as routes are tried in their order
    _add_gallery(router, site, work)
    _add_items(router, site, work)
    _add_pictures(router, site, work)
    _add_changes(router, site, work)
    _add_curation(router, site, work)
    return router


def _add_gallery(router: APIRouter, site: Site, work: Executor) -> None:
    @router.get("/gallery")
    async def gallery() -> answers.GalleryFacts:
        """Facts about the gallery."""

        def facts() -> answers.GalleryFacts:
            with site.use() as retriever:
                return answers.GalleryFacts(
                    name=site.name,
                    items=len(retriever),
                    labels=len(retriever.view().labels.names) if len(retriever) else 0,
                    embedder=retriever.embedder.name or type(retriever.embedder).__name__,
                    dim=retriever.embedder.dim,
                    metric=retriever.metric,
                    reads_text=retriever.embedder.reads_text,
                    writable=site.write,
                    calibrated=retriever.calibration is not None,
                    hits=work.limits.hits,
                    version=__version__,
                )

        return await work(facts)

    @router.get("/fields")
    async def fields() -> list[answers.FacetFacts]:
        """Return the fields that items have, for filters, with the number of items by value."""
        found = await work(site.facets)
        return [answers.FacetFacts(**facet.to_dict()) for facet in found]

    @router.get("/indexing")
    async def indexing() -> answers.IndexingFacts:
        """Return how far the folder is indexed, or the folders to choose from."""
        if site.indexing is not None:
            return answers.IndexingFacts(**site.indexing.to_dict())
        offered = [] if site.is_open else list(site.choices.values())
        return answers.IndexingFacts(
            state="done" if site.is_open else "none",
            choices=[
                answers.ChoiceFacts(id=each.id, name=each.path.name or "/", images=each.images)
                for each in offered
            ],
        )

    @router.post("/indexing/{choice}", status_code=202)
    async def choose(choice: str) -> answers.IndexingFacts:
        """Index one of the folders that are offered."""
        await work(partial(site.choose, choice))
        return await indexing()


def _add_items(router: APIRouter, site: Site, work: Executor) -> None:
    @router.get("/items")
    async def items(where: Where = None, offset: Offset = 0, limit: Limit = 60) -> answers.ItemPage:
        """Return items in the order they were added."""

        def some() -> answers.ItemPage:
            with site.use() as retriever:
                if not len(retriever):
                    return answers.ItemPage(items=[], offset=offset, total=0)
                view = retriever.view(filter_of(where))
                ids = view.ids
                found = view.items(ids[offset : offset + limit])
                return answers.ItemPage(
                    items=[_item(item) for item in found], offset=offset, total=len(ids)
                )

        return await work(some)

    @router.get("/items/{key:path}/facts")
    async def facts(key: Key) -> answers.ItemFacts:
        """Return an item."""

        def one() -> answers.ItemFacts:
            with site.use() as retriever:
                return _item(retriever[key], with_size=True)

        return await work(one)


def _add_pictures(router: APIRouter, site: Site, work: Executor) -> None:
    def jpeg(data: bytes) -> Response:
        return Response(
            data, media_type="image/jpeg", headers={"cache-control": "private, max-age=600"}
        )

    @router.get("/items/{key:path}/thumbnail", response_class=Response, responses=JPEG)
    async def thumbnail(
        key: Key, side: Annotated[int, Query(ge=_THUMBNAIL[0], le=_THUMBNAIL[1])] = 256
    ) -> Response:
        """Return a small JPEG of an item's image."""
        return jpeg(await work(lambda: site.thumbnails.get(site.file_of(key), side)))

    @router.get("/items/{key:path}/image", response_class=Response, responses=JPEG)
    async def image(
        key: Key, side: Annotated[int, Query(ge=_LARGE[0], le=_LARGE[1])] = 1600
    ) -> Response:
        """Return a JPEG of an item's image."""

        def large() -> bytes:
            file = site.file_of(key)
            whole, _ = images.decode(
                file.read(), path=file.path, max_pixels=site.max_pixels, min_side=side
            )
            return images.encode(images.thumbnail(whole, side), "jpeg", quality=88)

        return jpeg(await work(large))


def _add_changes(router: APIRouter, site: Site, work: Executor) -> None:
    @router.patch("/items/{key:path}")
    async def change(key: Key, change: answers.Change) -> answers.Changed:
        """Give an item another label, if it still has the expected one."""

        def relabel() -> answers.Changed:
            with site.change() as retriever:
                found = retriever[key].label
                if "expected" in change.model_fields_set and change.expected != found:
                    raise ConflictError(
                        f"{key!r}: expected the label {change.expected!r}, found {found!r}; it was "
                        f"changed elsewhere meanwhile"
                    )
                retriever.update(key, label=change.label)
                return answers.Changed(key=key, label=change.label)

        return await work(relabel)

    @router.delete("/items/{key:path}")
    async def remove(key: Key) -> answers.Changed:
        """Remove an item from the gallery; its file stays."""

        def gone() -> answers.Changed:
            with site.change() as retriever:
                retriever.remove(key)
                return answers.Changed(key=key, removed=True)

        return await work(gone)


class ConflictError(StoreLockedError):
    """An item is not as the caller last saw it."""


def _add_curation(router: APIRouter, site: Site, work: Executor) -> None:
    def told(what: Callable[[Retriever], Any]) -> Any:
        with site.use() as retriever:
            return what(retriever)

    @router.get("/curate/clusters")
    async def clusters(n: Annotated[int, Query(ge=2, le=200)] = 12) -> Json:
        """Group the items into clusters."""

        def grouped(retriever: Retriever) -> Json:
            found: Json = retriever.clusters(min(n, len(retriever))).to_dict()
            return found

        return await work(partial(told, grouped))

    @router.get("/curate/outliers")
    async def outliers(n: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[Json]:
        """Return the items that are least like any other, the most isolated first."""
        return await work(
            partial(told, lambda r: [{"key": o.key, "score": o.score} for o in r.outliers(n)])
        )

    @router.get("/curate/duplicates")
    async def duplicates() -> answers.DuplicatesFacts:
        """Return groups of images that are almost the same; ask again while it is running."""
        return await work(partial(_duplicates, site))

    @router.get("/curate/mislabelled")
    async def mislabelled() -> list[Json]:
        """Return items whose neighbours have another label."""
        return await work(
            partial(
                told,
                lambda r: [
                    {
                        "key": issue.key,
                        "label": issue.label,
                        "suggested": issue.suggested,
                        "confidence": issue.confidence,
                    }
                    for issue in r.mislabelled()
                ],
            )
        )

    @router.get("/curate/map")
    async def draw_map() -> answers.MapFacts:
        """Lay the items out in the plane; ask again while it is running."""
        return await work(partial(_map, site))


def _map(site: Site) -> answers.MapFacts:
    layout = site.map()
    layout.wait(_PATIENCE)
    if layout.error is not None:
        layout.reported = True
        raise layout.error
    facts = answers.MapFacts(state=layout.state, done=layout.done, total=layout.total)
    if (drawn := layout.found) is not None:
        facts.method, facts.note = drawn.method, drawn.note
        facts.keys, facts.labels = list(drawn.keys), list(drawn.labels)
        facts.x, facts.y = drawn.coordinates.T.tolist()
    return facts


def _duplicates(site: Site) -> answers.DuplicatesFacts:
    search = site.duplicates()
    search.wait(_PATIENCE)
    search.reported = search.state == "failed"
    found, groups = search.found or (None, [])
    return answers.DuplicatesFacts(
        state=search.state,
        done=search.done,
        total=search.total,
        message=_FOLDERS.sub("", search.message),
        groups=[_duplicate_group(group) for group in groups],
        hidden=0 if found is None else len(found) - len(groups),
        removable=0 if found is None else found.n_removable,
        unhashed=0 if found is None else found.n_unhashed,
        format=FORMAT,
    )


def _duplicate_group(group: ReviewGroup) -> answers.DuplicateGroupFacts:
    return answers.DuplicateGroupFacts(
        score=group.score,
        best=group.best,
        files=[
            answers.DuplicateFacts(
                key=file.key,
                width=file.width,
                height=file.height,
                size=file.size,
                mtime_ns=None if file.mtime_ns is None else str(file.mtime_ns),
                modified=file.modified,
                sharpness=file.sharpness,
                problem=_FOLDERS.sub("", file.problem),
            )
            for file in group.files
        ],
    )


# -- small parts ---------------------------------------------------------------------------------


def _item(item: Item, *, with_size: bool = False) -> answers.ItemFacts:
    size = None
    if with_size and (file := ItemFile.of(item)) is not None:
        with contextlib.suppress(ImageError, MissingExtraError):
            size = images.header(file.read()).size
    return answers.ItemFacts(
        key=item.key,
        label=item.label,
        metadata=dict(item.metadata),
        box=item.box,
        image=item.path is not None,
        size=size,
    )
