"""Joint, sequential and parallel patching: each test here fails if the method were plain averaging."""

import dataclasses

import pytest
import torch

from paint_core.alpha import AlphaOptions, CurvePoint, choose_alpha, combined
from paint_core.data import Task
from paint_core.data.sampling import merge_training_sets
from paint_core.evaluation import evaluate
from paint_core.merging import MERGERS, merge
from paint_core.models import BaseModel
from paint_core.patching import Event, NamedTerm, PatchPlan, PatchResult, TestPoint, run_patch
from paint_core.training.finetuning import finetune
from paint_core.weights import TaskVector, Term, mix, task_vector
from tests.paint_core.patches import COARSE, CONFIG, old_task, same_bits, tower_with, two_tasks


@pytest.fixture(scope="module")
def tasks(tiny_base: BaseModel) -> tuple[Task, Task]:
    return two_tasks(tiny_base)


@pytest.fixture(scope="module")
def apart(tiny_base: BaseModel, tasks: tuple[Task, Task]) -> dict[str, TaskVector]:
    """Each task's own task vector, measured from the base."""
    theta_0 = tiny_base.visual.state_dict()
    vectors = {}
    for task in tasks:
        assert task.train is not None
        vectors[f"task:{task.name}"] = task_vector(theta_0, finetune(tiny_base, task.head, task.train, CONFIG))
    return vectors


def patch(base: BaseModel, tasks: tuple[Task, ...], plan: PatchPlan) -> PatchResult:
    return run_patch(base, tasks, [old_task(base)], plan)


def test_a_joint_patch_trains_once_on_all_data_under_the_union_of_the_heads(
    tiny_base: BaseModel, tasks: tuple[Task, Task], apart: dict[str, TaskVector]
) -> None:
    result = patch(tiny_base, tasks, PatchPlan("joint", CONFIG, COARSE))
    head, images = merge_training_sets(tasks)
    expected = task_vector(tiny_base.visual.state_dict(), finetune(tiny_base, head, images, CONFIG))
    assert list(result.vectors) == ["joint"]
    assert same_bits(result.vectors["joint"], expected)
    (stage,) = result.stages
    assert stage.patching == ("colours", "animals")
    assert result.terms == (NamedTerm("joint", stage.search.choice.alpha),)
    assert not any(same_bits(expected, own) for own in apart.values())


def test_a_balanced_joint_patch_shows_the_small_task_as_often(tiny_base: BaseModel, tasks: tuple[Task, Task]) -> None:
    large, small = tasks
    assert small.train is not None
    few = dataclasses.replace(small, train=small.train.subset(range(6)))
    plan = PatchPlan("joint", CONFIG, COARSE, sampling="balanced")
    result = patch(tiny_base, (large, few), plan)
    head, again = merge_training_sets([large, few], "balanced")
    assert len(again) == 96
    expected = task_vector(tiny_base.visual.state_dict(), finetune(tiny_base, head, again, CONFIG))
    assert same_bits(result.vectors["joint"], expected)


@pytest.fixture(scope="module")
def sequential(tiny_base: BaseModel, tasks: tuple[Task, Task]) -> PatchResult:
    return patch(tiny_base, tasks, PatchPlan("sequential", CONFIG, COARSE))


def test_a_sequential_patch_starts_each_task_where_the_one_before_ended(
    tiny_base: BaseModel, tasks: tuple[Task, Task], apart: dict[str, TaskVector], sequential: PatchResult
) -> None:
    assert same_bits(sequential.vectors["task:colours"], apart["task:colours"])
    assert sequential.terms[0].coefficient > 0
    start = mix(tiny_base.visual.state_dict(), sequential.mix_terms()[:1])
    assert tasks[1].train is not None
    theta = finetune(tiny_base, tasks[1].head, tasks[1].train, CONFIG, start=start)
    assert same_bits(sequential.vectors["task:animals"], task_vector(start, theta))
    assert not same_bits(sequential.vectors["task:animals"], apart["task:animals"])
    assert [term.builds_on for term in sequential.terms] == [(), ("task:colours",)]


