"""Events of jobs: each kind has a constant message and its own data."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from contract.recorded import Recorded

Level = Literal["info", "warn", "error"]


class OtherData(Recorded):
    """Data of an event of another release, as it was stored."""


class EventData(Recorded):
    """Data of an event of a known kind. Any field may be absent or null: numbers that are not finite are not stored."""

    MESSAGE: ClassVar[str] = ""
    LEVEL: ClassVar[Level] = "info"

    left_out_bytes: int | None = Field(
        default=None, description="Size of the data as JSON, in bytes, if it was too large to be stored"
    )


class Queued(EventData):
    """Data of `queued`: the job waits for a worker."""

    MESSAGE = "queued"

    request_id: str | None = Field(default=None, description="`X-Request-ID` of the request that made the job")
    traceparent: str | None = Field(
        default=None, description="W3C `traceparent` of that request; absent: it was not traced"
    )


class Started(EventData):
    """Data of `started`: a worker has begun an attempt."""

    MESSAGE = "started"

    attempt: int | None = Field(default=None, description="Number of the attempt, 1 and up")
    owner: str | None = Field(default=None, description="Name of the worker")


class FineTuning(EventData):
    """Data of `fine-tuning`: a step is done. Only some of many steps are reported, and always the last one."""

    MESSAGE = "fine-tuning"

    step: int | None = Field(default=None, description="Number of the optimizer step, 1 and up")
    loss: float | None = Field(default=None, description="Training loss of the step, in nats")
    learning_rate: float | None = Field(default=None, description="Learning rate of the step")
    images_per_second: float | None = Field(default=None, description="Training speed, in images per second")
    anchor_loss: float | None = Field(
        default=None, description="Loss of the anchors, before its weight; absent: there are none"
    )
    validation_accuracy: float | None = Field(
        default=None, description="With `patience`: validation accuracy after the step, 0 to 1; absent: not evaluated"
    )


class AlphaEvaluated(EventData):
    """Data of `alpha evaluated`: the validation splits were evaluated at one alpha."""

    MESSAGE = "alpha evaluated"

    alpha: float | None = Field(default=None, description="The mixing coefficient, at least 0")
    profile: str | None = Field(
        default=None, description="How it varies with depth: `flat`, `lines` or `lines_paper`; `head`: a head term"
    )
    accuracies: dict[str, float] = Field(
        default={}, description="Validation accuracy of each task, 0 to 1, by data set id"
    )


class TrialJudged(EventData):
    """Data of `trial judged`: with `tune`, one pair of learning rate and iterations has been tried."""

    MESSAGE = "trial judged"

    number: int | None = Field(default=None, description="Number of the trial, 1 and up")
    learning_rate: float | None = Field(default=None, description="Its peak learning rate")
    iterations: int | None = Field(default=None, description="Its number of optimizer steps")
    alpha: float | None = Field(default=None, description="The alpha that the rule chose; absent: the trial failed")
    patching: float | None = Field(
        default=None, description="Mean validation accuracy of the tasks to improve at that alpha, 0 to 1"
    )
    supported: float | None = Field(
        default=None, description="Mean validation accuracy of the supported tasks at that alpha, 0 to 1"
    )
    failure: str | None = Field(default=None, description="Why the trial has no alpha; absent: it has one")


class AnchorsLeftOut(EventData):
    """Data of `anchor images that are evaluation images were left out`."""

    MESSAGE = "anchor images that are evaluation images were left out"
    LEVEL = "warn"

    left_out: int | None = Field(default=None, description="Number of images that are not in the pool")
    kept: int | None = Field(default=None, description="Number of images in the pool")


class CheckpointUnusable(EventData):
    """Data of `checkpoint unusable; fine-tuning starts over`."""

    MESSAGE = "checkpoint unusable; fine-tuning starts over"
    LEVEL = "warn"

    cause: str | None = Field(default=None, description="Why the checkpoint cannot be read")


class Resumed(EventData):
    """Data of `resumed`: fine-tuning resumes from a checkpoint."""

    MESSAGE = "resumed"

    step: int | None = Field(default=None, description="Number of the last step that was done before")
    of: str | None = Field(default=None, description="Key of the fine-tuning run, as reports name it")


class GivenBack(EventData):
    """Data of `given back`: the attempt ended, and the job waits for another one."""

    MESSAGE = "given back"
    LEVEL = "warn"

    reason: str | None = Field(default=None, description="Why the attempt ended")


class ChildJobEnded(EventData):
    """Data of `part ended`: a child job has ended."""

    MESSAGE = "part ended"

    job_id: str | None = Field(default=None, description="Id of the child job")
    part: str | None = Field(default=None, description="Id of the data set that a child job fine-tunes on")
    status: str | None = Field(default=None, description="How it ended: `succeeded`, `failed` or `cancelled`")


class Failed(EventData):
    """Data of `failed`: the job has failed."""

    MESSAGE = "failed"
    LEVEL = "error"

    code: str | None = Field(default=None, description="Machine-readable reason")
    detail: str | None = Field(default=None, description="Reason, and what to do next")
