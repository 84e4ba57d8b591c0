"""Names that look alike, as Unicode spells many letters in two ways.

"é" is one code point (NFC, what most systems write) or an "e" and an accent (NFD, what macOS
returns). A CSV file, a disk and a gallery may each spell the same name differently.

Unicode Standard Annex 15, "Unicode Normalization Forms".
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any
from unicodedata import normalize

from imgret.types import is_text

__all__ = ["alike", "near", "normal", "respelled", "shown"]

# Names that are compared letter by letter, which takes some 20 microseconds each.
_COMPARED = 20_000


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
    """Return the end of a sentence that lists held names which a missing one may mean."""
    if not is_text(name):
        return ""
    form = normal(name)
    found = [other for other in held if not other.isascii() and normal(other) == form]
    if found and not name.isascii():
        return f", which looks like {' and '.join(map(ascii, found))}"
    found = near(name, held)
    return f"; near it: {', '.join(map(shown, found))}" if found else ""


def near(name: str, held: Iterable[str], n: int = 3) -> list[str]:
    """Return up to ``n`` held names that may have been meant.

    Names that differ in upper and lower case or in a folder before them come first, then those
    that contain the name, then those that differ in some letters.
    """
    wanted, tail = normal(name).casefold(), normal(name).casefold().rpartition("/")[2]
    same: list[str] = []
    ends: list[str] = []
    contains: list[str] = []
    for other in held:
        form = normal(other).casefold()
        if form == wanted or wanted.endswith(f"/{form}"):
            same.append(other)
        elif tail and len(ends) < n and form.rpartition("/")[2] == tail:
            ends.append(other)
        elif wanted and len(contains) < n and wanted in form:
            contains.append(other)
    found = [*same, *ends, *contains][:n]
    if found:
        return found
    return difflib.get_close_matches(name, list(islice(held, _COMPARED)), n=n)


def shown(name: object) -> str:
    """Return a name in quotes, with escapes where it is not in the usual spelling."""
    return ascii(name) if isinstance(name, str) and name != normal(name) else repr(name)
