"""A directive that describes every command, from the commands themselves.

``{imgret-commands}`` writes a section for each command: its help, its usage, and a table of its
arguments and options. Nothing is kept beside the code that could become wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from imgret.cli.app import app
from imgret.cli.help import Group, record


def describe(command: click.Command, name: str, above: click.Context) -> Iterator[str]:
    """Yield the Markdown of a command, or of each command of a group."""
    context = click.Context(command, parent=above, info_name=name)
    if isinstance(command, Group):
        for word in command.list_commands(context):
            yield from describe(command.get_command(context, word), word, context)
        return
    yield f"### {context.command_path}"
    yield from map(_block, command.help.split("\n\n"))
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    yield f"```text\n{usage}\n```"
    rows = [row for each in command.params if (row := _row(each, context))]
    if rows:
        yield "\n".join(["| option | |", "| --- | --- |", *rows])


def panels() -> Iterator[str]:
    """Yield the Markdown of all commands, in the groups in which ``--help`` shows them."""
    context = click.Context(app, info_name="imgret", **app.context_settings)
    for panel, words in app.panels().items():
        yield f"## {panel}"
        for word in words:
            yield from describe(app.get_command(context, word), word, context)


def _block(text: str) -> str:
    """Return a paragraph of a help text; one that starts with a command keeps its lines."""
    lines = text.strip("\b\n ").split("\n")
    if lines[0].startswith("imgret "):
        return "\n".join(["```console", *(f"$ {line.strip()}" for line in lines), "```"])
    return " ".join(line.strip() for line in lines).replace("*", r"\*")


def _row(parameter: click.Parameter, context: click.Context) -> str | None:
    described = record(parameter, context)
    if described is None or "--help" in parameter.opts:
        return None
    name, text = (" ".join(part.split()).replace("|", r"\|") for part in described)
    text = text.replace("\\[", "[").replace("<", r"\<").replace("*", r"\*").replace("__", r"\_\_")
    return f"| `{name}` | {text} |"


class Commands(SphinxDirective):
    """The directive."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        text = "\n\n".join(panels())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(application: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    application.add_directive("imgret-commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
