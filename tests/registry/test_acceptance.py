"""The rule of the guard: drops are exact, limits come from the version, its twins, its ancestors, the installation."""

from typing import Any

import pytest

from contract.evaluation import Evaluation
from registry.acceptance import assess
from registry.evidence import Evidence, MeasuredTask


def _evaluation(patched: float, limit: Any, name: str = "food", **fields: Any) -> Evaluation:
    task = {"dataset_id": f"ds_{name}", "name": name, "role": "supported"}
    scores = {"zero_shot": {"correct": 80, "total": 100}, "patched": {"correct": patched, "total": 100}}
    return Evaluation.of_stored(
        {"split": "validation", "max_supported_drop": limit, "tasks": [task | scores], **fields}
    )


def _measured(*evaluations: Evaluation) -> tuple[MeasuredTask, ...]:
    return tuple(
        MeasuredTask(task.dataset_id, task.name, task.role, each.split, 1, task.zero_shot, task.patched)
        for each in evaluations
        for task in each.tasks
    )


def _of(own: Evaluation, *others: Evaluation) -> Evidence:
    return Evidence(_measured(own), own, others)


@pytest.mark.parametrize(("patched", "is_refused"), [(78, False), (77, True), (77.9, False), (77.8, True)])
def test_counts_are_whole_or_over_folds_a_mean(patched: float, is_refused: bool) -> None:
    limit = 2.0 if isinstance(patched, int) else 2.1
    assert bool(assess(_of(_evaluation(patched, {"ds_food": limit}))).too_large) is is_refused


@pytest.mark.parametrize(
    ("own", "others", "default", "limit"),
    [
        (5.0, [1.0], 3.0, 5.0),
        (None, [4.0, 2.0, None], 1.0, 2.0),
        (None, [None], 3.0, 3.0),
        (None, [], None, None),
        ({}, [{"ds_food": 2.0}], None, 2.0),
        ({}, [{"ds_other": 2.0}], None, None),
    ],
)
def test_the_own_limit_counts_first_then_the_strictest_then_the_installations(
    own: Any, others: list[Any], default: float | None, limit: float | None
) -> None:
    (drop,) = assess(_of(_evaluation(80, own), *(_evaluation(80, each) for each in others)), default).drops
    assert drop.limit_points == limit


def test_each_task_with_a_limit_must_have_been_measured_on_these_weights() -> None:
    food, nature = _evaluation(80, 1.0), _evaluation(80, 2.0, "nature")
    assessment = assess(_of(food, nature, _evaluation(80, None, "objects")))
    assert [(each.dataset_id, each.limit_points) for each in assessment.missing] == [("ds_nature", 2.0)]
    assert assessment.reason == "it has not been evaluated on 'nature' (ds_nature)"
    assert assess(Evidence(_measured(food, nature), None, (food, nature))).reason is None
    unlimited = assess(Evidence((), None, (_evaluation(80, None),)))
    assert unlimited.reason is None
    assert assess(Evidence((), None, (_evaluation(80, None),)), 1.0).missing


def test_where_the_installation_sets_a_limit_a_version_without_any_supported_task_is_not_known_to_keep_it() -> None:
    assert assess(Evidence()).reason is None
    assert assess(Evidence(), 1.0).reason == "it has not been evaluated on any supported task"
    assert assess(Evidence(is_base=True), 1.0).reason is None


@pytest.mark.parametrize(("second", "reason"), [(80, None), (79, "the mean of 2 supported tasks drops by 1.50 points")])
def test_the_mean_of_the_tasks_has_a_limit_of_its_own(second: int, reason: str | None) -> None:
    tasks = (*_evaluation(78, None).tasks, *_evaluation(second, None, "nature").tasks)
    own = Evaluation(split="test", max_supported_drop=3.0, max_mean_drop=1.0, tasks=tasks)
    told = assess(_of(own)).reason
    assert told is None if reason is None else reason in (told or "")
    assert assess(Evidence(_measured(own), None, (own,))).reason == told  # a composition with these weights
    missing = assess(
        Evidence(_measured(_evaluation(80, None)), None, (own.model_copy(update={"max_supported_drop": None}),))
    )
    assert [each.name for each in missing.missing] == ["nature"]


def test_images_that_chose_nothing_are_believed_first() -> None:
    on_validation, on_test = _evaluation(80, 1.0), _evaluation(70, None, split="test")
    (drop,) = assess(Evidence(_measured(on_test, on_validation), on_validation)).drops
    assert (drop.measurement.split, drop.is_too_much) == ("test", True)
