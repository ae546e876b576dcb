"""On every path to a coefficient, test splits are closed until it is chosen, and what is in them changes nothing."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from paint_core.alpha import AlphaOptions
from paint_core.alpha.cross_validation import fold_tasks
from paint_core.data import LabelledImages, Task
from paint_core.evaluation import evaluate
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, PatchResult, run_patch
from tests.paint_core import tiny
from tests.paint_core.patches import CONFIG, MemoryJournal, old_task, same_bits, two_tasks

QUICK = dataclasses.replace(CONFIG, iterations=6, batch_size=12, learning_rate=3e-3, warmup_steps=1)
COARSE = AlphaOptions(step=0.5)
LINES = AlphaOptions(step=0.5, path="best", max_alpha=1.5)
INTERPOLATED = AlphaOptions(strategy="interpolated", step=0.1)
FLOOR = AlphaOptions(rule="floor", max_supported_drop=60.0, step=0.5)

PLANS = {
    "single, grid": PatchPlan("single", QUICK, COARSE),
    "single, both paths": PatchPlan("single", QUICK, LINES),
    "single, interpolated": PatchPlan("single", QUICK, INTERPOLATED),
    "single, floor": PatchPlan("single", QUICK, FLOOR),
    "single, interpolated floor": PatchPlan("single", QUICK, dataclasses.replace(FLOOR, strategy="interpolated")),
    "single, folds": PatchPlan("single", QUICK, COARSE, folds=2),
    "single, interpolated folds": PatchPlan("single", QUICK, INTERPOLATED, folds=2),
    "single, floor over folds": PatchPlan("single", QUICK, FLOOR, folds=2),
    "joint": PatchPlan("joint", QUICK, COARSE, sampling="balanced"),
    "joint, folds": PatchPlan("joint", QUICK, COARSE, folds=2),
    "sequential": PatchPlan("sequential", QUICK, COARSE),
    "sequential, floor": PatchPlan("sequential", QUICK, FLOOR),
    "parallel": PatchPlan("parallel", QUICK, COARSE),
    "parallel, task_arithmetic": PatchPlan("parallel", QUICK, COARSE, merge="task_arithmetic"),
    "parallel, ties": PatchPlan("parallel", QUICK, COARSE, merge="ties"),
    "parallel, tsv": PatchPlan("parallel", QUICK, COARSE, merge="tsv"),
    "parallel, iso": PatchPlan("parallel", QUICK, COARSE, merge="iso"),
    "parallel, per task": PatchPlan("parallel", QUICK, COARSE, coefficients="per_task", coefficient_evaluations=6),
}


class Seal:
    """Closed until the choice is made."""

    is_open = False


class SealedImages(LabelledImages):
    """A test split of noise under wrong labels, whose reading is an error before the choice."""

    seal = Seal()

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels") and not type(self).seal.is_open:
            raise AssertionError(f"{name} of a test split were read before the choice")
        return super().__getattribute__(name)

    def __len__(self) -> int:
        return len(self.labels)


class SealingJournal(MemoryJournal):
    """Opens the seal where the reporting on test splits begins."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if name == "evaluate":
            SealedImages.seal.is_open = True
        yield


def poisoned(task: Task) -> Task:
    """The task with a sealed test split that is good for nothing."""
    images = torch.randint(256, task.test.images.shape, generator=torch.Generator().manual_seed(9)).to(torch.uint8)
    labels = (task.test.labels + 1) % len(task.test.classnames)
    SealedImages.seal.is_open = True
    split = SealedImages(images, labels, task.test.classnames)
    SealedImages.seal.is_open = False
    return dataclasses.replace(task, test=split)


def patch(base: BaseModel, plan: PatchPlan, *, poison: bool) -> PatchResult:
    tasks = two_tasks(base)[: 1 if plan.method == "single" else 2]
    supported, journal = old_task(base), SealingJournal() if poison else MemoryJournal()
    if poison:
        tasks, supported = tuple(map(poisoned, tasks)), poisoned(supported)
    return run_patch(base, tasks, [supported], plan, journal=journal)


@pytest.mark.parametrize("name", PLANS)
def test_test_splits_are_closed_until_the_choice(name: str, tiny_base: BaseModel) -> None:
    result = patch(tiny_base, PLANS[name], poison=True)
    assert SealedImages.seal.is_open  # they were reported, after the choice
    assert "old" in result.patched


@pytest.mark.parametrize("name", ["single, both paths", "joint, folds", "sequential, floor", "parallel, per task"])
def test_what_is_in_the_test_splits_changes_neither_weights_nor_coefficients(name: str, tiny_base: BaseModel) -> None:
    honest, other = (patch(tiny_base, PLANS[name], poison=poison) for poison in (False, True))
    assert other.terms == honest.terms
    assert all(same_bits(other.vectors[key], honest.vectors[key]) for key in honest.vectors)
    for ours, theirs in zip(honest.stages, other.stages, strict=True):
        assert theirs.search.choice == ours.search.choice
        assert theirs.search.curves == ours.search.curves
    assert other.patched != honest.patched


def test_a_sealed_split_does_refuse_to_be_read(tiny_base: BaseModel) -> None:
    task = poisoned(two_tasks(tiny_base)[0])
    with pytest.raises(AssertionError, match="before the choice"):
        evaluate(tiny_base.visual, tiny_base, task.head, task.test)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_folds_are_those_of_the_runs_seed(seed: int, tiny_base: BaseModel) -> None:
    task, journal = two_tasks(tiny_base)[0], MemoryJournal()
    plan = PatchPlan("single", dataclasses.replace(QUICK, iterations=2, seed=seed), COARSE, folds=3)
    run_patch(tiny_base, [task], [], plan, journal=journal)
    folds = fold_tasks(task, 3, seed)
    for number, fold in enumerate(folds, 1):
        unpatched = journal.points(f"select:fold {number}")[0]
        assert unpatched.alpha == 0
        expected = evaluate(tiny_base.visual, tiny_base, fold.head, fold.validation)
        assert unpatched.scores["colours"] == dataclasses.replace(expected, lost=0, gained=0)
    others = fold_tasks(task, 3, seed + 1)
    held_out, held_out_of_others = ([fold.validation.labels.tolist() for fold in each] for each in (folds, others))
    assert held_out != held_out_of_others


def test_anchors_that_a_transfer_task_is_judged_by_are_left_out(tiny_base: BaseModel) -> None:
    task, other = two_tasks(tiny_base)
    config = dataclasses.replace(QUICK, iterations=2, anchor_weight=1.0)
    pool = tiny.coloured(tiny_base, 8, seed=77).images
    mixed = torch.cat([pool, other.test.images[:3], other.validation.images[:1]])
    plan = PatchPlan("single", config, COARSE)
    clean, dirty = (
        run_patch(tiny_base, [task], [], plan, anchors=anchors, transfer=[other]) for anchors in (pool, mixed)
    )
    assert same_bits(clean.vectors["task:colours"], dirty.vectors["task:colours"])
    assert dirty.notes == ("4 of 12 anchor images are in a validation or test split and were excluded",)
