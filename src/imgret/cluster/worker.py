"""What an actor of the cluster does: it holds the models, and embeds runs of sources."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

from imgret.errors import ModelError
from imgret.indexes.make import make_cropper, make_embedder
from imgret.pipeline.embed import Outcome, Source, embed_sources
from imgret.types import Json, Part

__all__ = ["Answer", "Task", "Worker"]


class Task(NamedTuple):
    """What the actors need to know.

    Attributes
    ----------
    embedder, cropper : Part or bytes
        Registered parts with their options; pickled objects for parts that have no name.
    fingerprints : (str, str)
        Fingerprints that they must have.
    max_pixels : int
    exif : bool
    """

    embedder: Part | bytes
    cropper: Part | bytes
    fingerprints: tuple[str, str]
    max_pixels: int
    exif: bool


class Answer(NamedTuple):
    """Outcomes of a run.

    Attributes
    ----------
    outcomes : list of Outcome
        Without their sources, which the driver has, and without errors, of which it needs the
        reasons alone.
    metadata : list of mapping
        Metadata of the sources, with what was read from the files.
    stages : dict of str to float
        Seconds spent in each stage.
    """

    outcomes: list[Outcome]
    metadata: list[Json]
    stages: dict[str, float]


class Worker:
    """An actor. Its models are made by the first run, and again after it was restarted.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parts: tuple[Any, Any] | None = None

    def load(self) -> None:
        """Make the models.

        Raises
        ------
        ModelError
            They are not those of the driver.
        """
        if self._parts is not None:
            return
        task = self._task
        made = (
            pickle.loads(task.embedder)  # noqa: S301  # of our own driver
            if isinstance(task.embedder, bytes)
            else make_embedder(task.embedder),
            pickle.loads(task.cropper)  # noqa: S301  # the same
            if isinstance(task.cropper, bytes)
            else make_cropper(task.cropper),
        )
        for part, fingerprint in zip(made, task.fingerprints, strict=True):
            if part.fingerprint != fingerprint:
                raise ModelError(
                    f"{part.name or type(part).__name__!r}: expected the model of the gallery "
                    f"(fingerprint {fingerprint[:19]}), found another (fingerprint "
                    f"{part.fingerprint[:19]}); every machine needs the same file and imgret"
                )
        self._parts = made

    def run(self, sources: Sequence[Source]) -> Answer:
        """Embed a run of sources."""
        self.load()
        embedder, cropper = self._parts  # type: ignore[misc]  # load has made them
        answer = Answer([], [], {})

        def add_stage(stage: str, seconds: float) -> None:
            answer.stages[stage] = answer.stages.get(stage, 0.0) + seconds

        for outcomes in embed_sources(
            sources,
            embedder,
            cropper,
            find_twin=lambda digest: None,  # noqa: ARG005  # copies within the run are read once
            exif=self._task.exif,
            threads=1,
            max_pixels=self._task.max_pixels,
            on_stage=add_stage,
        ):
            for outcome in outcomes:
                answer.metadata.append(dict(outcome.source.metadata))
                outcome.source = outcome.error = None  # type: ignore[assignment]  # see Answer
                answer.outcomes.append(outcome)
        return answer
