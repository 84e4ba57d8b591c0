"""The golden check: a model must still give the output it gave when it was made."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from imgret.errors import ModelError
from imgret.models import bundle as bundles
from imgret.models import golden
from imgret.models.builtin import resolve
from imgret.models.model import Model

__all__ = ["Check", "check"]


@dataclass(frozen=True, slots=True)
class Check:
    """Result of a golden check.

    Attributes
    ----------
    name : str
        Name of the model.
    cosine : float
        Cosine between the output for the test image now and the one in the file, -1 to 1.
    cosine_at_least : float
        Minimum cosine that the file requires.
    """

    name: str
    cosine: float
    cosine_at_least: float

    @property
    def ok(self) -> bool:
        """Whether the output is close enough."""
        return self.cosine >= self.cosine_at_least


def check(model: str | os.PathLike[str]) -> Check:
    """Run a model on its test image and compare the output with the one in the file.

    A low cosine means that the file is damaged or that this machine computes it wrongly.

    Parameters
    ----------
    model : str or path-like
        Name of a built-in model, or path of a file with facts.

    Raises
    ------
    ModelError
        The file cannot be run, holds no facts, or gives an output of another size.
    UnknownNameError
        No built-in model has the name.
    """
    path = resolve(model)
    if path.is_dir():
        raise ModelError(
            f"{path}: expected a file with a golden check, which `imgret models bundle` writes, "
            f"found the folder of a model, which has none"
        )
    bundle = bundles.read(path)
    if bundle is None:
        raise ModelError(f"{path}: expected a golden check in its metadata, found none")
    image = golden.draw(bundle.golden.image, bundle.input.min_side)
    answer = Model(path, kind=bundle.kind).run([image]).ravel()
    expected = bundle.golden.output
    if answer.shape != expected.shape:
        raise ModelError(
            f"{path}: expected {expected.size} numbers for its test image, found {answer.size}"
        )
    lengths = np.linalg.norm(answer) * np.linalg.norm(expected)
    cosine = float(answer @ expected / lengths) if lengths else 0.0
    return Check(bundle.name, cosine, bundle.golden.cosine_at_least)
