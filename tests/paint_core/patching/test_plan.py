import dataclasses
from typing import Any

import pytest

from paint_core.alpha import AlphaOptions
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, run_patch
from tests.paint_core.patches import CONFIG, old_task, two_tasks


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"method": "both"}, "method is 'both'"),
        ({"method": "joint", "sampling": "often"}, "sampling is 'often'"),
        ({"method": "parallel", "merge": "max"}, "merge is 'max'"),
        ({"method": "parallel", "coefficients": "many"}, "coefficients is 'many'"),
        ({"method": "parallel", "coefficient_evaluations": 0}, "at least 1"),
        ({"method": "single", "sampling": "balanced"}, "method 'joint'"),
        ({"method": "sequential", "merge": "ties"}, "method 'parallel'"),
        ({"method": "single", "coefficients": "per_task"}, "method 'parallel', not 'single'"),
        ({"method": "parallel", "coefficients": "per_task", "merge": "tsv"}, "one task vector"),
        ({"method": "parallel", "coefficients": "per_task", "alpha": AlphaOptions(path="lines")}, "path 'flat'"),
        ({"method": "sequential", "folds": 3}, "use single or joint"),
        ({"method": "parallel", "folds": 3}, "use single or joint"),
        ({"method": "single", "folds": 1}, r"choose 2\.\.10"),
        ({"method": "joint", "folds": 11}, r"choose 2\.\.10"),
        ({"method": "single", "keep": "statistics"}, "about head terms"),
        ({"method": "instant", "keep": "all"}, "keep is 'all'"),
        ({"method": "sequential", "tune": 2}, "use single or joint"),
        ({"method": "parallel", "tune": 2}, "use single or joint"),
        ({"method": "instant", "tune": 2}, "use single or joint"),
        ({"method": "single", "tune": 2, "folds": 2}, "leave one of them out"),
        ({"method": "single", "tune": 1}, r"choose 2\.\.16"),
        ({"method": "single", "tune": 17}, r"choose 2\.\.16"),
        ({"tune": 16, "alpha": AlphaOptions(rule="certified", confidence=0.99)}, "fewer trials"),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused_with_the_reason(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        PatchPlan(finetune=CONFIG, **wrong)


FLOOR = AlphaOptions(rule="floor", max_supported_drop=2.0)
LIMITS = AlphaOptions(rule="floor", max_supported_drop={"new": 2.0})


def test_tasks_that_do_not_fit_the_plan_are_refused_before_anything_is_trained(tiny_base: BaseModel) -> None:
    first, second = two_tasks(tiny_base)
    old = old_task(tiny_base)
    untrained = dataclasses.replace(second, train=None)
    for plan, tasks, supported, reason in (
        (PatchPlan("single", CONFIG), [first, second], [], "one task, not 2"),
        (PatchPlan("single", CONFIG), [], [], "one task, not 0"),
        (PatchPlan("joint", CONFIG), [first], [], "at least two"),
        (PatchPlan("sequential", CONFIG), [first], [], "at least two"),
        (PatchPlan("parallel", CONFIG), [first], [], "at least two"),
        (PatchPlan("single", CONFIG), [first], [first], "same name"),
        (PatchPlan("single", CONFIG, FLOOR), [first], [], "at least one"),
        (PatchPlan("single", CONFIG, LIMITS), [first], [old], "'new'"),
    ):
        with pytest.raises(ConfigError, match=reason):
            run_patch(tiny_base, tasks, supported, plan)
    with pytest.raises(EmptySplitError, match="'animals' has no training split"):
        run_patch(tiny_base, [first, untrained], [], PatchPlan("joint", CONFIG))
