"""What the edges agree on: names on the wire, the words of a job's life, and the body of a patch request."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

TASK_NAME = "paintbox.run_job"
QUEUE_NAME = "paintbox.jobs"
ACTIVE_ALIAS = "active"
MAX_ATTEMPTS = 3

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class JobStatus(StrEnum):
    """Where a job is in its life: `queued → running → succeeded | failed | cancelled`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobKind(StrEnum):
    """What a job does: `ingest` makes a data set ready, `patch` makes a version."""

    INGEST = "ingest"
    PATCH = "patch"


class DatasetState(StrEnum):
    """A data set is `ingesting` until its job ends, then `ready` for good, or `failed`."""

    INGESTING = "ingesting"
    READY = "ready"
    FAILED = "failed"


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FinetuneOptions(_Body):
    """Fine-tuning settings; what is left out comes from the base's own defaults.

    Attributes:
        iterations: Optimizer steps.
        batch_size: Images in a step.
        learning_rate: Peak learning rate of AdamW.
        warmup_steps: Steps of linear warm-up before the cosine.
        weight_decay: Decoupled weight decay.
        max_grad_norm: Gradients are clipped to this norm.
        seed: Decides data order and augmentation.
    """

    iterations: int | None = Field(default=None, ge=1, le=1_000_000)
    batch_size: int | None = Field(default=None, ge=1, le=65_536)
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    warmup_steps: int | None = Field(default=None, ge=0)
    weight_decay: float | None = Field(default=None, ge=0, le=10)
    max_grad_norm: float | None = Field(default=None, gt=0)
    seed: int | None = Field(default=None, ge=0, lt=2**31)


class AlphaOptions(_Body):
    """How alpha is chosen: on a grid from 0 to 1, by the paper's combined rule, on validation splits.

    Attributes:
        rule: `combined` maximises ½(mean supported + mean patching accuracy).
        grid_step: Distance of two alphas; 1 must be a multiple of it.
    """

    rule: Literal["combined"] = "combined"
    grid_step: float = Field(default=0.05, gt=0, le=0.5)

    @model_validator(mode="after")
    def _divides_one(self) -> Self:
        if abs(round(1 / self.grid_step) * self.grid_step - 1) > 1e-9:
            raise ValueError("grid_step must divide 1, such as 0.05, 0.1 or 0.25")
        return self


class PatchRequest(_Body):
    """Body of `POST /v1/patches`.

    Attributes:
        name: For people; need not be unique.
        base: Base model to start from; left out: the installation's default.
        method: `single` patches one task.
        tasks: Ids of the data sets to improve on; `single` takes exactly one.
        supported: Ids of the data sets on which accuracy must not drop.
        finetune: Fine-tuning settings.
        alpha: How alpha is chosen.
    """

    name: Name
    base: str | None = Field(default=None, max_length=500)
    method: Literal["single"] = "single"
    tasks: tuple[str, ...] = Field(min_length=1, max_length=1)
    supported: tuple[str, ...] = Field(default=(), max_length=64)
    finetune: FinetuneOptions = FinetuneOptions()
    alpha: AlphaOptions = AlphaOptions()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        named = self.tasks + self.supported
        if len(set(named)) != len(named):
            raise ValueError("each data set may be named once: a task cannot also be supported")
        return self
