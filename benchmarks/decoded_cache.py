"""What the decoded cache is worth to the alpha search: one grid from uint8 arrays, one that decodes for every alpha.

Both search the same 21 alphas over the starter's four supported tasks, side by side in one run, alternating so that a
noisy machine disturbs both alike.

    python benchmarks/decoded_cache.py [--quick] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import torch
from _report import Figure, measure, medians, parser, report
from _tasks import SUPPORTED, read_files

from paint_core.alpha import evaluate_curve, grid
from paint_core.data import LabelledImages, decode_all
from paint_core.models import BaseModel, build_head, load_base

Files = dict[str, tuple[list[tuple[bytes, int]], tuple[str, ...]]]
"""Task to its encoded validation images, with labels, and its classnames."""


def decode(base: BaseModel, files: Files) -> dict[str, LabelledImages]:
    """Return the decoded images of each task."""
    return {name: decode_all(items, base.preprocess, classnames) for name, (items, classnames) in files.items()}


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int)
    options = arguments.parse_args()
    alphas = grid(0.25) if options.quick else grid()
    rounds = options.rounds or (1 if options.quick else 3)
    base, tasks = load_base("starter"), {name: read_files(name) for name in SUPPORTED}
    heads = {name: build_head(base, task.classnames, task.templates) for name, task in tasks.items()}
    files = {name: (task.splits["validation"](), task.classnames) for name, task in tasks.items()}
    generator = torch.Generator().manual_seed(0)
    tau = {
        name: 1e-3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in base.visual.state_dict().items()
        if tensor.is_floating_point()
    }

    def search(images: dict[str, LabelledImages], alphas: tuple[float, ...]) -> None:
        evaluate_curve(base, tau, {name: (heads[name], images[name]) for name in images}, alphas)

    def from_cache() -> None:
        search(decode(base, files), alphas)

    def decoding_each_time() -> None:
        for alpha in alphas:
            search(decode(base, files), (alpha,))

    samples = measure({"from_cache": from_cache, "decoding_each_time": decoding_each_time}, rounds)
    seconds = medians(samples)
    ratio = seconds["decoding_each_time"] / seconds["from_cache"]
    print(f"{sum(len(items) for items, _ in files.values())} images, {len(alphas)} alphas")
    report([Figure("decoded_cache_speedup", ratio, "x")], options.json, samples)


if __name__ == "__main__":
    main()
