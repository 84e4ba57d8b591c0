"""``imgret serve``: search a gallery in the browser."""

from __future__ import annotations

import logging
import sys

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument, Command

__all__ = ["serve"]


@click.command(cls=Command)
@click.argument(
    "gallery",
    cls=Argument,
    required=False,
    type=GalleryPlace,
    metavar="GALLERY | FOLDER",
    help="Gallery, or folder of images, which is indexed into FOLDER.imgret meanwhile. "
    "[choose a folder in the browser]",
)
@click.option(
    "--host", default="127.0.0.1", help="Address to listen at; 0.0.0.0 opens it to the network."
)
@click.option(
    "--port", type=click.IntRange(min=0, max=65535), default=8080, help="Port; 0 takes a free one."
)
@click.option("--token", help="Secret that requests must have; auto makes one.")
@click.option(
    "--allow-host", multiple=True, help="Host name the server may be called by; can be repeated."
)
@click.option("--write", is_flag=True, help="Let items be relabelled and removed.")
@click.option("--open", "open_", is_flag=True, help="Show the page in the browser.")
@click.option("--embedder", help="Model for a folder, or new path of the gallery's model.")
@click.option("--max-bytes", type=options.COUNT, default=32 * 2**20, help="Largest upload.")
@options.max_pixels
@click.option(
    "--concurrency", type=options.COUNT, help="Requests worked on at once. [four per core]"
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.001),
    default=60.0,
    help="Seconds after which a request is given up.",
)
@click.option(
    "--isolate/--no-isolate",
    default=True,
    help="Decode images in processes with limits of memory and time, except plain JPEG and PNG.",
)
@click.option("--json", "json_", is_flag=True, help="Write the log as JSON lines.")
def serve(
    *,
    gallery: GalleryPlace | None,
    host: str,
    port: int,
    token: str | None,
    allow_host: tuple[str, ...],
    write: bool,
    open_: bool,
    embedder: str | None,
    max_bytes: int,
    max_pixels: int,
    concurrency: int | None,
    timeout: float,
    isolate: bool,
    json_: bool,
) -> None:
    """Search and browse a gallery in the browser.

    imgret serve photos.imgret --open
    imgret serve photos/

    The page is only for this computer, unless --host opens it to the network. Needs pip install
    'imgret[serve]'.
    """
    from imgret.errors import MissingExtraError  # noqa: PLC0415

    try:
        from imgret.serve import Limits, Site, run  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            f"imgret serve needs the extra 'serve' ({error}): pip install 'imgret[serve]'"
        ) from error
    from imgret.galleries.local.manifest import is_gallery  # noqa: PLC0415

    _start_log(as_json=json_)
    folder = None if gallery is None else gallery.directory
    if folder is not None and folder.is_dir() and not is_gallery(folder):
        gallery = None
    else:
        folder = None
    site = Site(gallery, folder=folder, write=write, embedder=embedder, max_pixels=max_pixels)
    cores = {} if concurrency is None else {"concurrency": concurrency}
    run(
        site,
        host=host,
        port=port,
        token=token,
        hosts=allow_host,
        limits=Limits(bytes=max_bytes, seconds=timeout, **cores),
        open_browser=open_,
        isolate=isolate,
    )


def _start_log(*, as_json: bool) -> None:
    """Write the log of the server to stderr; that of the library only with ``-v``, or warnings."""
    import json  # noqa: PLC0415

    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            facts = {"time": self.formatTime(record), "level": record.levelname.lower()}
            facts |= {"logger": record.name, "message": record.getMessage()}
            if record.exc_info:
                facts["error"] = self.formatException(record.exc_info)
            return json.dumps(facts)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines() if as_json else logging.Formatter("%(levelname)s %(message)s"))
    for name in ("imgret", "uvicorn"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        if logger.level == logging.NOTSET:  # else set by -v
            logger.setLevel(logging.WARNING)
    if not logging.getLogger("imgret").isEnabledFor(logging.INFO):
        logging.getLogger("imgret.serve").setLevel(logging.INFO)
