"""The instant patch: learns without training, and supported tasks keep their answers."""

import dataclasses

import pytest
import torch

from paint_core.alpha import AlphaOptions
from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.instant import StatisticsTerm
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, run_instant, run_patch
from tests.paint_core import tiny
from tests.paint_core.patches import OLD, old_task, two_tasks


@pytest.mark.parametrize("rule", ["combined", "certified"])
def test_an_instant_patch_learns_and_supported_tasks_keep_every_answer(tiny_base: BaseModel, rule: str) -> None:
    task, old = tiny.colour_task(tiny_base, "colours", seed=1), old_task(tiny_base)
    splits = {name: dataclasses.replace(getattr(old, name), classnames=OLD) for name in ("validation", "test")}
    old = dataclasses.replace(old, **splits)
    plan = PatchPlan(method="instant", alpha=AlphaOptions(rule=rule))  # type: ignore[arg-type]
    result = run_instant(tiny_base, [task], [old], plan)
    patch = result.patch
    assert patch.patched["colours"].accuracy > patch.zero_shot["colours"].accuracy + 0.2
    assert patch.terms[0].profile == "head"
    assert patch.patched["old"] == patch.zero_shot["old"]
    assert patch.mix_terms() == []
    assert result.fit.accuracy is not None
    assert result.fit.accuracy > 0.8


def test_several_tasks_share_one_term(tiny_base: BaseModel) -> None:
    first, second = two_tasks(tiny_base)
    other = dataclasses.replace(second, name="other")
    result = run_instant(tiny_base, [first, other], [], PatchPlan(method="instant"))
    assert set(result.term.names) == {*first.test.classnames, *other.test.classnames}
    for name in ("colours", "other"):
        assert result.patch.patched[name].accuracy > result.patch.zero_shot[name].accuracy


def test_one_image_a_class_is_enough_to_start(tiny_base: BaseModel) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    assert task.train is not None
    labels = task.train.labels
    one_each = torch.stack([(labels == label).nonzero()[0, 0] for label in labels.unique()])
    result = run_instant(
        tiny_base, [dataclasses.replace(task, train=task.train.subset(one_each))], [], PatchPlan(method="instant")
    )
    assert result.fit.accuracy is None
    assert result.patch.patched["colours"].accuracy >= result.patch.zero_shot["colours"].accuracy


def test_what_needs_weights_is_not_run_as_an_instant_patch(tiny_base: BaseModel) -> None:
    with pytest.raises(ConfigError, match="call run_instant"):
        run_patch(tiny_base, [tiny.colour_task(tiny_base, "colours", seed=1)], [], PatchPlan(method="instant"))


def test_statistics_learn_too_and_can_continue_features_but_not_the_other_way_round(tiny_base: BaseModel) -> None:
    first, second = two_tasks(tiny_base)
    plan = PatchPlan(method="instant", keep="statistics")
    alone = run_instant(tiny_base, [first, second], [], plan)
    assert isinstance(alone.term, StatisticsTerm)
    for name in ("colours", "animals"):
        assert alone.patch.patched[name].accuracy > alone.patch.zero_shot[name].accuracy + 0.2
    features = run_instant(tiny_base, [first], [], PatchPlan(method="instant"))
    both = run_instant(tiny_base, [first, second], [], plan, start=features.term, known=["colours"])
    assert isinstance(both.term, StatisticsTerm)
    assert both.num_images == alone.num_images
    assert both.term.names == alone.term.names
    torch.testing.assert_close(both.term.precision, alone.term.precision, rtol=1e-3, atol=1e-3)
    fewer = both.term.without_classes(first.test.classnames[:1])
    left = run_instant(tiny_base, [second], [], plan, start=fewer, known=["animals"])
    assert left.fit.accuracy is None
    with pytest.raises(WeightsMismatchError, match="holds statistics"):
        run_instant(tiny_base, [first, second], [], PatchPlan(method="instant"), start=both.term, known=["colours"])
