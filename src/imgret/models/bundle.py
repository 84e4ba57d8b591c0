"""Facts about a model, stored in its file.

A model is one ``.onnx`` file. Its metadata (``metadata_props``) hold a JSON object, format 1, under
the key ``imgret``:

================== =========================================================================
``format``         1. A higher number is refused
``kind``           ``"embedder"`` or ``"saliency"``
``name``           Short name of the model, such as ``"general"``
``version``        Text; it changes with the weights and the conversion
``input``          The attributes of `imgret.models.Preprocess`: ``size``, ``short_side``,
                   ``resize``, ``fill``, ``layout``, ``dtype``, ``scaling`` (null if it is
                   done inside the graph)
``output``         Name of the output that is used
``dim``            Embedder: length of the vector. Otherwise null
``normalized``     Embedder: whether the vector has length 1. Otherwise null
``threshold``      Saliency: minimum value of the subject, from 0 to 1. Otherwise null
``calibrated``     Saliency: true if maps already run from 0 to 1 and are used unchanged; otherwise
                   null: each map is scaled so that its extremes are 0 and 1
``precision``      Such as ``"fp32"`` or ``"int8"``. Weights of 8-bit convolutions and matrix
                   products use 7 bits (``reduce_range`` of onnxruntime's quantiser): with 8, x86
                   processors without VNNI saturate and give different embeddings
``training_data``  Data that the weights were trained on
``calibrated_on``  Quantised models: data that the ranges were taken from. Otherwise null
``source``         Origin of the weights
``licence``        SPDX expression
``notice``         Copyright notice of the weights, and what was changed
``golden``         ``{"picture", "cosine_at_least", "output"}``: the test image (see
                   `imgret.models.golden`), and the output that the model gave for it when the file
                   was made, as base64 of little-endian float16
================== =========================================================================

A key that may be null may be left out. Unknown keys are ignored: a later version may add
some without a new format.

The JSON is read and written here without any ONNX library. An ONNX file is a Protocol
Buffers message, ``ModelProto``, and ``metadata_props`` is its field 14; the other fields are
skipped by their length, whatever they hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError, ModelError
from imgret.models import protobuf
from imgret.models.external import weight_files
from imgret.models.preprocess import Preprocess
from imgret.support.json_text import loads
from imgret.types import Json

__all__ = ["Bundle", "Golden", "Kind", "digest_of", "fingerprint", "read", "write"]

Kind: TypeAlias = Literal["embedder", "saliency"]

FORMAT = 1
KEY = "imgret"

# Fields of onnx.ModelProto.
_GRAPH, _METADATA_PROPS = 7, 14

_TEXTS = ("name", "version", "output", "precision", "training_data", "source", "licence", "notice")


@dataclass(frozen=True, slots=True)
class Golden:
    """Output that a model must still give for a test image.

    Attributes
    ----------
    image : str
        Name of a test image of `imgret.models.golden`.
    cosine_at_least : float
        Minimum cosine with this output; kernels of other processors round differently.
    output : float32 array
        Output for the one image, flattened.
    """

    image: str
    cosine_at_least: float
    output: NDArray[np.float32] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Golden:
        """Read what `to_json` writes."""
        data = base64.b64decode(facts["output"], validate=True)
        return cls(
            image=str(facts["picture"]),
            cosine_at_least=float(facts["cosine_at_least"]),
            output=np.frombuffer(data, dtype="<f2").astype(np.float32),
        )

    def to_json(self) -> Json:
        """Return the attributes as JSON values."""
        data = self.output.astype("<f2").tobytes()
        return {
            "picture": self.image,
            "cosine_at_least": self.cosine_at_least,
            "output": base64.b64encode(data).decode("ascii"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The facts in a model file; the module's docstring describes each one."""

    kind: Kind
    name: str
    version: str
    input: Preprocess
    output: str
    dim: int | None = None
    normalized: bool | None = None
    threshold: float | None = None
    calibrated: bool | None = None
    precision: str
    training_data: str
    calibrated_on: str | None = None
    source: str
    licence: str
    notice: str = field(repr=False)
    golden: Golden

    def __post_init__(self) -> None:
        for name in _TEXTS:
            if not isinstance(value := getattr(self, name), str):
                raise InvalidInputError(f"{name}: expected text, found {value!r}")
        if self.kind not in get_args(Kind):
            expected = ", ".join(map(repr, get_args(Kind)))
            raise InvalidInputError(f"kind: expected one of {expected}, found {self.kind!r}")
        if (self.kind == "embedder") != (isinstance(self.dim, int) and self.dim > 0):
            raise InvalidInputError(
                f"dim: expected a whole number of at least 1 for an embedder and null for "
                f"other kinds, found {self.dim!r} for {self.kind!r}"
            )
        if self.threshold is not None and not (
            self.kind == "saliency"
            and isinstance(self.threshold, int | float)
            and 0 < self.threshold <= 1
        ):
            raise InvalidInputError(
                f"threshold: expected a number over 0 and at most 1 for a saliency model and null "
                f"for other kinds, found {self.threshold!r} for {self.kind!r}"
            )

        if self.calibrated is not None and not (
            self.kind == "saliency" and isinstance(self.calibrated, bool)
        ):
            raise InvalidInputError(
                f"calibrated: expected true or false for a saliency model and null for other "
                f"kinds, found {self.calibrated!r} for {self.kind!r}"
            )

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Bundle:
        """Read what `to_json` writes.

        Raises
        ------
        ModelError
            The format is newer than this imgret, or a fact is missing or invalid.
        """
        found = facts.get("format")
        if not isinstance(found, int) or found < 1:
            raise ModelError(f"format: expected {FORMAT}, found {found!r}")
        if found > FORMAT:
            raise ModelError(
                f"format: expected at most {FORMAT}, found {found}; the model needs a newer "
                f"imgret: pip install --upgrade imgret"
            )
        try:
            given = {
                name: facts[name]
                for name, fact in cls.__dataclass_fields__.items()
                if name not in {"input", "golden"} and (name in facts or fact.default is MISSING)
            }
            return cls(
                **given,
                input=Preprocess.from_json(facts["input"]),
                golden=Golden.from_json(facts["golden"]),
            )
        except KeyError as error:
            raise ModelError(f"expected the key {error}, which is missing") from error
        except (InvalidInputError, TypeError, ValueError) as error:
            raise ModelError(str(error)) from error

    def to_json(self) -> Json:
        """Return the facts as JSON values."""
        facts: Json = {"format": FORMAT}
        facts |= {name: getattr(self, name) for name in self.__dataclass_fields__}
        return facts | {"input": self.input.to_json(), "golden": self.golden.to_json()}


