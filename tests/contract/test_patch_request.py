"""The body of a patch request: what it fills in, and what it refuses and why."""

from typing import Any

import pytest
from pydantic import ValidationError

from contract.alpha_options import AlphaOptions
from contract.finetune_options import AnchorOptions, FinetuneOptions
from contract.patch_request import PatchOptions, PatchRequest

SUPPORTED = ["ds_s"]
SEVERAL = ["ds_1", "ds_2"]
FLOOR = {"rule": "floor", "max_supported_drop": 2}


def ask(**change: Any) -> PatchRequest:
    return PatchRequest.model_validate({"name": "p", "tasks": ["ds_1"], **change})


def test_only_names_and_tasks_must_be_given() -> None:
    request = PatchRequest(name="  digits ", tasks=("ds_1",))
    assert (request.name, request.method, request.base, request.supported) == ("digits", "single", None, ())
    assert request.alpha == AlphaOptions(rule="combined", grid_step=None, precision="fp32")


def test_supported_tasks_are_certified_unless_that_is_impossible_and_the_request_says_what_was_used() -> None:
    alpha = ask(supported=SUPPORTED).alpha
    assert (alpha.rule, alpha.max_mean_drop, alpha.max_supported_drop, alpha.confidence) == ("certified", 1, 3, 0.95)
    for change in ({"folds": 3}, {"method": "parallel", "tasks": SEVERAL, "coefficients": "per_task"}):
        alpha = ask(supported=SUPPORTED, **change).alpha
        assert (alpha.rule, alpha.max_mean_drop, alpha.max_supported_drop) == ("combined", None, None)
    alpha = ask(supported=SUPPORTED, alpha={"rule": "certified", "max_supported_drop": 2}).alpha
    assert (alpha.max_mean_drop, alpha.max_supported_drop, alpha.confidence) == (None, 2, 0.95)
    alpha = ask(supported=SUPPORTED, alpha={"max_mean_drop": 0.5, "confidence": 0.9}).alpha
    assert (alpha.rule, alpha.max_mean_drop, alpha.max_supported_drop, alpha.confidence) == (
        "certified",
        0.5,
        None,
        0.9,
    )
    assert ask(supported=SUPPORTED, alpha=FLOOR).alpha.confidence is None


def test_features_are_held_in_place_where_something_is_to_be_preserved_unless_the_request_says_no() -> None:
    drawn = AnchorOptions(drawn=True)
    assert ask(supported=SUPPORTED).anchors == drawn
    assert ask(method="auto").anchors == drawn
    for change in ({}, {"supported": SUPPORTED, "anchors": None}, {"supported": SUPPORTED, "method": "instant"}):
        assert ask(**change).anchors is None
        assert PatchRequest.model_validate(ask(**change).model_dump(mode="json")).anchors is None
    assert ask(supported=SUPPORTED, anchors={"dataset": "ds_pool"}).anchors == AnchorOptions(dataset="ds_pool")
    stored = {"name": "p", "tasks": ["ds_1"], "supported": SUPPORTED}
    assert PatchOptions.of_stored(stored).anchors is None, "as it was when it was stored"


def test_a_stored_request_keeps_the_merge_that_it_meant() -> None:
    stored = {"name": "p", "tasks": SEVERAL, "alpha": {"rule": "combined"}}
    assert PatchOptions.of_stored({**stored, "method": "parallel"}).merge == "average"
    assert PatchOptions.of_stored({**stored, "method": "parallel", "merge": "ties"}).merge == "ties"
    joint = PatchOptions.of_stored({**stored, "method": "joint", "merge": "average"})
    assert PatchRequest.model_validate(joint.model_dump(mode="json")).method == "joint"


def test_a_stored_request_without_a_rule_keeps_the_meaning_that_it_had() -> None:
    stored = PatchOptions.of_stored({"name": "p", "tasks": ["ds_1"], "supported": SUPPORTED, "alpha": {}})
    assert (stored.alpha.rule, stored.alpha.strategy) == ("combined", "grid")
    asked = ask(supported=SUPPORTED)
    assert PatchOptions.of_stored(asked.model_dump(include=set(PatchOptions.model_fields))).alpha == asked.alpha


def test_a_request_survives_being_stored() -> None:
    request = PatchRequest.model_validate(
        {
            "name": "p",
            "tasks": ["ds_1"],
            "supported": ["ds_2"],
            "finetune": {"iterations": 5},
            "alpha": {"grid_step": 0.1},
        }
    )
    assert PatchRequest.model_validate(request.model_dump(mode="json")) == request


