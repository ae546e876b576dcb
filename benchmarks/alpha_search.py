"""The search for alpha against a plain procedure like the paper's released code: how much faster, and how exact.

1. Speed. The plain procedure goes through 21 alphas; for each it loads the mixed weights, and for each task it reads,
   decodes and preprocesses the files and runs the tower in fp32 on batches of 128. It is timed with loading in the
   process and with one loader process a core, and the faster of the two is the reference. Ours starts from the same
   files. They are JPEG files of 448 x 448 pixels with the grain of a camera: as many pixels as the median photograph of
   ImageNet has (500 x 375), and still fewer bytes and a little quicker to decode (`SIDE`, `GRAIN`). Figures that end in
   `_small_files` are for the pictures' own small PNG files, which cost almost nothing to decode. Ours gets the features
   at alpha 0 as a caller has them who has searched from this base before; `_nothing_cached` is the time without them.
   The whole process keeps freed memory, as the worker does, for both sides.
2. Exactness. Four patching tasks, two towers, five seeds: the curve, the choice and the forwards of `interpolated`, and
   for one seed the choice of `grid`, against true evaluations in fp32 at 21 alphas.

    python benchmarks/alpha_search.py [--quick] [--json FILE] [--only speed|exactness]

The truth of part 2 is cached by `_updates.py`; without that cache the first run takes more than an hour on two cores.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path as FilePath
from typing import get_args

import numpy as np
import torch
from _report import Figure, measure, medians, parser, report
from _tasks import PATCHING, load_task, read_files, supported
from _tasks import SUPPORTED as ALL_SUPPORTED
from _towers import TOWERS, load
from _updates import ALPHAS, SEEDS, SUPPORTED_IN_TRUTH, truth, update
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from paint_core.alpha import AlphaOptions, CurvePoint, Path, Strategy, combined, evaluate_curve, search_alpha
from paint_core.alpha.curve import EvaluationTask
from paint_core.config.precision import RunPrecision
from paint_core.data import decode_all
from paint_core.evaluation import encode, score_features
from paint_core.models import BaseModel, build_head
from paint_core.runtime.allocator import keep_freed_memory
from paint_core.weights import TaskVector

SIDE = 448
GRAIN = 12.0
"""Standard deviation of the noise, in grey levels of 256.