def test_a_sequential_patch_looks_only_at_the_tasks_seen_so_far(sequential: PatchResult) -> None:
    first, second = sequential.stages
    assert [stage.patching for stage in (first, second)] == [("colours",), ("colours", "animals")]
    assert set(first.search.curve[0].scores) == {"colours", "old"}
    assert second.fixed == sequential.terms[:1]
    # The second path starts where the first one was left.
    left_at = next(point for point in first.search.curve if point.alpha == first.search.choice.alpha)
    left = dataclasses.replace(left_at.scores["colours"], lost=None, gained=None)
    assert second.search.curve[0].scores["colours"] == left


def test_the_order_of_a_sequential_patch_matters(
    tiny_base: BaseModel, tasks: tuple[Task, Task], apart: dict[str, TaskVector]
) -> None:
    turned = run_patch(tiny_base, tasks[::-1], [], PatchPlan("sequential", CONFIG, COARSE))
    assert [term.key for term in turned.terms] == ["task:animals", "task:colours"]
    assert same_bits(turned.vectors["task:animals"], apart["task:animals"])
    assert not same_bits(turned.vectors["task:colours"], apart["task:colours"])


def test_a_sequential_floor_counts_from_zero_shot(tiny_base: BaseModel, tasks: tuple[Task, Task]) -> None:
    options = AlphaOptions(rule="floor", max_supported_drop=75.0, step=0.125)
    result = patch(tiny_base, tasks, PatchPlan("sequential", CONFIG, options))
    last = result.stages[-1]
    zero_shot = result.stages[0].search.curve[0].scores["old"].accuracy
    chosen = next(point for point in last.search.curve if point.alpha == last.search.choice.alpha)
    assert zero_shot - chosen.scores["old"].accuracy <= 0.75
    # Counted from where the stage before ended, another alpha would have won.
    assert choose_alpha(last.search.curve, last.patching, last.supported, "floor", 75.0) != last.search.choice


def test_a_parallel_patch_moves_along_the_average_by_one_scalar(
    tiny_base: BaseModel, tasks: tuple[Task, Task], apart: dict[str, TaskVector]
) -> None:
    result = patch(tiny_base, tasks, PatchPlan("parallel", CONFIG, COARSE))
    (stage,) = result.stages
    alpha = stage.search.choice.alpha
    assert result.terms == tuple(NamedTerm(key, alpha / 2) for key in apart)
    assert all(same_bits(result.vectors[key], own) for key, own in apart.items())
    assert set(result.specialised) == {"colours", "animals"}
    assert result.distance_to_specialised is not None
    assert result.distance_to_specialised > 0


def test_specialised_models_are_those_fine_tuned_on_one_task_alone(
    tiny_base: BaseModel, tasks: tuple[Task, Task], apart: dict[str, TaskVector]
) -> None:
    result = patch(tiny_base, tasks, PatchPlan("parallel", CONFIG, COARSE))
    for task in tasks:
        theta = mix(tiny_base.visual.state_dict(), [Term(apart[f"task:{task.name}"], 1.0)])
        expected = evaluate(tower_with(tiny_base, theta), tiny_base, task.head, task.test)
        assert result.specialised[task.name] == expected
    gaps = [result.specialised[task.name].accuracy - result.patched[task.name].accuracy for task in tasks]
    assert result.distance_to_specialised == pytest.approx(100 * sum(gaps) / 2)


def test_the_fine_tuned_end_of_a_sequential_patch_has_every_term_in_full(
    tiny_base: BaseModel, tasks: tuple[Task, Task], sequential: PatchResult
) -> None:
    whole = [Term(sequential.vectors[term.key], 1.0) for term in sequential.terms]
    tower = tower_with(tiny_base, mix(tiny_base.visual.state_dict(), whole))
    for task in (*tasks, old_task(tiny_base)):
        assert sequential.finetuned[task.name] == evaluate(tower, tiny_base, task.head, task.test)


def test_the_scalar_is_searched_and_not_the_plain_average(tiny_base: BaseModel, tasks: tuple[Task, Task]) -> None:
    options = AlphaOptions(rule="floor", max_supported_drop=40.0, step=0.125)
    result = patch(tiny_base, tasks, PatchPlan("parallel", CONFIG, options))
    assert 0 < result.stages[0].search.choice.alpha < 1


