"""The commands. Each imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.adapt import adapt
from imgret.cli.calibrate import calibrate
from imgret.cli.check import check
from imgret.cli.classify import classify
from imgret.cli.clusters import clusters
from imgret.cli.compact import compact
from imgret.cli.compare import compare
from imgret.cli.copy import copy
from imgret.cli.crop_report import crop_report
from imgret.cli.demo import demo
from imgret.cli.duplicates import duplicates
from imgret.cli.evaluate import evaluate
from imgret.cli.explain import explain
from imgret.cli.export import export
from imgret.cli.help import Command, Group
from imgret.cli.import_ import import_file
from imgret.cli.index import index
from imgret.cli.info import info
from imgret.cli.listing import list_keys
from imgret.cli.map import draw_map
from imgret.cli.mislabelled import mislabelled
from imgret.cli.models import models
from imgret.cli.outliers import outliers
from imgret.cli.plugins import plugins
from imgret.cli.reindex import reindex
from imgret.cli.relocate import relocate
from imgret.cli.remove import remove
from imgret.cli.report import report
from imgret.cli.search import search
from imgret.cli.serve import serve
from imgret.cli.show import show
from imgret.cli.train import train
from imgret.cli.train_saliency import train_saliency
from imgret.cli.tune import tune
from imgret.version import __version__

__all__ = ["app"]

app = typer.Typer(
    cls=Group,
    help="""Find images by image, by words and by example.

imgret index photos -o photos.imgret
imgret search photos.imgret query.jpg
imgret serve photos.imgret --open

`imgret COMMAND -h` explains a command and its options.""",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What `imgret --help` shows: the panels by use, the commands of each by use.
_PANELS: dict[str, tuple[tuple[str, Callable[..., None] | typer.Typer], ...]] = {
    "Search": (
        ("index", index),
        ("search", search),
        ("serve", serve),
        ("classify", classify),
        ("explain", explain),
    ),
    "Data": (
        ("info", info),
        ("list", list_keys),
        ("show", show),
        ("copy", copy),
        ("export", export),
        ("import", import_file),
        ("remove", remove),
        ("relocate", relocate),
        ("check", check),
        ("compact", compact),
    ),
    "Curate": (
        ("duplicates", duplicates),
        ("outliers", outliers),
        ("mislabelled", mislabelled),
        ("clusters", clusters),
        ("map", draw_map),
    ),
    "Evaluate and tune": (
        ("evaluate", evaluate),
        ("compare", compare),
        ("adapt", adapt),
        ("calibrate", calibrate),
        ("reindex", reindex),
        ("tune", tune),
        ("crop-report", crop_report),
    ),
    "Models": (
        ("train", train),
        ("train-saliency", train_saliency),
        ("plugins", plugins),
        ("models", models),  # typer puts groups after commands
    ),
    "Try it": (("demo", demo),),
    "Get help": (("report", report),),
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands:
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, cls=Command, rich_help_panel=_panel)(_command)


def _version(asked: bool) -> None:  # noqa: FBT001  # what typer calls
    if asked:
        typer.echo(f"imgret {__version__}")
        raise typer.Exit


def _only_below(context: typer.Context, folders: list[Path] | None) -> list[Path]:
    if folders:
        from imgret.files.roots import only_below  # noqa: PLC0415  # loads more than --help needs

        context.with_resource(only_below(*folders))
    return folders or []  # Typer 0.17 asks for its length


@app.callback()
def _common(
    version: Annotated[  # acted on above
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[  # looked for by imgret.cli.main
        bool, typer.Option("-v", "--verbose", help="Show what is done; -vv shows more.")
    ] = False,
    images_below: Annotated[  # acted on above
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            callback=_only_below,
            help="Read no image outside this folder, whatever a gallery says; can be repeated.",
        ),
    ] = None,
    debug: Annotated[  # looked for by imgret.cli.main
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Handle the options given before the command."""
