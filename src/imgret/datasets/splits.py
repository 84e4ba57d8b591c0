"""A split of Oxford 102 Flowers that is the same on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

__all__ = ["image_name", "stratified"]

_ALL, _VALID, _TEST = 8189, 818, 819


def image_name(number: int) -> str:
    """Return the file name of an image."""
    return f"image_{number:05d}.jpg"


def stratified(labels: Sequence[int]) -> list[list[int]]:
    """Return the image numbers of three parts with 818 and 819 of 8,189 images in the last two.

    Each class is divided in the proportion of the whole: images are ranked by the SHA-256 of their
    names, and the first ones are validated and tested with. Fractions are settled by the largest
    remainder, so that the sizes are exact.
    """
    classes: dict[int, list[int]] = defaultdict(list)
    for number, label in enumerate(labels, 1):
        classes[label].append(number)
    for members in classes.values():
        members.sort(key=lambda number: hashlib.sha256(image_name(number).encode()).digest())
    sizes = {label: len(members) for label, members in classes.items()}
    # Those held out first, and of them those to validate with: no class is asked for too many.
    n_valid, n_test = len(labels) * _VALID // _ALL, len(labels) * _TEST // _ALL
    held = _shares(sizes, n_valid + n_test)
    valid = _shares(held, n_valid)
    parts: list[list[int]] = [[], [], []]
    for label, members in classes.items():
        first, second = valid[label], held[label]
        parts[0] += members[second:]
        parts[1] += members[:first]
        parts[2] += members[first:second]
    return [sorted(part) for part in parts]


def _shares(sizes: Mapping[int, int], total: int) -> Counter[int]:
    """Divide a total in the proportion of sizes, by the largest remainder."""
    everything = sum(sizes.values()) or 1
    shares = Counter({label: total * size // everything for label, size in sizes.items()})
    rest = total - shares.total()
    by_remainder = sorted(sizes, key=lambda label: (-(total * sizes[label] % everything), label))
    shares.update(by_remainder[:rest])
    return shares
