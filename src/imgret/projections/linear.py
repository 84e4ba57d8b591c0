"""Linear projections, and the file they are saved to."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np

from imgret.errors import InvalidInputError, StoreCorruptError, StoreVersionError
from imgret.support.checks import check_vectors
from imgret.support.json_text import loads
from imgret.support.lazy import cached_property
from imgret.types import Embeddings, Json

__all__ = ["IdentityProjection", "LinearProjection", "Projection"]

_FORMAT = 1

# Errors that NumPy and zipfile are seen to raise on a damaged archive. BadZipFile also means
# a wrong CRC-32 of one of the arrays.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@final
class IdentityProjection:
    """Leaves embeddings as they are; used by a gallery without a projection.

    Parameters
    ----------
    dim : int
        Dimension of the embeddings.
    """

    kind = "identity"
    fingerprint = None
    from_labels = False

    def __init__(self, dim: int) -> None:
        self.dim_in = self.dim_out = dim

    @property
    def info(self) -> Json:
        """Facts about the fit; always empty."""
        return {}

    def apply(self, embeddings: Any) -> Any:
        """Return the embeddings themselves, without checking them."""
        return embeddings

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write nothing: a gallery with no file of a projection has this one."""

    def __repr__(self) -> str:
        return f"IdentityProjection({self.dim_in})"


@final
class LinearProjection:
    """Maps an embedding ``x`` to ``(x - mean) @ matrix``.

    Parameters
    ----------
    matrix : array of shape (dim_in, dim_out)
        Matrix of finite numbers; converted to float32.
    mean : array of shape (dim_in,)
        Vector of finite numbers that is subtracted first; converted to float32.
    kind : str
        Method the map was found by, such as ``"pca"``.
    info : dict, optional
        Facts about the fit to store with the map, as JSON values.

    Raises
    ------
    InvalidInputError
        The shapes do not match, a value is NaN or infinite, or ``info`` is not JSON.
    """

    def __init__(self, matrix: Any, mean: Any, *, kind: str, info: Json | None = None) -> None:
        shape = np.shape(matrix)
        if len(shape) != 2 or 0 in shape:
            raise InvalidInputError(
                f"matrix: expected an array of shape (dim_in, dim_out), found shape {shape}"
            )
        if np.shape(mean) != shape[:1]:
            raise InvalidInputError(
                f"mean: expected an array of shape {shape[:1]}, one value for each row of the "
                f"matrix, found shape {np.shape(mean)}"
            )
        if not isinstance(kind, str) or not kind:
            raise InvalidInputError(f"kind: expected a name such as 'pca', found {kind!r}")
        self._matrix = _frozen(check_vectors(matrix, shape[1], "matrix"))
        self._mean = _frozen(check_vectors(np.asarray(mean)[None], shape[0], "mean")[0])
        self._kind = kind
        try:
            self._info: Json = json.loads(json.dumps(info or {}, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"info: expected JSON values, found {error}") from None

    @property
    def matrix(self) -> Embeddings:
        """The matrix: float32, shape (dim_in, dim_out), read-only."""
        return self._matrix

    @property
    def mean(self) -> Embeddings:
        """The vector that is subtracted first: float32, shape (dim_in,), read-only."""
        return self._mean

    @property
    def kind(self) -> str:
        """Method the map was found by, such as ``"pca"``."""
        return self._kind

    @property
    def info(self) -> Json:
        """Facts about the fit."""
        return dict(self._info)

    @property
    def from_labels(self) -> bool:
        """Whether it was fitted to labels, and so flatters searches with the items it has seen."""
        return self._kind == "lda"

    @property
    def dim_in(self) -> int:
        """Dimension of the embeddings."""
        return int(self._matrix.shape[0])

    @property
    def dim_out(self) -> int:
        """Dimension of the projected vectors."""
        return int(self._matrix.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal sha256 of the arrays and their shapes, the same on every machine."""
        digest = hashlib.sha256(b"%d %d " % self._matrix.shape)
        digest.update(self._matrix.astype("<f4").tobytes())
        digest.update(self._mean.astype("<f4").tobytes())
        return digest.hexdigest()

    def apply(self, embeddings: Any) -> Embeddings:
        """Project embeddings.

        Parameters
        ----------
        embeddings : array of shape (n, dim_in)
            Embeddings; converted to float32, and not modified in place.

        Returns
        -------
        float32 array of shape (n, dim_out)
            Projected vectors; C-contiguous, not normalised.

        Raises
        ------
        DimensionError, InvalidInputError
            The embeddings have the wrong dimension, or a value is NaN or infinite.
        """
        embeddings = check_vectors(embeddings, self.dim_in, "embeddings")
        # The mean is subtracted first: subtracted from the product, it would cost float32 digits.
        projected: Embeddings = (embeddings - self._mean) @ self._matrix
        return projected

    def save(self, path: str | Path) -> None:
        """Write the map to an ``.npz`` file at exactly ``path``, replacing an existing file.

        The file is complete or not there at all.
        """
        path = Path(path)
        header = {
            "format": _FORMAT,
            "kind": self._kind,
            "info": self._info,
            "fingerprint": self.fingerprint,
        }
        unfinished = path.with_name(path.name + ".tmp")
        unfinished.unlink(missing_ok=True)  # which may be a link to a file elsewhere
        with unfinished.open("xb") as file:
            np.savez(
                file,  # no allow_pickle: NumPy 2.0 takes it for an array of that name
                header=np.array(json.dumps(header)),
                matrix=self._matrix,
                mean=self._mean,
            )
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> LinearProjection:
        """Load a map that `save` has written.

        Raises
        ------
        StoreCorruptError
            The file is missing, damaged or not a projection.
        StoreVersionError
            The file was written by a newer imgret.
        """
        path = Path(path)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                _check_packing(arrays.zip)
                header = loads(arrays["header"].item())
                _check_version(path, int(header["format"]))
                projection = cls(
                    arrays["matrix"], arrays["mean"], kind=header["kind"], info=header["info"]
                )
            expected = header["fingerprint"]
        except StoreVersionError:
            raise
        except _UNREADABLE as error:
            raise StoreCorruptError(
                f"{path}: expected a projection written by imgret, found "
                f"{type(error).__name__}: {error}; fit the projection again"
            ) from error
        if projection.fingerprint != expected:
            raise StoreCorruptError(
                f"{path}: expected arrays of sha256 {expected}, found {projection.fingerprint}; "
                f"fit the projection again"
            )
        return projection

    def __repr__(self) -> str:
        return f"LinearProjection({self._kind!r}, {self.dim_in} -> {self.dim_out})"


def _frozen(array: Embeddings) -> Embeddings:
    array = array.copy()
    array.flags.writeable = False
    return array


def _check_packing(packed: zipfile.ZipFile) -> None:
    """Raise an error if arrays are compressed: `save` writes them as they are."""
    for member in packed.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > member.compress_size:
            raise ValueError(
                f"{member.filename} that unpacks from {member.compress_size:,} to "
                f"{member.file_size:,} bytes"
            )


def _check_version(path: Path, version: int) -> None:
    if version > _FORMAT:
        raise StoreVersionError(
            f"{path}: expected a projection of format {_FORMAT} or older, found format {version}; "
            f"upgrade imgret"
        )


Projection: TypeAlias = IdentityProjection | LinearProjection
