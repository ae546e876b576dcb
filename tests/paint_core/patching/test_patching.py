import dataclasses

import pytest
import torch

from paint_core.alpha import AlphaOptions, CurvePoint, choose_alpha
from paint_core.data import LabelledImages
from paint_core.errors import ConfigError, EmptySplitError, NoAcceptableAlphaError
from paint_core.evaluation import evaluate
from paint_core.models import BaseModel
from paint_core.patching import Event, NamedTerm, PatchPlan, PatchResult, TestPoint, run_patch
from paint_core.patching.report import union_head
from paint_core.training.finetuning import StepReport
from paint_core.weights import fingerprint, mix
from tests.paint_core import tiny
from tests.paint_core.patches import COARSE, CONFIG, old_task, same_bits, tower_with, two_tasks

PLAN = PatchPlan("single", CONFIG, COARSE)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def patch(tiny_base: BaseModel, events: list[Event]) -> PatchResult:
    before = fingerprint(tiny_base.model.state_dict())
    result = run_patch(tiny_base, two_tasks(tiny_base)[:1], [old_task(tiny_base)], PLAN, on_event=events.append)
    assert fingerprint(tiny_base.model.state_dict()) == before
    return result


def test_a_single_patch_is_one_term_of_the_chosen_alpha(patch: PatchResult) -> None:
    (stage,) = patch.stages
    assert (stage.key, stage.patching, stage.supported) == ("task:colours", ("colours",), ("old",))
    assert [point.alpha for point in stage.search.curve] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert stage.search.choice == choose_alpha(stage.search.curve, ["colours"], ["old"])
    assert patch.terms == stage.chosen == (NamedTerm("task:colours", stage.search.choice.alpha),)
    assert list(patch.vectors) == ["task:colours"]