@pytest.mark.parametrize(
    "change",
    [
        {"name": " "},
        {"name": "x" * 201},
        {"tasks": []},
        {"tasks": ["ds_1", "ds_2"]},
        {"supported": ["ds_1"]},
        {"supported": ["ds_2", "ds_2"]},
        {"method": "magic"},
        {"alpha": {"grid_step": 0.3}},
        {"alpha": {"grid_step": 0}},
        {"alpha": {"grid_step": 5e-324}},
        {"alpha": {"grid_step": 1e-6}},
        {"alpha": {"rule": "best on test"}},
        {"finetune": {"iterations": 0}},
        {"finetune": {"learning_rate": 0}},
        {"finetune": {"learnig_rate": 0.1}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PatchRequest.model_validate({"name": "p", "tasks": ["ds_1"], **change})


@pytest.mark.parametrize("step", [0.05, 0.1, 0.125, 0.2, 0.25, 0.5, 0.01, 1 / 3])
def test_a_grid_that_reaches_one_is_accepted(step: float) -> None:
    assert AlphaOptions(grid_step=step).grid_step == step


def test_what_is_left_out_asks_for_the_plain_patch() -> None:
    request = ask()
    assert (request.sampling, request.merge, request.coefficients) == ("proportional", "task_arithmetic", "scalar")
    assert (request.folds, request.anchors) == (None, None)
    assert (request.alpha.strategy, request.alpha.path, request.alpha.max_alpha) == ("interpolated", "flat", None)
    assert set(request.finetune.model_dump().values()) == {None}


@pytest.mark.parametrize(
    "change",
    [
        {"folds": 5, "alpha": {"strategy": "interpolated", "tolerance_points": 0.5}},
        {"method": "joint", "tasks": SEVERAL, "sampling": "balanced", "folds": 2},
        {"finetune": {"tune": 2}},
        {"method": "instant", "keep": "statistics"},
        {"method": "auto", "keep": "statistics"},
        {"method": "joint", "tasks": SEVERAL, "finetune": {"tune": 16}},
        {"method": "sequential", "tasks": SEVERAL, "alpha": {"path": "best", "max_alpha": 2}},
        {"method": "parallel", "tasks": SEVERAL, "merge": "ties", "alpha": {"path": "lines"}},
        {"method": "parallel", "tasks": SEVERAL, "merge": "task_arithmetic", "coefficients": "per_task"},
        {"supported": SUPPORTED, "alpha": FLOOR},
        {"supported": SUPPORTED, "alpha": {"rule": "floor", "max_supported_drop": 0}},
        {"supported": SUPPORTED, "alpha": {"rule": "certified"}, "activate": "if_accepted"},
        {"supported": SUPPORTED, "activate": "if_certified"},
        {"supported": SUPPORTED, "alpha": {"rule": "certified", "max_mean_drop": 0.5, "confidence": 0.99}},
        {"supported": SUPPORTED, "alpha": {"rule": "floor", "max_supported_drop": {"ds_s": 1.5}}},
        {"supported": SUPPORTED, "alpha": {"max_supported_drop": {"ds_s": 1.5}}, "activate": "if_accepted"},
        {"supported": SUPPORTED, "anchors": {"supported": True}},
        {"anchors": {"dataset": "ds_pool", "weight": 5, "batch_size": 32}},
        {"finetune": {"trainable": "last_k", "last_k": 2, "precision": "auto", "deterministic": True}},
        {"finetune": {"trainable": "lora", "lora_rank": 4, "gradient_checkpointing": True, "label_smoothing": 0.1}},
        {"finetune": {"trainable": "lora", "batch_size": 12, "accumulation_steps": 4}},
    ],
    ids=str,
)
def test_what_makes_sense_is_accepted_and_survives_being_stored(change: dict[str, Any]) -> None:
    request = ask(**change)
    assert PatchRequest.model_validate(request.model_dump(mode="json")) == request


WRONG_COMBINATIONS = [
    ({"tasks": SEVERAL}, "single patches exactly one"),
    ({"method": "joint"}, "joint needs two tasks"),
    ({"method": "sequential"}, "sequential needs two tasks"),
    ({"method": "parallel"}, "parallel needs two tasks"),
    ({"tasks": [f"ds_{index}" for index in range(17)], "method": "joint"}, "at most 16"),
    ({"sampling": "balanced"}, "sampling requires method joint"),
    ({"method": "parallel", "tasks": SEVERAL, "sampling": "balanced"}, "sampling requires method joint"),
    ({"merge": "ties"}, "merge requires method parallel"),
    ({"method": "joint", "tasks": SEVERAL, "merge": "tsv"}, "merge requires method parallel"),
    ({"method": "sequential", "tasks": SEVERAL, "folds": 3}, "folds require method single or joint"),
    ({"method": "parallel", "tasks": SEVERAL, "folds": 3}, "folds require method single or joint"),
    ({"keep": "statistics"}, "keep requires method instant or auto"),
    ({"method": "sequential", "tasks": SEVERAL, "finetune": {"tune": 3}}, "tune requires method single or joint"),
    ({"method": "instant", "finetune": {"tune": 3}}, "tune requires method single or joint"),
    ({"folds": 3, "finetune": {"tune": 3}}, "n times k models"),
    ({"finetune": {"tune": 1}}, "greater than or equal to 2"),
    ({"finetune": {"tune": 17}}, "less than or equal to 16"),
    ({"folds": 1}, "greater than or equal to 2"),
    ({"folds": 11}, "less than or equal to 10"),
    ({"coefficients": "per_task"}, "per_task require method parallel"),
    (
        {"method": "parallel", "tasks": SEVERAL, "coefficients": "per_task", "merge": "ties"},
        "merge ties leaves only one",
    ),
    (
        {"method": "parallel", "tasks": SEVERAL, "coefficients": "per_task", "alpha": {"path": "lines"}},
        "per_task need path flat",
    ),
    ({"supported": SUPPORTED, "alpha": {"rule": "floor"}}, "floor needs max_supported_drop"),
    ({"supported": SUPPORTED, "alpha": {"rule": "floor", "max_supported_drop": {}}}, "floor needs max_supported_drop"),
    ({"alpha": FLOOR}, "needs at least one supported task"),
    (
        {"supported": SUPPORTED, "alpha": {"rule": "combined", "max_supported_drop": 1}},
        "requires rule floor or certified",
    ),
    ({"supported": SUPPORTED, "alpha": {"rule": "combined", "max_mean_drop": 1}}, "require rule certified"),
    ({"alpha": {"max_supported_drop": 1}}, "add supported tasks"),
    ({"supported": SUPPORTED, "folds": 3, "alpha": {"max_mean_drop": 1}}, "or name the rule"),
    ({"activate": "if_accepted"}, "needs rule certified or floor"),
    ({"activate": "if_certified"}, "if_certified needs rule certified"),
    ({"supported": SUPPORTED, "alpha": FLOOR, "activate": "if_certified"}, "if_certified needs rule certified"),
    (
        {"supported": SUPPORTED, "method": "sequential", "tasks": SEVERAL, "activate": "if_certified"},
        "not with the base",
    ),
    ({"supported": SUPPORTED, "alpha": {"rule": "certified", "confidence": 1}}, "less than or equal to 0.995"),
    ({"alpha": {"rule": "certified"}}, "rule certified needs at least one supported task"),
    ({"supported": SUPPORTED, "alpha": {"rule": "certified"}, "folds": 3}, "folds judge other models"),
    (
        {"supported": SUPPORTED, "alpha": {"rule": "floor", "max_supported_drop": {"ds_1": 1}}},
        "'ds_1', which is not a supported task",
    ),
    (
        {"supported": ["ds_s", "ds_t"], "alpha": {"rule": "floor", "max_supported_drop": {"ds_s": 1}}},
        "no limit for 'ds_t'",
    ),
    ({"supported": SUPPORTED, "alpha": {"rule": "floor", "max_supported_drop": -1}}, "greater than or equal to 0"),
    ({"supported": SUPPORTED, "alpha": {"rule": "floor", "max_supported_drop": 101}}, "less than or equal to 100"),
    ({"alpha": {"max_alpha": 1.5}}, "max_alpha requires path lines"),
    ({"method": "parallel", "tasks": SEVERAL, "alpha": {"max_alpha": 2}}, "max_alpha requires path lines"),
    ({"alpha": {"path": "lines", "max_alpha": 0.5}}, "greater than or equal to 1"),
    ({"alpha": {"path": "lines", "max_alpha": 3.5}}, "less than or equal to 3"),
    ({"alpha": {"strategy": "grid", "tolerance_points": 1}}, "tolerance_points requires strategy interpolated"),
    ({"anchors": {}}, "anchors need images"),
    ({"anchors": {"dataset": "ds_1"}}, "is a task to improve on"),
    ({"supported": SUPPORTED, "anchors": {"dataset": "ds_s"}}, "set anchors.supported to true"),
    ({"anchors": {"supported": True}}, "needs at least one supported task"),
    ({"finetune": {"last_k": 2}}, "set trainable to last_k"),
    ({"finetune": {"trainable": "lora", "last_k": 2}}, "set trainable to last_k"),
    ({"finetune": {"trainable": "last_k"}}, "needs last_k"),
    ({"finetune": {"lora_rank": 8}}, "set trainable to lora"),
    ({"finetune": {"iterations": 10, "warmup_steps": 10}}, "warmup_steps must be below iterations"),
    ({"finetune": {"batch_size": 10, "accumulation_steps": 3}}, "must divide batch_size"),
    ({"finetune": {"label_smoothing": 1}}, "less than 1"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG_COMBINATIONS, ids=str)
def test_a_wrong_combination_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ask(**change)
    assert reason in str(refused.value)


@pytest.mark.parametrize("merge", ["ties", "tsv", "iso", "ace", "esm", "regmean"])
def test_a_merge_that_has_no_fine_tuned_weights_may_be_searched_beyond_one(merge: str) -> None:
    request = ask(method="parallel", tasks=SEVERAL, merge=merge, alpha={"max_alpha": 2.5})
    assert request.alpha.max_alpha == 2.5


def test_parts_of_a_batch_are_left_to_the_base_where_no_batch_size_is_given() -> None:
    assert FinetuneOptions(accumulation_steps=3).accumulation_steps == 3
