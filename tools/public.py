"""The public surface of imgret, a line for each name with its signature.

Public is what the pages in ``docs/reference`` name. Their directives are read as Sphinx reads them,
and signatures are taken from the source, so that no extra has to be installed. A name stands at
the place from which it is imported: the shortest package that lists it in ``__all__``.

    python tools/public.py > tests/public.txt
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
_DIRECTIVE = re.compile(
    r"^\.\. (?P<kind>auto(?:module|class|exception|function|data)|py:data):: +"
    r"(?P<names>[\w.]+(?:\n +imgret[\w.]+)*)\n(?P<options>(?: +:.*\n)*)",
    re.MULTILINE,
)
Node = ast.ClassDef | ast.FunctionDef | ast.AnnAssign | ast.Assign


def surface() -> list[str]:
    """Return the lines, sorted."""
    lines = {line for given, options in _named() for line in _lines(*_origin(given), options)}
    return sorted(lines, key=lambda line: (line.partition("(")[0].split(":")[0], line))


@cache
def names() -> frozenset[str]:
    """Return the full names of public modules, classes, functions and values, not of members."""
    return frozenset(_shown(*_origin(given)) for given, _ in _named())


def canonical(full: str) -> str:
    """Return the full name on record of something that is imported by another one."""
    return _shown(*_origin(full))


def unlisted() -> dict[str, set[str]]:
    """Return the classes of imgret that public signatures name without being public themselves.

    The keys are their full names, the values the public names that need them.
    """
    found: dict[str, set[str]] = {}
    for given, options in _named():
        home, name = _origin(given)
        node = _definitions(home)[name] if name else None
        members: list[ast.stmt] = [node] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.ClassDef):
            members = [each for each in node.body if _is_public(each, options)]
        for word in {word for member in members for word in _words(member)}:
            if word not in _definitions(home):
                continue
            origin, original = _origin(f"{home}.{word}")
            is_class = original and isinstance(_definitions(origin)[original], ast.ClassDef)
            if is_class and _shown(origin, original) not in names():
                found.setdefault(_shown(origin, original), set()).add(_shown(home, name))
    return found


def _words(member: ast.stmt) -> Iterator[str]:
    """Yield the names in the annotations of a function or a value."""
    annotations: list[ast.expr | None] = []
    if isinstance(member, ast.AnnAssign):
        annotations = [member.annotation]
    if isinstance(member, ast.FunctionDef):
        arguments = [each for each in ast.walk(member.args) if isinstance(each, ast.arg)]
        annotations = [member.returns, *(each.annotation for each in arguments)]
    for annotation in filter(None, annotations):
        yield from (each.id for each in ast.walk(annotation) if isinstance(each, ast.Name))


@cache
def _named() -> list[tuple[str, Mapping[str, str]]]:
    """Return each name in the reference, with the options of its directive."""
    named: list[tuple[str, Mapping[str, str]]] = []
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        for found in _DIRECTIVE.finditer(page.read_text(encoding="utf-8")):
            options = dict(re.findall(r":([\w-]+):(.*)", found["options"]))
            names = found["names"].split()
            named += [(full, options) for full in names]
            if found["kind"] != "automodule" or "members" not in options:
                continue
            (module,) = names
            listed = _list(options["members"]) or _exported(module)
            excluded = _list(options.get("exclude-members", ""))
            named += [(f"{module}.{member}", {"members": ""}) for member in listed - excluded]
    return named


def _list(words: str) -> set[str]:
    return set(filter(None, (word.strip() for word in words.split(","))))


@cache
def _tree(module: str) -> ast.Module | None:
    """Return the syntax of a module; None if there is none of this name."""
    place = ROOT.joinpath("src", *module.split("."))
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return ast.parse(path.read_text(encoding="utf-8"))
    return None


@cache
def _definitions(module: str) -> dict[str, Node | ast.ImportFrom]:
    """Return what defines each name of a module."""
    tree = _tree(module) or ast.Module([], [])
    found: dict[str, Node | ast.ImportFrom] = {}
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If))]
    for node in (node for body in bodies for node in body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def _exported(module: str) -> set[str]:
    node = _definitions(module).get("__all__")
    return set(ast.literal_eval(node.value)) if isinstance(node, ast.Assign) else set()


def _origin(full: str) -> tuple[str, str]:
    """Return the module of imgret that a name comes from, and the name; "" for a module itself."""
    if _tree(full) is not None:
        return full, ""
    module, _, name = full.rpartition(".")
    node = _definitions(module)[name]
    if not isinstance(node, ast.ImportFrom) or _tree(str(node.module)) is None:
        return module, name
    (original,) = (each.name for each in node.names if name in {each.name, each.asname})
    return _origin(f"{node.module}.{original}")


@cache
def _packages() -> list[str]:
    folder = ROOT / "src"
    files = sorted(folder.rglob("__init__.py"), key=lambda path: (len(path.parts), path))
    return [".".join(path.parent.relative_to(folder).parts) for path in files]


@cache
def _shown(home: str, name: str) -> str:
    """Return the full name under which something is imported."""
    if not name:
        return home
    found = [
        f"{package}.{name}"
        for package in _packages()
        if name in _exported(package) and _origin(f"{package}.{name}") == (home, name)
    ]
    given = {each for each, _ in _named()}
    return min(
        found, key=lambda each: (each.count("."), each not in given), default=f"{home}.{name}"
    )


def _lines(home: str, name: str, options: Mapping[str, str]) -> Iterator[str]:
    full = _shown(home, name)
    node = _definitions(home)[name] if name else None
    if isinstance(node, ast.ClassDef):
        yield from _class(full, home, node, options)
    else:
        yield f"{full}{_signature(node)}"


def _class(full: str, home: str, node: ast.ClassDef, options: Mapping[str, str]) -> Iterator[str]:
    own: dict[str, str] = {}
    made = "()"
    for each in reversed(list(_ancestry(home, node))):
        for member in each.body:
            if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                made = _signature(member).removesuffix(" -> None")
            elif (label := _label(member)) and _is_public(member, options):
                own[label] = _signature(member)
    bases = ", ".join(map(ast.unparse, node.bases))
    yield f"{full}{made}" + f" <- {bases}" * bool(bases)
    yield from (f"{full}.{label}{signature}" for label, signature in own.items())


def _ancestry(home: str, node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """Yield a class and its bases; a public one has its members below its own name."""
    yield node
    for base in (b.value if isinstance(b, ast.Subscript) else b for b in node.bases):
        if isinstance(base, ast.Name) and base.id in _definitions(home):
            module, name = _origin(f"{home}.{base.id}")
            found = _definitions(module)[name]
            if isinstance(found, ast.ClassDef) and _shown(module, name) not in names():
                yield from _ancestry(module, found)


def _label(member: ast.stmt) -> str:
    if isinstance(member, ast.FunctionDef):
        return member.name
    if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
        return member.target.id
    return ""


def _is_public(member: ast.stmt, options: Mapping[str, str]) -> bool:
    label = _label(member)
    if isinstance(member, ast.AnnAssign):  # described by the docstring of the class
        return not label.startswith("_")
    if label in _list(options.get("private-members", "")):
        return True
    if options.get("members", "") or "members" not in options:
        return label in _list(options.get("members", ""))
    return not label.startswith("_") or (label.endswith("__") and label != "__repr__")


def _signature(node: ast.AST | None) -> str:
    """Return what follows a name: the arguments and result of a function, the type of a value."""
    if isinstance(node, ast.FunctionDef):
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        decorators = {ast.unparse(each) for each in node.decorator_list}
        if any(word.endswith("property") for word in decorators):
            return result.replace(" -> ", ": ")
        arguments = node.args
        if "staticmethod" not in decorators:
            for group in (arguments.posonlyargs, arguments.args):
                if group and group[0].arg in {"self", "cls"}:
                    del group[0]  # the caller does not give it
        return f"({ast.unparse(arguments)}){result}"
    if isinstance(node, ast.AnnAssign):
        value = f" = {ast.unparse(node.value)}" if node.value else ""
        return f": {ast.unparse(node.annotation)}{value}"
    return ""


if __name__ == "__main__":
    print(*surface(), sep="\n")
