"""The layout of ``--help``: commands in panels, examples line by line, short words for values.

It is the same with every version of typer.
"""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["Command", "Group", "record"]

# What an option takes, by the name typer gives to its type: `TEXT`, `<list[str]>`, `INTEGER RANGE`.
_VALUES = {"int": "N", "integer": "N", "float": "X", "path": "PATH", "str": "TEXT", "text": "TEXT"}
_RANGE = re.compile(r"(; )?[-\d.<=]*x[<>]=?[-\d.<=]+")  # such as x>=1 and 0<=x<=1


class Command(TyperCommand):
    """A command whose help keeps the lines of its examples, which start with ``imgret``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for parameter in self.params:
            if parameter.param_type_name == "argument" and parameter.metavar is None:
                parameter.metavar = str(parameter.name).upper()  # also in messages

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words after the name of the command."""
        arguments = [p for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return ["[OPTIONS]", *map(_argument, arguments)]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # typer's hook
        """Write the text above the options."""
        _write(self.help, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section of arguments and one of options."""
        _write_parameters(self.get_params(ctx), ctx, formatter)

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002  # typer's hook
        """Return the summary that shells show when they complete a command."""
        return _summary(self)


class Group(TyperGroup):
    """Commands that are listed by panel, in the order in which they were added.

    The summary of a command is the first paragraph of its help, never cut off.
    """

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # typer's hook
        """Write the text above the options."""
        _write(self.help, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the panels, and then the options, which few people need."""
        self.format_commands(ctx, formatter)
        _write_parameters(self.get_params(ctx), ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per panel, with the summaries below each other."""
        panels: dict[str, list[tuple[str, str]]] = {}
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        width = max(len(name) for name, _ in commands)
        for name, command in commands:
            panel = getattr(command, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Commands"
            panels.setdefault(title, []).append((f"{name:<{width}}", _summary(command)))
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002  # typer's hook
        """Return the summary that shells show when they complete a command."""
        return _summary(self)


def _summary(command: Any) -> str:
    """Return the first paragraph of a command's help, as one line."""
    return " ".join((getattr(command, "help", "") or "").partition("\n\n")[0].split())


def _write(text: str | None, formatter: Any) -> None:
    """Write paragraphs, each filled; those that start with a command keep their lines."""
    for part in (text or "").split("\n\n"):
        formatter.write_paragraph()
        with formatter.indentation():
            # The formatter leaves a paragraph as it is if it starts with this mark.
            lines = part.replace("\n", "\n    ")
            formatter.write_text(f"\b\n    {lines}" if part.startswith("imgret ") else part)


def _write_parameters(parameters: list[Any], ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in parameters:
        if (found := record(parameter, ctx)) is not None:
            title = "Arguments" if parameter.param_type_name == "argument" else "Options"
            sections[title].append(found)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def record(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """Return an argument or option as it is written, and its help; None if it is hidden."""
    found = parameter.get_help_record(ctx)
    if found is None:
        return None
    name, text = found
    text = _RANGE.sub("", text.replace("\\[", "[")).removesuffix("[]").rstrip()
    if parameter.param_type_name != "argument":
        return _option(parameter, name), text
    return _argument(parameter), text.removesuffix("[required]").rstrip()  # brackets say it


def _argument(parameter: Any) -> str:
    word = str(parameter.metavar)
    word = word if parameter.required or word.startswith("[") else f"[{word}]"
    return f"{word}..." if parameter.nargs != 1 else word


def _option(parameter: Any, name: str) -> str:
    names, _, value = re.sub(r"((?:^|[,/] ?)-\S+?(?=[,/ ]|$))", r"\1\0", name).rpartition("\0")
    names, value = names.replace("\0", ""), value.strip()
    if not value:
        return names
    words = (_VALUES.get(word) for word in re.findall(r"[a-z]+", value.lower()))
    word = parameter.metavar or " ".join([next(filter(None, words), value)] * parameter.nargs)
    return f"{names} {word}"
