"""The body of a patch request: what it fills in and what it refuses."""

import pytest
from pydantic import ValidationError

from registry.contract import AlphaOptions, JobStatus, PatchRequest


def test_only_names_and_tasks_must_be_given() -> None:
    request = PatchRequest(name="  digits ", tasks=("ds_1",))
    assert (request.name, request.method, request.base, request.supported) == ("digits", "single", None, ())
    assert request.alpha == AlphaOptions(rule="combined", grid_step=0.05)


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


def test_three_states_are_final() -> None:
    assert {status for status in JobStatus if status.ended} == {"succeeded", "failed", "cancelled"}
