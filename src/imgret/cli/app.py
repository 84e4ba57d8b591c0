"""The commands. Each imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from imgret.cli.adapt import adapt
from imgret.cli.calibrate import calibrate
from imgret.cli.classify import classify
from imgret.cli.crop_report import crop_report
from imgret.cli.duplicates import duplicates
from imgret.cli.evaluate import evaluate
from imgret.cli.map import draw_map
from imgret.cli.models import models
from imgret.cli.options import MAX_PIXELS, MaxPixels
from imgret.cli.parts import CropperAt, EmbedderAt
from imgret.cli.paths import check_writable
from imgret.cli.relocate import relocate
from imgret.cli.train import train
from imgret.cli.train_saliency import train_saliency
from imgret.cli.tune import tune
from imgret.version import __version__

__all__ = ["app"]

app = typer.Typer(
    help="Image retrieval: index a pile of images, search it by image.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models, name="models")
app.command()(adapt)
app.command()(calibrate)
app.command()(classify)
app.command()(crop_report)
app.command()(duplicates)
app.command()(evaluate)
app.command("map")(draw_map)
app.command()(relocate)
app.command()(train)
app.command()(train_saliency)
app.command()(tune)


def _at_least_one(number: int | None) -> int | None:
    if number is not None and number < 1:
        raise typer.BadParameter(f"expected a whole number of at least 1, found {number}")
    return number


Gallery = Annotated[Path, typer.Argument(help="Directory of the gallery, such as photos.imgret.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _version(asked: bool) -> None:  # noqa: FBT001  # what typer calls
    if asked:
        typer.echo(f"imgret {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[  # acted on above
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[  # looked for by imgret.cli.main
        bool, typer.Option("--debug", help="Show where an error came from.")
    ] = False,
) -> None:
    """Take the options that stand before any command."""


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(help="Folder of images, searched through.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Gallery to make, or to add to.")],
    labels: Annotated[
        str | None, typer.Option(help="'parent': each image is named after its folder.")
    ] = None,
    embedder: Annotated[str | None, typer.Option(help="Name or path of a model. [general]")] = None,
    cropper: Annotated[
        str | None, typer.Option(help="none, center, spectral or the path of a model. [none]")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="flat, ivf-pq, hnsw-sq8, hnsw, ivf, auto, faiss:FACTORY or a plugin. [flat]"
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="cosine, ip or l2. [cosine]")] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(help="CSV or JSONL file of a row per image, named by key, path or file."),
    ] = None,
    exif: Annotated[
        bool, typer.Option("--exif", help="Keep date, camera and place of EXIF as metadata.")
    ] = False,
    prefix: Annotated[
        str, typer.Option(help="Put before each key, to keep two folders apart.")
    ] = "",
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove images whose files are gone from the folder. Where more than half are "
            "gone, as from a disk that is not mounted, only --prune=all does.",
        ),
    ] = False,
    prune_all: Annotated[  # what imgret.cli.main makes of --prune=all
        bool, typer.Option("--prune-all", hidden=True)
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="Pattern of files and folders to pass over, such as raw, '*.png' or '2019/**/a'; "
            "may be given several times. @eaDir, __MACOSX and the like always are."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(callback=_at_least_one, help="Threads. [one for each core]")
    ] = None,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Index the images of a folder; run again, it takes in what has changed.

    Exits with 3 where a file or a folder could not be read, or --prune was held back, and with 1
    where nothing could be done at all.
    """
    from imgret.ingest import IngestInterrupted  # noqa: PLC0415
    from imgret.retriever import Retriever  # noqa: PLC0415

    if labels not in {None, "parent"}:
        raise typer.BadParameter(f"expected 'parent', found {labels!r}", param_hint="--labels")
    if not folder.is_dir():  # before a gallery is made for it
        found = "a file" if folder.exists() else "nothing"
        raise typer.BadParameter(f"{folder}: expected a folder, found {found}", param_hint="FOLDER")
    if metadata is not None and not metadata.is_file():
        raise typer.BadParameter(f"{metadata}: expected a file", param_hint="--metadata")
    _check_output(output)
    with Retriever.open(
        output,
        "a",
        embedder=embedder,
        cropper=cropper,
        index=index,
        metric=metric,  # type: ignore[arg-type]  # checked there, with a message
        max_pixels=max_pixels,
    ) as retriever:
        try:
            report = retriever.add_folder(
                folder,
                labels=labels,  # type: ignore[arg-type]  # checked above
                metadata=metadata,
                exif=exif,
                prefix=prefix,
                prune="all" if prune_all else prune,
                exclude=exclude or (),
                threads=threads,
            )
        except IngestInterrupted as interrupt:
            typer.echo(f"{interrupt}; the same command goes on from here", err=True)
            raise
        typer.echo(str(report), err=True)
        typer.echo(f"{output}: {len(retriever)} images")
    if report.failed or report.unpruned:
        raise typer.Exit(3 if report.total > len(report.failed) else 1)


