"""The tasks of a parallel patch trained apart, as several machines would, and joined afterwards."""

import dataclasses

import pytest

from paint_core.alpha import AlphaOptions
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.models import BaseModel
from paint_core.patching import Event, PatchPlan, run_part, run_patch
from paint_core.training.finetuning import StepReport
from tests.paint_core.patches import CONFIG, MemoryJournal, old_task, same_bits, two_tasks

PLAN = PatchPlan("parallel", dataclasses.replace(CONFIG, iterations=4, warmup_steps=1), AlphaOptions(step=0.5))


def test_tasks_trained_apart_are_joined_to_the_same_bits_without_training(tiny_base: BaseModel) -> None:
    tasks, supported = two_tasks(tiny_base), [old_task(tiny_base)]
    together = run_patch(tiny_base, tasks, supported, PLAN)
    journal = MemoryJournal()
    for task in reversed(tasks):  # in any order
        journal.vectors[f"task:{task.name}"] = run_part(tiny_base, task, PLAN)
    events: list[Event] = []
    joined = run_patch(tiny_base, tasks, supported, PLAN, journal=journal, on_event=events.append)
    assert joined.vectors.keys() == together.vectors.keys()
    assert all(same_bits(joined.vectors[key], together.vectors[key]) for key in together.vectors)
    assert (joined.terms, joined.patched) == (together.terms, together.patched)
    assert not any(isinstance(event, StepReport) for event in events)


def test_a_part_goes_on_from_its_journal(tiny_base: BaseModel) -> None:
    (task, _), journal = two_tasks(tiny_base), MemoryJournal()
    run_part(tiny_base, task, PLAN, journal=journal)
    run_part(tiny_base, task, PLAN, journal=journal)
    assert journal.made == {f"task:{task.name}": 1}


def test_what_has_no_parts_and_what_cannot_be_trained_is_refused(tiny_base: BaseModel) -> None:
    task, _ = two_tasks(tiny_base)
    with pytest.raises(ConfigError, match="parallel"):
        run_part(tiny_base, task, dataclasses.replace(PLAN, method="joint"))
    with pytest.raises(EmptySplitError, match=task.name):
        run_part(tiny_base, dataclasses.replace(task, train=None), PLAN)
