"""The base class of embedders: images in, vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import numpy as np

from imgret.errors import ImgretError, UnsupportedError
from imgret.support.checks import check_count, check_images, check_texts, check_vectors
from imgret.types import Embeddings, Image, Json

__all__ = ["Embedder"]


class Embedder(ABC):
    """Turns images into vectors whose distance reflects how similar the images are.

    A subclass sets ``name`` and implements `dim`, `fingerprint`, `config` and `_embed`.
    Everything else is final. The embedding of an image must not depend on the other images
    of its batch, nor on the batch size (within 1e-5 in cosine).

    Attributes
    ----------
    name : str
        Name under which the embedder is registered (entry-point group
        ``imgret.embedders``). A saved gallery recreates it with
        ``registry.create("embedders", name, **config())``.
    thread_safe : bool
        Whether `embed` may run in several threads at once; True by default. If False,
        imgret calls it from one thread at a time.
    batch_size : int
        Maximum number of images per call of `_embed`, unless the caller sets another.
    min_batch : int
        Number of images below which a call takes as long as with that many; more than 1 for a
        network that was exported for batches of one length. A slow embedder gets fewer images at
        a time than ``batch_size``, so that an interruption loses little, but not fewer than this.
    min_side : int or None
        Shorter side, in pixels, above which more resolution no longer changes the embedding
        noticeably. Large JPEGs are then decoded at reduced scale. If None, they are always
        decoded in full.
    """

    name: str = ""
    thread_safe: ClassVar[bool] = True
    batch_size: int = 16
    min_batch: int = 1
    min_side: int | None = None

    @property
    def reads_text(self) -> bool:
        """Whether `embed_text` works, for texts in the space of the images."""
        return False

    @property
    def no_text(self) -> str:
        """Why the embedder reads no text, as the end of a sentence; may be empty."""
        return ""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension of the embedding."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A str that changes whenever the embedding of some image could change.

        For a model file, use the sha256 of its bytes together with the options that matter.
        Vectors of two embedders are compared only if their fingerprints agree.
        """

    @abstractmethod
    def config(self) -> Json:
        """Return the keyword arguments, as JSON values, that recreate this embedder."""

    @abstractmethod
    def _embed(self, images: Sequence[Image]) -> Embeddings:
        """Embed ``1 <= n <= batch_size`` checked images of any size.

        Returns
        -------
        float32 array of shape (n, dim)
            Finite values. Row ``i`` belongs to ``images[i]``.
        """

    def _embed_text(self, texts: Sequence[str]) -> Embeddings:
        """Embed ``1 <= n <= batch_size`` texts; for embedders that say `reads_text`."""
        raise NotImplementedError(
            f"{type(self).__name__}: expected _embed_text to be implemented, as reads_text is True"
        )

    @final
    def embed_text(self, texts: Sequence[str], *, batch_size: int | None = None) -> Embeddings:
        """Embed texts into the space of the images.

        Parameters
        ----------
        texts : sequence of str
        batch_size : int, optional
            As for `embed`.

        Returns
        -------
        float32 array of shape (n, dim)
            C-contiguous and finite.

        Raises
        ------
        UnsupportedError
            The embedder reads no text.
        InvalidInputError
            They are something else than a sequence of texts.
        ImgretError
            The subclass returned another shape, or NaN.
        """
        if not self.reads_text:
            reason = f" ({self.no_text})" if self.no_text else ""
            raise UnsupportedError(
                f"{self.name or type(self).__name__}: expected an embedder that reads text, found "
                f"one for images only{reason}; index with a two-tower model, such as the folder of "
                f"a CLIP or SigLIP model (embedder='clip-vit-base-patch32/')"
            )
        texts = check_texts(texts)
        step = self.batch_size if batch_size is None else check_count(batch_size, "batch_size")
        step = max(step, 16)
        return self._in_batches(texts, step, self._embed_text, "_embed_text")

    @final
    def embed(self, images: Sequence[Image], *, batch_size: int | None = None) -> Embeddings:
        """Embed images.

        Parameters
        ----------
        images : sequence of uint8 arrays of shape (H, W, 3)
            RGB images; sizes may differ. An empty sequence gives an array of shape (0, dim).
        batch_size : int, optional
            Number of images per call of the model; by default that of the embedder.

        Returns
        -------
        float32 array of shape (n, dim)
            C-contiguous and finite.

        Raises
        ------
        InvalidInputError
            An image is not uint8 ``(H, W, 3)``, or ``batch_size`` is below 1.
        ImgretError
            The subclass returned an array of the wrong shape, or NaN.
        """
        images = check_images(images)
        step = self.batch_size if batch_size is None else check_count(batch_size, "batch_size")
        return self._in_batches(images, step, self._embed, "_embed")

    def _in_batches(
        self,
        given: Sequence[Any],
        step: int,
        embed: Callable[[Sequence[Any]], Embeddings],
        hook: str,
    ) -> Embeddings:
        """Return what a hook says of each batch, checked."""
        result = np.empty((len(given), self.dim), dtype=np.float32)
        for start in range(0, len(given), step):
            batch = given[start : start + step]
            vectors = embed(batch)
            if np.shape(vectors) != (len(batch), self.dim):
                raise ImgretError(
                    f"{type(self).__name__}.{hook}: expected shape {(len(batch), self.dim)}, "
                    f"found {np.shape(vectors)}; this is a bug in the embedder"
                )
            result[start : start + step] = check_vectors(
                vectors, self.dim, f"{type(self).__name__}.{hook}"
            )
        return result