def test_task_arithmetic_adds_whole_task_vectors(tiny_base: BaseModel, tasks: tuple[Task, Task]) -> None:
    result = patch(tiny_base, tasks, PatchPlan("parallel", CONFIG, COARSE, merge="task_arithmetic"))
    alpha = result.stages[0].search.choice.alpha
    assert [term.coefficient for term in result.terms] == [alpha, alpha]
    assert [term.coefficient for term in result.stages[0].moving] == [1.0, 1.0]


@pytest.mark.parametrize("method", ["ties", "tsv", "iso", "ace", "esm", "regmean"])
def test_a_merge_leaves_one_task_vector_that_is_not_the_average(
    tiny_base: BaseModel, tasks: tuple[Task, Task], apart: dict[str, TaskVector], method: str
) -> None:
    result = patch(tiny_base, tasks, PatchPlan("parallel", CONFIG, COARSE, merge=method))  # type: ignore[arg-type]
    (term,) = result.terms
    assert term.key == f"merged:{method}"
    merged = result.vectors[term.key]
    if method in MERGERS:
        assert same_bits(merged, merge(method, list(apart.values())))
    average = merge("average", list(apart.values()))
    assert not torch.allclose(merged["conv1.weight"], average["conv1.weight"])
    assert set(result.specialised) == {"colours", "animals"}


@pytest.mark.parametrize("method", ["ties", "tsv", "iso", "ace", "esm", "regmean"])
def test_the_direction_of_a_merge_is_searched_beyond_one(method: str) -> None:
    plan = PatchPlan("parallel", CONFIG, merge=method)  # type: ignore[arg-type]
    assert plan.alpha.alphas("flat")[-1] == 3.0
    shorter = PatchPlan("parallel", CONFIG, AlphaOptions(max_alpha=2.0, max_flat_alpha=3.0), merge=method)  # type: ignore[arg-type]
    assert shorter.alpha.alphas("flat")[-1] == 2.0
    for other in ("average", "task_arithmetic"):
        assert PatchPlan("parallel", CONFIG, merge=other).alpha.alphas("flat")[-1] == 1.0  # type: ignore[arg-type]


def test_a_sequential_patch_says_that_nobody_fine_tuned_its_full_end(sequential: PatchResult) -> None:
    assert any("never trained as a whole" in note for note in sequential.notes)


def test_coefficients_per_task_are_found_beside_the_scalar_and_never_worse(
    tiny_base: BaseModel, tasks: tuple[Task, Task]
) -> None:
    plan = PatchPlan("parallel", CONFIG, COARSE, coefficients="per_task", coefficient_evaluations=12)
    events: list[Event] = []
    result = run_patch(tiny_base, tasks, [old_task(tiny_base)], plan, on_event=events.append)
    (stage,) = result.stages
    assert stage.coefficients is not None
    points = [event for event in events if isinstance(event, CurvePoint)]
    tried = points[len(stage.search.curve) :]
    assert len(tried) == stage.coefficients.num_evaluations == 12
    values = [combined(point, stage.patching, stage.supported) for point in tried]
    scalar = stage.search.choice.combined
    assert stage.coefficients.value == pytest.approx(max([scalar, *values]))
    assert stage.coefficients.value > scalar
    assert [term.coefficient for term in result.terms] == list(stage.coefficients.coefficients)
    assert len(set(stage.coefficients.coefficients)) == 2
    assert isinstance(events[-1], TestPoint)


def test_coefficients_per_task_keep_the_floor(tiny_base: BaseModel, tasks: tuple[Task, Task]) -> None:
    options = AlphaOptions(rule="floor", max_supported_drop=40.0, step=0.125)
    plan = PatchPlan("parallel", CONFIG, options, coefficients="per_task", coefficient_evaluations=12)
    events: list[Event] = []
    result = run_patch(tiny_base, tasks, [old_task(tiny_base)], plan, on_event=events.append)
    (stage,) = result.stages
    assert stage.coefficients is not None
    points = [event for event in events if isinstance(event, CurvePoint)]
    zero_shot = points[0].scores["old"].accuracy
    kept = [point for point in points if 100 * (zero_shot - point.scores["old"].accuracy) <= 40.0]
    assert len(kept) < len(points)
    means = [(point.scores["colours"].accuracy + point.scores["animals"].accuracy) / 2 for point in kept]
    assert stage.coefficients.value == pytest.approx(max(means))
