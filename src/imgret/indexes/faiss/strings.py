"""Checks of Faiss factory strings, and error messages for Faiss failures, without Faiss."""

from __future__ import annotations

import re

from imgret.errors import ImgretError, InvalidInputError, UnsupportedError

__all__ = ["check_factory", "explain"]

_GUIDE = "https://github.com/facebookresearch/faiss/wiki/The-index-factory"


def check_factory(factory: object) -> str:
    """Return the string, or raise for strings that would crash the process inside Faiss."""
    if not isinstance(factory, str) or not factory:
        raise InvalidInputError(
            f"factory: expected a Faiss index factory string such as 'IVF64,Flat' (see {_GUIDE}), "
            f"found {factory!r}"
        )
    if re.search(r"(?<![0-9])0+(?![0-9])", factory):  # HNSW0 aborts
        raise InvalidInputError(f"factory: expected numbers of at least 1, found {factory!r}")
    if re.search(r"HNSW1(?![0-9])", factory):  # crashes
        raise InvalidInputError(
            f"factory: expected a graph with at least 2 neighbours per vector, found {factory!r}"
        )
    if "NSG" in factory:
        raise UnsupportedError(
            f"factory: expected no NSG, whose build never ends if many vectors are equal, "
            f"found {factory!r}; use HNSW instead"
        )
    return factory


def explain(factory: str, dim: int, error: Exception) -> ImgretError:
    """Return an error a user can act on for an exception that Faiss raised."""
    text = str(error)
    where = f"factory {factory!r}"
    if "could not parse" in text or "stoi" in text:
        return InvalidInputError(
            f"{where}: expected a string that Faiss can parse (see {_GUIDE}), found {factory!r}"
        )
    if "multiple of the number of subquantizers" in text:
        subquantizers = re.search(r"PQ([0-9]+)", factory)
        number = f" {subquantizers[1]}" if subquantizers else ""
        return InvalidInputError(
            f"{where}: expected a dimension that the number of subquantizers{number} divides, "
            f"found {dim}"
        )
    if points := re.search(r"points \(([0-9]+)\).*clusters \(([0-9]+)\)", text, re.DOTALL):
        return InvalidInputError(
            f"{where}: expected at least {points[2]} training vectors (better: 39 times as many), "
            f"found {points[1]}"
        )
    if outputs := re.search(r"cannot output ([0-9]+) dimensions", text):
        return InvalidInputError(
            f"{where}: expected at least {outputs[1]} training vectors and dimensions, to keep "
            f"{outputs[1]} dimensions; found fewer vectors, or fewer dimensions ({dim})"
        )
    reason = text.rpartition("Error: ")[2].strip() or type(error).__name__
    return InvalidInputError(f"{where}, dimension {dim}: Faiss rejects it: {reason}")
