"""The header of an exported file: which gallery its items are from, and how it is searched."""

from __future__ import annotations

import base64
import json
import tempfile
from binascii import Error as Base64Error
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgret.abc import Gallery, GallerySpec
from imgret.errors import InvalidInputError, StoreVersionError
from imgret.projections import LinearProjection
from imgret.support.json_text import loads
from imgret.support.metric import check_metric
from imgret.types import Json, Part
from imgret.version import __version__

__all__ = ["FORMAT", "VERSION", "GalleryHeader"]

FORMAT, VERSION = "imgret-items", 1


@dataclass(frozen=True)
class GalleryHeader:
    """Which gallery the items of a file are from.

    Attributes
    ----------
    spec : GallerySpec
        Description of the gallery, without its projection.
    projection : LinearProjection or None
        Map that the gallery is searched by.
    """

    spec: GallerySpec
    projection: LinearProjection | None = None

    @classmethod
    def of(cls, gallery: Gallery) -> GalleryHeader:
        """Return the header for the items of a gallery."""
        given = {each.name: getattr(gallery.spec, each.name) for each in fields(GallerySpec)}
        return cls(GallerySpec(**{**given, "projection": None}), gallery.projection)

    def to_json(self) -> str:
        """Return the header as JSON text."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "created_with": __version__,
                "gallery": asdict(self.spec),
                "projection": None if self.projection is None else _packed(self.projection),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str, path: Path) -> GalleryHeader:
        """Read the header of a file.

        Raises
        ------
        StoreVersionError
            A newer imgret wrote the file.
        InvalidInputError
            It is not the header of an export.
        """
        try:
            content = loads(text)
            _check_version(content, path)
            packed = content["projection"]
            return cls(_spec(content["gallery"]), None if packed is None else _unpacked(packed))
        except StoreVersionError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, OSError, Base64Error) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidInputError(
                f"{path}: expected the header that `imgret export` writes, found {reason}; export "
                f"the gallery again"
            ) from error


def _check_version(content: Json, path: Path) -> None:
    if content["format"] != FORMAT:
        raise ValueError(f"the format {content['format']!r}")
    version = content["version"]
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"version {version!r}")
    if version > VERSION:
        raise StoreVersionError(
            f"{path}: expected version {VERSION} of an export or older, found {version} (written "
            f"by imgret {content.get('created_with', 'unknown')}); upgrade imgret"
        )


def _spec(content: Json) -> GallerySpec:
    known = {each.name for each in fields(GallerySpec)}
    given = {name: value for name, value in content.items() if name in known}
    parts = {name: Part(**given[name]) for name in ("embedder", "cropper", "index")}
    spec = GallerySpec(**{**given, **parts, "projection": None})
    check_metric(spec.metric)
    texts = (spec.fingerprint, *(part.name for part in parts.values()))
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(part.config, dict) for part in parts.values()
    ):
        raise TypeError(f"the parts {content!r:.200}")
    if not (isinstance(spec.dim, int) and spec.dim >= 1 and spec.dtype in {"float16", "float32"}):
        raise TypeError(f"dim {spec.dim!r} and dtype {spec.dtype!r}")
    if not isinstance(spec.files, dict):
        raise TypeError(f"files {spec.files!r}")
    return spec


def _packed(projection: LinearProjection) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "projection.npz")
        projection.save(file)
        return base64.b64encode(file.read_bytes()).decode("ascii")


def _unpacked(packed: Any) -> LinearProjection:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "projection.npz")
        file.write_bytes(base64.b64decode(packed, validate=True))
        return LinearProjection.load(file)
