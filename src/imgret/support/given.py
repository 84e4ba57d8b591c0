"""Checks of arguments: one image or many, keys, labels, metadata, filters, numbers.

Every public method takes its arguments through these functions, so that one image, a list of
images, a string and a number mean the same everywhere. They raise `InvalidInputError` with the name
of the argument, what was expected and what was found; values are converted only where nothing is
lost (a NumPy number becomes a Python one).

===================== ==========================================================================
one image             path, bytes, bytearray, memoryview, binary file object, PIL image, array
                      ``(H, W)`` or ``(H, W, 1 | 3 | 4)``
many images           list, tuple, generator, ``Path.glob``, view of a mapping, pandas Series,
                      1-d array of paths, array ``(n, H, W, 1 | 3 | 4)``
neither               set (it has no order), mapping, table, anything else
===================== ==========================================================================
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from imgret.errors import InvalidInputError

__all__ = [
    "TEMPLATE",
    "by_key",
    "is_frame",
    "is_image",
    "is_path",
    "label_or_none",
    "listed",
    "many_images",
    "one_image",
    "one_or_many_images",
    "one_text",
    "plain_filter",
    "plain_labels",
    "plain_metadata",
    "plain_rows",
    "row_mappings",
    "texts",
    "threshold_or_none",
]

# Describes an image of the class whose name stands for ``{}``; models were trained with such texts.
TEMPLATE = "a photo of a {}"

_CHANNELS = {1, 3, 4}
_IMAGE = "a path, bytes, a binary file object, a uint8 array or a PIL image"
# Levels of a filter or of metadata that are converted here; deeper ones are refused later.
_DEEPEST = 250
# Types of values that need no conversion.
_PLAIN = frozenset({str, int, bool, float, type(None)})

# Handles a value that JSON does not have; takes the value and the name of its field.
_Odd: TypeAlias = Callable[[object, str], object]


def is_image(given: object) -> bool:
    """Whether the argument is one image, valid or not, rather than several or something else."""
    if isinstance(given, np.ndarray):
        if given.ndim == 0 or given.dtype.kind not in "biuf":
            return False
        return given.ndim == 2 or (given.ndim == 3 and given.shape[2] in _CHANNELS)
    if isinstance(given, (str, bytes, bytearray, memoryview, os.PathLike)):
        return True
    return callable(getattr(given, "read", None)) or (
        callable(getattr(given, "convert", None)) and callable(getattr(given, "getexif", None))
    )


def is_path(option: object) -> bool:
    """Whether an option of a part looks like the path of a file, which need not exist."""
    if not isinstance(option, str) or not option or "\0" in option:
        return False
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    return option.casefold().endswith(".onnx") or any(one in option for one in separators)


def one_image(given: Any, name: str, *, several: str = "") -> Any:
    """Return one image as it was given, bytes-like objects as bytes.

    Parameters
    ----------
    given : ImageLike
    name : str
        Name of the argument.
    several : str
        Method that takes several images, such as ``"search_many()"``.

    Raises
    ------
    InvalidInputError
        ``given`` is not one image.
    """
    if is_image(given):
        return _settled(given)
    advice = f"; {several} takes several" if several and isinstance(given, Iterable) else ""
    raise InvalidInputError(f"{name}: expected one image ({_IMAGE}), found {_shown(given)}{advice}")


def many_images(given: Any, name: str, *, single: str) -> list[Any]:
    """Return several images as a list.

    Parameters
    ----------
    given : iterable of ImageLike
    name : str
        Name of the argument.
    single : str
        Advice about a single image, such as ``"search() takes a single one"``.

    Raises
    ------
    InvalidInputError
        ``given`` is a single image, or not an ordered collection.
    """
    if is_image(given):
        raise InvalidInputError(
            f"{name}: expected several images, such as a list, found one ({_shown(given)}); "
            f"{single}"
        )
    found = _listed(given, name, "several images, such as a list", images=True)
    return [_settled(image) for image in found]


def one_or_many_images(given: Any, name: str) -> tuple[list[Any], bool]:
    """Return images as a list, and whether the caller passed a single one.

    Raises
    ------
    InvalidInputError
        ``given`` is neither one image nor an ordered collection of them.
    """
    if is_image(given):
        return [_settled(given)], True
    expected = f"one image ({_IMAGE}) or several, such as a list"
    return [_settled(image) for image in _listed(given, name, expected, images=True)], False


def listed(given: Any, name: str, expected: str) -> list[Any]:
    """Return an ordered collection as a list; a string does not count as one.

    Raises
    ------
    InvalidInputError
        ``given`` is a string, bytes, a set, a mapping, a table, or not iterable.
    """
    if isinstance(given, (str, bytes, bytearray, memoryview)):
        kind = type(given).__name__
        raise InvalidInputError(f"{name}: expected {expected}, found a single {kind}")
    return _listed(given, name, expected)


def texts(given: Any, name: str, *, ordered: bool = True) -> list[str]:
    """Return one string or several as a list.

    Parameters
    ----------
    given : str or iterable of str
    name : str
        Name of the argument.
    ordered : bool
        Whether the order matters, so that a set is refused.

    Raises
    ------
    InvalidInputError
        ``given`` is neither, or one of its elements is not a string.
    """
    if isinstance(given, str):
        return [str(given)]
    if not ordered and isinstance(given, AbstractSet):
        given = list(given)
    found = listed(given, name, "a string, or several such as a list")
    for position, text in enumerate(found):
        if not isinstance(text, str):
            raise InvalidInputError(f"{name}[{position}]: expected a string, found {_shown(text)}")
    return [str(text) for text in found]


def one_text(given: Any, name: str) -> str:
    """Return one string, such as a key.

    Raises
    ------
    InvalidInputError
        ``given`` is not a string.
    """
    if not isinstance(given, str):
        raise InvalidInputError(f"{name}: expected a string, found {_shown(given)}")
    return str(given)


def label_or_none(label: Any) -> Any:
    """Return a label as a plain string; None for a missing value of pandas (NaN or NA)."""
    if isinstance(label, np.str_):
        return str(label)
    if (isinstance(label, (float, np.floating)) and math.isnan(label)) or (
        type(label).__name__ in {"NAType", "NaTType"}  # of pandas, which need not be imported
    ):
        return None
    return label


def plain_labels(labels: Sequence[Any]) -> list[Any]:
    """Return many labels as `label_or_none` does."""
    if set(map(type, labels)) <= {str, type(None)}:
        return list(labels)
    return [label_or_none(label) for label in labels]


def plain_metadata(metadata: Any, key: object) -> Any:
    """Return the metadata of an item with NumPy numbers converted to Python ones.

    Raises
    ------
    InvalidInputError
        A value is not a JSON value; the message names the item and the field.
    """
    if not isinstance(metadata, Mapping):  # refused where it is stored
        return metadata
    kinds = set(map(type, metadata.values()))
    if kinds <= _PLAIN and (float not in kinds or _finite(metadata.values())):
        return dict(metadata)  # as most are

    def refuse(value: object, field: str) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInputError(
                f"metadata of {key!r}: {field!r}: expected a finite number, found {value!r}; "
                f"leave the field out, or use None"
            )
        raise InvalidInputError(
            f"metadata of {key!r}: {field!r}: expected a JSON value (text, number, True, False, "
            f"None, list or mapping), found {_shown(value)}{_remedy(value)}"
        )

    return {name: _plain(metadata[name], str(name), refuse, 1) for name in metadata}


def plain_rows(rows: Sequence[Any], keys: Sequence[object]) -> list[Any]:
    """Return the metadata of many items as `plain_metadata` does; an empty mapping for None."""
    if set(map(type, rows)) == {dict}:
        values = list(chain.from_iterable(row.values() for row in rows))
        kinds = set(map(type, values))
        if kinds <= _PLAIN and (float not in kinds or _finite(values)):
            return list(map(dict, rows))  # as most are
    return [
        {} if row is None else plain_metadata(row, key) for row, key in zip(rows, keys, strict=True)
    ]


def _finite(values: Iterable[Any]) -> bool:
    return all(map(math.isfinite, [value for value in values if type(value) is float]))


def row_mappings(given: Any) -> Any:
    """Return a data frame as a list of one mapping per row, missing values left out.

    Anything else is returned as it is.
    """
    if not is_frame(given):
        return given
    return [
        {name: _cell(value) for name, value in row.items() if label_or_none(value) is not None}
        for row in given.to_dict("records")
    ]


def by_key(given: Any) -> Any:
    """Return a pandas Series or data frame as a mapping by the keys in its index.

    Anything else is returned as it is.
    """
    if is_frame(given):
        return dict(zip(given.index.tolist(), row_mappings(given), strict=True))
    if hasattr(given, "index") and callable(getattr(given, "to_dict", None)):
        return {key: label_or_none(value) for key, value in given.to_dict().items()}
    return given


def is_frame(given: Any) -> bool:
    """Whether something is a data frame of pandas, or used like one."""
    return hasattr(given, "columns") and callable(getattr(given, "to_dict", None))


def _cell(value: Any) -> Any:
    return value.isoformat() if callable(getattr(value, "isoformat", None)) else value


def plain_filter(where: Any) -> Any:
    """Return a filter of plain mappings, lists and Python numbers; other values stay unchanged."""

    def keep(value: Any, _: str) -> object:
        if isinstance(value, AbstractSet):
            return sorted(value, key=repr)
        is_column = getattr(value, "ndim", None) == 1 and callable(getattr(value, "tolist", None))
        return value.tolist() if is_column else value

    return _plain(where, "", keep, 0)


def threshold_or_none(value: Any, name: str = "threshold") -> float | None:
    """Return a number as a float, and None as None; NaN, bools and text are refused."""
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or math.isnan(value):
        raise InvalidInputError(f"{name}: expected a number, found {value!r}")
    return float(value)


def _settled(image: Any) -> Any:
    """Convert bytes-like objects to bytes, so that equal ones compare as equal."""
    return bytes(image) if isinstance(image, (bytearray, memoryview)) else image


def _plain(value: Any, field: str, odd: _Odd, depth: int) -> Any:
    """Convert NumPy numbers and strings, also in lists and mappings; ``odd`` handles the rest."""
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        value = value.item()
    if value is None or type(value) in {str, int, bool} or depth > _DEEPEST:
        return value
    if isinstance(value, Mapping):
        below = f"{field}." if field else ""
        return {n: _plain(value[n], f"{below}{n}", odd, depth + 1) for n in value}
    if isinstance(value, (list, tuple)):
        return [_plain(one, f"{field}[{n}]", odd, depth + 1) for n, one in enumerate(value)]
    known = isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
    return value if known else odd(value, field)


def _listed(given: Any, name: str, expected: str, *, images: bool = False) -> list[Any]:
    found = _odd_array(given, images=images) if isinstance(given, np.ndarray) else _odd(given)
    if found:
        raise InvalidInputError(f"{name}: expected {expected}, found {found}")
    return list(given)


def _odd_array(given: Any, *, images: bool) -> str:
    """Return why an array cannot be a list; empty if it can."""
    if given.ndim == 1:
        return f"an array of {given.dtype}" if images and given.dtype.kind not in "OU" else ""
    if images and given.ndim == 4 and given.shape[3] in _CHANNELS:
        return ""
    neither = ", which is neither one image (H, W, 3) nor several (n, H, W, 3)" if images else ""
    return f"{given.dtype} of shape {given.shape}{neither}"


def _odd(given: Any) -> str:
    """Return why something is not an ordered collection; empty if it is one."""
    kind = type(given).__name__
    if isinstance(given, AbstractSet) and not isinstance(given, (KeysView, ItemsView)):
        return f"a {kind}, which has no order; pass a list"
    if isinstance(given, Mapping):
        return f"a single {kind}; pass a list, such as its values()"
    if isinstance(getattr(given, "ndim", None), int) and given.ndim != 1:
        return f"a {kind} of {given.ndim} dimensions; pass a list or a column"
    return "" if isinstance(given, Iterable) else _shown(given)


def _shown(given: object) -> str:
    """Describe an argument briefly."""
    if isinstance(given, np.ndarray):
        return f"an array of {given.dtype} of shape {given.shape}"
    if given is None or isinstance(given, (str, os.PathLike, int, float, np.generic)):
        text = repr(given)
        return text if len(text) <= 80 else f"{text[:77]}..."
    return type(given).__name__


def _remedy(value: object) -> str:
    if isinstance(value, np.ndarray):
        return "; use its tolist()"
    if isinstance(value, AbstractSet):
        return "; use a sorted list"
    if callable(getattr(value, "isoformat", None)):
        return "; use its isoformat()"
    if isinstance(value, np.datetime64):
        return f"; use its text, {str(value)!r}"
    return ""
