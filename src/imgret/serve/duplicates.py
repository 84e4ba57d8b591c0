"""The duplicates of a gallery, as the page shows them."""

from __future__ import annotations

from typing import NamedTuple

from imgret.curation import Duplicates, find_duplicates
from imgret.pages.review import ReviewGroup
from imgret.retriever import Retriever
from imgret.serve.background import Tell

__all__ = ["SHOWN", "FoundDuplicates", "groups_of"]

SHOWN = 200
"""Most groups that are shown."""


class FoundDuplicates(NamedTuple):
    """All groups of duplicates, and what is shown of the first 200."""

    all: Duplicates
    groups: list[ReviewGroup]


def groups_of(retriever: Retriever, tell: Tell) -> FoundDuplicates | None:
    """Find the duplicates of a gallery; None if it is empty."""
    if not len(retriever):
        return None
    found = find_duplicates(retriever.view(), progress=tell)
    shown, groups = found[:SHOWN], list[ReviewGroup]()
    for done, group in enumerate(found.review(shown), 1):
        # The page asks for thumbnails; these images would stay in memory.
        files = [file._replace(image=None) for file in group.files]
        groups.append(group._replace(files=files))
        tell(done, len(shown))
    return FoundDuplicates(found, groups)
