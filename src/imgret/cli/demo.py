"""The demonstration: a gallery from nothing, searched with images it does not hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from imgret import images
from imgret.demo import samples
from imgret.errors import ImageError, InvalidInputError
from imgret.ingest.folder import find_images
from imgret.pages import hits as hit_pages
from imgret.retriever import Retriever

__all__ = ["run"]

_HITS = 6
_QUERIES = 8


def run(
    folder: Path | None,
    output: Path,
    *,
    index: str,
    cropper: str,
    max_pixels: int,
    out: TextIO,
) -> Path:
    """Index images, search with some that were held back, write a page.

    Parameters
    ----------
    folder : Path or None
        Images to use; None draws a gallery of flowers.
    output : Path
        Directory for the drawn images, the gallery and the page.
    index, cropper : str
        As for `Retriever`.
    max_pixels : int
        As for `Retriever`.
    out : text file
        Where to tell what is found.

    Returns
    -------
    Path
        The page.
    """

    def say(text: str = "") -> None:
        print(text, file=out, flush=True)

    retriever = Retriever(
        index=index, cropper=cropper, max_pixels=max_pixels
    )  # first, as it may refuse the names
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
    for query, hits in zip(queries, retriever.search_many(queries, k=_HITS), strict=True):
        rows.append((query.name, query, hits))
        say(f"{query.name}" + (f" looks like: {hits.label}" if hits.label else ""))
        for hit in hits:
            name = f"{hit.label}  " if hit.label else ""
            say(f"  {hit.rank}. {hit.score:.3f}  {name}{hit.key}")
    result = output / "result.html"
    title = f"imgret demo: {len(rows)} images searched in {len(retriever)}"
    page = hit_pages.page(rows, title=title, note=repr(retriever)[1:-1], max_pixels=max_pixels)
    result.write_text(page, encoding="utf-8")
    say(f"\nresult page: {result.absolute()}")
    say(f"go on with:  imgret search {store} {queries[0]}")
    return result


def _drawn(output: Path, say: Callable[[str], None]) -> tuple[Path, list[Path]]:
    root = output / "gallery"
    gallery = samples.write_gallery(root)
    queries = samples.write_queries(output / "queries", per_species=1)
    say(f"drew {len(gallery)} images of {len(samples.species())} species into {root}")
    return root, queries


def _taken(folder: Path, max_pixels: int, say: Callable[[str], None]) -> tuple[Path, list[Path]]:
    """Hold back a few images as queries, spread over the folder and readable."""
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
    try:
        images.load(path, max_pixels=max_pixels)
    except ImageError:
        return False
    return True
