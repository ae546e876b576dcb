import dataclasses

import pytest
import torch

from paint_core.alpha import AlphaOptions, choose_alpha, evaluate_curve
from paint_core.alpha.cross_validation import fold_tasks, labelled_images, sum_curves
from paint_core.errors import ConfigError, NoAcceptableAlphaError
from paint_core.evaluation.statistics import wilson_interval
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, PatchResult, run_patch
from paint_core.training.finetuning import finetune
from paint_core.weights import task_vector
from tests.paint_core.patches import COARSE, CONFIG, MemoryJournal, old_task, same_bits, two_tasks

PLAN = PatchPlan("single", CONFIG, COARSE, folds=3)


@pytest.fixture(scope="module")
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture(scope="module")
def patch(tiny_base: BaseModel, journal: MemoryJournal) -> PatchResult:
    return run_patch(tiny_base, two_tasks(tiny_base)[:1], [old_task(tiny_base)], PLAN, journal=journal)


def test_folds_train_once_each_and_then_on_everything(
    tiny_base: BaseModel, patch: PatchResult, journal: MemoryJournal
) -> None:
    task = two_tasks(tiny_base)[0]
    assert journal.made == {"fold 1": 1, "fold 2": 1, "fold 3": 1, "all": 1}
    theta_0 = tiny_base.visual.state_dict()
    everything = labelled_images(task)
    expected = task_vector(theta_0, finetune(tiny_base, task.head, everything, CONFIG))
    assert list(patch.vectors) == ["all"]
    assert same_bits(patch.vectors["all"], expected)
    for number, fold in enumerate(fold_tasks(task, 3), start=1):
        assert fold.train is not None
        own = task_vector(theta_0, finetune(tiny_base, fold.head, fold.train, CONFIG))
        assert same_bits(journal.vectors[f"fold {number}"], own)


def test_alpha_is_chosen_on_the_counts_of_all_folds_together(
    tiny_base: BaseModel, patch: PatchResult, journal: MemoryJournal
) -> None:
    task, old = two_tasks(tiny_base)[0], old_task(tiny_base)
    curves = []
    for number, fold in enumerate(fold_tasks(task, 3), start=1):
        tasks = {each.name: (each.head, each.validation) for each in (fold, old)}
        tau = journal.vectors[f"fold {number}"]
        curves.append(evaluate_curve(tiny_base, tau, tasks, COARSE.alphas("flat")))
    summed = sum_curves(curves, ["old"])
    (stage,) = patch.stages
    assert list(stage.search.curve) == summed
    assert {(point.scores["colours"].total, point.scores["old"].total) for point in summed} == {(48 + 24, 24)}
    assert stage.search.choice == choose_alpha(summed, ["colours"], ["old"])
    assert [(term.key, term.coefficient) for term in patch.terms] == [("all", stage.search.choice.alpha)]


def test_a_supported_tasks_images_count_once_however_many_folds_judge_them(
    tiny_base: BaseModel, patch: PatchResult
) -> None:
    """The interval would be too narrow by the root of the number of folds, were they counted once for each."""
    old = old_task(tiny_base)
    (stage,) = patch.stages
    for point in stage.search.curve:
        score = point.scores["old"]
        assert score.total == len(old.validation)
        assert score.interval() == wilson_interval(score.correct, 24)
    start = stage.search.curve[0].scores["old"]
    assert (start.correct, start.interval()) == (24, wilson_interval(24, 24))


def test_a_report_of_folds_says_which_accuracy_is_honest_for_what(patch: PatchResult) -> None:
    text = " ".join(patch.notes)
    assert "not this patch" in text
    assert "only its accuracies on test splits are unbiased" in text


def test_folds_of_a_joint_patch_hold_out_images_of_every_task(tiny_base: BaseModel) -> None:
    result = run_patch(tiny_base, two_tasks(tiny_base), [], PatchPlan("joint", CONFIG, COARSE, folds=2))
    scores = result.stages[0].search.curve[0].scores
    assert {name: score.total for name, score in scores.items()} == {"colours": 72, "animals": 72}
    assert [term.key for term in result.terms] == ["all"]


def test_interpolated_folds_end_at_an_alpha_that_was_measured_in_every_fold(tiny_base: BaseModel) -> None:
    options = AlphaOptions(strategy="interpolated", path="best", step=0.05)
    plan = PatchPlan("single", CONFIG, options, folds=2)
    result = run_patch(tiny_base, two_tasks(tiny_base)[:1], [old_task(tiny_base)], plan)
    search = result.stages[0].search
    assert set(search.curves) == {"flat", "lines_paper"}
    assert search.curve == search.curves[search.profile]
    (chosen,) = (point for point in search.curve if point.alpha == search.choice.alpha)
    assert chosen.measured
    assert chosen.profile == search.profile == result.terms[0].profile
    assert not all(point.measured for point in search.curve)
    assert search.choice.combined == max(
        choose_alpha(curve, ["colours"], ["old"]).combined for curve in search.curves.values()
    )


def test_a_floor_over_folds_is_held_by_the_sums(tiny_base: BaseModel) -> None:
    task, old = two_tasks(tiny_base)[0], old_task(tiny_base)
    options = AlphaOptions(rule="floor", max_supported_drop=30.0, step=0.25)
    result = run_patch(tiny_base, [task], [old], PatchPlan("single", CONFIG, options, folds=2))
    (stage,) = result.stages
    assert stage.search.choice == choose_alpha(stage.search.curve, ["colours"], ["old"], "floor", 30.0)
    assert any("allowed drops" in note and "not for this patch" in note for note in result.notes)
    short = dataclasses.replace(CONFIG, iterations=8)
    strict = AlphaOptions(rule="floor", max_supported_drop=0.0, step=0.5)
    with pytest.raises(NoAcceptableAlphaError):
        run_patch(tiny_base, [task], [old], PatchPlan("single", short, strict, folds=2))


def test_more_folds_than_images_are_refused(tiny_base: BaseModel) -> None:
    task = two_tasks(tiny_base)[0]
    assert task.train is not None
    one = torch.tensor([0])
    few = dataclasses.replace(task, train=task.train.subset(one), validation=task.validation.subset(one))
    with pytest.raises(ConfigError, match="2 images cannot make 3 folds"):
        run_patch(tiny_base, [few], [], PLAN)