def test_every_step_and_point_is_told(patch: PatchResult, events: list[Event]) -> None:
    assert sum(isinstance(event, StepReport) for event in events) == CONFIG.iterations
    assert [event.alpha for event in events if isinstance(event, CurvePoint)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    tests = [event for event in events if isinstance(event, TestPoint)]
    assert [event.name for event in tests] == ["zero_shot", "finetuned", "patched"]
    assert tests[2].scores == patch.patched


def test_reported_scores_are_those_of_the_mixed_weights_on_test_splits(
    patch: PatchResult, tiny_base: BaseModel
) -> None:
    task, old = two_tasks(tiny_base)[0], old_task(tiny_base)
    theta = mix(tiny_base.visual.state_dict(), patch.mix_terms())
    name, tau = "proj", patch.vectors["task:colours"]
    torch.testing.assert_close(
        theta[name], tiny_base.visual.state_dict()[name] + patch.terms[0].coefficient * tau[name]
    )
    visual = tower_with(tiny_base, theta)
    for each in (task, old):
        assert patch.patched[each.name] == evaluate(visual, tiny_base, each.head, each.test)
        assert patch.zero_shot[each.name] == evaluate(tiny_base.visual, tiny_base, each.head, each.test)
    theta_1 = {key: tensor + tau[key] for key, tensor in tiny_base.visual.state_dict().items()}
    assert patch.finetuned["old"] == evaluate(tower_with(tiny_base, theta_1), tiny_base, old.head, old.test)
    assert patch.patched["colours"].accuracy > patch.zero_shot["colours"].accuracy


def test_supported_tasks_are_judged_among_the_patched_names_too(patch: PatchResult, tiny_base: BaseModel) -> None:
    task, old = two_tasks(tiny_base)[0], old_task(tiny_base)
    theta = mix(tiny_base.visual.state_dict(), patch.mix_terms())
    head = union_head(old, [task, task])
    names = [*old.test.classnames, *(name for name in task.test.classnames if name not in old.test.classnames)]
    assert len(head) == len(names) == len(set(names))
    images = LabelledImages(old.test.images, old.test.labels, tuple(names))
    for state, visual in (("zero_shot", tiny_base.visual), ("patched", tower_with(tiny_base, theta))):
        assert list(patch.on_union[state]) == ["old"]
        assert patch.on_union[state]["old"] == evaluate(visual, tiny_base, head, images)


def test_the_report_measures_what_changed(patch: PatchResult, tiny_base: BaseModel) -> None:
    for name, change in patch.changes.items():
        gain = 100 * (patch.patched[name].accuracy - patch.zero_shot[name].accuracy)
        assert change.difference.points == pytest.approx(gain)
        assert sum(row.after for row in change.classes) == patch.patched[name].correct
        assert sum(row.before for row in change.classes) == patch.zero_shot[name].correct
    assert 0 < patch.update.relative_norm < 1
    assert 0.5 < patch.update.cosine < 1
    assert list(patch.update.blocks) == ["stem", "block 1", "final"]
    assert patch.distance_to_optimal >= 0
    assert patch.specialised == {"colours": patch.finetuned["colours"]}
    gap = patch.finetuned["colours"].accuracy - patch.patched["colours"].accuracy
    assert patch.distance_to_specialised == pytest.approx(100 * gap)


def test_test_splits_choose_nothing(patch: PatchResult, tiny_base: BaseModel) -> None:
    task, old = two_tasks(tiny_base)[0], old_task(tiny_base)
    reversed_labels = dataclasses.replace(task.test, labels=2 - task.test.labels)
    other = run_patch(tiny_base, [dataclasses.replace(task, test=reversed_labels)], [old], PLAN)
    assert other.terms == patch.terms
    assert same_bits(other.vectors["task:colours"], patch.vectors["task:colours"])
    assert other.patched["colours"] != patch.patched["colours"]


def test_a_transfer_task_is_judged_before_and_after_and_changes_nothing(
    patch: PatchResult, tiny_base: BaseModel
) -> None:
    task, other = two_tasks(tiny_base)
    result = run_patch(tiny_base, [task], [old_task(tiny_base)], PLAN, transfer=[other])
    assert result.terms == patch.terms
    assert same_bits(result.vectors["task:colours"], patch.vectors["task:colours"])
    assert result.stages[0].search.curves == patch.stages[0].search.curves
    assert result.distance_to_optimal == patch.distance_to_optimal
    tower = tower_with(tiny_base, mix(tiny_base.visual.state_dict(), result.mix_terms()))
    assert result.zero_shot["animals"] == evaluate(tiny_base.visual, tiny_base, other.head, other.test)
    assert result.patched["animals"] == evaluate(tower, tiny_base, other.head, other.test)
    gain = 100 * (result.patched["animals"].accuracy - result.zero_shot["animals"].accuracy)
    assert result.changes["animals"].difference.points == pytest.approx(gain)
    with pytest.raises(ConfigError, match="same name"):
        run_patch(tiny_base, [task], [], PLAN, transfer=[task])


def test_a_floor_that_nothing_meets_is_an_error_with_the_curve(tiny_base: BaseModel) -> None:
    task, old = two_tasks(tiny_base)[0], old_task(tiny_base)
    options = AlphaOptions(rule="floor", max_supported_drop=0.0, step=0.5)
    with pytest.raises(NoAcceptableAlphaError) as refusal:
        run_patch(tiny_base, [task], [old], PatchPlan("single", CONFIG, options))
    assert [point.alpha for point in refusal.value.curve] == [0.0, 0.5, 1.0]


def test_anchors_hold_the_patch_back(patch: PatchResult, tiny_base: BaseModel) -> None:
    task, old = two_tasks(tiny_base)[0], old_task(tiny_base)
    config = dataclasses.replace(CONFIG, anchor_weight=20.0, anchor_batch_size=16)
    pool = tiny.coloured(tiny_base, 32, seed=77).images
    anchored = run_patch(tiny_base, [task], [old], PatchPlan("single", config, COARSE), anchors=pool)
    assert anchored.update.relative_norm < patch.update.relative_norm
    with pytest.raises(ConfigError, match="anchor_weight"):
        run_patch(tiny_base, [task], [old], PLAN, anchors=pool)


def test_anchors_that_are_evaluated_are_left_out(tiny_base: BaseModel) -> None:
    task, old = two_tasks(tiny_base)[0], old_task(tiny_base)
    config = dataclasses.replace(CONFIG, iterations=2, warmup_steps=0, anchor_weight=1.0)
    pool = tiny.coloured(tiny_base, 8, seed=77).images
    mixed = torch.cat([old.test.images[:2], pool, task.validation.images[:1]])
    plan = PatchPlan("single", config, COARSE)
    clean, dirty = (run_patch(tiny_base, [task], [old], plan, anchors=anchors) for anchors in (pool, mixed))
    assert same_bits(clean.vectors["task:colours"], dirty.vectors["task:colours"])
    assert clean.notes == ()
    assert dirty.notes == ("3 of 11 anchor images are in a validation or test split and were excluded",)
    with pytest.raises(EmptySplitError, match="anchor"):
        run_patch(tiny_base, [task], [old], plan, anchors=old.test.images)