With it a file has 77 kB and takes 1.85 ms to load by open_clip's transform, without it 16 kB and 1.37 ms. Of 120
photographs of ImageNet the median has 107 kB, and one takes 1.95 ms (same run, 2 cores). The model reads 64 x 64
pixels, each about the mean of 49, which takes most of the noise away.
"""
BATCH_SIZE = 128
PATCHED = "digits"
NOTHING_CACHED = "_nothing_cached"

Files = Mapping[str, Sequence[tuple[FilePath, int]]]
"""Task name to (picture file, label) pairs."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A search for alpha from files.

    Attributes:
        base: theta_0.
        tau: the update.
        files: of the validation splits.
        heads: task name to [C, D].
    """

    base: BaseModel
    tau: TaskVector
    files: Files
    heads: Mapping[str, Tensor]

    def baseline(self) -> Mapping[str, Tensor]:
        """Task name to the features at alpha 0, [N, D]; computed now."""
        base = self.base
        return {name: encode(base.visual, images.images, base.preprocess) for name, (_, images) in self.read().items()}

    def read(self) -> dict[str, EvaluationTask]:
        """Task name to its head and its files, read and decoded now."""
        tasks = {}
        for name, files in self.files.items():
            classnames = [str(index) for index in range(len(self.heads[name]))]
            items = [(path.read_bytes(), label) for path, label in files]
            tasks[name] = (self.heads[name], decode_all(items, self.base.preprocess, classnames))
        return tasks

    @property
    def supported(self) -> list[str]:
        """Every task but the patched one."""
        return [name for name in self.files if name != PATCHED]


class PictureFiles(Dataset[tuple[Tensor, int]]):
    """A split as image folders give it: each access reads, decodes and transforms one file."""

    def __init__(self, files: Sequence[tuple[FilePath, int]], base: BaseModel) -> None:
        """Take open_clip's own transform."""
        self._files = files
        self._transform = image_transform_v2(PreprocessCfg(**base.preprocess.config), is_train=False)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return normalised pixels [3, S, S] and the label."""
        path, label = self._files[index]
        with Image.open(path) as picture:
            return self._transform(picture), label


def plain_search(problem: Problem, num_workers: int) -> float:
    """Return the alpha that the plain procedure chooses by the combined rule."""
    base = problem.base
    theta_0 = {name: tensor.clone() for name, tensor in base.visual.state_dict().items()}
    theta_1 = {name: theta_0[name] + problem.tau[name] if name in problem.tau else theta_0[name] for name in theta_0}
    values = {}
    try:
        for alpha in ALPHAS:
            base.visual.load_state_dict({name: (1 - alpha) * theta_0[name] + alpha * theta_1[name] for name in theta_0})
            values[alpha] = _plain_combined(problem, num_workers)
    finally:
        base.visual.load_state_dict(theta_0)
    return max(ALPHAS, key=lambda alpha: values[alpha])


@torch.no_grad()
def _plain_combined(problem: Problem, num_workers: int) -> float:
    accuracies = {}
    for name, files in problem.files.items():
        images = PictureFiles(files, problem.base)
        correct = 0
        for pixels, labels in DataLoader(images, batch_size=BATCH_SIZE, num_workers=num_workers):
            features = torch.nn.functional.normalize(problem.base.visual(pixels), dim=-1)
            rows = problem.base.logit_scale * features @ problem.heads[name].T
            correct += int((rows.argmax(dim=1) == labels).sum())
        accuracies[name] = correct / len(images)
    supported = [accuracies[name] for name in problem.supported]
    return (accuracies[PATCHED] + sum(supported) / len(supported)) / 2


def our_search(problem: Problem, options: AlphaOptions, baseline: Mapping[str, Tensor] | None) -> float:
    """Return the alpha that the engine chooses, from the same files and the features at alpha 0, if they are known."""
    found = search_alpha(
        problem.base,
        Path.of(problem.tau),
        problem.read(),
        [PATCHED],
        problem.supported,
        options,
        baseline=baseline,
    )
    return found.choice.alpha


@contextmanager
def problem_of(tower: str, limit: int, *, small_files: bool = False) -> Iterator[Problem]:
    """Write the files of digits and the supported tasks to a temporary folder, and give the search for digits.

    Args:
        tower: `starter`, or `vitb32`, whose random weights get a random update: only its times mean anything.
        limit: Most pictures of a task, evenly spread.
        small_files: Whether to keep the pictures' own files.
    """
    base = load(tower)
    heads, files = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (PATCHED, *ALL_SUPPORTED):
            task = read_files(name)
            pictures = task.splits["validation"]()
            chosen = pictures[:: max(1, len(pictures) // limit)][:limit]
            heads[name] = build_head(base, task.classnames, task.templates)
            files[name] = [
                (_write(FilePath(folder) / f"{name}-{index}", data, small_files), label)
                for index, (data, label) in enumerate(chosen)
            ]
        tau = update("starter", PATCHED, 0) if tower == "starter" else _random_update(base)
        yield Problem(base, tau, files, heads)


def _write(stem: FilePath, data: bytes, small_files: bool) -> FilePath:
    if not small_files:
        data = _as_photograph(data)
    path = stem.with_suffix(".png" if small_files else ".jpg")
    path.write_bytes(data)
    return path


def _as_photograph(data: bytes) -> bytes:
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(zlib.crc32(data)).normal(0, GRAIN, (SIDE, SIDE, 1))
    buffer = io.BytesIO()
    grainy = (np.asarray(picture) + grain).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(grainy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _random_update(base: BaseModel) -> TaskVector:
    source = torch.Generator().manual_seed(0)
    return {
        name: 0.01 * tensor.std() * torch.randn(tensor.shape, generator=source) if tensor.numel() > 1 else 0 * tensor
        for name, tensor in base.visual.state_dict().items()
        if tensor.is_floating_point()
    }


def compare_speed(
    name: str,
    problem: Problem,
    options: Mapping[Strategy, AlphaOptions],
    rounds: int,
    targets: Mapping[Strategy, float | None],
) -> list[Figure]:
    """Return how many times faster each strategy is than the faster form of the plain procedure."""
    baseline = problem.baseline()
    choices: dict[str, float] = {}

    def keep(way: str, run: Callable[[], float]) -> None:
        choices[way] = run()

    ways: dict[str, Callable[[], float]] = {
        "plain, in the process": partial(plain_search, problem, 0),
        "plain, loader processes": partial(plain_search, problem, os.cpu_count() or 1),
        **{strategy: partial(our_search, problem, own, baseline) for strategy, own in options.items()},
        **{f"{strategy}{NOTHING_CACHED}": partial(our_search, problem, own, None) for strategy, own in options.items()},
    }
    samples = measure({way: partial(keep, way, run) for way, run in ways.items()}, rounds)
    seconds = medians(samples)
    for way, values in samples.items():
        listed = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name}: {way}: {seconds[way]:.1f} s ({listed}), alpha {choices[way]:g}", flush=True)
    reference = min(seconds["plain, in the process"], seconds["plain, loader processes"])
    suffix = name.removeprefix("starter")
    figures = []
    for strategy, target in targets.items():
        cold = reference / seconds[f"{strategy}{NOTHING_CACHED}"]
        figures.append(Figure(f"speedup_{strategy}{suffix}", reference / seconds[strategy], "x", target))
        figures.append(Figure(f"speedup_{strategy}{suffix}{NOTHING_CACHED}", cold, "x"))
    return figures


def speed_figures(quick: bool, precision: RunPrecision) -> list[Figure]:
    """Return the speed-ups on the starter and on ViT-B/32."""
    rounds = 1 if quick else 3
    options: dict[Strategy, AlphaOptions] = {
        strategy: AlphaOptions(rule="combined", strategy=strategy, precision=precision)
        for strategy in get_args(Strategy)
    }
    promised: dict[Strategy, float | None] = {"grid": 5.0, "interpolated": 10.0}
    with problem_of("starter", 40 if quick else 120) as problem:
        figures = compare_speed("starter", problem, options, rounds, promised)
    with problem_of("starter", 40 if quick else 120, small_files=True) as problem:
        figures += compare_speed("starter_small_files", problem, options, rounds, dict.fromkeys(promised))
    with problem_of("vitb32", 4) as problem:  # a forward takes so long that few are enough
        figures += compare_speed("_vitb32", problem, options, rounds, {"grid": None, "interpolated": 4.0})
    return figures


@dataclass(frozen=True)
class Exactness:
    """How one tower, task and seed came out.

    Attributes:
        error: largest difference of the combined curve at 21 alphas, in points.
        regret: best true combined value at 21 alphas minus the true one at the choice, in points.
        num_forwards: besides the baseline.
        same_choice: whether `grid` chose what the truth chooses; None where that was not looked at.
    """

    error: float
    regret: float
    num_forwards: int
    same_choice: bool | None


def examine(tower: str, task: str, seed: int, precision: RunPrecision) -> Exactness:
    """Search along a trained update, and compare with the truth; by `grid` too for the first seed."""
    base, tau = load(tower), update(tower, task, seed)
    held = supported(base, names=SUPPORTED_IN_TRUTH)
    everyone = {task: load_task(base, task), **held}
    splits = {name: (each.head, each.validation) for name, each in everyone.items()}
    path, names = Path.of(tau), list(held)

    def value(point: CurvePoint) -> float:
        return 100 * combined(point, [task], names)

    true = {point.alpha: value(point) for point in true_points(base, splits, tower, task, seed)}
    best = max(ALPHAS, key=lambda alpha: true[alpha])
    found = search_alpha(
        base, path, splits, [task], names, AlphaOptions(rule="combined", strategy="interpolated", precision=precision)
    )
    predicted = {point.alpha: value(point) for point in found.curve}
    (chosen,) = evaluate_curve(base, path, splits, [found.choice.alpha])
    whole = (
        search_alpha(
            base, path, splits, [task], names, AlphaOptions(rule="combined", strategy="grid", precision=precision)
        )
        if seed == 0
        else None
    )
    return Exactness(
        error=max(abs(predicted[alpha] - true[alpha]) for alpha in ALPHAS),
        regret=true[best] - value(chosen),
        num_forwards=found.num_forwards,
        same_choice=None if whole is None else whole.choice.alpha == best,
    )


def true_points(
    base: BaseModel, splits: Mapping[str, EvaluationTask], tower: str, task: str, seed: int
) -> list[CurvePoint]:
    """Return the cached truth as points of a curve."""
    cached = truth(tower, task, seed)
    return [
        CurvePoint(
            alpha,
            {
                name: score_features(
                    cached.features[name][index].float(),
                    head,
                    images.labels,
                    scale=base.logit_scale,
                    bias=base.logit_bias,
                )
                for name, (head, images) in splits.items()
            },
        )
        for index, alpha in enumerate(cached.alphas)
    ]


def exactness_figures(quick: bool, precision: RunPrecision) -> list[Figure]:
    """Return the worst over towers, tasks and seeds."""
    found = []
    for seed, tower, task in product(range(1 if quick else SEEDS), TOWERS, PATCHING[:2] if quick else PATCHING):
        found.append(examine(tower, task, seed, precision))
        print(f"{tower} {task} {seed}: {found[-1]}", flush=True)
    same = [each.same_choice for each in found if each.same_choice is not None]
    return [
        Figure("interpolated_forwards", max(each.num_forwards for each in found), "", 6, at_most=True),
        Figure("interpolated_regret_points", max(each.regret for each in found), "points", 0.1, at_most=True),
        Figure("interpolated_curve_error_points", max(each.error for each in found), "points", 0.5, at_most=True),
        Figure("grid_same_choice", statistics.mean(same), "", 1.0),
    ]


def main() -> None:
    """Measure and print."""
    keep_freed_memory()
    arguments = parser(__doc__)
    arguments.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32", help="of our evaluations")
    arguments.add_argument("--only", choices=("speed", "exactness"), help="one of the two parts")
    options = arguments.parse_args()
    figures = [] if options.only == "exactness" else speed_figures(options.quick, options.precision)
    figures += [] if options.only == "speed" else exactness_figures(options.quick, options.precision)
    report(figures, options.json)


if __name__ == "__main__":
    main()
