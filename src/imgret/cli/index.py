"""``imgret index``: build a gallery from folders, archives, files, addresses and tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.cli import options
from imgret.cli.ctrl_c import last_words
from imgret.cli.help import Argument, Command
from imgret.cli.paths import check_lists, read_list

if TYPE_CHECKING:
    from imgret.cli.gallery_at import GalleryPlace
    from imgret.embedders import OnnxEmbedder
    from imgret.retriever import Retriever

__all__ = ["index"]


@click.command(cls=Command)
@click.argument(
    "sources",
    cls=Argument,
    nargs=-1,
    required=True,
    help="Folders (with subfolders), images, archives (.zip, .tar, .tar.gz...), addresses "
    "(s3://..., https://...), tables (.csv, .parquet...); - for a list of paths on "
    "standard input, separated by newlines or NUL.",
)
@options.output_gallery
@click.option("--labels", help="'parent': the label of an image is the name of its folder.")
@click.option(
    "--path-column", help="With a table: column of paths. [path, file, filename, image or url]"
)
@click.option("--label-column", help="With a table: column of labels. [label]")
@click.option("--embedder", help="Name of a model, its ONNX file, or its folder. [general]")
@click.option("--variant", help="With a folder: the file to use, such as fp16 or quantized.")
@click.option("--pooling", help="With a model of several vectors per image: cls, mean or none.")
@click.option(
    "--text-model",
    type=options.PATH,
    help="Folder of the text tower, if it is not that of the image tower.",
)
@click.option(
    "--preprocess",
    help="With a file that does not describe its input: JSON, or a JSON file; see "
    "`imgret models bundle -h`.",
)
@click.option("--cropper", help="none, center, spectral or the path of a model. [none]")
@click.option(
    "--index", help="flat, ivf-pq, hnsw-sq8, hnsw, ivf, auto, faiss:FACTORY or a plugin. [flat]"
)
@click.option("--metric", help="cosine, ip or l2. [cosine]")
@click.option(
    "--metadata",
    type=options.PATH,
    help="CSV or JSONL file, one row per image, named by key, path or file.",
)
@click.option("--exif", is_flag=True, help="Store date, camera and place from EXIF as metadata.")
@click.option(
    "--prefix", help="Prefix of each key. Several folders have their names as prefixes without it."
)
@click.option(
    "--prune",
    is_flag=True,
    help="Remove images whose files are gone from a folder or an archive. If more than "
    "half are gone, as when a disk is not mounted, only --prune=all removes them.",
)
@click.option("--prune-all", is_flag=True, hidden=True)  # what main makes of --prune=all
@click.option(
    "--exclude",
    multiple=True,
    help="Pattern of files and folders to skip, such as raw, '*.png' or '2019/**/a'; can "
    "be repeated. @eaDir, __MACOSX and the like are always skipped.",
)
@click.option("--threads", type=options.COUNT, help="Number of threads. [one per core]")
@options.max_pixels
@click.option(
    "--on",
    help="Cluster that embeds the images: ray, or an address such as ray://host:10001. "
    "[this process]",
)
@click.option(
    "--shards",
    is_flag=True,
    help="Fill the folder --output with Parquet shards, for `imgret import` and others.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show how long each stage took.")
@options.json
def index(
    *,
    sources: tuple[str, ...],
    output: GalleryPlace,
    labels: str | None,
    path_column: str | None,
    label_column: str | None,
    embedder: str | None,
    variant: str | None,
    pooling: str | None,
    text_model: Path | None,
    preprocess: str | None,
    cropper: str | None,
    index: str | None,
    metric: str | None,
    metadata: Path | None,
    exif: bool,
    prefix: str | None,
    prune: bool,
    prune_all: bool,
    exclude: tuple[str, ...],
    threads: int | None,
    max_pixels: int,
    on: str | None,
    shards: bool,
    verbose: bool,
    json_: bool,
) -> None:
    """Index images; run it again to update the gallery.

    imgret index photos -o photos.imgret --labels parent
    imgret index photos -o photos.imgret --prune
    imgret index photos more.zip s3://bucket/images -o photos.imgret

    Exits with 3 if a file or a source could not be read or --prune was held back, and with 1 if
    nothing could be indexed; a new gallery is not created then.
    """
    from imgret.ingest import IngestInterrupted  # noqa: PLC0415
    from imgret.ingest.given import prepare  # noqa: PLC0415

    if labels not in {None, "parent"}:
        raise click.BadParameter(f"expected 'parent', found {labels!r}", param_hint="--labels")
    given = _sources(sources)
    if metadata is not None and not metadata.is_file():
        raise click.BadParameter(f"{metadata}: expected a file", param_hint="--metadata")
    _check_output(output, shards=shards)
    if on is not None:
        import imgret.cluster  # noqa: F401, PLC0415  # a missing extra is named before a gallery is made
    prepared = prepare(given, exclude=exclude, path_column=path_column, label_column=label_column)
    made = _with_options(
        embedder, variant=variant, pooling=pooling, text_model=text_model, preprocess=preprocess
    )
    directory = None if shards else output.directory
    is_new = not shards and _is_new(output)
    with _opened(
        f"shards://{output}" if shards else output,
        directory,
        is_new=is_new,
        embedder=embedder if made is None else made,
        cropper=cropper,
        index=index,
        metric=metric,
        max_pixels=max_pixels,
    ) as retriever:
        last_words.append(lambda: "interrupted; run the same command to continue")
        try:
            report = retriever.add_from(
                prepared,
                labels=labels,  # type: ignore[arg-type]  # checked above
                metadata=metadata,
                exif=exif,
                prefix=prefix,
                prune="all" if prune_all else prune,
                exclude=exclude,
                path_column=path_column,
                label_column=label_column,
                threads=threads,
                on=on,
            )
        except IngestInterrupted as interrupt:
            done = f"{interrupt}; run the same command to continue"
            last_words[:] = [lambda: done]
            raise
        n = len(retriever)
        if json_:
            facts = {"gallery": str(output), "items": n, **report.to_dict()}
            click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        else:
            click.echo(str(report), err=True)
            if verbose and report.stages:
                click.echo(report.timings(), err=True)
            if n or not is_new:
                click.echo(f"{output}: {n:,} {'image' if n == 1 else 'images'}")
    if is_new and not n:
        found = "none that can be read" if report.failed else "none"
        stays = directory is None and not _is_new(output)
        click.echo(
            f"imgret: error: {', '.join(given[:3])}{', ...' if len(given) > 3 else ''}: expected "
            f"images, found {found}; {output} {'is empty' if stays else 'was not created'}",
            err=True,
        )
        raise click.exceptions.Exit(1)
    if report.failed or report.unpruned:
        raise click.exceptions.Exit(3 if report.total > len(report.failed) else 1)


def _is_new(output: GalleryPlace) -> bool:
    """Whether there is no gallery yet."""
    from imgret import registry  # noqa: PLC0415  # so that --help is quick
    from imgret.galleries.local.manifest import is_gallery  # noqa: PLC0415

    uri, directory = os.fspath(output), output.directory
    return not (registry.gallery(uri).is_taken(uri) if directory is None else is_gallery(directory))


@contextmanager
def _opened(
    place: GalleryPlace | str, directory: Path | None, *, is_new: bool, **options: Any
) -> Iterator[Retriever]:
    """Open the gallery for writing; a new one that is still empty at the end is deleted again."""
    from imgret.galleries.local.store import discard_if_empty  # noqa: PLC0415
    from imgret.retriever import Retriever  # noqa: PLC0415

    is_empty = False
    was_there = directory is not None and directory.is_dir()
    try:
        with Retriever.open(place, "a", **options) as retriever:
            try:
                yield retriever
            finally:
                is_empty = is_new and not len(retriever)
                if is_empty and directory is None:
                    retriever._gallery.discard_if_unused()  # noqa: SLF001  # nothing for users
    finally:
        if directory is not None and is_empty and discard_if_empty(directory) and was_there:
            directory.mkdir(exist_ok=True)


def _sources(given: tuple[str, ...]) -> list[str]:
    """Return the sources, those listed on standard input included.

    What is named on the command line must exist, before a gallery is created for it; what a list
    names may be missing, and is then reported.
    """
    from imgret.files import is_url  # noqa: PLC0415

    example = "find photos -name '*.jpg' | imgret index - -o photos.imgret"
    check_lists(given.count("-"), example=example, argument="SOURCES")
    found = []
    for source in given:
        if source == "-":
            listed = read_list()
            if not listed:
                raise click.BadParameter(
                    "expected a list of paths on standard input, found nothing",
                    param_hint="SOURCES",
                )
            found += listed
        elif not is_url(source) and not _is_there(source):
            raise click.BadParameter(
                f"{source}: expected a folder, an image, an archive or a table, found nothing",
                param_hint="SOURCES",
            )
        else:
            found.append(source)
    return found


def _is_there(source: str) -> bool:
    from imgret.errors import ImageError  # noqa: PLC0415
    from imgret.files import state_of  # noqa: PLC0415

    try:
        state_of(source)
    except (ImageError, OSError, ValueError):
        return os.path.lexists(source)
    return True


def _with_options(
    embedder: str | None, *, preprocess: str | None, **given: str | Path | None
) -> OnnxEmbedder | None:
    """Return the model with options of its own; None without such options."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if preprocess is not None:
        chosen["preprocess"] = options.json_or_file(preprocess, "--preprocess")
    if not chosen:
        return None
    names = ", ".join(f"--{name.replace('_', '-')}" for name in chosen)
    if embedder is None:
        raise click.BadParameter(
            f"expected the model that {names} is for, found none", param_hint="--embedder"
        )
    from imgret.embedders import OnnxEmbedder  # noqa: PLC0415

    return OnnxEmbedder(embedder, **chosen)  # type: ignore[arg-type]  # checked there


def _check_output(output: GalleryPlace, *, shards: bool) -> None:
    """Raise if the path is neither a gallery nor free for a new one."""
    from imgret.galleries.local.manifest import is_gallery  # noqa: PLC0415

    directory, found = output.directory, ""
    if shards and directory is None:
        raise click.BadParameter(
            f"expected a folder to fill with shards, found {output}", param_hint="--output"
        )
    if shards or directory is None:
        return
    if directory.exists() and not directory.is_dir():
        found = "a file"
    elif directory.is_dir() and not is_gallery(directory) and any(directory.iterdir()):
        found = "a folder of other files"
    if found:
        raise click.BadParameter(
            f"{output}: expected a gallery or an unused path, found {found}; choose another "
            f"path, such as photos.imgret",
            param_hint="--output",
        )
