"""Names that look alike, as Unicode spells many letters in two ways.

"é" is one code point (NFC, what most systems write) or an "e" and an accent (NFD, what macOS
returns). A CSV file, a disk and a gallery may each spell the same name differently.

Unicode Standard Annex 15, "Unicode Normalization Forms".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice
from typing import Any
from unicodedata import normalize

from imgret.types import is_text

__all__ = ["alike", "normal", "respelled", "shown"]

_COMPARED = 10_000


def normal(name: str) -> str:
    """Return the form (NFC) that all spellings of a name share."""
    return name if name.isascii() else normalize("NFC", name)


def respelled(wanted: Collection[str], held: Collection[Any]) -> dict[str, str]:
    """Match names that are spelled differently, if the match is unambiguous.

    Parameters
    ----------
    wanted, held : collection of str
        Names; values in ``held`` that are not strings are ignored.

    Returns
    -------
    dict of str to str
        Names of ``wanted`` that ``held`` lacks, each with the one name of ``held`` that has the
        same normal form. Names that are in both are left out, and so are names with more than one
        candidate on either side.
    """
    missing = {name for name in wanted if not name.isascii() and name not in held}
    if not missing:
        return {}
    asked = {name for name in wanted if not name.isascii()}
    by_form: dict[str, list[str]] = {}
    for name in missing:
        by_form.setdefault(normal(name), []).append(name)
    candidates: dict[str, list[str]] = {}
    for name in held:
        if not isinstance(name, str) or name.isascii() or name in asked:
            continue
        if (form := normal(name)) in by_form:
            candidates.setdefault(form, []).append(name)
    return {
        by_form[form][0]: names[0]
        for form, names in candidates.items()
        if len(names) == len(by_form[form]) == 1
    }


def alike(name: object, held: Iterable[str]) -> str:
    """Return the end of a sentence about held names that a missing one may mean.

    They are names that look the same, else a name that is the end of a path or of which the
    missing one is the end, else the most similar of the first 10,000.
    """
    if not is_text(name):
        return ""
    names = list(held)
    if not name.isascii():
        form = normal(name)
        found = [other for other in names if not other.isascii() and normal(other) == form]
        if found:
            return f", which looks like {' and '.join(map(ascii, found))}"
    ends = (o for o in names if name.endswith(f"/{o}") or o.endswith(f"/{name}"))
    near = list(islice(ends, 1)) or get_close_matches(name, names[:_COMPARED], n=1, cutoff=0.8)
    return f"; did you mean {shown(near[0])}?" if near else ""


def shown(name: object) -> str:
    """Return a name in quotes, with escapes where it is not in the usual spelling."""
    return ascii(name) if isinstance(name, str) and name != normal(name) else repr(name)
