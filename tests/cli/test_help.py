"""The help of every command in a terminal of 80 columns, and what the shell completes."""

import os
import shlex
import shutil
import subprocess
import sys

import click
import pytest
from click.shell_completion import get_completion_class

from imgret.cli import shells
from imgret.cli.app import app

CONTEXT = click.Context(app)
TOP = {name: app.get_command(CONTEXT, name) for name in app.list_commands(CONTEXT)}
COMMANDS = TOP | {f"models {name}": each for name, each in TOP["models"].commands.items()}
del COMMANDS["models"]
PANELS = ["Search:", "Data:", "Curate:", "Evaluate and tune:", "Models:", "Try it:"]
PANELS += ["Get help:", "Options:"]


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_commands_stand_in_panels_by_use(run):
    lines = run("--help").out.splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == PANELS
    listed = [line.split()[0] for line in lines[lines.index("Search:") :] if line[:2] == "  "]
    assert listed[:3] == ["index", "search", "serve"]
    assert sorted(name for name in listed if name in TOP) == sorted(TOP)


@pytest.mark.parametrize("group", ["", "models"])
def test_a_summary_is_one_line_and_not_cut_off(run, group):
    lines = run(*group.split(), "--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    commands = TOP[group].commands if group else TOP
    for name, command in commands.items():
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        assert line.split(maxsplit=1)[1] == command.help.partition("\n\n")[0]
        assert line.endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_starts_with_what_a_command_does_and_an_example(run, name):
    usage, summary, example, *_ = run(*name.split(), "-h").out.split("\n\n")
    assert usage.startswith(f"Usage: imgret {name} [OPTIONS]")
    assert summary.strip() == COMMANDS[name].help.partition("\n\n")[0]
    assert name in example
    for line in example.splitlines():
        assert line.startswith("      imgret ")


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_have_options_that_exist(name):
    """An example of a command that was changed must be changed too."""
    for line in COMMANDS[name].help.split("\n\n")[1].splitlines():
        found, words = app, shlex.split(line.partition("|")[0].partition(">")[0])
        while isinstance(found, click.Group):
            found = found.get_command(CONTEXT, words.pop(1))
        known = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-") and word != "-"} <= known


def test_the_layout_of_options_and_arguments(run):
    out = run("search", "-h").out
    assert "Usage: imgret search [OPTIONS] GALLERY [QUERIES]...\n" in out
    for part in (
        "  -k N  ",
        "  --text TEXT  ",
        "  --threshold X  ",
        "[default: 10]",
        "--html PAGE",
    ):
        assert part in out
    assert "x>=1" not in out
    out = run("index", "-h").out
    assert "-o, --output PATH" in out
    assert "[required]" in out
    assert "  --metadata PATH  " in out
    assert run("remove", "photos.imgret").err == (
        "imgret: error: Missing argument 'KEYS'; see `imgret remove -h`\n"
    )


# -- completion ------------------------------------------------------------------------------


@pytest.fixture
def complete(run, monkeypatch):
    """Return what bash is offered for the last word of a line."""

    def offered(line, shell="bash"):
        words = line.split(" ")
        monkeypatch.setenv("_IMGRET_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        ended = run()
        monkeypatch.delenv("_IMGRET_COMPLETE")
        assert (ended.code, ended.err) == (0, "")
        return [word.removeprefix("plain,") for word in ended.out.splitlines()]

    return offered


def test_commands_and_options_are_completed(complete):
    assert complete("imgret cl") == ["classify", "clusters"]
    assert complete("imgret models d") == ["describe"]
    assert complete("imgret search --th") == ["--threshold"]
    assert complete("imgret serch ph") == ["file,ph"]  # no such command
    assert complete("imgret out", "zsh")[2] == "Find images that are unlike all others."
    learn = "Learn from the labels how likely a hit is to be right."
    assert complete("imgret cal", "zsh")[2] == learn  # not cut off


@pytest.mark.slow
def test_galleries_and_keys_are_completed(work, complete):
    assert complete("imgret search p") == ["photos.imgret"]
    assert complete("imgret info ./p") == ["./photos.imgret"]
    assert complete("imgret search photos/") == ["file,photos/"]  # bash offers files
    assert complete("imgret search lost/") == ["file,lost/"]
    assert complete("imgret index pho") == ["file,pho"]
    assert complete("imgret index photos --embedder mi") == ["file,mi"]
    rose = [f"rose/{n}.jpg" for n in range(4)]
    assert complete("imgret remove photos.imgret ro") == rose
    assert complete("imgret remove photos.imgret rose/0.jpg ro") == rose[1:]
    assert complete("imgret explain photos.imgret query.jpg rose/1") == ["rose/1.jpg"]
    assert complete("imgret remove lost.imgret ro") == ["file,ro"]


# What a user types, and what each shell is asked afterwards. zsh completes in a terminal only: its
# functions are replaced by one that prints what they are called with.
_SHELLS = {
    "bash": """
        COMP_WORDS=(imgret remove photos.imgret tulip/0); COMP_CWORD=3
        _imgret_completion imgret; echo "${COMPREPLY[@]}"; complete -p imgret
    """,
    "zsh": """
        words=(imgret remove photos.imgret tulip/0); CURRENT=4
        compadd() { print -r -- ${(P)@[-1]} }; compdef() { print -r -- "$@" }
        _imgret; _imgret_completion
    """,
    "fish": """
        complete -C "imgret remove photos.imgret tulip/0"; complete -C "imgret compar"
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "expected"),
    {
        "bash": ["tulip/0.jpg", "complete -o nosort -F _imgret_completion imgret"],
        # Loaded by the first Tab, which is answered at once, as is the second.
        "zsh": ["tulip/0.jpg", "_imgret_completion imgret", "tulip/0.jpg"],
        "fish": ["tulip/0.jpg", "compare\tSay which of two evaluations is better, and where."],
    }.items(),
)
def test_shells_complete_with_the_script_that_is_printed(work, shell, expected):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    command = work / "bin" / "imgret"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m imgret \"$@\"\n", encoding="utf-8")
    command.chmod(0o700)
    load = {
        "bash": 'eval "$(imgret --show-completion)"',
        "zsh": "imgret --show-completion > bin/_imgret; fpath=($PWD/bin); autoload -Uz _imgret",
        "fish": "imgret --show-completion | source",
    }
    options = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}
    ended = subprocess.run(
        [shutil.which(shell), options[shell], "-c", load[shell] + "\n" + _SHELLS[shell]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PATH": f"{work / 'bin'}:{os.environ['PATH']}"},
    )
    assert ended.stdout.splitlines() == expected, ended.stderr


@pytest.mark.parametrize(
    ("shell", "script", "loader"),
    [
        ("bash", ".bash_completions/imgret.sh", ".bashrc"),
        ("zsh", ".zfunc/_imgret", ".zshrc"),
        ("fish", ".config/fish/completions/imgret.fish", None),
        ("pwsh", "folder/imgret.ps1", "folder/profile.ps1"),
    ],
)
def test_a_shell_is_set_up_once(run, tmp_path, monkeypatch, shell, script, loader):
    if shell == "pwsh":
        if sys.platform == "win32" or get_completion_class("powershell") is None:
            pytest.skip("needs a program that stands for PowerShell, and click 8.5")
        program = tmp_path / "pwsh"
        program.write_text(f"#!/bin/sh\necho '{tmp_path / loader}'\n", encoding="utf-8")
        program.chmod(0o700)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    elif loader is not None:
        (tmp_path / loader).write_text("# as it was\n", encoding="utf-8")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    monkeypatch.setattr(shells, "_shell_in_use", lambda: shell)
    for _ in range(2):
        ended = run("--install-completion")
        assert ended.code == 0
        assert ended.out.startswith(f"{shell} completion installed in {tmp_path / script}\n")
    assert "_IMGRET_COMPLETE" in (tmp_path / script).read_text(encoding="utf-8")
    if loader is not None:
        lines = (tmp_path / loader).read_text(encoding="utf-8").splitlines()
        assert lines[:1] == ([""] if shell == "pwsh" else ["# as it was"])
        assert len([line for line in lines if script.partition("/")[0] in line]) == 1


def test_a_shell_without_completion_is_named(run, monkeypatch):
    monkeypatch.setattr(shells, "_shell_in_use", lambda: "tcsh")
    for option in ("--install-completion", "--show-completion"):
        ended = run(option)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith("imgret: error: shell in use: expected bash, zsh, fish")
        assert "found tcsh" in ended.err
