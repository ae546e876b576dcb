"""Reselecting and composing, from Python and from the command line, against the real service."""

import pytest

from paintbox_client import ApiError
from tests.app.patched import add_interpolant, add_patch
from tests.app.world import add_ready_dataset
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run

SPLITS = ("train", "validation", "test")


def coefficients(version: dict) -> list[float]:
    return [term["coefficient"] for term in version["terms"]]


def test_another_alpha_is_chosen_by_name_and_by_rule(served: Served) -> None:
    patched = add_patch(served.world)
    named = served.client.reselect(patched.id, alpha=0.25, name="gentler")
    assert coefficients(named["version"]) == [0.25]
    assert named["version"]["name"] == "gentler"
    ruled = served.client.reselect(patched.id, rule="floor", max_supported_drop=0)
    assert (ruled["alpha"], ruled["is_new"], ruled["version"]["id"]) == (0.25, False, named["version"]["id"])
    with pytest.raises(ApiError, match="exactly one") as refused:
        served.client.reselect(patched.id)
    assert refused.value.status == 422


def test_a_patch_is_asked_about_other_alphas_and_the_images_that_change(served: Served) -> None:
    patched = add_patch(served.world)
    add_interpolant(served.world, patched)
    curve = served.client.patch_curve(patched.id, 0.3)
    assert (curve.point.alpha, curve.point.measured, curve.nodes[-1]) == (0.3, False, 1.0)
    assert served.client.patch_curve(patched.id).point.alpha == 0.5
    won = served.client.patch_changes(patched.id, patched.task, to_alpha=0.3, kind="won")
    assert len(won) == curve.point.tasks[patched.task].gained
    assert {(each.kind, each.after == each.label) for each in won} == {("won", True)}
    assert served.client.patch_changes(patched.id, patched.task, to_alpha=0.3, kind="won", limit=2) == won[:2]


def test_versions_are_composed_and_taken_apart(served: Served) -> None:
    first, second = add_patch(served.world, seeds=(1,)), add_patch(served.world, seeds=(2,))
    both = served.client.compose(
        "both", [{"patch": first.id}, {"patch": second.id, "coefficient": 0.5}], base="starter"
    )
    assert coefficients(both) == [0.5, 0.25]
    left = served.client.remove("without the first", both["id"], [first.id])
    assert coefficients(left) == [0.25]
    with pytest.raises(ApiError) as refused:
        served.client.remove("nothing", left["id"], [second.id])
    assert refused.value.code == "nothing_to_add"
    assert "activate" in refused.value.next


def test_the_command_line_reselects_and_shows_what_validation_says(served: Served) -> None:
    patched = add_patch(served.world)
    shown = run("--url", served.url, "reselect", patched.id, "--rule", "floor", "--max-drop", "0")
    assert shown.status == 0, shown.err
    assert "alpha 0.25, flat" in shown.out
    row = next(line for line in shown.out.splitlines() if line.startswith(patched.task))
    assert row.split() == [patched.task, "50.0%", "50", "100"]
    again = run("--url", served.url, "reselect", patched.id, "--alpha", "0.25")
    assert "already exists" in again.out
    answer = run("--url", served.url, "reselect", patched.id, "--alpha", "0.25", "--json").json
    assert answer["validation"]["alpha"] == 0.25


def test_a_floor_that_cannot_be_met_says_by_how_much_it_is_missed(served: Served) -> None:
    patched = add_patch(served.world, curves={"flat": [(0.0, 10, 90), (1.0, 95, 60)]})
    refused = run("--url", served.url, "reselect", patched.id, "--rule", "floor", "--max-drop", "1")
    assert refused.status == 1
    assert "30.00 points" in refused.err
    assert "Traceback" not in refused.err


def test_the_command_line_composes_and_removes(served: Served) -> None:
    first, second = add_patch(served.world, seeds=(1,)), add_patch(served.world, seeds=(2,))
    parts = ("--patch", f"{first.id}=2", "--version", f"{second.version}=-0.5", "--vector", f"{second.vectors[0]}=0.1")
    made = run("--url", served.url, "compose", "both", *parts, "--json").json
    assert coefficients(made) == [1.0, pytest.approx(-0.15)]
    removed = run("--url", served.url, "compose", "less", "--version", made["id"], "--remove", first.id)
    assert removed.status == 0, removed.err
    assert "-0.15" in removed.out
    assert "paintbox activate" in removed.err
    unclear = run("--url", served.url, "compose", "less", "--patch", first.id, "--remove", second.id)
    assert unclear.status == 2
    assert "single --version" in unclear.err


def test_every_option_of_a_patch_reaches_the_service(served: Served) -> None:
    ids = [add_ready_dataset(served.world.services, ["zero", "one"], splits=SPLITS) for _ in range(5)]
    tasks = ("--task", ids[0], "--task", ids[1], "--supported", ids[2], "--transfer", ids[4])
    how = ("--method", "parallel", "--merge", "ties", "--rule", "floor", "--max-drop", f"{ids[2]}=1.5")
    search = ("--strategy", "interpolated", "--path", "best", "--set", "alpha.tolerance_points=0.25")
    search += ("--metric", "macro_f1", "--bits", "8")
    pool = ("--anchors", ids[3], "--anchor-supported", "--anchor-drawn", "--anchor-weight", "5")
    training = ("--iterations", "7", "--set", "finetune.label_smoothing=0.1", "--set", "finetune.precision=auto")
    asked = run(
        "--url", served.url, "patch", *tasks, *how, *search, *pool, *training, "--no-wait", "--json", "--name", "all"
    )
    assert asked.status == 0, asked.err
    request = asked.json["patch"]["request"]
    assert (request["method"], request["merge"], request["tasks"]) == ("parallel", "ties", ids[:2])
    assert (request["supported"], request["transfer"]) == (ids[2:3], ids[4:])
    alpha, finetune = request["alpha"], request["finetune"]
    assert (alpha["rule"], alpha["max_supported_drop"]) == ("floor", {ids[2]: 1.5})
    assert (alpha["strategy"], alpha["path"], alpha["tolerance_points"]) == ("interpolated", "best", 0.25)
    assert (alpha["metric"], request["store"]) == ("macro_f1", {"bits": 8})
    anchors = {"dataset": ids[3], "supported": True, "drawn": True, "weight": 5.0, "batch_size": None}
    assert request["anchors"] == anchors
    assert (finetune["iterations"], finetune["label_smoothing"], finetune["precision"]) == (7, 0.1, "auto")


def test_a_wrong_combination_of_options_is_refused_with_the_reason(served: Served) -> None:
    ids = [add_ready_dataset(served.world.services, ["zero", "one"], splits=SPLITS) for _ in range(2)]
    refused = run("--url", served.url, "patch", "--task", ids[0], "--task", ids[1])
    assert refused.status == 2
    assert "single patches exactly one task" in refused.err
