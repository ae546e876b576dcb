"""The report of a patch on the command line: numbers, intervals, warnings, the next step, the picture and the page."""

import copy
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
from typer.main import get_command

from contract import alpha_options, datasets, jobs, patch_request
from paintbox_client import options
from paintbox_client.cli import app
from paintbox_client.display import describe_job
from paintbox_client.errors import InputError, JobFailedError
from paintbox_client.following import describe_event
from paintbox_client.plots import draw_frontier
from paintbox_client.reports import print_report, warnings_of


def score(accuracy: float, total: int = 400) -> dict[str, Any]:
    return {"accuracy": accuracy, "correct": round(accuracy * total), "total": total}


def task(name: str, role: str, accuracies: tuple[float, float, float], change: tuple[float, ...], **more: Any) -> Any:
    names = ("zero_shot", "fine_tuned", "patched")
    test = {at: score(each) for at, each in zip(names, accuracies, strict=True)}
    points = dict(zip(("change_points", "low_points", "high_points"), change, strict=True))
    return {"name": name, "role": role, "dataset_id": f"ds_{name}", "num_classes": 10, "test": test, **more} | {
        "change": points | {"p_value": 0.01, "classes": []}
    }


def curve() -> list[dict[str, Any]]:
    rows = ((0.0, 0.2, 0.75), (0.5, 0.9, 0.74), (1.0, 0.99, 0.4))
    return [
        {
            "alpha": alpha,
            "patching": first,
            "supported": second,
            "measured": True,
            "tasks": {"ds_digits": score(first), "ds_food": score(second)},
        }
        for alpha, first, second in rows
    ]


GOOD: dict[str, Any] = {
    "id": "pt_1",
    "name": "<digits>",
    "request": {"alpha": {"rule": "combined"}, "folds": None},
    "report": {
        "version_id": 3,
        "alpha": 0.5,
        "reason": "the best mean",
        "terms": [{"coefficient": 0.5}],
        "tasks": [
            task("digits", "patching", (0.2, 0.99, 0.9), (70.0, 66.0, 74.0)),
            task("food", "supported", (0.75, 0.4, 0.74), (-1.0, -2.5, 0.5)),
        ],
        "curve": curve(),
        "notes": ["Test images chose nothing."],
        "activation": None,
    },
}


def changed(**report: Any) -> dict[str, Any]:
    done = copy.deepcopy(GOOD)
    done["report"] |= report
    return done


def with_task(at: int, **fields: Any) -> dict[str, Any]:
    done = copy.deepcopy(GOOD)
    done["report"]["tasks"][at] |= fields
    return done


def bound(dataset_id: str | None, certified: bool) -> dict[str, Any]:
    points = {"drop_points": 0.4, "low_points": -0.5, "high_points": 1.3, "limit_points": 1.0}
    return {"dataset_id": dataset_id, "certified": certified, **points}


def unlike() -> dict[str, Any]:
    """A certified report of a base that knows the validation images of food less than its test images."""
    report: dict[str, Any] = with_task(1, validation={"zero_shot": score(0.5)})["report"]
    certificate = {"stance": "certified", "confidence": 0.95, "bounds": [bound(None, certified=True)]}
    return report | {"certificate": certificate}


def few(at: int, total: int) -> dict[str, Any]:
    done = copy.deepcopy(GOOD)
    for each in done["report"]["tasks"][at]["test"].values():
        each["total"] = total
    return done


def test_the_table_has_changes_intervals_and_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(GOOD, active=1)
    shown = capsys.readouterr()
    row = next(line for line in shown.out.splitlines() if line.startswith("digits"))
    assert row.split() == ["digits", "patching", "20.0%", "99.0%", "90.0%", "+70.0", "+66.0", "…", "+74.0", "400"]
    assert "Patch pt_1" in shown.out
    assert "Version 3, alpha 0.5: the best mean" in shown.out
    assert "Run `paintbox activate 3` to serve it." in shown.err
    assert "Test images chose nothing." in shown.err
    assert "Warning" not in shown.err


def test_the_table_tells_which_limits_are_certified_and_the_rule_what_that_means(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = [*GOOD["report"]["tasks"], task("nature", "supported", (0.65, 0.5, 0.66), (1.0, 0.1, 1.9))]
    bounds = [bound(None, certified=True), bound("ds_food", certified=False), bound("ds_nature", certified=True)]
    certificate = {"stance": "certified", "confidence": 0.95, "bounds": bounds}
    told = {"rule": "certified", "guarantee": "With 95 % confidence, little."}
    print_report(changed(tasks=tasks, certificate=certificate, **told))
    shown = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split()[-1] for line in shown.splitlines()[:5]}
    assert [rows[name] for name in ("digits", "food", "nature", "mean of supported")] == ["-", "no", "yes", "yes"]
    assert "Guarantee: With 95 % confidence, little." in shown
    alone = certificate | {"bounds": [bound(None, certified=False), bound("ds_food", certified=True)]}
    print_report(changed(certificate=alone))
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("food"))
    assert row.split()[-1] == "no"


