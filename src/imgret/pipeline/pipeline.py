"""The embedder and the cropper of a gallery, and how images pass through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from imgret.abc import Cropper, Embedder
from imgret.images import MAX_PIXELS
from imgret.pipeline.embed import Outcome, Seen, Source, embed_sources, path_of, see
from imgret.support.checks import check_count
from imgret.support.locks import RLock
from imgret.types import Box, Embeddings, ImageLike

__all__ = ["Late", "Pipeline", "Runs"]

_Part = TypeVar("_Part", Embedder, Cropper)


class Late(Generic[_Part]):
    """An embedder or cropper that is made on first use and then kept."""

    def __init__(self, made: _Part | Callable[[], _Part]) -> None:
        self._lock = RLock()
        self._make: Callable[[], _Part] | None = None
        if isinstance(made, (Embedder, Cropper)):
            self._made: _Part = made
        else:
            self._make = made

    def get(self) -> _Part:
        """Return the part; an error in making it is raised at every call."""
        if self._make is not None:
            with self._lock:
                if self._make is not None:
                    self._made = self._make()
                    self._make = None
        return self._made


class Runs(Protocol):
    """Whatever embeds sources: a pipeline, or a cluster of them."""

    @property
    def run(self) -> Callable[..., Iterator[list[Outcome]]]:
        """Function that embeds sources: see `Pipeline.run`."""


class Pipeline:
    """Turns images into embeddings: for searches, evaluation and ingest alike.

    Parameters
    ----------
    embedder, cropper : Late
    max_pixels : int
        Maximum number of pixels to decode; larger images are refused.
    """

    def __init__(
        self, embedder: Late[Embedder], cropper: Late[Cropper], *, max_pixels: int = MAX_PIXELS
    ) -> None:
        self._embedder, self._cropper = embedder, cropper
        self.max_pixels = check_count(max_pixels, "max_pixels")

    @property
    def embedder(self) -> Embedder:
        """Embedder of the gallery; loaded on first use."""
        return self._embedder.get()

    @property
    def cropper(self) -> Cropper:
        """Cropper of the gallery; loaded on first use."""
        return self._cropper.get()

    def run(
        self, sources: Sequence[Source], *, cropper: Cropper | None = None, **options: Any
    ) -> Iterator[list[Outcome]]:
        """Embed sources: see `imgret.pipeline.embed.embed_sources`.

        Parameters
        ----------
        sources : sequence of Source
        cropper : Cropper, optional
            Cropper to use; by default that of the gallery.
        **options
            As for `embed_sources`.
        """
        return embed_sources(
            sources,
            self.embedder,
            self.cropper if cropper is None else cropper,
            max_pixels=self.max_pixels,
            **options,
        )

    def see(self, image: ImageLike, *, box: Box | None = None) -> Seen:
        """Read one image, and cut out what is embedded: see `imgret.pipeline.embed.see`."""
        return see(image, self.embedder, self.cropper, box=box, max_pixels=self.max_pixels)

    def embed_text(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts into the space of the images: see `imgret.Embedder.embed_text`."""
        return self.embedder.embed_text(texts)

    def embed(
        self,
        images: Sequence[ImageLike],
        *,
        cropper: Cropper | None = None,
        threads: int | None = None,
    ) -> Embeddings:
        """Crop and embed images.

        Returns
        -------
        float32 array of shape (n, dim)

        Raises
        ------
        ImageError
            One of them cannot be read.
        """
        if threads is not None:
            threads = check_count(threads, "threads")
        sources = [Source(str(n), image, path_of(image)) for n, image in enumerate(images)]
        embeddings = np.empty((len(sources), self.embedder.dim), dtype=np.float32)
        done = 0
        for outcomes in self.run(sources, cropper=cropper, is_query=True, threads=threads):
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                embeddings[done] = outcome.embedding
                done += 1
        return embeddings
