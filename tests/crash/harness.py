"""Runs scripts under the shim, and builds the disks that a power cut can leave."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import imgret

HERE = Path(__file__).parent
WRITE, TRUNCATE, SYNC, CREATE, MKDIR, RENAME, UNLINK, RMDIR, MARK = range(1, 10)
_HEAD = struct.Struct("<IIQqQ")
SECTOR = 512
# What of the changes since the last sync of a file, or of a directory, is on the disk.
KINDS = ("synced data", "synced names", "synced", "torn")


def compiled(folder: Path) -> Path | None:
    """Compile the shim; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    target = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", target, HERE / "shim.c", "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return target


class Runner:
    """A process with the shim that runs one script after another, each in a child."""

    def __init__(self, shim: Path) -> None:
        source = str(Path(imgret.__file__).parents[1])
        environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": source}
        environment["OMP_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, HERE / "zygote.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, directory: Path, **request: Any) -> dict[str, Any]:
        """Run a script below an empty directory; see `zygote.child`."""
        directory.mkdir()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(
            json.dumps({"directory": str(directory), **request}),
            file=self._process.stdin,
            flush=True,
        )
        answer = self._process.stdout.readline()
        assert answer, "the process that runs scripts has ended"
        found: dict[str, Any] = json.loads(answer)
        return found


class Record(NamedTuple):
    """A change, as the shim saw it."""

    kind: int
    inode: int
    offset: int
    first: str
    second: bytes


def records(log: Path) -> list[Record]:
    """Read the shim's log."""
    data, at, found = log.read_bytes(), 0, []
    while at < len(data):
        kind, first, inode, offset, second = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        path = data[at : at + first].decode()
        at += first
        found.append(Record(kind, inode, offset, path, data[at : at + second]))
        at += second
    return found


class _File:
    """Content of a file, as it is, as of its last sync, and what was written since."""

    def __init__(self) -> None:
        self.now = bytearray()
        self.synced = b""
        self.since: list[tuple[int, bytes | None]] = []  # offset and data, or a length

    def change(self, offset: int, data: bytes | None) -> None:
        self.since.append((offset, data))
        _apply(self.now, offset, data)

    def sync(self) -> None:
        self.synced, self.since = bytes(self.now), []

    def torn(self, chance: random.Random) -> bytes:
        """Some sectors of what was written since have reached the disk."""
        content = bytearray(self.synced)
        for offset, data in self.since:
            if data is None:
                if chance.random() < 0.5:
                    _apply(content, offset, None)
                continue
            for start in range(offset - offset % SECTOR, offset + len(data), SECTOR):
                if chance.random() < 0.5:
                    piece = slice(max(start - offset, 0), start + SECTOR - offset)
                    _apply(content, max(start, offset), data[piece])
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class _Names(NamedTuple):
    """A change of names: what is now under a name of a directory, or nothing; one or two."""

    entries: tuple[tuple[int, str, int | None], ...]


class Disk:
    """What the disk may hold after the first changes of a log, if the power fails then."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._files: dict[int, _File] = {}
        self._tables: dict[int, dict[str, int]] = {0: {}}  # names of each directory, as they are
        self._ids: dict[int, int] = {}  # of inodes, which are used again
        self._next = 1
        self._names: list[_Names] = []
        self._synced: dict[int, int] = {0: 0}  # number of changes of names at its last sync
        self.done = -1

    def play(self, record: Record) -> None:
        """Take a change into account."""
        match record.kind:
            case k if k == WRITE:
                self._files[self._ids[record.inode]].change(record.offset, record.second)
            case k if k == TRUNCATE:
                self._files[self._ids[record.inode]].change(record.offset, None)
            case k if k == SYNC:
                self._sync(record)
            case k if k in {CREATE, MKDIR}:
                number = self._ids[record.inode] = self._next
                self._next += 1
                if record.kind == CREATE:
                    self._files[number] = _File()
                else:
                    self._tables[number] = {}
                self._rename((*self._place(record.first), number))
            case k if k == RENAME:
                old, new = self._place(record.first), self._place(record.second.decode())
                self._rename((*old, None), (*new, self._tables[old[0]][old[1]]))
            case k if k in {UNLINK, RMDIR}:
                self._rename((*self._place(record.first), None))
            case _:
                self.done = record.offset

    def _sync(self, record: Record) -> None:
        number = self._number(record.first)
        if number in self._files:
            self._files[number].now[:] = record.second
            self._files[number].sync()
        else:
            self._synced[number] = len(self._names)

    def _number(self, path: str) -> int:
        number = 0
        for name in Path(path).relative_to(self._root).parts:
            number = self._tables[number][name]
        return number

    def _place(self, path: str) -> tuple[int, str]:
        head, _, name = path.rpartition("/")
        return self._number(head), name

    def _rename(self, *entries: tuple[int, str, int | None]) -> None:
        self._names.append(_Names(entries))
        _enter(self._tables, entries)

    def build(self, target: Path, kind: str, chance: random.Random) -> None:
        """Write the disk of one kind into a directory; ``"whole"`` has lost nothing."""
        tables = self._tables
        if kind in {"synced names", "synced"}:
            tables = self._replayed(
                [
                    change
                    for number, change in enumerate(self._names)
                    if all(self._synced.get(where, 0) > number for where, _, _ in change.entries)
                ]
            )
        elif kind == "torn":  # a file system that keeps the order of names
            least = max(self._synced.values())
            tables = self._replayed(self._names[: chance.randint(least, len(self._names))])
        self._write(target, tables, 0, kind, chance)

    def _replayed(self, changes: list[_Names]) -> dict[int, dict[str, int]]:
        tables: dict[int, dict[str, int]] = {number: {} for number in self._tables}
        for change in changes:
            _enter(tables, change.entries)
        return tables

    def _write(
        self,
        target: Path,
        tables: dict[int, dict[str, int]],
        number: int,
        kind: str,
        chance: random.Random,
    ) -> None:
        target.mkdir()
        for name, each in tables[number].items():
            if each in tables:
                self._write(target / name, tables, each, kind, chance)
                continue
            file = self._files[each]
            content = bytes(file.now)
            if kind in {"synced data", "synced"}:
                content = file.synced
            elif kind == "torn":
                content = file.torn(chance)
            (target / name).write_bytes(content)


def _enter(
    tables: dict[int, dict[str, int]], entries: tuple[tuple[int, str, int | None], ...]
) -> None:
    for where, name, number in entries:
        if number is None:
            tables[where].pop(name, None)
        else:
            tables[where][name] = number


def files_below(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(directory)), path.read_bytes()
