"""How a report reads on the command line."""

import pytest

from paintbox_client.tables import print_dataset, print_job, print_report, print_versions

SCORES = {at: {"accuracy": 0.5, "total": 40} for at in ("zero_shot", "fine_tuned", "patched")}
TASK = {"name": "digits", "role": "patching", "test": SCORES}


def stage(alpha: float, coefficients: list[float] | None = None) -> dict:
    found = None if coefficients is None else {"coefficients": coefficients}
    return {"key": f"task:{alpha}", "alpha": alpha, "reason": f"because {alpha}", "coefficients": found}


def shown(capsys: pytest.CaptureFixture[str], *stages: dict) -> str:
    print_report({"report": {"tasks": [TASK], "stages": list(stages), "version_id": 7}})
    return capsys.readouterr().out


def test_every_stage_of_a_sequence_tells_its_alpha(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, stage(0.25), stage(0.5))
    assert "Before it task:0.25, alpha 0.25: because 0.25" in text
    assert "Version 7, alpha 0.5: because 0.5" in text


def test_coefficients_per_task_are_told_in_place_of_an_alpha(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, stage(0.5, [0.3, 0.75]))
    assert "Version 7, coefficients 0.3, 0.75" in text
    assert "alpha" not in text


def test_a_profile_that_is_not_flat_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    terms = [{"coefficient": 0.5, "profile": "flat"}, {"coefficient": -1.25, "profile": "lines"}]
    print_versions([{"id": 3, "name": "mix", "base": {"ref": "starter"}, "terms": terms, "is_active": False}])
    assert "0.5, -1.25 (lines)" in capsys.readouterr().out


def test_leakage_is_told_beside_the_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    files = [{"split": "train", "file": "a.png"}, {"split": "test", "file": "b.png"}]
    duplicates = {
        "across_splits": 1200, "by_splits": {"train, test": 1200}, "within_splits": 0, "with_different_labels": 3,
        "examples": [{"num_files": 2, "files": files}],
    }  # fmt: skip
    dataset = {"id": "ds_1", "name": "x", "state": "ready", "classnames": ["a"], "splits": {}, "rejected": []}
    print_dataset(dataset | {"duplicates": duplicates})
    shown = capsys.readouterr()
    assert "1,200 pictures are in more than one split (train, test: 1,200)" in shown.err
    assert "train: a.png = test: b.png" in shown.err
    assert "3 pictures are there under more than one class" in shown.err
    assert "ds_1" in shown.out
    print_dataset(dataset)  # of an older service


def test_a_failed_job_is_shown_with_its_attempts_and_the_end_of_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    job = {
        "id": "job_1",
        "kind": "patch",
        "subject_id": "pt_1",
        "progress": 0.5,
        "status": "failed",
        "stage": "finetune",
    }
    tried = {"attempt": 1, "cause": "trainer_killed", "detail": "the trainer ended with signal 9"}
    error = {"code": "attempts_exhausted", "detail": "All attempts ended early."}
    extra = {
        "eta_seconds": None,
        "cancel_requested": False,
        "error": error,
        "attempts": [tried],
        "log_tail": "[red]a\nb",
    }
    print_job(job | extra)
    told = capsys.readouterr().err
    assert "attempt 1: trainer_killed: the trainer ended with signal 9" in told
    assert "[red]a\nb" in told
    assert told.index("[red]a") < told.index("attempts_exhausted: All attempts ended early.")
