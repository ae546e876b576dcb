"""How much of the hardware fine-tuning uses: images a second of `finetune` over those of a bare PyTorch loop.

The bare loop is the bound: the same tower, optimizer, clipping, autocast and memory layout on batches that are already
cropped, normalised and on the device; it reports nothing and checks nothing. Both run in turns in one process,
which keeps freed memory as the worker does.

    python benchmarks/finetune.py [--quick] [--json FILE]

On a CPU: the starter with its own recipe. Where CUDA is at hand, also ViT-B/32 and ViT-B/16 with random weights, and
the share of the device's peak that they reach (MFU; known for the H100 only).
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import open_clip
import torch
from _report import Figure, parser, report
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.models import BaseModel, load_base
from paint_core.models.heads import logits
from paint_core.runtime.allocator import keep_freed_memory
from paint_core.training.finetuning import StepReport, finetune

NUM_CLASSES = 100
PEAK_FLOPS = {"NVIDIA H100": 989e12}
"""Dense bf16 operations a second, by the beginning of the device's name."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        base: the model.
        config: how to fine-tune it; its iterations are one round.
        device: where.
        rounds: of both loops, in turns.
        skip: first steps of a round that do not count.
    """

    base: BaseModel
    config: FinetuneConfig
    device: torch.device
    rounds: int
    skip: int


@dataclasses.dataclass(frozen=True)
class Speeds:
    """Images a second of both loops, the median over all counted steps."""

    ours: float
    bound: float


def compare(case: Case) -> Speeds:
    """Return the speeds of `finetune` and of the bare loop."""
    images = random_images(4 * case.config.batch_size, case.base.image_size)
    head = torch.nn.functional.normalize(torch.randn(NUM_CLASSES, case.base.embed_dim), dim=-1).to(case.device)
    ours: list[float] = []
    bound: list[float] = []
    for _ in range(case.rounds):
        ours += seconds_of_ours(case, head, images)
        bound += seconds_of_bare_loop(case, head, images)
    return Speeds(*(case.config.batch_size / statistics.median(seconds) for seconds in (ours, bound)))


def seconds_of_ours(case: Case, head: Tensor, images: LabelledImages) -> list[float]:
    """Return the seconds of each counted step of `finetune`, which ends when the loss is known."""
    moments: list[float] = []

    def on_step(_: StepReport) -> None:
        moments.append(time.perf_counter())

    finetune(case.base, head, images, case.config, device=case.device, on_step=on_step)
    return differences(moments[case.skip :])


def seconds_of_bare_loop(case: Case, head: Tensor, images: LabelledImages) -> list[float]:
    """Return the seconds of each counted step of the plainest loop there is."""
    config, device = case.config, case.device
    visual = copy.deepcopy(case.base.visual).to(device, memory_format=torch.channels_last).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        visual.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    batches = ready_batches(case, images)
    moments: list[float] = []
    for step in range(config.iterations):
        pixels, labels = next(batches)
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            features = visual(pixels)
        torch.nn.functional.cross_entropy(logits(features, head, case.base.logit_scale), labels).backward()
        torch.nn.utils.clip_grad_norm_(visual.parameters(), config.max_grad_norm)
        optimizer.step()
        if device.type == "cpu":
            moments.append(time.perf_counter())
        elif step in (case.skip, config.iterations - 1):  # waiting after every step would slow the bound down
            torch.cuda.synchronize(device)
            moments.append(time.perf_counter())
    if device.type == "cpu":
        return differences(moments[case.skip :])
    return [(moments[1] - moments[0]) / (config.iterations - 1 - case.skip)]


def ready_batches(case: Case, images: LabelledImages) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the same few normalised batches for ever."""
    size = case.config.batch_size
    ready = [
        (
            case.base.preprocess.normalise(images.images[start : start + size], case.device).contiguous(
                memory_format=torch.channels_last
            ),
            images.labels[start : start + size].to(case.device),
        )
        for start in range(0, len(images), size)
    ]
    while True:
        yield from ready


def random_images(count: int, side: int) -> LabelledImages:
    """Return noise with random labels."""
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=source)
    labels = torch.randint(0, NUM_CLASSES, (count,), generator=source)
    return LabelledImages(images, labels, tuple(f"class {index}" for index in range(NUM_CLASSES)))


def differences(moments: list[float]) -> list[float]:
    """Return the seconds between one moment and the next."""
    return [after - before for before, after in itertools.pairwise(moments)]


def random_base(name: str) -> BaseModel:
    """Return open_clip's model of this name with random weights."""
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    torch.manual_seed(0)
    weights = open_clip.create_model(name).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(config))
        save_file(
            {key: tensor.contiguous() for key, tensor in weights.items()}, f"{folder}/open_clip_model.safetensors"
        )
        return load_base(f"local-dir:{folder}")


def flops_per_image(base: BaseModel) -> float:
    """Return the operations of a forward and a backward pass (twice the forward's) of one image."""
    counter = FlopCounterMode(display=False)
    size = base.image_size
    with counter, torch.no_grad():
        base.visual(torch.zeros(1, 3, size, size))
    return 3.0 * counter.get_total_flops()


def peak_flops() -> float | None:
    """Return the device's peak, if it is known."""
    name = torch.cuda.get_device_name()
    return next((peak for prefix, peak in PEAK_FLOPS.items() if name.startswith(prefix)), None)


def cpu_figures(quick: bool) -> list[Figure]:
    """Return what the starter reaches on the CPU."""
    base = load_base("starter")
    config = dataclasses.replace(
        base.finetune_defaults, iterations=8 if quick else 20, warmup_steps=2, precision="bf16", seed=0
    )
    speeds = compare(Case(base, config, torch.device("cpu"), rounds=2 if quick else 15, skip=3))
    print(f"starter: {speeds.ours:.0f} images/s, bare loop {speeds.bound:.0f} images/s")
    return [Figure("cpu_fraction_of_bound", speeds.ours / speeds.bound, "", target=0.95)]


def gpu_figures(quick: bool) -> list[Figure]:
    """Return what two ViTs reach on the GPU; the figures without a suffix are ViT-B/32's."""
    figures = []
    for name, suffix in (("ViT-B-32", ""), ("ViT-B-16", "_vitb16")):
        base = random_base(name)
        config = FinetuneConfig(iterations=40 if quick else 120, warmup_steps=5, precision="bf16")
        speeds = compare(Case(base, config, torch.device("cuda"), rounds=2 if quick else 15, skip=15))
        print(f"{name}: {speeds.ours:.0f} images/s, bare loop {speeds.bound:.0f} images/s")
        figures.append(Figure(f"gpu_fraction_of_bound{suffix}", speeds.ours / speeds.bound, "", target=0.9))
        if (peak := peak_flops()) is not None:
            figures.append(Figure(f"gpu_mfu{suffix}", speeds.ours * flops_per_image(base) / peak, ""))
    return figures


def main() -> None:
    """Measure and print."""
    keep_freed_memory()
    options = parser(__doc__).parse_args()
    figures = cpu_figures(options.quick)
    if torch.cuda.is_available():
        figures += gpu_figures(options.quick)
    report(figures, options.json)


if __name__ == "__main__":
    main()
