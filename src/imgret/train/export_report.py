"""Report of an export, as text and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgret.models import Preprocess
from imgret.pages.result import Result
from imgret.types import Json

__all__ = ["ExportReport"]

# A smaller cosine is worth a measurement before the 8-bit file is used.
_CLOSE = 0.98


@dataclass(frozen=True, kw_only=True)
class ExportReport(Result):
    """Report of an export.

    Attributes
    ----------
    path : Path
        File of the model.
    int8_path : Path or None
        File of the 8-bit model.
    name : str
        Name of the model.
    origin : str
        Origin of the network.
    parameters : int
        Number of weights in the file, with batch normalisation folded.
    dim : int
        Length of the embedding.
    preprocess : Preprocess
        Preprocessing of the images.
    any_size : bool
        Whether the file takes images of any size.
    n_images : int
        Number of images that were used.
    drawn : bool
        Whether imgret drew them.
    parity : float
        Smallest cosine between the embeddings of the file and of the network in torch, with images
        prepared by imgret.
    own_parity : float or None
        The same with images that timm or transformers prepared for the network; None if that was
        not compared.
    int8_cosine, int8_least : float or None
        Mean and smallest cosine between the embeddings of the 8-bit file and of the other one.
    int8_same_nearest : float or None
        Share of the images whose nearest other image is the same in 8 bits.
    """

    path: Path
    int8_path: Path | None
    name: str
    origin: str
    parameters: int
    dim: int
    preprocess: Preprocess
    any_size: bool
    n_images: int
    drawn: bool
    parity: float
    own_parity: float | None
    int8_cosine: float | None
    int8_least: float | None
    int8_same_nearest: float | None

    def __str__(self) -> str:
        wanted = self.preprocess
        crop = f", cropped from {wanted.short_side}" if wanted.short_side else ""
        others = "other sizes are possible" if self.any_size else "no other size"
        size, small = _megabytes(self.path), self.int8_path
        lines = [
            f"{self.name} ({self.origin}): {self.parameters:,} parameters, dimension {self.dim}",
            f"images of {wanted.size} px{crop} ({wanted.resize}, {wanted.interpolation}); {others}",
            f"{self.path} (fp32, {size}): cosine with torch at least {self.parity:.6f}",
        ]
        if self.own_parity is not None:
            lines.append(
                f"  with images that its own library prepared: at least {self.own_parity:.6f}"
            )
        if small is not None and self.int8_cosine is not None:
            same = self.int8_same_nearest
            nearest = "" if same is None else f"; nearest image the same for {100 * same:.0f} %"
            lines.append(
                f"{small} (int8, {_megabytes(small)}): cosine with fp32 {self.int8_cosine:.4f} on "
                f"average, at least {self.int8_least:.4f}{nearest}"
            )
            if self.int8_cosine < _CLOSE:
                lines.append(
                    "  8 bits change these embeddings: measure both files (imgret evaluate) "
                    "before you use it"
                )
        drawn = ", drawn by imgret; give images= to compare on your own" if self.drawn else ""
        lines.append(f"compared on {self.n_images} images{drawn}")
        return "\n".join(lines)

    def to_dict(self) -> Json:
        """Return the attributes as JSON values."""
        return {
            "path": str(self.path),
            "int8_path": None if self.int8_path is None else str(self.int8_path),
            "name": self.name,
            "origin": self.origin,
            "parameters": self.parameters,
            "dim": self.dim,
            "preprocess": self.preprocess.to_json(),
            "any_size": self.any_size,
            "n_images": self.n_images,
            "drawn": self.drawn,
            "parity": self.parity,
            "own_parity": self.own_parity,
            "int8_cosine": self.int8_cosine,
            "int8_least": self.int8_least,
            "int8_same_nearest": self.int8_same_nearest,
        }


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB" if path.is_file() else "moved"
