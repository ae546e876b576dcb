"""The body of `POST /v1/patches`: what may be asked for, and why a combination is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from registry.bodies import BaseRef, Body, Id, WebhookUrl
from registry.contract import PriorityName
from registry.names import MAX_NAME, Name, shorten

Points = Annotated[float, Field(ge=0, le=100)]
"""Percentage points of accuracy."""

MAX_TASKS, MAX_SUPPORTED, MAX_TRANSFER = 16, 64, 64


def _has_few_members(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MAX_SUPPORTED:
        raise ValueError(f"must have at most {MAX_SUPPORTED} members")
    return value


Drops = Annotated[
    Annotated[Points, Tag("number")]
    | Annotated[dict[Id, Points], Field(max_length=MAX_SUPPORTED), BeforeValidator(_has_few_members), Tag("object")],
    Discriminator(lambda value: "object" if isinstance(value, dict) else "number"),
]
"""Points that supported tasks may lose: one limit for all, or one each by data set id."""

OF_THE_JOB = frozenset({"priority", "webhook_url"})
"""Fields that say how the job is done, not what the patch is: they are not part of what everybody may read of it."""


class FinetuneOptions(Body):
    """Fine-tuning settings; what is left out comes from the base's own defaults.

    Attributes:
        iterations: Optimizer steps.
        batch_size: Images in a step.
        learning_rate: Peak learning rate of AdamW.
        warmup_steps: Steps of linear warm-up before the cosine.
        weight_decay: Decoupled weight decay.
        max_grad_norm: Gradients are clipped to this norm.
        seed: Decides data order and augmentation.
        label_smoothing: Share of the target that is spread over all classes.
        accumulation_steps: Parts that a batch is computed in, to save memory.
        precision: `bf16` computes in bfloat16 (weights stay float32); `auto` where the hardware has it.
        gradient_checkpointing: Compute activations twice rather than keep them, to save memory.
        trainable: `all` of the image tower, its `last_k` blocks and what follows them, or a low-rank update (`lora`).
        last_k: Number of blocks, with `trainable: last_k`.
        lora_rank: Rank of the update, with `trainable: lora`.
        deterministic: Only algorithms that give the same bits every time; slower on a GPU.
    """

    iterations: int | None = Field(default=None, ge=1, le=1_000_000)
    batch_size: int | None = Field(default=None, ge=1, le=65_536)
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    warmup_steps: int | None = Field(default=None, ge=0, le=1_000_000)
    weight_decay: float | None = Field(default=None, ge=0, le=10)
    max_grad_norm: float | None = Field(default=None, gt=0)
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    accumulation_steps: int | None = Field(default=None, ge=1, le=65_536)
    precision: Literal["fp32", "bf16", "auto"] | None = None
    gradient_checkpointing: bool | None = None
    trainable: Literal["all", "last_k", "lora"] | None = None
    last_k: int | None = Field(default=None, ge=1, le=1000)
    lora_rank: int | None = Field(default=None, ge=1, le=4096)
    deterministic: bool | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.last_k is not None and self.trainable != "last_k":
            raise ValueError("last_k counts the blocks that `trainable: last_k` trains: set trainable to last_k")
        if self.trainable == "last_k" and self.last_k is None:
            raise ValueError("`trainable: last_k` needs last_k, the number of blocks to train")
        if self.lora_rank is not None and self.trainable != "lora":
            raise ValueError("lora_rank is the rank of `trainable: lora`: set trainable to lora")
        if self.iterations is not None and (self.warmup_steps or 0) >= self.iterations:
            raise ValueError("warmup_steps must be below iterations, or the learning rate never reaches its peak")
        if self.batch_size is not None and self.batch_size % (self.accumulation_steps or 1):
            raise ValueError("accumulation_steps must divide batch_size, so that all parts of a batch weigh the same")
        return self


class AlphaOptions(Body):
    """How alpha is chosen, on validation splits.

    Attributes:
        rule: `combined` maximises ½(mean supported + mean patching accuracy); `floor` maximises the patching accuracy
            among the alphas at which no supported task loses more than `max_supported_drop`.
        max_supported_drop: Points of accuracy that a supported task may lose against zero-shot, for all of them or by
            data set id; with `floor` only.
        strategy: `grid` evaluates every alpha; `interpolated` evaluates a few, interpolates features, and verifies.
        path: `flat` scales the whole update alike (PAINT); `lines_paper` by depth as LiNeS does; `lines` by depth in an
            older variant of ours; `best` tries `flat` and `lines_paper`.
        grid_step: Distance of two alphas, at least 0.001; 1 must be a multiple of it. Left out: 0.05 for `grid`, 0.01
            for `interpolated`.
        max_alpha: Last alpha, with a path by depth, `best`, or `merge` ties, tsv or iso; left out: 1.5 by depth, and 3
            with these merges. Any other flat path ends at 1, the fine-tuned weights.
        tolerance_points: How far what the rule maximises may be from its prediction at the chosen alpha.
        precision: Of the evaluations. `bf16` is faster where the hardware computes it, and moves accuracies by up to
            a point; `auto` means it there, and fp32 elsewhere. Test splits are always judged in fp32.
    """

    rule: Literal["combined", "floor"] = "combined"
    max_supported_drop: Drops | None = None
    strategy: Literal["grid", "interpolated"] = "grid"
    path: Literal["flat", "lines", "lines_paper", "best"] = "flat"
    grid_step: float | None = Field(default=None, ge=0.001, le=0.5)  # a thousand evaluations are enough
    max_alpha: float | None = Field(default=None, ge=1, le=3)
    tolerance_points: float | None = Field(default=None, gt=0, le=100)
    precision: Literal["auto", "fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.grid_step is not None and abs(round(1 / self.grid_step) * self.grid_step - 1) > 1e-9:
            raise ValueError("grid_step must divide 1, such as 0.05, 0.1 or 0.25")
        if self.rule == "floor" and self.max_supported_drop in (None, {}):
            raise ValueError("rule floor needs max_supported_drop: the points that a supported task may lose")
        if self.rule == "combined" and self.max_supported_drop is not None:
            raise ValueError(
                "max_supported_drop belongs to rule floor; rule combined weighs all tasks, without a limit"
            )
        if self.strategy == "grid" and self.tolerance_points is not None:
            raise ValueError("tolerance_points belongs to strategy interpolated; a grid evaluates every alpha")
        return self


class AnchorOptions(Body):
    """An unlabelled pool of images whose features are held in place while the head's task is learned.

    Attributes:
        dataset: Id of a data set whose train split is the pool; labels are not looked at.
        supported: Whether the supported tasks' train splits are in the pool, without their labels.
        weight: Factor of the anchors' loss.
        batch_size: Anchor images in a step; left out: the library's default.
    """

    dataset: Id | None = None
    supported: bool = False
    weight: float = Field(default=60.0, gt=0, le=10_000)
    batch_size: int | None = Field(default=None, ge=1, le=65_536)

    @model_validator(mode="after")
    def _names_a_pool(self) -> Self:
        if self.dataset is None and not self.supported:
            raise ValueError("anchors need images: name a data set, or set supported to true, or both")
        return self


class PatchRequest(Body):
    """Body of `POST /v1/patches`.

    Attributes:
        name: For people; need not be unique.
        base: Base model to start from; left out: the installation's default.
        method: `single` patches one task; `joint` merges the data of several; `sequential` patches one after the
            other, in the order given; `parallel` fine-tunes each from the base and adds what they learned.
        tasks: Ids of the data sets to improve on.
        supported: Ids of the data sets on which accuracy must not drop.
        transfer: Ids of data sets that take no part in the patch. Only their test splits are used: they are evaluated
            before and after the patch, and the report tells the difference (broad transfer).
        sampling: For `joint`: `proportional` to the tasks' sizes, or `balanced`, each task as often.
        merge: For `parallel`: how the task vectors become one direction.
        coefficients: For `parallel`: one `scalar` for all tasks, or one `per_task`, found by black-box search.
        folds: For `single` and `joint`: choose alpha by cross-validation over train and validation images together.
        finetune: Fine-tuning settings.
        anchors: Images that hold the features in place; None: none.
        alpha: How alpha is chosen.
        activate: `if_accepted` lets the version answer as soon as it is registered, provided that on the test splits,
            too, no supported task drops by more than rule `floor` allows; the report tells. `never` leaves that to you.
        priority: Waiting jobs of a higher one are taken first, and of one priority the oldest; `high` needs an admin.
        webhook_url: Told when the job has ended, at a host that the operator allows; signed as Standard Webhooks.
    """

    name: Name
    base: BaseRef | None = None
    method: Literal["single", "joint", "sequential", "parallel"] = "single"
    tasks: tuple[Id, ...] = Field(fail_fast=True, min_length=1, max_length=MAX_TASKS)
    supported: tuple[Id, ...] = Field(fail_fast=True, default=(), max_length=MAX_SUPPORTED)
    transfer: tuple[Id, ...] = Field(fail_fast=True, default=(), max_length=MAX_TRANSFER)
    sampling: Literal["proportional", "balanced"] = "proportional"
    merge: Literal["average", "task_arithmetic", "ties", "tsv", "iso"] = "average"
    coefficients: Literal["scalar", "per_task"] = "scalar"
    folds: int | None = Field(default=None, ge=2, le=10)
    finetune: FinetuneOptions = FinetuneOptions()
    anchors: AnchorOptions | None = None
    alpha: AlphaOptions = AlphaOptions()
    activate: Literal["never", "if_accepted"] = "never"
    priority: PriorityName = "normal"
    webhook_url: WebhookUrl | None = None

    @classmethod
    def of_stored(cls, fields: dict[str, Any]) -> Self:
        """Return a request that was accepted before, perhaps by a release that allowed any character in names."""
        return cls.model_validate(fields | {"name": shorten(fields["name"], MAX_NAME)})

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        named = self.tasks + self.supported + self.transfer
        if len(set(named)) != len(named):
            raise ValueError("each data set may be named once: as a task, as supported or as transfer")
        return self

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.method == "single" and len(self.tasks) != 1:
            raise ValueError("method single patches exactly one task; joint, sequential and parallel take several")
        if self.method != "single" and len(self.tasks) < 2:
            raise ValueError(f"method {self.method} needs two tasks or more; single patches one")
        if self.sampling != "proportional" and self.method != "joint":
            raise ValueError(f"sampling belongs to method joint; {self.method} trains on one task at a time")
        if self.merge != "average" and self.method != "parallel":
            raise ValueError(f"merge belongs to method parallel; {self.method} has no task vectors to merge")
        if self.folds is not None and self.method not in ("single", "joint"):
            raise ValueError(f"folds belong to method single or joint; {self.method} would train every task k times")
        return self

    @model_validator(mode="after")
    def _has_a_path_beyond_one(self) -> Self:
        goes_beyond = self.alpha.path != "flat" or self.merge in ("ties", "tsv", "iso")
        if self.alpha.max_alpha is not None and not goes_beyond:
            raise ValueError(
                "max_alpha belongs to path lines or best, to lines_paper, or to merge ties, tsv or iso; any other flat "
                "path ends at 1, the fine-tuned weights"
            )
        return self

    @model_validator(mode="after")
    def _has_what_per_task_coefficients_need(self) -> Self:
        if self.coefficients == "scalar":
            return self
        if self.method != "parallel":
            raise ValueError(f"coefficients per_task belong to method parallel; {self.method} searches one alpha")
        if self.merge not in ("average", "task_arithmetic"):
            raise ValueError(f"coefficients per_task need the task vectors apart; merge {self.merge} leaves only one")
        if self.alpha.path != "flat":
            raise ValueError("coefficients per_task need path flat: the search moves along no single path")
        return self

    @model_validator(mode="after")
    def _floor_limits_supported_tasks(self) -> Self:
        if self.alpha.rule == "floor" and not self.supported:
            raise ValueError("rule floor limits the drop of supported tasks: name one at least")
        if isinstance(self.alpha.max_supported_drop, dict):
            limited, supported = self.alpha.max_supported_drop.keys(), set(self.supported)
            if limited - supported:
                unknown = min(limited - supported)
                raise ValueError(f"max_supported_drop names {unknown!r}, which is not among the supported tasks")
            if supported - limited:
                left_out = min(supported - limited)
                raise ValueError(
                    f"max_supported_drop leaves out {left_out!r}: limit every supported task (100: any drop)"
                )
        return self

    @model_validator(mode="after")
    def _has_a_floor_to_accept_by(self) -> Self:
        if self.activate == "if_accepted" and self.alpha.rule != "floor":
            raise ValueError("activate if_accepted needs rule floor: test splits are held to its max_supported_drop")
        return self

    @model_validator(mode="after")
    def _anchors_are_apart(self) -> Self:
        if self.anchors is None:
            return self
        if self.anchors.dataset in self.tasks:
            raise ValueError("the anchors' data set is a task to improve on: its features must move, so name another")
        if self.anchors.dataset in self.supported:
            raise ValueError("the anchors' data set is a supported task: set anchors.supported to true instead")
        if self.anchors.dataset in self.transfer:
            raise ValueError("the anchors' data set is named in transfer, whose images take no part: name another")
        if self.anchors.supported and not self.supported:
            raise ValueError("anchors.supported takes images of the supported tasks: name one at least")
        return self
