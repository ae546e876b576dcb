"""How a report and the system read on the command line."""

import pytest

from paintbox_client.reports import print_report
from paintbox_client.tables import describe_system, print_dataset, print_job, print_versions

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
    assert "Earlier stage task:0.25, alpha 0.25: because 0.25" in text
    assert "Version 7, alpha 0.5: because 0.5" in text


def test_coefficients_per_task_are_told_in_place_of_an_alpha(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, stage(0.5, [0.3, 0.75]))
    assert "Version 7, coefficients 0.3, 0.75" in text
    assert "alpha" not in text


def test_what_takes_no_part_in_a_patch_is_shown_below_its_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    other = {"name": "house numbers", "test": SCORES}
    print_report({"report": {"tasks": [TASK], "transfer": [other], "stages": [stage(0.5)], "version_id": 7}})
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "house numbers" in line)
    assert "transfer" in line


def test_a_profile_that_is_not_flat_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    terms = [{"coefficient": 0.5, "profile": "flat"}, {"coefficient": -1.25, "profile": "lines"}]
    print_versions([{"id": 3, "name": "mix", "base": {"ref": "starter"}, "terms": terms, "is_active": False}])
    assert "0.5, -1.25 (lines)" in capsys.readouterr().out


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


def test_leakage_is_told_beside_the_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    files = [{"split": "train", "file": "a.png"}, {"split": "test", "file": "b.png"}]
    duplicates = {
        "across_splits": 1200, "by_splits": {"train, test": 1200}, "within_splits": 0, "with_different_labels": 3,
        "examples": [{"num_files": 2, "files": files}],
    }  # fmt: skip
    dataset = {"id": "ds_1", "name": "x", "state": "ready", "classnames": ["a"], "splits": {}, "rejected": []}
    print_dataset(dataset | {"duplicates": duplicates})
    shown = capsys.readouterr()
    assert "1,200 images are in more than one split (train, test: 1,200)" in shown.err
    assert "train: a.png = test: b.png" in shown.err
    assert "3 images have more than one class" in shown.err
    assert "ds_1" in shown.out
    print_dataset(dataset)  # of an older service


def test_the_system_tells_what_is_there_a_line_each() -> None:
    state = {
        "version": "0.1.0",
        "active_version": None,
        "canary": {"version": 3, "serving_version": None, "share": 0.1, "trouble": "a blob is missing"},
        "shadow": {"version": None, "serving_version": None, "share": 0.1, "trouble": None},
        "comparison": {"agreement": 0.987},
        "replicas": [{"host": "a:1", "is_alive": False, "last_seen_at": "noon", "serving_version": 1}],
    }
    assert dict(describe_system(state)) == {
        "version": "0.1.0",
        "canary": "version 3, 10% of the requests, not loaded: a blob is missing",
        "agreement": "98.7% of the images compared in shadow",
        "replica a:1": "version 1, not seen since noon",
    }


def test_files_that_were_left_out_are_counted_by_reason_with_a_few_examples(capsys: pytest.CaptureFixture[str]) -> None:
    rejected = [{"file": f"{number}.txt", "reason": "not named like an image"} for number in range(100)]
    rejected += [{"file": "100.txt", "reason": "not named like an image", "count": 59_900}]
    rejected += [{"file": f"{side}.png", "reason": f"{side} x 1 has an extreme aspect ratio"} for side in (300, 400)]
    splits = {"train": {"num_images": 3}, "test": {"num_images": 1_000, "taken_from": "validation"}}
    print_dataset({"id": "ds_1", "name": "x", "kind": "pool", "state": "ready", "splits": splits, "rejected": rejected})
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "Rejected: 60,000 file(s): not named like an image: 0.txt, 1.txt, 2.txt …",
        "Rejected: 2 file(s): … x … has an extreme aspect ratio: 300.png, 400.png",
        "test: 1,000 images, taken from validation of the upload.",
    ]
    assert "pool" in shown.out


def test_how_a_data_set_was_read_is_shown_with_examples_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    reading = {
        "summary": "3 splits, 10 classes from folder level 2, 1 wrapper removed",
        "root": "archive",
        "examples": [{"file": f"archive/train/cat/{n}.jpg", "label": "cat", "split": "train"} for n in range(9)],
        "warnings": [{"code": "one_class", "detail": "It has one class."}],
    }
    dataset = {"id": "ds_1", "name": "pets", "state": "ready", "num_classes": 10, "splits": {}, "rejected": []}
    print_dataset({**dataset, "duplicates": None, "reading": reading})
    text = " ".join("".join(capsys.readouterr()).split())
    assert "Read as 3 splits, 10 classes from folder level 2, 1 wrapper removed, below archive." in text
    assert "archive/train/cat/0.jpg: cat (train)" in text
    assert "cat/8.jpg" not in text
    assert "Warning: It has one class." in text
    print_dataset({**dataset, "duplicates": None})  # of a service of an older release