def test_the_bits_of_the_stored_task_vector_are_told_with_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    for bits, loss, told in (
        (4, 0.02, "Task vector task:ds_1: stored in 4 bits a number, -0.02 points of combined validation accuracy"),
        (16, None, "Task vector task:ds_1: stored in 16 bits a number"),
        (32, 0.0, None),
    ):
        storage = {"bits": bits, "loss_points": loss}
        print_report(changed(terms=[{"key": "task:ds_1", "coefficient": 0.5, "storage": storage}]))
        shown = capsys.readouterr().out
        assert (told in shown) if told else ("stored in" not in shown)


def test_means_are_told_where_a_role_has_several_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    done = copy.deepcopy(GOOD)
    done["report"]["tasks"].append(task("nature", "supported", (0.65, 0.5, 0.66), (1.0, 0.1, 1.9)))
    print_report(done)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mean of supported"))
    assert row.split()[3:] == ["supported", "70.0%", "45.0%", "70.0%", "+0.0", "-", "800"]


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (with_task(1, change={"change_points": -6.3, "low_points": -9.1, "high_points": -3.4}), "food lost 6.3 points"),
        (changed(terms=[{"coefficient": 0.0}], alpha=0.0), "equals the base"),
        (changed(tasks=GOOD["report"]["tasks"][:1]), "No supported task was evaluated"),
        (
            few(0, 20),
            "on 20 images, where one image is 5.0 points: add images, and choose alpha with --folds 5",
        ),
        (few(1, 20), "food was measured on 20 images"),
        (with_task(1, images={"validation": {"num_images": 40}}), "food has 40 validation images"),
        (with_task(0, images={"validation": {"num_images": 99}}), "or choose alpha with --folds 5"),
        (with_task(0, num_classes=1), "digits has only one class"),
        (with_task(0, test={"zero_shot": score(0.9), "fine_tuned": score(1.0), "patched": score(0.9)}), "almost none"),
        (with_task(0, change={"change_points": 0.5, "low_points": -1.0, "high_points": 2.0}), "not significant"),
        (
            GOOD | {"report": unlike()},
            "50.0% of the validation images right and 75.0% of the test images, so they differ in kind",
        ),
    ],
)
def test_what_spoils_a_patch_is_a_warning(done: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(warnings_of(GOOD)) == []
    warnings = list(warnings_of(done))
    assert [said in each for each in warnings].count(True) == 1, warnings
    print_report(done)
    assert f"Warning: {warnings[0]}"[:60] in capsys.readouterr().err


def test_splits_of_which_the_base_knows_as_much_are_no_reason_to_warn() -> None:
    report = with_task(1, validation={"zero_shot": score(0.7)})["report"]
    certificate = {"stance": "certified", "confidence": 0.95, "bounds": [bound(None, certified=True)]}
    assert list(warnings_of(GOOD | {"report": report | {"certificate": certificate}})) == []


def test_a_limit_that_was_set_changes_the_remedy() -> None:
    lost = with_task(1, change={"change_points": -6.3, "low_points": -9.1, "high_points": -3.4})
    assert "--rule certified" in next(iter(warnings_of(lost)))
    lost["request"]["alpha"]["rule"] = "floor"
    assert "paintbox reselect" in next(iter(warnings_of(lost)))


@pytest.mark.parametrize(
    ("activation", "active", "said"),
    [
        ({"asked": "if_accepted", "accepted": True, "reason": "the worst: food"}, 1, "was accepted and activated"),
        ({"asked": "if_accepted", "accepted": False, "reason": "food drops"}, 1, "was not activated: food drops"),
        (None, 3, "Version 3 is active."),
        (None, 1, "Run `paintbox activate 3`"),
    ],
)
def test_what_is_active_already_is_not_to_be_activated(
    activation: dict[str, Any] | None, active: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(changed(activation=activation), active)
    told = capsys.readouterr().err
    assert said in told
    assert ("paintbox activate" in told) == (active != 3 and not (activation or {}).get("accepted"))


def test_the_curve_tells_every_alpha_and_which_was_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(GOOD, curve=True)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ALPHA", "digits", "food"] in rows
    assert ["0.5", "90.0%", "74.0%", "chosen"] in rows


def test_the_picture_is_well_formed_with_and_without_supported_tasks() -> None:
    picture = draw_frontier(GOOD)
    root = ElementTree.fromstring(picture)
    assert len(root.findall(".//{*}circle")) == len(curve()) + 1
    alone = copy.deepcopy(GOOD)
    for point in alone["report"]["curve"]:
        point["supported"] = None
    assert ">Alpha<" in draw_frontier(alone)
    with pytest.raises(InputError, match="no curve"):
        draw_frontier(changed(curve=[]))


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"message": "fine-tuning", "data": {"step": 40, "loss": 0.31234, "images_per_second": 512.04}},
            "fine-tuning: step 40, loss 0.3123, 512 images/s",
        ),
        (
            {"message": "alpha evaluated", "data": {"alpha": 0.5, "profile": "flat", "accuracies": {"ds_1": 0.901}}},
            "alpha evaluated: alpha 0.5, profile flat, digits 90.1%",
        ),
        ({"message": "queued", "data": {"request_id": "x"}}, "queued"),
        ({"message": "failed", "data": {"code": "a", "detail": "b"}}, "failed: code a, detail b"),
        ({"message": "started", "data": None}, "started"),
    ],
)
def test_events_tell_what_they_hold(event: dict[str, Any], said: str) -> None:
    assert describe_event(event, {"ds_1": "digits"}) == said


