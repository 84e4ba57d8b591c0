"""The manifest: the small file that says what a gallery is made of."""

from __future__ import annotations

import difflib
import json
import os
import zlib
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgret.abc import GallerySpec
from imgret.errors import (
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StoreVersionError,
)
from imgret.galleries.local.files import write_text
from imgret.galleries.local.own import remedy
from imgret.galleries.local.vectors import SUFFIXES
from imgret.support.checks import MAX_DIM
from imgret.support.json_text import loads
from imgret.support.metric import check_metric
from imgret.support.places import paths_in, relative_to
from imgret.types import Json, Part
from imgret.version import __version__

__all__ = ["COPY", "FILE", "FORMAT_VERSION", "Manifest", "is_gallery"]

FILE = "manifest.json"
COPY = "manifest.copy.json"  # read by repairs alone
FORMAT = "imgret-gallery"
_ENDING = ".imgret"
FORMAT_VERSION = 2
_SUMMED = 2  # version since which the manifest has a checksum
_SUM = "crc32"
_MOST_DROPPED = 2**62
# Fields that are written only if they are set.
_OPTIONAL = ("tuned", "calibration", "text_calibration", "cropper_fingerprint", "files", "dropped")


@dataclass(frozen=True)
class Manifest(GallerySpec):
    """The specification of a gallery, and the file that stores it.

    Paths in ``files`` are absolute here and relative to the gallery in the file, so that they
    stay valid when a directory tree is moved as a whole.

    Attributes
    ----------
    created : str
        Time of creation, ISO 8601, UTC.
    created_with : str
        Version of imgret that created the gallery.
    dropped : int
        Number of rows of removed items that were left out when the gallery was compacted or
        copied. Keys that are made from numbers count on from there, so that none is used twice.
    """

    created: str = ""
    created_with: str = ""
    dropped: int = 0

    @classmethod
    def of(cls, spec: GallerySpec) -> Manifest:
        """Return the manifest of a new gallery."""
        return cls(**{each.name: getattr(spec, each.name) for each in fields(GallerySpec)})

    def write(self, directory: Path) -> None:
        """Write the manifest into a directory, replacing an existing one in one step; then a copy.

        A copy that is one change older, after a kill in between, is still better than none.
        """
        filled = replace(
            self,
            created=self.created or datetime.now(UTC).isoformat(timespec="seconds"),
            created_with=self.created_with or __version__,
        )
        content = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(filled)}
        content["files"] = self._files_from(directory)
        for name in _OPTIONAL:
            if not content[name]:  # None, {} or 0
                del content[name]
        text = json.dumps({**content, _SUM: _checksum(content)}, indent=2) + "\n"
        write_text(directory / FILE, text)
        write_text(directory / COPY, text)

    def upgrade(self, directory: Path) -> None:
        """Write this manifest again if an earlier version of the format is in the directory."""
        if self.is_older(directory):
            self.write(directory)

    @staticmethod
    def is_older(directory: Path) -> bool:
        """Whether the manifest in a directory, which can be read, is of an earlier version."""
        content = json.loads((directory / FILE).read_text(encoding="utf-8"))
        return bool(content["version"] < FORMAT_VERSION)

    def _files_from(self, directory: Path) -> dict[str, str]:
        """Return paths of the parts' files relative to a directory, by their stored paths."""
        found = {}
        for stored in paths_in([self.embedder.config, self.cropper.config]):
            place = self.files.get(stored, stored)
            if Path(stored).exists() and not Path(place).exists():
                place = stored
            known = stored in self.files or Path(place).exists()
            relative = None
            if known and Path(place).is_absolute():
                relative = relative_to(place, directory)
            if relative is not None:
                found[stored] = relative
        return found

    @classmethod
    def read(cls, directory: Path, *, name: str = FILE) -> Manifest:
        """Read the manifest of a gallery, or the copy of it by its name.

        Raises
        ------
        StoreNotFoundError
            There is no gallery in the directory.
        StoreVersionError
            A newer imgret wrote it.
        StoreCorruptError
            The manifest is not valid.
        """
        path = directory / name
        try:
            content = loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise StoreNotFoundError(
                f"{directory}: expected a gallery (a directory with a {FILE}), found "
                f"{_instead(directory)}"
            ) from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise StoreCorruptError(
                f"{path}: expected JSON, found {error}; {remedy(directory)}"
            ) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise StoreCorruptError(
                f"{path}: expected the manifest of a gallery ({FORMAT!r}), found another file; "
                f"choose another directory, or {remedy(directory)}"
            )
        version = content.get("version")
        if not isinstance(version, int) or version < 1:
            raise StoreCorruptError(
                f"{path}: expected a version of at least 1, found {version!r}; restore it from a "
                f"copy"
            )
        if version > FORMAT_VERSION:
            raise StoreVersionError(
                f"{directory}: expected format version {FORMAT_VERSION} or older, found {version} "
                f"(written by imgret {content.get('created_with', 'unknown')}); upgrade imgret"
            )
        _check_sum(path, content, version)
        try:
            manifest = cls(
                dim=content["dim"],
                metric=check_metric(content["metric"]),
                dtype=content["dtype"],
                embedder=_check_part(content["embedder"]),
                fingerprint=_checked_text(content["fingerprint"]),
                cropper=_check_part(content["cropper"]),
                index=_check_part(content["index"]),
                projection=_check_text(content["projection"]),
                tuned=_check_tuned(content.get("tuned")),
                calibration=_check_calibration(content.get("calibration")),
                text_calibration=_check_calibration(content.get("text_calibration")),
                cropper_fingerprint=_check_text(content.get("cropper_fingerprint")),
                files=_check_files(content.get("files", {}), directory),
                created=content["created"],
                created_with=content["created_with"],
                dropped=_check_dropped(content.get("dropped", 0)),
            )
        except (AttributeError, KeyError, TypeError, InvalidInputError) as error:
            raise StoreCorruptError(
                f"{path}: expected the fields of format {version}, found {error!r}"
            ) from error
        dtype, dim = manifest.dtype, manifest.dim  # a bool is an int, but no dim
        if dtype not in tuple(SUFFIXES) or type(dim) is not int or not 1 <= dim <= MAX_DIM:
            raise StoreCorruptError(
                f"{path}: expected a dtype of {', '.join(SUFFIXES)} and a dim of 1 to "
                f"{MAX_DIM:,}, found {dtype!r} and {dim!r}"
            )
        return manifest


