"""``imgret search``: the images most similar to each query."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument, Command
from imgret.cli.paths import PathPrinter, Queries, check_writable, path
from imgret.cli.where import filter_of, where_option
from imgret.support.terminal import shown

if TYPE_CHECKING:
    from imgret.errors import ImageError
    from imgret.files import Place
    from imgret.pages.hits import Row
    from imgret.retriever import Retriever
    from imgret.search.hits import Hits

__all__ = ["search"]

_GROUP = 64  # queries, enough for all cores and few enough that the first answers come soon


@click.command(cls=Command)
@options.gallery
@click.argument(
    "queries",
    cls=Argument,
    nargs=-1,
    type=path,
    help="Images to search with, each by itself; folders of them; addresses (https://...); "
    "- reads a list from standard input.",
)
@click.option(
    "--text",
    multiple=True,
    help="Words to search with, alone or together with each image; needs an embedder that "
    "reads text, such as CLIP.",
)
@click.option("--not-text", multiple=True, help="Words that hits should not match.")
@click.option("-k", default=10, type=options.COUNT, help="Hits per query.")
@where_option
@click.option("--threshold", type=float, help="Leave out hits with a lower score.")
@click.option(
    "--precision",
    type=float,
    help="Leave out hits with a lower probability of being right; see calibrate.",
)
@click.option(
    "--rerank",
    multiple=True,
    help="average-qe, alpha-qe, k-reciprocal, diffusion or mmr; can be repeated.",
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON object per query.")
@options.paths
@options.null
@options.page
@options.opening
def search(
    *,
    gallery: GalleryPlace,
    queries: tuple[Any, ...],
    text: tuple[str, ...],
    not_text: tuple[str, ...],
    k: int,
    where: str | None,
    threshold: float | None,
    precision: float | None,
    rerank: tuple[str, ...],
    json_: bool,
    paths: bool,
    null: bool,
    html: Path | None,
    **opening: Any,
) -> None:
    """Find the images most similar to each query.

    imgret search photos.imgret query.jpg -k 6 --html result.html
    imgret search photos.imgret --text "a red rose"
    imgret search photos.imgret new/ --json
    imgret search photos.imgret query.jpg -0 | xargs -0 cp -t found/

    Exits with 3 if some of the queries could not be read, and with 1 if none could.
    """
    from imgret.errors import ImageError  # noqa: PLC0415
    from imgret.retriever import Retriever  # noqa: PLC0415

    check_writable(html, "--html")
    printer = PathPrinter.of(paths=paths, null=null, json=json_)
    if not all(map(str.strip, [*text, *not_text])):
        raise click.BadParameter("expected words, found none", param_hint="--text")
    if not queries and not text:
        raise click.BadParameter("expected an image or --text, found neither", param_hint="QUERIES")
    condition = filter_of(where)
    images = Queries(queries)
    unmatched = False
    rows: list[Row] = []
    # If no image is there, the error need not wait until a large index is read.
    is_there = bool(text) or any(isinstance(query, str) or query.exists() for query in queries)
    with (
        Retriever.open(gallery, **opening) as retriever,
        _loading(retriever, condition) if is_there else nullcontext(),
    ):
        for query, hits in _answers(
            retriever,
            images if queries else (None,),
            {"text": text or None, "negative_text": not_text or None},
            k=k,
            where=condition,
            threshold=threshold,
            precision=precision,
            rerank=rerank or None,
        ):
            if isinstance(hits, ImageError):
                images.fail(hits)
                continue
            images.done += 1
            unmatched = condition is not None and hits.best_score is None
            if printer is not None:
                printer.print((hit.key, hit.path) for hit in hits)
            else:
                click.echo(_as_json(query, hits) if json_ else _as_text(_named(query, hits), hits))
            if html is not None:
                rows.append(hits.to_row())
        if unmatched:
            click.echo(
                f"imgret: warning: no image fits --where{_near(retriever, condition)}", err=True
            )
        if rows and html is not None:
            from imgret.pages import hits as hit_pages  # noqa: PLC0415

            title = f"Search in {gallery.name}"
            note = repr(retriever)[1:-1]
            page = hit_pages.page(rows, title=title, note=note, max_pixels=opening["max_pixels"])
            html.write_text(page, encoding="utf-8", errors="replace")
            click.echo(f"wrote {html}", err=True)
    if printer is not None:
        printer.close()
    images.exit()


@contextmanager
def _loading(retriever: Retriever, where: Any) -> Iterator[None]:
    """Load the model in a thread while this one reads the index; neither needs much of Python."""

    def load() -> None:
        with suppress(Exception):  # the query that needs it says why
            retriever.embedder  # noqa: B018  # is loaded when it is asked for

    thread = Thread(target=load)
    thread.start()
    try:
        if retriever.path is not None and len(retriever):
            retriever.view(where).prepare()
        yield
    finally:
        thread.join()


def _answers(
    retriever: Retriever, queries: Iterable[Place | None], words: dict[str, Any], **options: Any
) -> Iterator[tuple[Place | None, Hits | ImageError]]:
    """Yield each query with its hits, or with the reason why it cannot be read.

    Queries without words are searched together in small groups, which all cores read.
    """
    from imgret.errors import ImageError  # noqa: PLC0415

    group = 1 if any(words.values()) else _GROUP
    remaining = iter(queries)
    while some := list(islice(remaining, group)):
        with suppress(ImageError):  # then each by itself
            if len(some) > 1:
                yield from zip(some, retriever.search_many(some, **options), strict=True)
                continue
        for query in some:
            try:
                yield query, retriever.search(query, **words, **options)
            except ImageError as error:
                yield query, error


def _near(retriever: Any, condition: Any) -> str:
    """Return a guess at the label that a filter means."""
    label = condition.get("label") if isinstance(condition, dict) else None
    if not isinstance(label, str):
        return ""
    near = difflib.get_close_matches(label, retriever.view().labels.names, n=1)
    return f"; did you mean the label {near[0]!r}?" if near else ""


def _named(query: Place | None, hits: Any) -> str:
    words = [*map(repr, hits.text), *(f"not {text!r}" for text in hits.negative_text)]
    return " + ".join([*([] if query is None else [shown(str(query))]), *words])


def _as_json(query: Place | None, hits: Any) -> str:
    kept = ("key", "rank", "score", "label", "path", "box", "metadata", "probability")
    found = [{n: d[n] for n in kept if n in d} for d in hits.to_dicts()]
    limits = {} if found else {"best_score": hits.best_score, "threshold": hits.threshold}
    words = {"text": list(hits.text)} if hits.text else {}
    if hits.negative_text:
        words["not_text"] = list(hits.negative_text)
    named = None if query is None else str(query)
    return json.dumps({"query": named, **words, "hits": found, **limits})


def _as_text(query: str, hits: Any) -> str:
    if not hits:
        return f"{query}: {hits.no_match}"
    lines = [f"{query}" + (f": {shown(hits.label)}" if hits.label is not None else "")]
    width = max((len(hit.label or "") for hit in hits), default=0)
    for hit in hits:
        likely = "" if hit.probability is None else f"{hit.probability:.3f}  "
        named = f"{shown(hit.label or ''):<{width}}  {shown(hit.key)}".strip()
        facts = "".join(f"  {shown(name)}={_shown(value)}" for name, value in hit.metadata.items())
        lines.append(f"  {hit.rank:>3}  {hit.score:.4f}  {likely}{named}{facts}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    """Return a value of metadata in one line: text as it is, the rest as JSON."""
    if isinstance(value, str):
        return shown(" ".join(value.split()))
    return json.dumps(value, ensure_ascii=False)