def fingerprint(path: Path) -> str:
    """Return the sha256 of a model, in hexadecimal digits.

    If the file holds the whole model, this is the sha256 of the file. Otherwise it is the sha256 of
    the digest of the file and, for each other file with weights, ordered by name, its name, a zero
    byte and its digest.

    Raises
    ------
    ModelError
        A file cannot be read, or a file with weights is missing.
    """
    return str(digest_of(path))


def digest_of(path: Path, *, at_most: int | None = None) -> str | None:
    """Return the same as `fingerprint`; None if more than ``at_most`` bytes would be read."""
    try:
        if at_most is not None and path.stat().st_size > at_most:
            return None
        data = path.read_bytes()
        digest = hashlib.sha256(data)
        files = weight_files(path, data)
        size = len(data) + sum(file.stat().st_size for file in files.values())
        if at_most is not None and size > at_most:
            return None
        if files:
            digest = hashlib.sha256(digest.digest())
            for name, file in files.items():
                digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
                with file.open("rb") as weights:  # read in pieces: weights may be large
                    digest.update(hashlib.file_digest(weights, "sha256").digest())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    return digest.hexdigest()


def read(path: Path) -> Bundle | None:
    """Read the facts of a model file; None if it is an ONNX file without any.

    Raises
    ------
    ModelError
        There is no such file, it is not ONNX, or its facts are invalid.
    """
    text = next((_entry(part).get(KEY) for part in _parts(path) if KEY in _entry(part)), None)
    if text is None:
        return None
    try:
        facts = loads(text)
        if not isinstance(facts, dict):
            raise ModelError(f"expected a JSON object, found {type(facts).__name__}")
        return Bundle.from_json(facts)
    except ValueError as error:  # ModelError and JSONDecodeError among them
        raise ModelError(f"{path}: metadata {KEY!r}: {error}") from error


def write(path: Path, bundle: Bundle) -> None:
    """Write the facts into a model file, replacing any it has."""
    kept = [bytes(part.raw) for part in _parts(path) if KEY not in _entry(part)]
    text = json.dumps(bundle.to_json(), ensure_ascii=False, allow_nan=False)
    entry = protobuf.encode(1, KEY.encode()) + protobuf.encode(2, text.encode())
    path.write_bytes(b"".join(kept) + protobuf.encode(_METADATA_PROPS, entry))


def _parts(path: Path) -> list[protobuf.MessageField]:
    """Return the fields of a model file, after checking that it is one."""
    try:
        parts = list(protobuf.fields(memoryview(path.read_bytes())))
    except OSError as error:
        raise ModelError(f"{path}: expected an ONNX file, found {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path}: expected an ONNX file, found damaged or other data") from error
    if not any(part.number == _GRAPH and part.value is not None for part in parts):
        raise ModelError(f"{path}: expected an ONNX file, found one without a graph")
    return parts


def _entry(part: protobuf.MessageField) -> dict[str, str]:
    """Return the key and value of an entry of ``metadata_props``; empty for other fields."""
    if part.number != _METADATA_PROPS or part.value is None:
        return {}
    try:
        pair = {
            number: bytes(value).decode()
            for number, value, *_ in protobuf.fields(part.value)
            if value is not None
        }
    except ValueError:  # of another tool, so ignored
        return {}
    return {pair.get(1, ""): pair.get(2, "")}
