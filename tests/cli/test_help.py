"""The help of every command in a terminal of 80 columns, and what the shell completes."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest
import typer

from imgret.cli.app import make_app

ROOT = typer.main.get_command(make_app())
COMMANDS = {
    **ROOT.commands,
    **{f"models {name}": each for name, each in ROOT.commands["models"].commands.items()},
}
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
    assert sorted(name for name in listed if name in ROOT.commands) == sorted(ROOT.commands)


@pytest.mark.parametrize("group", ["", "models"])
def test_a_summary_is_one_line_and_not_cut_off(run, group):
    lines = run(*group.split(), "--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    commands = ROOT.commands[group].commands if group else ROOT.commands
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
        found, words = ROOT, shlex.split(line.partition("|")[0].partition(">")[0])
        while hasattr(found, "commands"):
            found = found.commands[words.pop(1)]
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
        monkeypatch.setenv("_IMGRET_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        ended = run()
        monkeypatch.delenv("_IMGRET_COMPLETE")
        assert (ended.code, ended.err) == (0, "")
        return ended.out.split("\n")[:-1]

    return offered


def test_commands_and_options_are_completed(complete):
    assert complete("imgret cl") == ["classify", "clusters"]
    assert complete("imgret models d") == ["describe"]
    assert complete("imgret search --th") == ["--threshold"]
    assert "Find images that are unlike all others." in complete("imgret out", "zsh")[0]
    learn = "Learn from the labels how likely a hit is to be right."
    assert learn in complete("imgret cal", "zsh")[0]  # not cut off


@pytest.mark.slow
def test_galleries_and_keys_are_completed(work, complete):
    assert complete("imgret search p") == ["photos.imgret"]
    assert complete("imgret info ./p") == ["./photos.imgret"]
    assert complete("imgret search photos/") == [""]  # bash offers files
    assert complete("imgret search lost/") == [""]
    rose = [f"rose/{n}.jpg" for n in range(4)]
    assert complete("imgret remove photos.imgret ro") == rose
    assert complete("imgret remove photos.imgret rose/0.jpg ro") == rose[1:]
    assert complete("imgret explain photos.imgret query.jpg rose/1") == ["rose/1.jpg"]
    assert complete("imgret remove lost.imgret ro") == [""]


# What a user types, and what each shell is asked afterwards. zsh completes in a terminal only: its
# functions are replaced by one that prints what they are called with.
_SHELLS = {
    "bash": """
        COMP_WORDS=(imgret remove photos.imgret tulip/0); COMP_CWORD=3
        _imgret_completion imgret; echo "${COMPREPLY[@]}"; complete -p imgret
    """,
    "zsh": """
        words=(imgret remove photos.imgret tulip/0); CURRENT=4
        _arguments() { print -r -- "$@" }; compdef() { print -r -- "$@" }
        _imgret; _imgret_completion
    """,
    "fish": """
        complete -C "imgret remove photos.imgret tulip/0"; complete -C "imgret outli"
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "expected"),
    {
        "bash": ["tulip/0.jpg", "complete -o default -F _imgret_completion imgret"],
        # Loaded by the first Tab, which is answered at once.
        "zsh": ["_imgret_completion imgret", *['*: :(("tulip/0.jpg"))'] * 2],
        "fish": ["tulip/0.jpg", "outliers\tFind images that are unlike all others."],
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
        "bash": 'eval "$(imgret --show-completion bash)"',
        "zsh": "imgret --show-completion zsh > bin/_imgret; fpath=($PWD/bin); autoload -Uz _imgret",
        "fish": "imgret --show-completion fish | source",
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
