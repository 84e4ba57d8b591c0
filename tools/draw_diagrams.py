"""Draw the diagrams of the architecture from the code.

    python tools/draw_diagrams.py

``docs/explanation/layers.svg`` shows the layers that import-linter enforces, and
``docs/explanation/search.svg`` the modules that a search passes through, from a trace. A test
compares both with the code.
"""

from __future__ import annotations

import ast
import re
import tempfile
import textwrap
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path

from trips import follow

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "explanation"
_SOURCE = ROOT / "src" / "imgret"
_WIDTH, _LEFT, _ROW = 1120, 26, 31
_DOORS, _LETTERS = 745, 62  # where the names of libraries begin, and how many letters fit


def layers() -> str:
    """Return the drawing of the layers, and of the libraries that each may import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (rows,) = (each["layers"] for each in contracts if each["type"] == "layers")
    doors: dict[str, list[str]] = {}
    for contract in contracts:
        for line in contract.get("ignore_imports", []):
            importer, library = line.split(" -> ")
            there = doors.setdefault(importer.split(".")[1], [])
            if library not in there:
                there.append(library)
    parts: list[str] = []
    for number, row in enumerate(rows):
        names = [name.removeprefix("imgret.") for name in row.split(" | ")]
        parts += _layer(names, 56 + number * _ROW)
        libraries = [
            ("" if len(names) == 1 else f"{name}: ") + ", ".join(doors[name])
            for name in names
            if name in doors
        ]
        lines = textwrap.wrap("; ".join(libraries), _LETTERS)
        for place, line in enumerate(lines):
            y = 56 + number * _ROW + (18 if len(lines) == 1 else 11 + 13 * place)
            parts.append(_text(_DOORS, y, line, "#b4530f"))
    title = (
        "Upper layers import lower ones, never the reverse. Orange: libraries that they may import."
    )
    return _drawing("The layers of imgret", title, parts, 56 + len(rows) * _ROW + 10)


def search() -> str:
    """Return the drawing of a search by an image: its packages in the order of the first visit."""
    import imgret  # noqa: PLC0415  # the layers are drawn without it
    from imgret.demo import samples  # noqa: PLC0415  # the same

    with tempfile.TemporaryDirectory() as folder:
        paths = samples.write_gallery(folder, per_species=2)
        retriever = imgret.Retriever()
        retriever.add(paths)
        query = str(paths[0])
        retriever.search(query, k=3)  # what is only prepared once
        files = follow(lambda: retriever.search(query, k=3)).files
    packages: dict[str, list[str]] = {}
    for file in files:
        package, _, module = file.removesuffix(".py").partition("/")
        packages.setdefault(package, []).append(module)
    parts: list[str] = []
    for number, (package, modules) in enumerate(packages.items()):
        y = 56 + number * _ROW
        parts += [_box(_LEFT, y, _WIDTH - 2 * _LEFT), _text(_LEFT + 10, y + 18, str(number + 1))]
        parts.append(_text(_LEFT + 40, y + 18, package, bold=True))
        parts.append(_text(_LEFT + 150, y + 18, ", ".join(filter(None, modules))))
    title = (
        "A search by an image: packages and modules in the order in which it first reaches them."
    )
    return _drawing("The life of a search", title, parts, 56 + len(packages) * _ROW + 10)


def _layer(names: list[str], y: int) -> Iterator[str]:
    width = (_DOORS - 20 - _LEFT - 8 * (len(names) - 1)) / len(names)
    for place, name in enumerate(names):
        x = _LEFT + place * (width + 8)
        yield _box(x, y, width)
        yield _text(x + 10, y + 18, name, bold=True)
        if len(names) == 1:
            module = name if (_SOURCE / name).is_dir() else f"{name}.py"
            yield _text(x + 120, y + 18, _summary(module))


def _summary(module: str) -> str:
    """Return the first line of a module's docstring, without marks."""
    path = _SOURCE / module
    path = path / "__init__.py" if path.is_dir() else path
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
    return re.sub(r"`+", "", first).rstrip(".")


def _box(x: float, y: float, width: float) -> str:
    size = f'width="{width:.1f}" height="26" rx="6"'
    return f'<rect x="{x:.1f}" y="{y}" {size} fill="#eef3f1" stroke="#9db3ab"/>'


def _text(x: float, y: float, text: str, color: str = "#3d5750", *, bold: bool = False) -> str:
    style = 'font-size="13" font-weight="600"' if bold else 'font-size="12"'
    return f'<text x="{x:.1f}" y="{y}" {style} fill="{color}">{escape(text)}</text>' if text else ""


def _drawing(name: str, title: str, parts: list[str], height: int) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" role="img" aria-labelledby="t">'
    )
    paper = f'<rect width="{_WIDTH}" height="{height}" rx="10" fill="#fbfcfa"/>'
    top = _text(_LEFT, 36, title)
    body = [head, f'<title id="t">{name}</title>', paper, top, *filter(None, parts), "</svg>"]
    return "\n".join(body) + "\n"


if __name__ == "__main__":
    for draw in (layers, search):
        (FOLDER / f"{draw.__name__}.svg").write_text(draw(), encoding="utf-8")
