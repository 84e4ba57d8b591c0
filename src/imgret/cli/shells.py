"""Completion in bash, zsh, fish and PowerShell, by the scripts of click."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from imgret.cli.app import ASKED_BY, app
from imgret.errors import InvalidInputError

__all__ = ["complete", "install", "show"]

# Below the home directory: the file of the script, and the one that loads it, by which line.
_FILES = {
    "bash": (".bash_completions/imgret.sh", ".bashrc", "source '{}'"),
    "zsh": (".zfunc/_imgret", ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
    "fish": (".config/fish/completions/imgret.fish", "", ""),
}
_POWERSHELLS = ("pwsh", "powershell")


class _OrFiles(ShellComplete):
    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        found = super().get_completions(args, incomplete)
        return found or [CompletionItem(incomplete, type="file")]


def complete(instruction: str) -> int:
    """Print what a shell may offer, or its script, and return the exit code."""
    shell, _, wanted = instruction.partition("_")
    completion = _completion(shell)
    text = completion.complete() + "\n" if wanted == "complete" else completion.source()
    click.echo(text.encode(), nl=False)  # no line ends of Windows
    return 0


def show() -> None:
    """Print the script of the shell in use."""
    click.echo(_completion(_shell_in_use()).source(), nl=False)


def install() -> None:
    """Write the script of the shell in use, and the line that loads it."""
    shell = _shell_in_use()
    script = _completion(shell).source()
    file, loader, line = _places(shell)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script, encoding="utf-8")
    if line and not (loader.is_file() and line.encode() in loader.read_bytes()):
        with loader.open("a", encoding="utf-8") as lines:
            lines.write(f"\n{line}\n")
    click.secho(f"{shell} completion installed in {file}", fg="green")
    click.echo("Completion will take effect once you restart the terminal")


def _completion(shell: str) -> ShellComplete:
    known = get_completion_class("powershell" if shell in _POWERSHELLS else shell)
    if known is None:
        raise InvalidInputError(
            "shell in use: expected bash, zsh, fish, or PowerShell with click 8.5 or newer, "
            f"found {shell or 'none of them'}"
        )
    # fish would cut keys and summaries off at a comma, and zsh would not answer the second Tab.
    script = known.source_template.replace('string split ","', 'string split -m 1 ","')
    if shell == "zsh":
        script += "compdef %(complete_func)s %(prog_name)s\n"
    made: type[ShellComplete] = type(shell, (_OrFiles, known), {"source_template": script})
    return made(app, {}, "imgret", ASKED_BY)


def _shell_in_use() -> str:
    """Return the name of the shell that started this process, directly or by other programs."""
    listed = ""
    with suppress(OSError):
        listed = subprocess.run(
            ["ps", "-Ao", "pid=,ppid=,comm="],  # noqa: S607  # wherever it is
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    parents = {pid: rest for pid, *rest in (line.split(None, 2) for line in listed.splitlines())}
    pid = str(os.getpid())
    while pid in parents:
        pid, command = parents[pid]
        name = Path(command).name.lstrip("-")  # a login shell has a hyphen
        if name in _FILES or name in _POWERSHELLS:
            return name
    if (login := os.environ.get("SHELL")) is None and os.name == "nt":
        return next(filter(shutil.which, _POWERSHELLS), "")
    return Path(login or "").name


def _places(shell: str) -> tuple[Path, Path, str]:
    """Return the file for the script, the file that loads it, and the line that does."""
    if shell in _POWERSHELLS:
        asked = subprocess.run(  # noqa: S603  # one of two names
            [shell, "-NoProfile", "-Command", "$PROFILE"],
            capture_output=True,
            text=True,
            check=True,
        )
        profile = Path(asked.stdout.strip())
        script = profile.with_name("imgret.ps1")
        return script, profile, f". '{script}'"
    file, loader, line = _FILES[shell]
    script = Path.home() / file
    return script, Path.home() / loader, line.format(script)
