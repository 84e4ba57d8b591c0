"""``imgret demo``: a sample gallery, searched with images it does not hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.help import Command
from imgret.support.terminal import plain

__all__ = ["demo"]

_HITS = 6
_QUERIES = 8


@click.command(cls=Command)
@click.option("--folder", type=options.PATH, help="Use these images instead of drawn ones.")
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    default=Path("imgret-demo"),
    help="Folder for images, gallery and page.",
)
@click.option("--index", default="flat", help="As in `imgret index`.")
@click.option("--cropper", default="none", help="As in `imgret index`.")
@options.max_pixels
@options.json
def demo(
    *, folder: Path | None, output: Path, index: str, cropper: str, max_pixels: int, json_: bool
) -> None:
    """Try imgret on drawn flowers, or on a folder of images.

    imgret demo
    imgret demo --folder photos

    Some of the images are held back and searched with; a page shows what was found.
    """
    if output.exists() and not output.is_dir():
        raise click.BadParameter(
            f"{output}: expected a folder or an unused path, found a file",
            param_hint="--output",
        )
    _run(folder, output, index=index, cropper=cropper, max_pixels=max_pixels, json_=json_)


def _run(
    folder: Path | None,
    output: Path,
    *,
    index: str,
    cropper: str,
    max_pixels: int,
    json_: bool,
) -> None:
    """Index images, search with the ones held back, and write a page."""
    from imgret.ingest.folder import find_images  # noqa: PLC0415  # so that --help is quick
    from imgret.pages import hits as hit_pages  # noqa: PLC0415
    from imgret.retriever import Retriever  # noqa: PLC0415

    def say(text: str = "") -> None:
        if not json_:
            print(text, flush=True)  # noqa: T201  # it is a command

    retriever = Retriever(
        index=index, cropper=cropper, max_pixels=max_pixels
    )  # first, as it may reject the names
    root, queries = _drawn(output, say) if folder is None else _taken(folder, max_pixels, say)
    held_back = set(queries)
    gallery = [path for path in find_images(root)[0] if path not in held_back]
    report = retriever.add(
        gallery,
        keys=[path.relative_to(root).as_posix() for path in gallery],
        labels=[None if path.parent == root else path.parent.name for path in gallery],
        progress=None,
    )
    say(str(report))
    store = output / "demo.imgret"
    retriever.save(store)
    say(f"gallery: {store}\n")

    rows: list[hit_pages.Row] = []
    found = []
    for query, hits in zip(queries, retriever.search_many(queries, k=_HITS), strict=True):
        label = None if query.parent == root else query.parent.name
        rows.append(hit_pages.Row(query.name, query, hits, label))
        found.append({"query": str(query), "label": hits.label, "hits": hits.to_dicts()})
        say(plain(query.name) + (f" looks like: {plain(hits.label)}" if hits.label else ""))
        for hit in hits:
            name = f"{plain(hit.label)}  " if hit.label else ""
            say(f"  {hit.rank}. {hit.score:.3f}  {name}{plain(hit.key)}")
    result = output / "result.html"
    title = f"imgret demo: {len(rows)} images searched in {len(retriever)}"
    page = hit_pages.page(rows, title=title, note=repr(retriever)[1:-1], max_pixels=max_pixels)
    result.write_text(page, encoding="utf-8")
    say(f"\nresult page: {result.absolute()}")
    say(f"try next:  imgret search {store} {queries[0]}")
    if json_:
        facts = {"gallery": str(store), "items": len(retriever), "page": str(result)}
        click.echo(json.dumps({**facts, "queries": found, "report": report.to_dict()}))


def _drawn(output: Path, say: Callable[[str], None]) -> tuple[Path, list[Path]]:
    from imgret.demo import samples  # noqa: PLC0415

    root = output / "gallery"
    gallery = samples.write_gallery(root)
    queries = samples.write_queries(output / "queries", per_species=1)
    say(f"drew {len(gallery)} images of {len(samples.species())} species into {root}")
    return root, queries


def _taken(folder: Path, max_pixels: int, say: Callable[[str], None]) -> tuple[Path, list[Path]]:
    """Hold back a few readable images as queries, spread over the folder."""
    from imgret.errors import InvalidInputError  # noqa: PLC0415
    from imgret.ingest.folder import find_images  # noqa: PLC0415

    found, _ = find_images(folder)
    if len(found) < 2:
        raise InvalidInputError(
            f"{folder}: expected at least 2 images, one to find and one to search with, found "
            f"{len(found)}"
        )
    step = max(2, len(found) // _QUERIES)
    queries = [path for path in found[step // 2 :: step] if _is_readable(path, max_pixels)][
        :_QUERIES
    ]
    if not queries:
        raise InvalidInputError(f"{folder}: expected images that can be read, found none")
    say(f"found {len(found)} images in {folder}; {len(queries)} are held back as queries")
    return folder, queries


def _is_readable(path: Path, max_pixels: int) -> bool:
    from imgret import images  # noqa: PLC0415
    from imgret.errors import ImageError  # noqa: PLC0415

    try:
        images.load(path, max_pixels=max_pixels)
    except ImageError:
        return False
    return True
