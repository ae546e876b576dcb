import dataclasses
from typing import Any

import pytest

from paint_core.alpha import AlphaOptions, CurvePoint
from paint_core.models import BaseModel
from paint_core.patching import Event, PatchPlan, PatchResult, TestPoint, run_patch
from paint_core.training.finetuning import StepReport
from tests.paint_core.patches import CONFIG, MemoryJournal, old_task, same_bits, two_tasks

SHORT = dataclasses.replace(CONFIG, iterations=4, warmup_steps=1)
COARSE = AlphaOptions(step=0.5)
PLANS: dict[str, PatchPlan] = {
    "single": PatchPlan("single", SHORT, dataclasses.replace(COARSE, path="best")),
    "joint": PatchPlan("joint", SHORT, COARSE, sampling="balanced"),
    "sequential": PatchPlan("sequential", SHORT, COARSE),
    "parallel": PatchPlan("parallel", SHORT, COARSE, coefficients="per_task", coefficient_evaluations=3),
    "merged": PatchPlan("parallel", SHORT, COARSE, merge="ties"),
    "folds": PatchPlan("single", SHORT, COARSE, folds=2),
    "stored": PatchPlan("single", SHORT, COARSE, bits=4),
    "tuned": PatchPlan("single", SHORT, COARSE, tune=2),
    "interpolated": PatchPlan("single", SHORT, AlphaOptions(strategy="interpolated", step=0.25)),
}
KEYS = {
    "single": ["task:colours"],
    "joint": ["joint"],
    "sequential": ["task:colours", "task:animals"],
    "parallel": ["task:colours", "task:animals"],
    "merged": ["task:colours", "task:animals", "merged:ties"],
    "folds": ["fold 1", "fold 2", "all"],
    "stored": ["task:colours"],
    "tuned": ["trial 1", "trial 2"],
    "interpolated": ["task:colours"],
}


class KilledError(Exception):
    """Stands for the kill."""


class Watch:
    """Counts what really happens, over all attempts, and kills an attempt after some events."""

    def __init__(self, allowed: int) -> None:
        self.events: list[Event] = []
        self.left = self.allowed = allowed

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.left -= 1
        if self.left <= 0:
            raise KilledError

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


def attempt(base: BaseModel, name: str, journal: MemoryJournal, watch: Watch) -> PatchResult | None:
    plan = PLANS[name]
    tasks = two_tasks(base)[: 1 if plan.method == "single" else 2]
    watch.left = watch.allowed
    try:
        return run_patch(base, tasks, [old_task(base)], plan, journal=journal, on_event=watch)
    except KilledError:
        return None


@pytest.mark.parametrize("name", PLANS)
def test_a_run_killed_again_and_again_ends_with_the_same_bits(tiny_base: BaseModel, name: str) -> None:
    whole, seen = MemoryJournal(), Watch(1000)
    expected = attempt(tiny_base, name, whole, seen)
    assert expected is not None
    assert list(whole.vectors) == KEYS[name]
    allowed = 5 + len(expected.trials)  # every attempt tells the trials that it finds judged
    journal, watch, result = MemoryJournal(), Watch(allowed), None
    while result is None:
        result = attempt(tiny_base, name, journal, watch)
    assert result.terms == expected.terms
    assert result.trials == expected.trials
    assert result.patched == expected.patched
    assert result.changes == expected.changes
    assert all(same_bits(result.vectors[key], tau) for key, tau in expected.vectors.items())
    assert list(result.stages[-1].search.curve) == list(expected.stages[-1].search.curve)
    assert journal.made == dict.fromkeys(KEYS[name], 1)
    # A step is lost if its report kills, because its checkpoint comes after; nothing else is done twice.
    lost = sum(isinstance(event, StepReport) for event in watch.events[allowed - 1 :: allowed])
    assert watch.count(StepReport) == seen.count(StepReport) + lost
    assert watch.count(CurvePoint) == seen.count(CurvePoint)


def test_a_finished_run_is_read_from_the_journal_alone(tiny_base: BaseModel) -> None:
    journal = MemoryJournal()
    attempt(tiny_base, "sequential", journal, Watch(1000))
    watch = Watch(1000)
    again = attempt(tiny_base, "sequential", journal, watch)
    assert again is not None
    assert watch.count(TestPoint) == len(watch.events) == 3


def test_stages_come_in_their_order(tiny_base: BaseModel) -> None:
    journal = MemoryJournal()
    attempt(tiny_base, "sequential", journal, Watch(1000))
    assert journal.stages == ["finetune", "select", "finetune", "select", "evaluate"]
    assert list(journal.curves) == ["select:task:colours", "select:task:animals"]
