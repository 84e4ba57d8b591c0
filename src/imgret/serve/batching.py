"""An embedder that runs the images of concurrent calls together."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple, final

import numpy as np

from imgret.abc import Embedder
from imgret.pipeline.embed import worker_count
from imgret.support.locks import RLock
from imgret.types import Embeddings, Image, Json

__all__ = ["BatchingEmbedder"]


# Images per run of the network on a CPU, if they come in one call. On two cores the network of
# `general` embeds 449 images/s in runs of 1, 486 of 4, 474 of 8 and 444 of 16 (medians of 4 turns).
_FEW = 4


class _Call(NamedTuple):
    images: Sequence[Image]
    answer: Future[Embeddings]


@final
class BatchingEmbedder(Embedder):
    """Runs another embedder with the images of concurrent calls, and remembers recent answers.

    Calls wait only while the network is busy, and are then run together in batches of the size
    the embedder prefers. On a CPU that size is small, and as many run at once as there are cores;
    elsewhere one runs at a time. A batch runs in the thread of one of its callers.

    Parameters
    ----------
    inner : Embedder
    remembered : int
        Number of recent embeddings that are kept, by the pixels of their images. A page asks again
        with the same image when it shows more hits.
    observe : callable, optional
        Function that is told the size of each batch.

    Attributes
    ----------
    inner : Embedder
    """

    def __init__(
        self,
        inner: Embedder,
        *,
        remembered: int = 1024,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        self.inner = inner
        self.name = inner.name
        self.min_side = inner.min_side
        self._most = max(1, inner.batch_size)
        self.batch_size = max(64, self._most)
        self._remembered = remembered
        self._observe = observe
        self._lock = RLock()
        self._waiting: deque[_Call] = deque()
        self._recent: OrderedDict[bytes, Embeddings] = OrderedDict()
        # A call takes a place while it runs, and gives it back.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(worker_count() if self._most <= _FEW and inner.thread_safe else 1):
            self._places.put(None)

    @property
    def dim(self) -> int:
        """Dimension of the embedding."""
        return self.inner.dim

    @property
    def fingerprint(self) -> str:
        """That of the embedder inside."""
        return self.inner.fingerprint

    @property
    def reads_text(self) -> bool:
        """Whether the embedder inside reads text."""
        return self.inner.reads_text

    @property
    def no_text(self) -> str:
        """Why it reads none."""
        return self.inner.no_text

    def config(self) -> Json:
        """Return the configuration of the embedder inside."""
        return self.inner.config()

    def _embed(self, images: Sequence[Image]) -> Embeddings:
        names = [_digest(image) for image in images]
        known = [self._recall(name) for name in names]
        missing = [place for place, found in enumerate(known) if found is None]
        if missing:
            made = self._ask([images[place] for place in missing])
            for place, vector in zip(missing, made, strict=True):
                known[place] = vector
                self._remember(names[place], vector)
        return np.stack([vector for vector in known if vector is not None])

    def _embed_text(self, texts: Sequence[str]) -> Embeddings:
        return self.inner.embed_text(texts)

    def _ask(self, images: Sequence[Image]) -> Embeddings:
        call = _Call(images, Future())
        self._waiting.append(call)
        self._places.get()
        try:
            self._answer_some()  # each caller takes a turn, so that no call is left over
        finally:
            self._places.put(None)
        return call.answer.result()

    def _answer_some(self) -> None:
        """Answer the calls that have waited longest, as many as fit into a batch."""
        calls: list[_Call] = []
        with self._lock:
            size = 0
            while self._waiting and (
                not calls or size + len(self._waiting[0].images) <= self._most
            ):
                calls.append(self._waiting.popleft())
                size += len(calls[-1].images)
        if not calls:
            return
        if self._observe is not None:
            self._observe(size)
        try:
            images = [image for call in calls for image in call.images]
            found = self.inner.embed(images, batch_size=max(self._most, _FEW))
        except BaseException as error:  # noqa: BLE001  # each caller raises it
            for call in calls:
                call.answer.set_exception(error)
            return
        start = 0
        for call in calls:
            call.answer.set_result(found[start : start + len(call.images)])
            start += len(call.images)

    def _recall(self, name: bytes) -> Embeddings | None:
        with self._lock:
            found = self._recent.get(name)
            if found is not None:
                self._recent.move_to_end(name)
            return found

    def _remember(self, name: bytes, vector: Embeddings) -> None:
        with self._lock:
            self._recent[name] = vector
            while len(self._recent) > self._remembered:
                self._recent.popitem(last=False)


def _digest(image: Image) -> bytes:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()
