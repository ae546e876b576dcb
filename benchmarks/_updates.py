"""Trained updates and the truth along their paths: dear to make, so kept, and made ahead of the benchmarks.

    tau = update("starter", "digits", seed=0)      # TaskVector, from the cache or trained now
    path = truth("starter", "digits", seed=0)      # features at 21 alphas, evaluated one by one

As a program it fills the cache for towers x tasks x seeds, the first seed of everything first. It may be stopped and
started again at any time; what is there is not made again.

    python benchmarks/_updates.py [--towers starter vit] [--tasks digits ...] [--seeds 5]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TypeVar

import torch
from _cache import CACHE, write_whole
from _fashion import FashionMissingError
from _patch import trained
from _tasks import PATCHING, load_task, supported
from _towers import TOWERS, identity, load
from safetensors.torch import load_file, save
from torch import Tensor

from paint_core.config.finetune import FinetuneConfig
from paint_core.evaluation import encode, evaluate
from paint_core.weights import TaskVector, Term, mix_into

RECIPE = FinetuneConfig(iterations=200, batch_size=64, learning_rate=4e-4, warmup_steps=20, precision="bf16")
"""The starter's defaults, written out, so that cached updates stay comparable."""
SUPPORTED_IN_TRUTH = ("food", "nature", "travel")
ALPHAS = tuple(index / 20 for index in range(21))
SEEDS = 5
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Truth:
    """What the image tower really answers along the flat path, on validation images.

    Attributes:
        alphas: K numbers, 0 to 1.
        features: task (the patched one, and `SUPPORTED_IN_TRUTH`) to float32 [K, N, D], not of unit length. The images
            are those of `load_task(base, task).validation` and of `supported(base)[name].validation`.
    """

    alphas: tuple[float, ...]
    features: Mapping[str, Tensor]


def update(tower: str, task: str, seed: int) -> TaskVector:
    """Return the update of one fine-tuning by `RECIPE`; trained now, for about a minute, if it is not in the cache.

    Args:
        tower: `starter` or `vit`.
        task: One of `PATCHING`.
        seed: Of the fine-tuning.

    Raises:
        FashionMissingError: The task is `fashion`, and there is no copy.
    """
    base = load(tower)
    return trained(_name("updates", tower, task, seed), base, load_task(base, task), replace(RECIPE, seed=seed))


def truth(tower: str, task: str, seed: int) -> Truth:
    """Return the features at `ALPHAS`, one evaluation of the tower each; computed now if they are not in the cache.

    Args:
        tower: `starter` or `vit`.
        task: One of `PATCHING`.
        seed: Of the fine-tuning.

    Raises:
        FashionMissingError: The task is `fashion`, and there is no copy.
    """
    path = _path("truth", tower, task, seed)
    if not path.exists():
        base, tau = load(tower), update(tower, task, seed)
        held = supported(base, names=SUPPORTED_IN_TRUTH)
        images = {name: one.validation.images for name, one in {task: load_task(base, task), **held}.items()}
        visual, theta_0 = copy.deepcopy(base.visual), base.visual.state_dict()
        rows: dict[str, list[Tensor]] = {name: [] for name in images}
        for alpha in ALPHAS:
            mix_into(visual, theta_0, [Term(tau, alpha)])
            for name, pictures in images.items():
                rows[name].append(encode(visual, pictures, base.preprocess))
        write_whole(path, save({name: torch.stack(features) for name, features in rows.items()}))
    return Truth(ALPHAS, load_file(path))


def main() -> None:
    """Fill the cache."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--towers", nargs="+", default=TOWERS, choices=TOWERS)
    arguments.add_argument("--tasks", nargs="+", default=PATCHING, choices=PATCHING)
    arguments.add_argument("--seeds", type=int, default=SEEDS)
    options = arguments.parse_args()
    for seed, tower, task in product(range(options.seeds), options.towers, options.tasks):
        try:
            _fill(tower, task, seed)
        except FashionMissingError as error:
            print(f"skipping {task}: {error}", flush=True)


def _fill(tower: str, task: str, seed: int) -> None:
    """Make what is missing, and log how good the update is."""
    if _path("truth", tower, task, seed).exists():
        return
    tau, training = _timed(partial(update, tower, task, seed))
    _, evaluating = _timed(partial(truth, tower, task, seed))
    ends = [_accuracies(tower, task, [Term(tau, alpha)]) for alpha in (0.0, 1.0)]
    rows = ", ".join(f"{name} {100 * ends[0][name]:.1f} -> {100 * ends[1][name]:.1f}" for name in ends[0])
    print(f"{tower} {task} {seed}: {rows} ({training:.0f} s, {evaluating:.0f} s)", flush=True)


def _accuracies(tower: str, task: str, terms: Sequence[Term]) -> dict[str, float]:
    """Test accuracy on the task, and the mean over the supported ones."""
    base = load(tower)
    visual = copy.deepcopy(base.visual)
    mix_into(visual, base.visual.state_dict(), terms)
    held = [evaluate(visual, base, other.head, other.test).accuracy for other in supported(base).values()]
    ours = load_task(base, task)
    return {task: evaluate(visual, base, ours.head, ours.test).accuracy, "supported": sum(held) / len(held)}


def _name(kind: str, tower: str, task: str, seed: int) -> str:
    return f"{kind}/{tower}-{identity(tower)}-{task}-{seed}"


def _path(kind: str, tower: str, task: str, seed: int) -> Path:
    return CACHE / f"{_name(kind, tower, task, seed)}.safetensors"


def _timed(run: Callable[[], _T]) -> tuple[_T, float]:
    started = time.perf_counter()
    return run(), time.perf_counter() - started


if __name__ == "__main__":
    main()
