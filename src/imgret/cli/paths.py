"""Paths that commands read and print, and checks of those they write."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imgret.support.terminal import plain

if TYPE_CHECKING:
    from imgret.files import Place

__all__ = ["PathPrinter", "Queries", "check_lists", "check_writable", "path", "read_list"]


def path(text: str) -> Place:
    """Return the path or the address of an image; the name is that of the type in the help."""
    from imgret.files import Url, is_url  # noqa: PLC0415  # so that --help is quick

    return Url(text) if is_url(text) else Path(text)


def check_writable(file: Path | None, option: str, what: str = "a page") -> None:
    """Raise if no file can be written at a path; None is always accepted."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        found = "a folder" if file.is_dir() else f"no folder {file.parent}"
        raise click.BadParameter(
            f"{file}: expected the path of {what} to write, found {found}", param_hint=option
        )


class Queries:
    """The paths of query images: files as they are, the images of folders, ``-`` as a list.

    The list is read from standard input: one path per line, or paths that end with NUL, as
    ``find -print0`` prints them. What is no image is yielded too, so that it is reported when it
    is opened.

    Attributes
    ----------
    done, failed : int
        Number of queries that were answered, and of those that could not be read.
    """

    def __init__(self, paths: Iterable[Place]) -> None:
        self._paths = list(paths)
        check_lists(
            self._paths.count(Path("-")),
            example="find new -name '*.jpg' | imgret search photos.imgret -",
            argument="QUERIES",
        )
        self.done = self.failed = 0

    def __iter__(self) -> Iterator[Place]:
        for place in self._paths:
            if place != Path("-"):
                yield from self._images(place)
                continue
            listed = read_list()
            if not listed:
                self.fail("standard input: expected the paths of images, found none")
            for line in listed:
                yield from self._images(path(line))

    def _images(self, place: Place) -> Iterator[Place]:
        if isinstance(place, str) or not place.is_dir():  # an address is text
            yield place
            return
        from imgret.ingest.folder import find_images  # noqa: PLC0415  # so that --help is quick

        found, ignored = find_images(place)
        if not found:
            others = f"{ignored:,} other files" if ignored else "an empty one"
            self.fail(f"{place}: expected a folder with images, found {others}")
        yield from found

    def fail(self, reason: object) -> None:
        """Report a query that could not be read; the others are searched all the same."""
        self.failed += 1
        click.echo(f"imgret: error: {plain(str(reason))}", err=True)

    def exit(self) -> None:
        """Leave with the exit code for what failed, if anything did."""
        if self.failed:
            raise click.exceptions.Exit(3 if self.done else 1)


def check_lists(count: int, *, example: str, argument: str) -> None:
    """Raise if ``-`` is given more than once, or if standard input has no list."""
    if count > 1:
        raise click.BadParameter("expected - once, found it twice", param_hint=argument)
    if count and sys.stdin.isatty():
        raise click.BadParameter(
            f"expected a list of paths on standard input, found a terminal; use it as in: "
            f"{example}",
            param_hint=argument,
        )


def read_list() -> list[str]:
    """Return the paths on standard input, separated by line breaks, or else by NUL."""
    # Bytes, as names of files may not be valid text.
    content = sys.stdin.buffer.read()
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(line) for line in lines if line.strip()]


class PathPrinter:
    """Prints the paths of items on standard output, each path once.

    Parameters
    ----------
    null : bool
        Whether paths end with NUL instead of a line break.
    """

    def __init__(self, *, null: bool) -> None:
        self._end = b"\0" if null else b"\n"
        self._seen: set[str] = set()
        self._without: list[str] = []

    @classmethod
    def of(cls, *, paths: bool, null: bool, json: bool) -> PathPrinter | None:
        """Return a printer if the options ask for paths, else None."""
        if json and (paths or null):
            raise click.BadParameter(
                "expected one form of output, found --json as well", param_hint="-l / -0"
            )
        return cls(null=null) if paths or null else None

    def print(self, found: Iterable[tuple[str, str | None]]) -> None:
        """Print the paths of items that are given as key and path."""
        for key, place in found:
            if place is None:
                self._without.append(key)
            elif place not in self._seen:
                self._seen.add(place)
                # Bytes would pass by the stream that shows what a terminal takes for a command.
                if sys.stdout.isatty():
                    click.echo(plain(place))
                else:
                    click.echo(os.fsencode(place) + self._end, nl=False)

    def close(self) -> None:
        """Report the items that have no file."""
        if self._without:
            first, n = self._without[0], len(self._without)
            what = f"{n:,} items have no file and were left out, such as"
            what = "1 item has no file and was left out:" if n == 1 else what
            click.echo(f"imgret: warning: {what} {plain(first)}", err=True)
