"""The layout of ``--help``: commands in panels, examples line by line, short words for values."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import click

__all__ = ["Argument", "Command", "Group", "record"]

# What a number is called where an option takes one.
_NUMBERS = {"integer": "N", "integer range": "N", "float": "X", "float range": "X"}
_RANGE = re.compile(r"(; )?[-\d.<=]*x[<>]=?[-\d.<=]+")  # such as x>=1 and 0<=x<=1


class Argument(click.Argument):
    """An argument that the help explains, which that of click can only since 8.5."""

    def __init__(self, param_decls: Sequence[str], *, help: str, **options: Any) -> None:  # noqa: A002  # as for an option
        super().__init__(param_decls, **options)
        self.help = help
        self.metavar: str = self.metavar or str(self.name).upper()  # also in messages

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the argument as it is written."""
        word = self.metavar if self.required else f"[{self.metavar}]"
        return [word if self.nargs == 1 else f"{word}..."]

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return the argument as it is written, and its help."""
        return self.get_usage_pieces(ctx)[0], self.help or ""


class Command(click.Command):
    """A command whose help keeps the lines of its examples, which start with ``imgret``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = inspect.cleandoc(self.help or "")
        for option in self.params:
            option.metavar = option.metavar or _NUMBERS.get(option.type.name)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write all sections, which differ between versions of click."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write paragraphs, each filled; those that start with a command keep their lines."""
        for part in (self.help or "").split("\n\n"):
            formatter.write_paragraph()
            with formatter.indentation():
                # The formatter leaves a paragraph as it is if it starts with this mark.
                lines = part.replace("\n", "\n    ")
                formatter.write_text(f"\b\n    {lines}" if part.startswith("imgret ") else part)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section of arguments and one of options."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            if (found := record(parameter, ctx)) is not None:
                sections[f"{parameter.param_type_name.capitalize()}s"].append(found)
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first paragraph of the help, never cut off, also for shells."""
        return " ".join((self.help or "").partition("\n\n")[0].split())


class Group(Command, click.Group):
    """Commands that are listed by panel, in the order in which they were added."""

    command_class = Command

    def panels(self) -> Mapping[str, Sequence[str]]:
        """Return the titles of the panels, with the names of their commands."""
        return {"Commands": list(self.commands)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return [name for names in self.panels().values() for name in names]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for; the error about another names those like it."""
        names = self.list_commands(ctx)
        near = [] if args[0] in names else get_close_matches(args[0], names)
        if near and not ctx.resilient_parsing:  # else a shell asks
            ctx.fail(f"No such command {args[0]!r}. Did you mean {', '.join(map(repr, near))}?")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the panels, and then the options, which few people need."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per panel, with the summaries below each other."""
        width = max(map(len, self.list_commands(ctx)))
        for title, names in self.panels().items():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (f"{name:<{width}}", command.get_short_help_str())
                        for name in names
                        if (command := self.get_command(ctx, name)) is not None
                    ]
                )


def record(parameter: click.Parameter, ctx: click.Context) -> tuple[str, str] | None:
    """Return an argument or option as it is written, and its help; None if it is hidden."""
    found = parameter.get_help_record(ctx)
    if found is None:
        return None
    return found[0], _RANGE.sub("", found[1]).removesuffix("[]").rstrip()