def test_a_job_that_was_cancelled_says_so_once() -> None:
    assert str(JobFailedError({"id": "job_1", "status": "cancelled", "error": None})).startswith(
        "Job job_1 was cancelled. "
    )
    assert describe_job({"status": "running", "stage": None}) == "starting"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (options.Method, patch_request.PatchRequest.model_fields["method"].annotation),
        (options.Sampling, patch_request.PatchRequest.model_fields["sampling"].annotation),
        (options.Merge, patch_request.PatchRequest.model_fields["merge"].annotation),
        (options.Coefficients, patch_request.PatchRequest.model_fields["coefficients"].annotation),
        (options.Activate, patch_request.PatchRequest.model_fields["activate"].annotation),
        (options.Priority, jobs.PriorityName),
        (options.RuleName, alpha_options.RuleName),
        (options.Strategy, alpha_options.AlphaOptions.model_fields["strategy"].annotation),
        (options.AlphaPath, alpha_options.AlphaOptions.model_fields["path"].annotation),
    ],
)
def test_the_choices_of_options_are_those_of_the_service(ours: Any, theirs: Any) -> None:
    assert get_args(ours) == get_args(theirs)


def test_the_states_of_options_are_those_of_the_service() -> None:
    assert [*options.JobStatus] == [*jobs.JobStatus]
    assert [*options.DatasetState] == [*datasets.DatasetState]
    assert set(get_args(options.JobKind)) <= {*map(str, jobs.JobKind)}


def commands(group: Any, path: tuple[str, ...] = ()) -> Any:
    for name, command in group.commands.items():
        if getattr(command, "commands", None):
            yield from commands(command, (*path, name))
        if not getattr(command, "commands", None) or command.invoke_without_command:
            yield (*path, name), command


def test_every_command_can_answer_in_json() -> None:
    found = dict(commands(get_command(app)))
    assert len(found) > 30
    without = [path for path, command in found.items() if not any("--json" in each.opts for each in command.params)]
    assert without == []


def test_trials_are_listed_with_the_chosen_one(capsys: pytest.CaptureFixture[str]) -> None:
    trial = {"learning_rate": 1e-4, "iterations": 200, "alpha": 0.5, "patching": 0.9, "supported": 0.8, "failure": None}
    failed = trial | {"alpha": None, "patching": None, "supported": None, "failure": "it diverged"}
    trials = [failed | {"number": 1, "chosen": False}, trial | {"number": 2, "chosen": True}]
    print_report(changed(trials=trials))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "0.0001", "200", "0.5", "90.0%", "80.0%", "chosen"] in lines
    assert any(line[:3] == ["1", "0.0001", "200"] and line[-2:] == ["it", "diverged"] for line in lines)


EMBEDDINGS: dict[str, Any] = {
    "neighbours": 10,
    "num_images": 1234,
    "mean_cosine": 0.98765,
    "recall": 0.912,
    "tasks": [{"dataset_id": "ds_digits", "name": "digits", "num_images": 1234, "mean_cosine": 0.98, "recall": 0.912}],
}


def test_a_report_says_whether_an_index_of_the_base_can_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    done = copy.deepcopy(GOOD)
    print_report(done)
    assert "Embeddings" not in capsys.readouterr().out
    done["report"]["embeddings"] = EMBEDDINGS
    print_report(done, next_steps=False)
    shown = capsys.readouterr()
    assert "find 91.2% of the 10 nearest images in an index of the base (mean cosine 0.9877, 1,234" in shown.out
    assert "paintbox activate" not in shown.err
