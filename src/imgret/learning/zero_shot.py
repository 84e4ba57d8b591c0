"""Classes by their names alone: images and descriptions in one space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from imgret.errors import InvalidInputError
from imgret.learning.classify import Name
from imgret.support.unit import unit_length
from imgret.types import Embeddings

__all__ = ["classify_by_names", "described", "nearest_names"]

# The temperature that CLIP learned: A. Radford et al., "Learning Transferable Visual Models From
# Natural Language Supervision", 2021.
_TEMPERATURE = 0.01


def described(
    names: Sequence[str],
    template: str | Iterable[str],
    embed_text: Callable[[list[str]], Embeddings],
) -> Embeddings:
    """Return a vector of length 1 for each name, the mean over the templates.

    Parameters
    ----------
    names : sequence of str
    template : str or iterable of str
        Texts with ``{}`` where the name goes.
    embed_text : callable

    Raises
    ------
    InvalidInputError
        There are no names, one is given twice, or a template has no place for it.
    """
    if not names:
        raise InvalidInputError("labels: expected at least one name, found none")
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise InvalidInputError(f"labels: expected each name once, found {twice!r} twice")
    templates = [template] if isinstance(template, str) else list(template)
    if bad := [each for each in templates if "{}" not in each]:
        raise InvalidInputError(
            f"template: expected text with {{}} where the name goes, found {bad[0]!r}"
        )
    if not templates:
        raise InvalidInputError("template: expected at least one text, found none")
    texts = [each.replace("{}", name) for each in templates for name in names]
    by_template = np.split(unit_length(embed_text(texts)), len(templates))
    return unit_length(np.mean(by_template, axis=0))


def classify_by_names(
    images: Embeddings, names: Sequence[str], texts: Embeddings, threshold: float | None
) -> list[Name]:
    """Classify images by which description is most like each.

    Parameters
    ----------
    images : float32 array of shape (n, dim)
    names : sequence of str
    texts : float32 array of shape (m, dim)
        Of length 1: see `described`.
    threshold : float or None
        Confidence below which the label is None; by default there always is one.
    """
    cosines = unit_length(images) @ texts.T
    powers = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / _TEMPERATURE)
    shares = powers / powers.sum(axis=1, keepdims=True)
    least = 0.0 if threshold is None else threshold
    found = []
    for row in shares:
        order = np.argsort(-row, kind="stable")
        votes = {names[place]: float(row[place]) for place in order.tolist()}
        best, confidence = names[int(order[0])], float(row[order[0]])
        found.append(Name(best if confidence >= least else None, confidence, votes, least, ()))
    return found


def nearest_names(centroids: Embeddings, names: Sequence[str], texts: Embeddings) -> list[str]:
    """Return for each centroid the name whose description is most like it.

    What all centroids have in common says nothing about any of them, and is taken away first.
    """
    centres = unit_length(centroids)
    if len(centres) > 1:
        centres = centres - centres.mean(axis=0)
        texts = texts - texts.mean(axis=0)
    cosines = unit_length(centres) @ unit_length(texts).T
    return [names[place] for place in cosines.argmax(axis=1).tolist()]
