"""Is an evaluation in bf16 never slower than one in fp32, and what does casting each weight once save?

The starter and a ViT-B/32 with random weights. All ways run in turns in one process. `used` is what a search with
`precision: bf16` computes in on this machine: where the processor has no bf16 instructions that is fp32, and the ratio
says what this choice is worth beside bf16 in software. Rates are of processor time, so other work on the machine hardly
changes them; most exact with one thread (`OMP_NUM_THREADS=1`).

    python benchmarks/precision.py [--quick] [--only starter|vitb32] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from _report import Figure, measure, medians, parser, report
from _towers import load
from torch import Tensor

from paint_core.evaluation import choose_precision, encode, probe_images
from paint_core.evaluation.scoring import autocast
from paint_core.models import BaseModel

BATCHES = {"starter": (128, 8), "vitb32": (8, 2)}
"""Images of a batch, and how many batches."""


def ways(base: BaseModel, batch_size: int, num_batches: int, quick: bool) -> dict[str, Callable[[], object]]:
    """Return the ways to encode the same images."""
    images = probe_images(base.image_size).repeat(batch_size * num_batches // 4, 1, 1, 1)
    used = choose_precision(base.visual, base.preprocess, "bf16", "cpu")
    print(f"bf16 becomes {used.precision}: {used.reason or 'the processor has instructions for it'}", flush=True)

    def plain() -> Tensor:
        with torch.inference_mode(), autocast(torch.device("cpu"), "bf16"):
            parts = [
                base.visual(base.preprocess.normalise(part, torch.device("cpu"))) for part in images.split(batch_size)
            ]
        return torch.cat(parts)

    def ours(precision: str) -> Callable[[], Tensor]:
        return lambda: encode(base.visual, images, base.preprocess, batch_size=batch_size, precision=precision)  # type: ignore[arg-type]

    software = {"bf16": ours("bf16"), "bf16, cast at each use": plain}
    return {"fp32": ours("fp32"), "used": ours(used.precision)} | ({} if quick else software)


def main() -> None:
    """Measure both towers."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", choices=tuple(BATCHES), help="one of the towers")
    options = arguments.parse_args()
    figures, samples = [], {}
    for tower in [options.only] if options.only else list(BATCHES):
        each = ways(load(tower), *BATCHES[tower], options.quick)
        for run in each.values():
            run()
        found = measure(each, 3 if options.quick else 5, time.process_time)
        samples |= {f"{tower} {name}": seconds for name, seconds in found.items()}
        middle = medians(found)
        figures.append(Figure(f"{tower}_bf16_rate_over_fp32", middle["fp32"] / middle["used"], "x", target=0.95))
        if "bf16" in middle:
            figures.append(Figure(f"{tower}_forced_bf16_over_fp32", middle["fp32"] / middle["bf16"], "x"))
            figures.append(
                Figure(f"{tower}_cast_once_over_each_use", middle["bf16, cast at each use"] / middle["bf16"], "x")
            )
    report(figures, options.json, samples)


if __name__ == "__main__":
    main()
