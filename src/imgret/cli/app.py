"""The commands. Each is imported when it is asked for, so that the others take no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.help import Group
from imgret.version import __version__

__all__ = ["ASKED_BY", "app"]

ASKED_BY = "_IMGRET_COMPLETE"
"""The variable by which the script of a shell asks what to offer."""

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
    "Models": ("train", "train-saliency", "plugins", "models"),
    "Try it": ("demo",),
    "Get help": ("report",),
}
# A command is the function of its name in the module of its name, but these.
_NAMED_OTHERWISE = {
    "import": "import_.import_file",
    "list": "listing.list_keys",
    "map": "map.draw_map",
}


class _Commands(Group):
    def panels(self) -> Mapping[str, Sequence[str]]:
        return _PANELS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        own = cmd_name.replace("-", "_")
        module, function = _NAMED_OTHERWISE.get(cmd_name, f"{own}.{own}").split(".")
        command: click.Command = getattr(import_module(f"imgret.cli.{module}"), function)
        return command


def _only_below(ctx: click.Context, param: click.Parameter, folders: tuple[Path, ...]) -> None:
    if folders and not ctx.resilient_parsing:
        from imgret.files.roots import only_below  # noqa: PLC0415  # loads more than --help needs

        ctx.with_resource(only_below(*folders))


def _completion(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from imgret.cli import shells  # noqa: PLC0415  # the same

        (shells.install if param.name == "install_completion" else shells.show)()
        ctx.exit()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, message="imgret %(version)s", help="Show the version.")
@click.option(  # looked for by imgret.cli.main
    "-v", "--verbose", is_flag=True, expose_value=False, help="Show what is done; -vv shows more."
)
@click.option(
    "--images-below",
    multiple=True,
    type=options.PATH,
    metavar="FOLDER",
    callback=_only_below,
    expose_value=False,
    help="Read no image outside this folder, whatever a gallery says; can be repeated.",
)
@click.option(  # looked for by imgret.cli.main
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
)
@click.option(
    "--install-completion",
    is_flag=True,
    callback=_completion,
    expose_value=False,
    help="Install completion for the current shell.",
)
@click.option(
    "--show-completion",
    is_flag=True,
    callback=_completion,
    expose_value=False,
    help="Show completion for the current shell, to copy it or customize the installation.",
)
def app() -> None:
    """Find images by image, by words and by example.

    imgret index photos -o photos.imgret
    imgret search photos.imgret query.jpg
    imgret serve photos.imgret --open

    `imgret COMMAND -h` explains a command and its options.
    """
