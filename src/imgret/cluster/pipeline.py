"""Sources to the actors of a cluster, and their outcomes back, in the order of the sources."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from imgret import registry
from imgret.abc import Cropper, Embedder, Stored
from imgret.cluster.connection import connected
from imgret.cluster.worker import Answer, Task, Worker
from imgret.errors import ClusterError, ImgretError, InvalidInputError
from imgret.indexes.make import part_of
from imgret.pipeline.embed import Outcome, Source
from imgret.pipeline.pipeline import Pipeline
from imgret.support.interrupts import let_through
from imgret.types import Embeddings, Part

__all__ = ["RayPipeline", "on_cluster"]

_log = logging.getLogger(__name__)
# Sources of a run; runs that wait at each actor, so that it never does; and runs per actor that
# are not handed on yet, as an earlier one takes long.
_RUN, _QUEUED, _AHEAD = 32, 2, 8
# Times that a run is tried again after its actor has died.
_RETRIES = 2
# Seconds to wait for the first actor.
_STARTING = 120.0
_ON_GPU = ("cuda", "tensorrt", "rocm", "migraphx")


@contextmanager
def on_cluster(address: str, pipeline: Pipeline) -> Iterator[RayPipeline]:
    """Connect to a cluster for the duration of a block, and provide a pipeline that runs there.

    Parameters
    ----------
    address : str
        ``"ray"`` or ``"ray://host:10001"``.
    pipeline : Pipeline
        Pipeline of the gallery.

    Raises
    ------
    InvalidInputError, ClusterError
        The address is not valid, or nobody is there.
    """
    with connected(address):
        yield RayPipeline(pipeline)


class RayPipeline:
    """Embeds sources on the cluster to which this process is connected.

    Parameters
    ----------
    pipeline : Pipeline
        Pipeline of the gallery, whose embedder and cropper the actors use.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def run(
        self,
        sources: Sequence[Source],
        *,
        cropper: Cropper | None = None,
        find_twin: Callable[[bytes], Stored | None] | None = None,
        refuse: Callable[[Embeddings], list[str | None]] | None = None,
        exif: bool = False,
        threads: int | None = None,
        on_stage: Callable[[str, float], None] | None = None,
    ) -> Iterator[list[Outcome]]:
        """Embed sources; parameters as for `imgret.pipeline.embed.embed_sources`.

        ``threads`` is the number of actors: by default one for each free core of the cluster, or
        for each GPU if the embedder runs on one.

        Yields
        ------
        list of Outcome
            Outcomes of one run of sources, in the order of the sources.

        Raises
        ------
        ClusterError
            The cluster was lost, or no actor started.
        ModelError
            An actor does not find the model.
        """
        if not sources:
            return
        embedder = self._pipeline.embedder
        task = Task(
            _shipped(embedder, "embedders"),
            _shipped(cropper or self._pipeline.cropper, "croppers"),
            (embedder.fingerprint, (cropper or self._pipeline.cropper).fingerprint),
            self._pipeline.max_pixels,
            exif,
        )
        actors = _Actors(task, _resources(embedder), threads, -(-len(sources) // _RUN))
        try:
            for run, answer in actors.answers(sources):
                outcomes = _restored(run, answer)
                _settle(outcomes, find_twin, refuse)
                if on_stage is not None:
                    for stage, seconds in answer.stages.items():
                        on_stage(stage, seconds)
                yield outcomes
        except RayError as error:
            raise ClusterError(f"on: the cluster was lost: {_first(error)}") from error
        finally:
            actors.stop()


class _Actors:
    """The actors, and which runs each of them has."""

    def __init__(
        self, task: Task, resources: Mapping[str, float], threads: int | None, most: int
    ) -> None:
        kind = "GPU" if resources.get("num_gpus") else "CPU"
        free = int(ray.available_resources().get(kind, 0))
        count = max(1, min(threads or free, most))
        make = ray.remote(max_restarts=-1, max_task_retries=_RETRIES, **resources)(Worker)
        self._actors = [make.remote(task) for _ in range(count)]
        self._load = [0] * count
        self._busy: dict[Any, int] = {}
        try:
            with let_through():
                ray.get(self._actors[0].load.remote(), timeout=_STARTING)
        except GetTimeoutError as error:
            self.stop()
            total = int(ray.cluster_resources().get(kind, 0))
            raise ClusterError(
                f"on: no worker started within {_STARTING:.0f} seconds; the cluster has {total} "
                f"{kind}s, of which {free} were free"
            ) from error
        except RayTaskError as error:
            self.stop()
            if isinstance(error.cause, ImgretError):
                raise error.cause from error
            raise
        _log.info("%d workers started", count)

    def answers(self, sources: Sequence[Source]) -> Iterator[tuple[Sequence[Source], Answer]]:
        """Yield runs of sources and their answers, in order."""
        count = len(self._actors)
        order: deque[tuple[Any, Sequence[Source]]] = deque()
        busy = self._busy
        start = 0
        while start < len(sources) or order:
            while (
                start < len(sources) and len(busy) < _QUEUED * count and len(order) < _AHEAD * count
            ):
                # Shorter runs at the end, so that all actors finish together.
                fair = -(-(len(sources) - start) // (2 * count))
                run = sources[start : start + min(_RUN, max(fair, 1))]
                actor = min(range(count), key=self._load.__getitem__)
                answer = self._actors[actor].run.remote([_sent(source) for source in run])
                self._load[actor] += 1
                busy[answer] = actor
                order.append((answer, run))
                start += len(run)
            first, run = order[0]
            if first in busy:
                with let_through():
                    ready, _ = ray.wait(list(busy), num_returns=1)
                for answer in ready:
                    self._load[busy.pop(answer)] -= 1
                continue
            order.popleft()
            yield from self._answers(first, run)

    def _answers(
        self, answer: Any, run: Sequence[Source]
    ) -> Iterator[tuple[Sequence[Source], Answer]]:
        """Yield the answer to a run; one that an actor died of is tried image by image."""
        try:
            yield run, ray.get(answer)
        except RayActorError as error:
            _log.info("a worker died: %s; its images are tried one by one", _first(error))
            actor = min(range(len(self._actors)), key=self._load.__getitem__)
            if waiting := [each for each, at in self._busy.items() if at == actor]:
                # Alone, so that no other run is lost if one of these images is the reason.
                with let_through():
                    ray.wait(waiting, num_returns=len(waiting))
            for source in run:
                yield [source], self._alone(actor, source)
        except RayTaskError as error:
            if isinstance(error.cause, ImgretError):
                raise error.cause from error
            raise

    def _alone(self, actor: int, source: Source) -> Answer:
        try:
            answer: Answer = ray.get(self._actors[actor].run.remote([_sent(source)]))
        except RayActorError as error:
            _log.info("%s: its worker died: %s", source.key, _first(error))
            failed = Outcome(source, "failed", "the process that read it died, each time again")
            return Answer([failed], [dict(source.metadata)], {})
        return answer

    def stop(self) -> None:
        """Stop all actors."""
        for actor in self._actors:
            ray.kill(actor)


def _shipped(part: Embedder | Cropper, kind: registry.Kind) -> Part | bytes:
    """Return a part as its name and options, which every machine can make, or pickled."""
    if part.name and registry.is_registered(kind, part.name):
        return part_of(part)
    try:
        pickled: bytes = cloudpickle.dumps(part)
    except Exception as error:
        raise InvalidInputError(
            f"on: expected {kind} that are registered, or that can be pickled, so that other "
            f"machines can have them, found {type(part).__name__}: {error}"
        ) from error
    return pickled


def _resources(embedder: Embedder) -> dict[str, float]:
    """Return what an actor needs: a core, and a GPU if the model asks for one."""
    asked = str(embedder.config().get("providers", "")).lower()
    return {"num_cpus": 1, **({"num_gpus": 1} if any(name in asked for name in _ON_GPU) else {})}


def _sent(source: Source) -> Source:
    """Return a source as other processes find it: by an absolute path."""
    path = source.path
    if isinstance(path, Path):
        path = path.absolute()
    return replace(source, path=path, image=source.image if path is None else path)


def _restored(run: Sequence[Source], answer: Answer) -> list[Outcome]:
    for source, outcome, metadata in zip(run, answer.outcomes, answer.metadata, strict=True):
        outcome.source = replace(source, metadata=metadata)
    return answer.outcomes


def _settle(
    outcomes: Sequence[Outcome],
    find_twin: Callable[[bytes], Stored | None] | None,
    refuse: Callable[[Embeddings], list[str | None]] | None,
) -> None:
    """Find copies of items of the gallery, and embeddings that it cannot store."""
    made = [outcome for outcome in outcomes if outcome.status == "ok"]
    if refuse is not None and made:
        reasons = refuse(np.stack([outcome.embedding for outcome in made]))  # type: ignore[misc]
        for outcome, reason in zip(made, reasons, strict=True):
            if reason is not None:
                outcome.status, outcome.reason = "failed", reason
    if find_twin is not None:
        for outcome in made:
            twin = None if outcome.sha256 is None else find_twin(outcome.sha256)
            if twin is not None and outcome.status == "ok":
                outcome.twin = twin.item.key


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
