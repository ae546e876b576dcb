"""What a result depends on besides data and settings, and the complete settings."""

from __future__ import annotations

from pydantic import Field

from contract.recorded import Recorded


class Environment(Recorded):
    """Code, libraries and hardware; with the same of all of it, the same computation gives the same bits."""

    code_sha256: str | None = Field(default=None, description="SHA-256 over the source of the package `paint_core`")
    python: str | None = Field(default=None, description="Version of Python")
    libraries: dict[str, str] = Field(default={}, description="Versions of the libraries, by name")
    machine: str | None = Field(default=None, description="Processor architecture, such as `x86_64`")
    cpu_capability: str | None = Field(
        default=None, description="Instruction set that PyTorch uses on the CPU, such as `AVX512`"
    )
    device: str | None = Field(default=None, description="`cpu`, or the name of the GPU")
    cuda: str | None = Field(default=None, description="Version of CUDA; null on a CPU")
    cudnn: int | None = Field(default=None, description="Version of cuDNN; null on a CPU")
    num_threads: int | None = Field(default=None, description="Number of threads that PyTorch computes with")


class FinetuneSettings(Recorded):
    """The complete settings of a fine-tuning run: the request's, and the base's own where it set none."""

    iterations: int | None = Field(default=None, description="Number of optimizer steps")
    batch_size: int | None = Field(default=None, description="Images per optimizer step")
    learning_rate: float | None = Field(default=None, description="Peak learning rate of AdamW")
    warmup_steps: int | None = Field(default=None, description="Steps of linear warm-up before the cosine decay")
    weight_decay: float | None = Field(default=None, description="Decoupled weight decay of AdamW")
    max_grad_norm: float | None = Field(default=None, description="L2 norm to which larger gradients are scaled down")
    crop_scale: tuple[float, float] | None = Field(
        default=None,
        description="Range of the area of random crops, as shares of the image, each 0 to 1; (1, 1): no augmentation",
    )
    seed: int | None = Field(default=None, description="Seed of data order, crops and stochastic layers")
    precision: str | None = Field(
        default=None, description="`fp32`, `bf16`, or `auto`: bfloat16 where the device supports it"
    )
    label_smoothing: float | None = Field(
        default=None, description="Share of the target that is spread over all classes, 0 to 1"
    )
    accumulation_steps: int | None = Field(default=None, description="Micro-batches per optimizer step")
    gradient_checkpointing: bool | None = Field(
        default=None, description="Whether activations were recomputed to save memory"
    )
    trainable: str | None = Field(
        default=None, description="Trained parameters of the image tower: `all`, `last_k` or `lora`"
    )
    last_k: int | None = Field(default=None, description="Number of trained blocks, with `last_k`")
    lora_rank: int | None = Field(default=None, description="Rank of the low-rank update; used with `lora` only")
    lora_alpha: float | None = Field(
        default=None, description="Low-rank updates are multiplied by this over `lora_rank`; null: by 1"
    )
    deterministic: bool | None = Field(
        default=None, description="Whether only algorithms ran that return the same bits in every run"
    )
    anchor_weight: float | None = Field(default=None, description="Factor of the anchor loss; 0: no anchors")
    anchor_batch_size: int | None = Field(default=None, description="Anchor images per optimizer step")
    patience: int | None = Field(
        default=None, description="Early stopping: evaluations without an improvement that end a run; null: none"
    )
    check_every: int | None = Field(default=None, description="Early stopping: steps between two evaluations")
    class_balance: str | None = Field(
        default=None, description="`sampling` or `loss`: rare classes counted as much as frequent ones; else `none`"
    )
    final_loss: float | None = Field(
        default=None, description="Loss of the last step, in reports of the first release; see `final_losses`"
    )


class AlphaSettings(Recorded):
    """The complete settings of a search for alpha."""

    rule: str | None = Field(default=None, description="`combined`, `floor` or `certified`")
    max_supported_drop: float | dict[str, float] | None = Field(
        default=None,
        description="Percentage points that supported tasks may lose, 0 to 100; with `floor` or `certified`",
    )
    max_mean_drop: float | None = Field(
        default=None, description="Percentage points that the supported tasks' mean may lose; with `certified`"
    )
    confidence: float | None = Field(default=None, description="Confidence of the limits, with `certified`")
    metric: str | None = Field(default=None, description="What the rule maximised; null: `accuracy`")
    strategy: str | None = Field(default=None, description="`grid` or `interpolated`")
    path: str | None = Field(default=None, description="`flat`, `lines`, `lines_paper` or `best`")
    step: float | None = Field(default=None, description="Distance between two alphas; null: the strategy's default")
    max_alpha: float | None = Field(default=None, description="Last alpha; null: the path's default")
    max_flat_alpha: float | None = Field(default=None, description="Last alpha of the flat path")
    nodes: tuple[float, ...] | None = Field(
        default=None,
        description="With `interpolated`: where to evaluate, as shares of the last alpha, 0 to 1; null: the default",
    )
    tolerance_points: float | None = Field(
        default=None, description="Percentage points that a verified prediction may be off, with `interpolated`"
    )
    precision: str | None = Field(
        default=None, description="Requested arithmetic of the evaluations: `fp32`, `bf16` or `auto`"
    )
    used_precision: str | None = Field(
        default=None, description="Arithmetic that the evaluations ran in: `fp32` or `bf16`; null in older records"
    )
    precision_reason: str | None = Field(
        default=None, description="Why the evaluations ran in fp32 although bf16 was requested or allowed; else null"
    )
