"""Parts of a patch request: how to fine-tune, what to hold in place, how to store the result."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from contract.bodies import Body, Id


class FinetuneOptions(Body):
    """Fine-tuning settings; omitted ones are the base's own defaults."""

    iterations: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Number of optimizer steps. Default: the base's own"
    )
    batch_size: int | None = Field(
        default=None, ge=1, le=65_536, description="Images per optimizer step. Default: the base's own"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="Peak learning rate of AdamW. Default: the base's own"
    )
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Steps of linear warm-up before the cosine decay; below `iterations`. Default: the same share of "
        "`iterations` as in the base's own settings",
    )
    weight_decay: float | None = Field(
        default=None, ge=0, le=10, description="Decoupled weight decay of AdamW. Default: the base's own"
    )
    max_grad_norm: float | None = Field(
        default=None,
        gt=0,
        description="Gradients with a larger L2 norm are scaled down to this norm. Default: the base's own",
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**31, description="Seed of the data order and of augmentation. Default: the base's own"
    )
    label_smoothing: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of the target distribution that is spread evenly over all classes. Default: the base's own",
    )
    accumulation_steps: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Number of micro-batches per optimizer step; more of them need less memory. Must divide "
        "`batch_size`. Default: the base's own",
    )
    precision: Literal["fp32", "bf16", "auto"] | None = Field(
        default=None,
        description="`bf16` computes in bfloat16 (weights and optimizer state stay float32); `auto` does so where the "
        "hardware supports it. Default: the base's own",
    )
    gradient_checkpointing: bool | None = Field(
        default=None,
        description="Recompute activations in the backward pass: less memory, about a third more time. Default: the "
        "base's own",
    )
    trainable: Literal["all", "last_k", "lora"] | None = Field(
        default=None,
        description="`all` trains every parameter of the image tower, `last_k` its last blocks and what follows them, "
        "`lora` a low-rank update. Default: the base's own",
    )
    last_k: int | None = Field(
        default=None, ge=1, le=1000, description="Number of blocks to train; required with `trainable: last_k`"
    )
    lora_rank: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Rank of the low-rank update; only with `trainable: lora`. Default: the base's own",
    )
    class_balance: Literal["none", "sampling", "loss"] | None = Field(
        default=None,
        description="For classes with different numbers of images: `sampling` draws every class equally often, `loss` "
        "weights each image's loss by the inverse of its class's images. Default: `none`",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Early stopping: end fine-tuning after this many evaluations on the validation split without an "
        "improvement, and keep the best weights; not with `folds`. Default: no early stopping",
    )
    check_every: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Steps between two of these evaluations; used with `patience`. Default: 20",
    )
    tune: int | None = Field(
        default=None,
        ge=2,
        le=16,
        description="With `single` and `joint`: number of trials of learning rate and iterations. Each is a whole "
        "fine-tuning with its own choice of alpha: the first with the settings of this request, the others with these "
        "times factors of 1/4 to 4. The rule that chooses alpha chooses the trial. Default: no trials",
    )
    deterministic: bool | None = Field(
        default=None,
        description="Use only algorithms that return the same bits in every run; slower on a GPU. Default: the base's "
        "own",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.last_k is not None and self.trainable != "last_k":
            raise ValueError("last_k requires trainable last_k: set trainable to last_k")
        if self.trainable == "last_k" and self.last_k is None:
            raise ValueError("trainable last_k needs last_k, the number of blocks to train")
        if self.lora_rank is not None and self.trainable != "lora":
            raise ValueError("lora_rank requires trainable lora: set trainable to lora")
        if self.iterations is not None and (self.warmup_steps or 0) >= self.iterations:
            raise ValueError(
                "warmup_steps must be below iterations, otherwise the learning rate never reaches its peak"
            )
        if self.batch_size is not None and self.batch_size % (self.accumulation_steps or 1):
            raise ValueError("accumulation_steps must divide batch_size")
        return self


class AnchorOptions(Body):
    """Unlabelled images whose features are held in place during fine-tuning: a pool, drawn ones, or both."""

    dataset: Id | None = Field(
        default=None, description="Id of a data set whose train split is the pool; its labels are not used"
    )
    supported: bool = Field(
        default=False, description="Whether the supported tasks' train splits are part of the pool, without labels"
    )
    drawn: bool = Field(
        default=False,
        description="Whether images that Paintbox draws are part of the pool: shapes, lines and clouds of random "
        "colours. They need no data, but a pool that resembles the images to preserve holds the features better",
    )
    weight: float = Field(
        default=60.0,
        gt=0,
        le=10_000,
        description="Factor of the anchor loss; larger values hold features more firmly and learn more slowly",
    )
    batch_size: int | None = Field(
        default=None, ge=1, le=65_536, description="Anchor images per optimizer step. Default: 64"
    )

    @model_validator(mode="after")
    def _names_a_pool(self) -> Self:
        if self.dataset is None and not self.supported and not self.drawn:
            raise ValueError("anchors need images: give a data set, or set supported or drawn to true")
        return self


class StoreOptions(Body):
    """How the task vectors of a patch are stored."""

    bits: Literal["auto"] | Literal[32, 16, 8, 4] = Field(
        default="auto",
        description="Bits of each number of the stored task vectors; alpha is chosen along the vectors as they are "
        "stored. `auto`: the fewest of 4, 8 and 16 that lose no more than 0.05 percentage points of the combined "
        "validation accuracy against 32 bits, at the price of one evaluation of the validation splits where 4 bits do, "
        "and of a search more for each number of bits that does not. With rule `certified` the patching tasks alone "
        "decide, before the one search; with folds 16",
    )