def _check_output(output: Path) -> None:
    """Raise where a gallery can neither be made nor be added to."""
    from imgret.galleries.local.manifest import is_gallery  # noqa: PLC0415

    found = ""
    if output.exists() and not output.is_dir():
        found = "a file"
    elif output.is_dir() and not is_gallery(output) and any(output.iterdir()):
        found = "a folder of other files"
    if found:
        raise typer.BadParameter(
            f"{output}: expected a gallery or a path where nothing is, found {found}; choose "
            f"another path, such as photos.imgret",
            param_hint="--output",
        )


@app.command()
def search(
    gallery: Gallery,
    queries: Annotated[list[Path], typer.Argument(help="Images to search with.")],
    k: Annotated[int, typer.Option("-k", callback=_at_least_one, help="Hits a query.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(help='Filter, as JSON: \'{"label": "rose", "year": {"$gte": 2020}}\'.'),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Leave out hits of a lower score.")
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="Leave out hits that are right with less probability; see calibrate."),
    ] = None,
    rerank: Annotated[
        list[str] | None,
        typer.Option(help="average-qe, alpha-qe, k-reciprocal, diffusion or mmr; several in turn."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON object a query.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that shows the hits, images inlined.")
    ] = None,
    embedder: EmbedderAt = None,
    cropper: CropperAt = None,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Find the images most like each query."""
    from imgret.errors import ImageError  # noqa: PLC0415
    from imgret.pages import hits as hit_pages  # noqa: PLC0415
    from imgret.retriever import Retriever  # noqa: PLC0415

    check_writable(html, "--html")
    condition = _filter(where)
    failed = 0
    rows: list[hit_pages.Row] = []
    with Retriever.open(
        gallery, embedder=embedder, cropper=cropper, max_pixels=max_pixels
    ) as retriever:
        for query in queries:
            try:
                hits = retriever.search(
                    query,
                    k,
                    where=condition,
                    threshold=threshold,
                    precision=precision,
                    rerank=rerank,
                )
            except ImageError as error:
                typer.echo(f"imgret: error: {error}", err=True)
                failed += 1
                continue
            rows.append(hits.to_row())
            typer.echo(_as_json(query, hits) if json_ else _as_text(query, hits))
        if html is not None and rows:
            title = f"Search in {gallery.name}"
            note = repr(retriever)[1:-1]
            page = hit_pages.page(rows, title=title, note=note, max_pixels=max_pixels)
            html.write_text(page, encoding="utf-8", errors="replace")
            typer.echo(f"wrote {html}", err=True)
    if failed:
        raise typer.Exit(3 if rows else 1)


def _filter(where: str | None) -> Any:
    try:
        return None if where is None else json.loads(where)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            f'expected JSON, such as {{"label": "rose"}}, found {where!r}: {error}',
            param_hint="--where",
        ) from error


def _as_json(query: Path, hits: Any) -> str:
    kept = ("key", "rank", "score", "label", "path", "box", "probability")
    found = [{n: d[n] for n in kept if n in d} for d in hits.to_dicts()]
    limits = {} if found else {"best_score": hits.best_score, "threshold": hits.threshold}
    return json.dumps({"query": str(query), "hits": found, **limits})


def _as_text(query: Path, hits: Any) -> str:
    if not hits:
        return f"{query}: {hits.no_match}"
    lines = [f"{query}" + (f": {hits.label}" if hits.label is not None else "")]
    width = max((len(hit.label or "") for hit in hits), default=0)
    for hit in hits:
        likely = "" if hit.probability is None else f"{hit.probability:.3f}  "
        named = f"{hit.label or '':<{width}}  {hit.key}".strip()
        lines.append(f"  {hit.rank:>3}  {hit.score:.4f}  {likely}{named}")
    return "\n".join(lines)


@app.command()
def info(gallery: Gallery, json_: Json = False) -> None:
    """Say what a gallery is made of; no model is loaded."""
    from imgret.galleries.local.store import Store  # noqa: PLC0415

    store = Store.open(gallery, writable=False)
    try:
        manifest = store.manifest
        facts = {
            "path": str(gallery),
            "items": len(store.catalog),
            "labels": store.catalog.label_count(),
            "removed": store.catalog.rows - len(store.catalog),
            "dim": manifest.dim,
            "metric": manifest.metric,
            "dtype": manifest.dtype,
            "embedder": {"name": manifest.embedder.name, **manifest.embedder.config},
            "fingerprint": manifest.fingerprint,
            "cropper": {"name": manifest.cropper.name, **manifest.cropper.config},
            "index": {"name": manifest.index.name, **manifest.index.config},
            "tuned": _tuned(manifest.tuned),
            "projection": manifest.projection,
            "calibrated": manifest.calibration is not None,
            "bytes": sum(file.stat().st_size for file in gallery.rglob("*") if file.is_file()),
            "created": manifest.created,
            "created_with": manifest.created_with,
        }
    finally:
        store.close()
    if json_:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            options = ", ".join(f"{k}={v!r}" for k, v in value.items() if k != "name")
            value = f"{value['name']} {options}".strip()  # noqa: PLW2901
        typer.echo(f"{name:<13} {'-' if value is None else value}")


def _tuned(tuned: Any) -> str | None:
    if tuned is None:
        return None
    settings = ", ".join(f"{name}={value}" for name, value in tuned["settings"].items())
    return f"{tuned['index']} {settings}"


@app.command()
def remove(
    gallery: Gallery,
    keys: Annotated[list[str], typer.Argument(help="Keys of the images to take out.")],
) -> None:
    """Take images out of a gallery; the files stay where they are."""
    from imgret.retriever import Retriever  # noqa: PLC0415

    with Retriever.open(gallery, "r+") as retriever:
        removed = retriever.remove(keys)
        typer.echo(f"removed {removed}; {len(retriever)} images left")


@app.command()
def reindex(
    gallery: Gallery,
    index: Annotated[
        str | None,
        typer.Option(help="flat, ivf-pq, hnsw-sq8, hnsw, ivf, auto, ... [the one in use]"),
    ] = None,
) -> None:
    """Rebuild the index, or another one; no image is read."""
    import time  # noqa: PLC0415

    from imgret.retriever import Retriever  # noqa: PLC0415

    with Retriever.open(gallery, "r+") as retriever:
        started = time.perf_counter()
        retriever.reindex(index)
        seconds = time.perf_counter() - started
        typer.echo(f"{retriever.index!r} in {seconds:.2f} s")
        if retriever.index_reason is not None:
            typer.echo(retriever.index_reason)


@app.command()
def plugins(json_: Json = False) -> None:
    """List the embedders, croppers, indexes and rerankers there are, and where each comes from."""
    from imgret import registry  # noqa: PLC0415

    kinds: list[registry.Kind] = ["embedders", "croppers", "indexes", "rerankers"]
    if json_:
        typer.echo(json.dumps({kind: registry.names(kind) for kind in kinds}))
        return
    for kind in kinds:
        typer.echo(kind)
        found = registry.names(kind)
        for name, home in found.items():
            typer.echo(f"  {name:<{max(map(len, found))}}  {home}")


@app.command()
def demo(
    folder: Annotated[
        Path | None, typer.Option(help="Use these images instead of drawn ones.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to put images, gallery and page.")
    ] = Path("imgret-demo"),
    index: Annotated[str, typer.Option(help="As for the index command.")] = "flat",
    cropper: Annotated[str, typer.Option(help="As for the index command.")] = "none",
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Draw flowers (or take a folder), index them, search them, and show the result."""
    from imgret.cli.demo import run  # noqa: PLC0415

    if output.exists() and not output.is_dir():
        raise typer.BadParameter(
            f"{output}: expected a folder or a path where nothing is, found a file",
            param_hint="--output",
        )
    run(folder, output, index=index, cropper=cropper, max_pixels=max_pixels, out=sys.stdout)
