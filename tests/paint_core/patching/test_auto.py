"""Method auto: what it keeps is the best of what it tried, and is what it says."""

import copy
import dataclasses

import pytest
import torch

from paint_core.alpha import AlphaOptions
from paint_core.config.finetune import FinetuneConfig
from paint_core.data import Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation import encode
from paint_core.instant import StatisticsTerm
from paint_core.models import BaseModel
from paint_core.patching import AutoResult, PatchPlan, run_auto, run_instant, run_patch
from paint_core.patching import auto as module
from paint_core.patching.terms import HEAD_PROFILE
from paint_core.weights import fingerprint, mix_into
from tests.paint_core import tiny
from tests.paint_core.patches import OLD, old_task

SHORT = FinetuneConfig(iterations=12, batch_size=16, learning_rate=3e-3, warmup_steps=2)


@pytest.fixture(scope="module")
def task(tiny_base: BaseModel) -> Task:
    """A task with wrong labels in its validation split, so that every patch leaves errors."""
    made = tiny.colour_task(tiny_base, "colours", seed=1)
    labels = made.validation.labels.clone()
    labels[:3] = (labels[:3] + 1) % 3
    return dataclasses.replace(made, validation=dataclasses.replace(made.validation, labels=labels))


@pytest.fixture(scope="module")
def old(tiny_base: BaseModel) -> Task:
    made = old_task(tiny_base)
    splits = {name: dataclasses.replace(getattr(made, name), classnames=OLD) for name in ("validation", "test")}
    return dataclasses.replace(made, **splits)


def _plan(**alpha: object) -> PatchPlan:
    return PatchPlan(method="auto", finetune=SHORT, alpha=AlphaOptions(**alpha))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result(tiny_base: BaseModel, task: Task, old: Task) -> AutoResult:
    return run_auto(tiny_base, [task], [old], _plan())


def test_the_kept_way_has_the_best_value_and_is_the_first_of_equals(result: AutoResult) -> None:
    assert [each.way for each in result.candidates][:2] == ["instant", "finetuned"]
    best = max(each.value for each in result.candidates)
    assert result.kept is next(each for each in result.candidates if each.value == best)


def test_candidates_are_those_of_the_methods_alone_judged_under_their_own_labels(
    tiny_base: BaseModel, task: Task, old: Task, result: AutoResult
) -> None:
    instant, finetuned = result.candidates[:2]
    alone = run_instant(tiny_base, [task], [old], PatchPlan(method="instant"))
    assert instant.alpha == alone.patch.stages[0].search.choice.alpha
    single = run_patch(tiny_base, [task], [old], dataclasses.replace(_plan(), method="single"))
    choice = single.stages[0].search.choice
    assert (finetuned.alpha, float(finetuned.value)) == (choice.alpha, choice.combined)
    start = single.stages[0].search.curve[0]
    assert instant.point.scores["old"].correct == start.scores["old"].correct, "no weights, no other answer"


def test_a_stack_is_the_head_term_on_the_fine_tuned_mix_compared_with_the_base(
    tiny_base: BaseModel, task: Task, old: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way is best here, the stack is kept, and recomputed by hand from its terms."""
    monkeypatch.setattr(module._Candidates, "best", _last)
    stacked = run_auto(tiny_base, [task], [old], _plan())
    assert stacked.kept.way == "stacked"
    patch = stacked.patch
    assert [term.profile for term in patch.terms] == ["flat", HEAD_PROFILE]
    visual = copy.deepcopy(tiny_base.visual)
    mix_into(visual, tiny_base.visual.state_dict(), patch.mix_terms())
    assert stacked.instant is not None
    assert stacked.instant.term.tower == fingerprint(visual.state_dict())
    features = torch.nn.functional.normalize(encode(visual, task.test.images, tiny_base.preprocess), dim=-1)
    logits = tiny_base.logit_scale * features @ task.head.T
    corrected = stacked.instant.term.apply(features, logits, task.test.classnames, patch.terms[-1].coefficient)
    assert patch.patched["colours"].correct == int((corrected.argmax(dim=1) == task.test.labels).sum())
    base = run_instant(tiny_base, [task], [old], PatchPlan(method="instant")).patch
    assert patch.zero_shot["colours"].correct == base.zero_shot["colours"].correct
    gained = patch.patched["colours"].correct - base.zero_shot["colours"].correct
    assert patch.changes["colours"].difference.points == pytest.approx(100 * gained / len(task.test))


def _last(candidates: module._Candidates) -> AutoResult:
    candidate, patch, instant = candidates._found[-1]
    return AutoResult(patch, candidate, tuple(each for each, _, _ in candidates._found), instant)


def test_nothing_is_trained_where_the_instant_patch_leaves_no_error(
    tiny_base: BaseModel, task: Task, old: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENOUGH", 0.0)
    monkeypatch.setattr(module, "run_patch", lambda *_, **__: pytest.fail("it was trained"))
    result = run_auto(tiny_base, [task], [old], _plan())
    assert (result.kept.way, len(result.candidates)) == ("instant", 1)
    assert result.patch.vectors == {}


def test_the_instant_patch_is_kept_where_fine_tuning_has_no_acceptable_alpha(
    tiny_base: BaseModel, task: Task, old: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NoAcceptableAlphaError("no alpha", [])

    monkeypatch.setattr(module, "run_patch", refuse)
    result = run_auto(tiny_base, [task], [old], _plan(rule="floor", max_supported_drop=100.0))
    assert result.kept.way == "instant"
    monkeypatch.setattr(module, "run_instant", refuse)
    with pytest.raises(NoAcceptableAlphaError):
        run_auto(tiny_base, [task], [old], _plan(rule="floor", max_supported_drop=100.0))


def test_certificates_of_the_instant_patches_share_the_error(tiny_base: BaseModel, task: Task, old: Task) -> None:
    plan = module._instant_plan(_plan(rule="certified", confidence=0.9))
    assert plan.alpha.confidence == pytest.approx(1 - 0.1 / 3)
    result = run_auto(tiny_base, [task], [old], _plan(rule="certified", max_mean_drop=100.0))
    assert all(each.is_certified for each in result.candidates if each.alpha > 0)


def test_head_terms_of_auto_may_keep_statistics_alone(tiny_base: BaseModel, task: Task, old: Task) -> None:
    result = run_auto(tiny_base, [task], [old], dataclasses.replace(_plan(), keep="statistics"))
    assert [each.way for each in result.candidates][:2] == ["instant", "finetuned"]
    alone = run_instant(tiny_base, [task], [old], PatchPlan(method="instant", keep="statistics"))
    assert result.candidates[0].alpha == alone.patch.stages[0].search.choice.alpha
    assert result.instant is None or isinstance(result.instant.term, StatisticsTerm)