def is_gallery(directory: Path) -> bool:
    """Whether the directory holds the manifest of a gallery, of whatever version."""
    try:
        content = loads((directory / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _checksum(content: Json) -> int:
    """Return the CRC-32 of a manifest, whatever its line breaks and the order of its fields."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _check_sum(path: Path, content: Json, version: int) -> None:
    """Raise if a manifest does not have the checksum it names; one set to null is not compared."""
    if _SUM not in content and version < _SUMMED:
        return
    expected = content.get(_SUM, "none")
    found = _checksum({name: value for name, value in content.items() if name != _SUM})
    if expected is not None and expected != found:
        raise StoreCorruptError(
            f"{path}: expected content with the checksum {expected}, found {found}; "
            f"{remedy(path.parent)}. If you have changed it by hand, set its {_SUM!r} to null"
        )


def _check_tuned(tuned: Any) -> Json | None:
    if tuned is None:
        return None
    if not isinstance(tuned["index"], str) or not all(
        isinstance(value, int) and value > 0 for value in tuned["settings"].values()
    ):
        raise TypeError(f"tuned: {tuned!r}")
    found: Json = tuned
    return found


def _check_part(part: Any) -> Part:
    found = Part(**part)
    if not isinstance(found.name, str) or not isinstance(found.config, dict):
        raise TypeError(f"part: {part!r}")
    return found


def _check_text(text: Any) -> str | None:
    if text is not None and not isinstance(text, str):
        raise TypeError(f"expected a text, found {text!r}")
    return text


def _checked_text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"expected a text, found {text!r}")
    return text


def _check_files(files: Any, directory: Path) -> Json:
    """Return the absolute paths of files that are given relative to a directory."""
    if not isinstance(files, dict) or not all(isinstance(one, str) for one in files.values()):
        raise TypeError(f"files: {files!r}")
    real = directory.resolve()
    return {stored: os.path.normpath(real / one) for stored, one in files.items()}


def _check_dropped(dropped: Any) -> int:
    if type(dropped) is not int or not 0 <= dropped < _MOST_DROPPED:
        raise TypeError(f"dropped: {dropped!r}")
    return dropped


def _check_calibration(calibration: Any) -> Json | None:
    if calibration is not None and not isinstance(calibration, dict):
        raise TypeError(f"calibration: {calibration!r}")
    return calibration


def _instead(directory: Path) -> str:
    """Return what there is in place of a gallery, and what to do."""
    meant = "".join(f"; did you mean {near}?" for near in _like(directory))
    if directory.is_file():
        return f"a file{meant or '; choose another path'}"
    if directory.is_dir() and any(directory.iterdir()):
        if meant:
            return f"a folder of other files{meant}"
        return (
            f"a folder of other files; if they are images, `imgret index {directory} -o "
            f"{directory.name}.imgret` makes a gallery of them"
        )
    return (
        f"nothing{meant}" if meant else f"nothing; `imgret index FOLDER -o {directory}` makes one"
    )


def _like(directory: Path) -> list[Path]:
    """Return the gallery beside this one whose name is most like it, if there is one."""
    try:
        beside = sorted(each.parent for each in directory.parent.glob(f"*/{FILE}"))
    except OSError:
        return []
    # Endings that all have in common, also misspelt, would make all of them alike.
    names = {each.name.removesuffix(_ENDING): each for each in beside}
    asked = directory.stem if directory.suffix.startswith(_ENDING[:3]) else directory.name
    near = difflib.get_close_matches(asked, names, n=1, cutoff=0.7)
    return [names[name] for name in near]
