"""The commands. Each imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.help import Command, Group
from imgret.version import __version__

__all__ = ["make_app"]

# What `imgret --help` shows: the panels by use, the commands of each by use.
_PANELS = {
    "Search": ("index", "search", "serve", "classify", "explain"),
    "Data": (
        "info",
        "list",
        "show",
        "copy",
        "export",
        "import",
        "remove",
        "relocate",
        "check",
        "compact",
    ),
    "Curate": ("duplicates", "outliers", "mislabelled", "clusters", "map"),
    "Evaluate and tune": (
        "evaluate",
        "compare",
        "adapt",
        "calibrate",
        "reindex",
        "tune",
        "crop-report",
    ),
    "Models": ("train", "train-saliency", "plugins", "models"),  # typer puts groups after commands
    "Try it": ("demo",),
    "Get help": ("report",),
}
# A command is the function of its name in the module of its name, but these.
_NAMED_OTHERWISE = {
    "import": "import_.import_file",
    "list": "listing.list_keys",
    "map": "map.draw_map",
}
_HELP = """Find images by image, by words and by example.

imgret index photos -o photos.imgret
imgret search photos.imgret query.jpg
imgret serve photos.imgret --open

`imgret COMMAND -h` explains a command and its options."""


def make_app(words: Sequence[str] = ()) -> typer.Typer:
    """Return the application, with all commands, or the only one that the first word names.

    Typer reads the options of every command it is given, and that takes as long as a search.
    """
    app = typer.Typer(
        cls=Group,
        help=_HELP,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    known = bool(words) and any(words[0] in names for names in _PANELS.values())
    for panel, names in _PANELS.items():
        for name in names:
            if known and name != words[0]:
                continue
            own = name.replace("-", "_")
            module, function = _NAMED_OTHERWISE.get(name, f"{own}.{own}").split(".")
            command = getattr(import_module(f"imgret.cli.{module}"), function)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name, rich_help_panel=panel)
            else:
                app.command(name, cls=Command, rich_help_panel=panel)(command)
    return app


def _version(asked: bool) -> None:  # noqa: FBT001  # what typer calls
    if asked:
        typer.echo(f"imgret {__version__}")
        raise typer.Exit


def _only_below(context: typer.Context, folders: list[Path] | None) -> list[Path]:
    if folders:
        from imgret.files.roots import only_below  # noqa: PLC0415  # loads more than --help needs

        context.with_resource(only_below(*folders))
    return folders or []  # Typer 0.17 asks for its length


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
