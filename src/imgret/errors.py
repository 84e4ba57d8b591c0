"""Every error imgret raises on purpose.

Each class derives from :class:`ImgretError` and from the builtin a caller would catch
anyway, so ``except ValueError`` and ``except ImgretError`` both work::

    ImgretError
    ├── InvalidInputError (ValueError)          an argument or array is invalid
    │   ├── DimensionError                      vectors have the wrong dimension
    │   └── DuplicateKeyError                   a key or id is taken, or given twice
    ├── KeyNotFoundError (KeyError)             no item has this key
    ├── UnknownNameError (LookupError)          no such model, cropper, index or format
    ├── PluginError (ImportError)               a plugin is installed but cannot be used
    ├── MissingExtraError (ImportError)         an optional dependency is not installed
    ├── InstallationError (ImportError)         a dependency is damaged, or not installed
    ├── ImageError (ValueError)                 an image cannot be read
    │   ├── ImageNotFoundError (FileNotFoundError)
    │   ├── ImageFormatError                    not an image, or in an unknown format
    │   ├── ImageUnsupportedError               may be valid, but cannot be decoded here
    │   ├── ImageCorruptError                   empty, truncated or damaged
    │   └── ImageTooLargeError                  over a limit of size, memory or time
    ├── ModelError (ValueError)                 a model file cannot be used as requested
    ├── EmptyGalleryError (ValueError)          a search or a fit needs items, but there are none
    ├── NotTrainedError (RuntimeError)          the index must be trained first
    ├── UnsupportedError (NotImplementedError)  the part cannot do this; a flag on its class says so
    ├── TrainingError (RuntimeError)            a training cannot start, continue or be resumed
    ├── DatasetError (OSError)                  a data set is missing, damaged or not to be had
    ├── ClusterError (ConnectionError)          a cluster cannot be reached, or was lost
    └── StoreError (OSError)                    a gallery on disk
        ├── StoreNotFoundError (FileNotFoundError)
        ├── StoreExistsError (FileExistsError)
        ├── StoreLockedError (BlockingIOError)  another process is writing
        │   └── StoreForkedError                opened for writing by the parent of a forked process
        ├── StoreReadOnlyError (PermissionError)
        ├── StoreClosedError                    used after ``close()``
        ├── StoreVersionError                   written by a newer imgret
        ├── StoreMismatchError                  made with another embedder, cropper or metric
        └── StoreCorruptError                   files missing or damaged

Messages name the file or key, what was expected, what was found, and what to do.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ClusterError",
    "DatasetError",
    "DimensionError",
    "DuplicateKeyError",
    "EmptyGalleryError",
    "ImageCorruptError",
    "ImageError",
    "ImageFormatError",
    "ImageNotFoundError",
    "ImageTooLargeError",
    "ImageUnsupportedError",
    "ImgretError",
    "InstallationError",
    "InvalidInputError",
    "KeyNotFoundError",
    "MissingExtraError",
    "ModelError",
    "NotTrainedError",
    "PluginError",
    "StoreClosedError",
    "StoreCorruptError",
    "StoreError",
    "StoreExistsError",
    "StoreForkedError",
    "StoreLockedError",
    "StoreMismatchError",
    "StoreNotFoundError",
    "StoreReadOnlyError",
    "StoreVersionError",
    "TrainingError",
    "UnknownNameError",
    "UnsupportedError",
]


class ImgretError(Exception):
    """Root of every error imgret raises on purpose."""


class InvalidInputError(ImgretError, ValueError):
    """An argument or an array is invalid."""


class DimensionError(InvalidInputError):
    """Vectors do not have the dimension that the index, embedder or store expects."""


class DuplicateKeyError(InvalidInputError):
    """A key or an id is already taken, or was given twice in one call."""


class KeyNotFoundError(ImgretError, KeyError):
    """No item of the gallery has this key."""

    def __str__(self) -> str:  # KeyError would show repr(message)
        return str(self.args[0]) if self.args else ""


class UnknownNameError(ImgretError, LookupError):
    """No model, cropper, index or format is registered under this name."""


class PluginError(ImgretError, ImportError):
    """A plugin is registered but cannot be used; the message names its package."""


class MissingExtraError(ImgretError, ImportError):
    """An optional dependency is not installed; the message gives the install command."""

    @classmethod
    def of(cls, what: str, *, extra: str) -> MissingExtraError:
        """Return the error for a feature that needs an extra of imgret."""
        return cls(f"{what} needs an optional part of imgret: pip install 'imgret[{extra}]'")


class InstallationError(ImgretError, ImportError):
    """A package that imgret depends on is damaged or missing; the message gives the remedy."""


class ImageError(ImgretError, ValueError):
    """An image cannot be read.

    Attributes
    ----------
    path : Path, str or None
        Path of the file, or address, if the image came from one.
    reason : str
        Description of the problem, without the path.
    """

    def __init__(self, reason: str, path: Path | str | None = None) -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}" if path is not None else reason)

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, Path | str | None]]:
        return type(self), (self.reason, self.path)


class ImageNotFoundError(ImageError, FileNotFoundError):
    """There is no file at the path, or it is a directory or cannot be read."""

    def __str__(self) -> str:  # OSError would show "[Errno ...]" or nothing
        return f"{self.path}: {self.reason}" if self.path is not None else self.reason


class ImageFormatError(ImageError):
    """The bytes are not an image, or are in a format that cannot be read here."""


class ImageUnsupportedError(ImageError):
    """The image may be valid, but is of a kind that cannot be decoded here."""


class ImageCorruptError(ImageError):
    """The image is empty, truncated or damaged."""


class ImageTooLargeError(ImageError):
    """The file or its pixels are over a limit, or decoding it takes more memory or time."""


class ModelError(ImgretError, ValueError):
    """A model file cannot be read, or cannot be used as requested."""


class EmptyGalleryError(ImgretError, ValueError):
    """The gallery has no items, but the operation needs some."""


class NotTrainedError(ImgretError, RuntimeError):
    """The index must be trained before vectors can be added or searched."""


class UnsupportedError(ImgretError, NotImplementedError):
    """The part does not support this operation; a flag on its class says so in advance."""


class TrainingError(ImgretError, RuntimeError):
    """A training cannot start, continue or be resumed; the message names the kept checkpoint."""


class DatasetError(ImgretError, OSError):
    """A data set is missing, damaged, or cannot be downloaded."""


class ClusterError(ImgretError, ConnectionError):
    """A cluster cannot be reached, was lost, or has no room for a worker."""


class StoreError(ImgretError, OSError):
    """A gallery on disk cannot be used as requested."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no gallery at the path."""


class StoreExistsError(StoreError, FileExistsError):
    """The path already exists and must not be replaced."""


class StoreLockedError(StoreError, BlockingIOError):
    """Another process has the gallery open for writing."""


class StoreForkedError(StoreLockedError):
    """The gallery was opened for writing by the process this one was forked from."""


class StoreReadOnlyError(StoreError, PermissionError):
    """The gallery was opened for reading, or its directory is not writable."""


class StoreClosedError(StoreError):
    """The gallery was used after it was closed."""


class StoreVersionError(StoreError):
    """The gallery was written in a newer format than this imgret reads."""


class StoreMismatchError(StoreError):
    """The gallery was made with another embedder, cropper, dimension or metric."""


class StoreCorruptError(StoreError):
    """A file of the gallery is missing or damaged."""
