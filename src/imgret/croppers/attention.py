"""Cropper that finds the places an embedding comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from imgret.abc import Embedder
from imgret.croppers.maps import Map, MapCropper, rescaled, shown_region
from imgret.errors import InvalidInputError
from imgret.types import Image, Json

__all__ = ["AttentionCropper"]

# The map is coarse. Enlarging it smoothly lets the threshold fall between its places.
_ENLARGED = 8
# On small flowers pasted beside other objects the mean IoU of the boxes is 0.24 at the 224 pixels
# of `flowers102`, 0.39 at 320, 0.45 at 448; on 143 images of ECSSD, with `general`, 0.54, 0.56
# and less.
_SIZE = 320


@final
class AttentionCropper(MapCropper):
    """Crops to the places that an embedding comes from.

    If an embedding is pooled from a feature map, each place contributes a share to it. The shares,
    scaled so that their extremes are 0 and 1, are the map. The box encloses the places at or above
    the threshold. With an embedder trained on labels, these are the places that matter for the
    label, whereas saliency finds whatever is conspicuous.

    Parameters
    ----------
    embedder : str, Path or OnnxEmbedder
        Name of a built-in embedder, path of an ONNX file, or an embedder over one.
    size : int
        Side of the network's input in pixels; a larger input gives a finer map and takes longer.
    threshold, margin, least, most, largest
        As for `SaliencyCropper`.
    providers : sequence of str, optional
        Execution providers of onnxruntime; by default only the CPU's.

    Raises
    ------
    InvalidInputError
        A number is out of range, or ``embedder`` is not a name, a path or an OnnxEmbedder.
    ModelError
        The file cannot be used, or its embedding is not pooled from a feature map.

    Notes
    -----
    The network sees the whole image, squashed to a square.
    """

    name = "attention"

    def __init__(
        self,
        embedder: str | Path | Embedder = "general",
        *,
        size: int = _SIZE,
        threshold: float = 0.4,
        margin: float = 0.05,
        least: float = 0.0,
        most: float = 1.0,
        largest: bool = False,
        providers: Sequence[str] | None = None,
    ) -> None:
        from imgret.models import bundle as bundles  # noqa: PLC0415  # loads no onnxruntime
        from imgret.models.builtin import builtin_name, resolve  # noqa: PLC0415
        from imgret.models.features import FeatureModel  # noqa: PLC0415  # loads onnxruntime
        from imgret.models.model import Model  # noqa: PLC0415

        super().__init__(
            threshold=threshold, margin=margin, least=least, most=most, largest=largest
        )
        path: Any = getattr(embedder, "path", None) if isinstance(embedder, Embedder) else embedder
        if not isinstance(path, str | Path):
            raise InvalidInputError(
                f"embedder: expected the name of a built-in embedder, the path of an ONNX file, or "
                f"an OnnxEmbedder, found {embedder!r}"
            )
        facts = bundles.read(resolve(path))
        # Model() refuses a file without facts and says what is missing.
        whole = None
        if facts is not None:
            seen = {"resize": "squash", "short_side": None, "size": size}
            whole = facts.input.to_json() | seen
        network = Model(path, kind="embedder", preprocess=whole, providers=providers)
        self._network, self._features = network, FeatureModel(network)
        named = builtin_name(network.path) or str(network.path.absolute())
        self._options: Json = {"embedder": named}
        if size != _SIZE:
            self._options["size"] = size
        if providers is not None:
            self._options["providers"] = list(providers)

    def config(self) -> Json:
        """Return the arguments that recreate this cropper."""
        return self._options | super().config()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the network, which covers the size, and the options of the box."""
        options = json.dumps(super().config(), sort_keys=True)
        return f"{self._network.fingerprint} attention {options}"

    def _map(self, image: Image) -> Map | None:
        from imgret.images import resize  # noqa: PLC0415  # loads OpenCV, only when used

        if (image == image[0, 0]).all():
            return None  # a single colour: the shares would only show the network's own borders
        shares = self._features.shares(image)
        wanted = self._network.preprocess
        shown = shown_region(
            shares, image, resize=wanted.resize, size=wanted.size, min_side=wanted.min_side
        )
        rows, columns = shown.values.shape
        smooth = resize(shown.values, columns * _ENLARGED, rows * _ENLARGED)
        return rescaled(np.maximum(smooth, 0), shown.region)

    def __repr__(self) -> str:
        return (
            f"AttentionCropper({self._options['embedder']!r}, threshold={self.threshold}, "
            f"margin={self.margin})"
        )
