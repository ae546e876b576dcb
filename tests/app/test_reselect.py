"""Another alpha of a finished patch: chosen on the stored curves, mixed from stored vectors, registered once."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from httpx2 import Response

from app.patches.reselection import finished_report, last_stage, select
from contract.versions import ReselectRequest
from registry.patches import Patches
from tests.app.patched import Patched, add_interpolant, add_patch
from tests.app.world import World, check_problem, expected_cosines, mixed_tower, random_task_vector
from tests.builders import digit_pngs

LABELS = ["pizza", "taco", "digit zero"]
IMAGES = [digit_pngs(0)[0], digit_pngs(7)[0]]
SAFE = [(0.0, 10, 90), (0.25, 50, 90), (0.5, 90, 86), (1.0, 95, 60)]


def reselect(world: World, patched: Patched, **body: Any) -> Response:
    return world.client.post(f"/v1/patches/{patched.id}/reselect", json=body)


def chosen(response: Response) -> tuple[float, str]:
    assert response.status_code in (200, 201), response.text
    return response.json()["alpha"], response.json()["profile"]


def terms_of(response: Response) -> list[tuple[str, float, str]]:
    assert response.status_code in (200, 201), response.text
    terms = response.json()["version"]["terms"]
    return [(term["task_vector_sha256"], term["coefficient"], term["profile"]) for term in terms]


def test_an_alpha_named_makes_a_version_that_activates_and_answers_with_it(world: World) -> None:
    patched = add_patch(world, seeds=(1,), alpha=0.5)
    response = reselect(world, patched, alpha=0.25, name="gentler")
    assert response.status_code == 201
    answer = response.json()
    version = answer["version"]
    assert response.headers["location"] == f"/v1/versions/{version['id']}"
    assert (answer["is_new"], answer["rule"], version["name"], version["patch_id"]) == (
        True,
        None,
        "gentler",
        patched.id,
    )
    assert terms_of(response) == [(patched.vectors[0], 0.25, "flat")]
    assert answer["validation"]["alpha"] == 0.25
    assert answer["validation"]["tasks"][patched.task]["correct"] == 50
    assert world.client.put("/v1/aliases/active", json={"version": version["id"]}).status_code == 200
    files = [("images", ("image.png", image)) for image in IMAGES]
    shown = world.client.post("/v1/classify", files=files, data={"candidate_labels": LABELS}).json()
    rows = [{each["label"]: each["cosine"] for each in result["predictions"]} for result in shown["results"]]
    tower = mixed_tower(world.base, random_task_vector(world.base, 1), 0.25)
    expected = expected_cosines(world.base, tower, IMAGES, LABELS)
    got = torch.tensor([[row[label] for label in LABELS] for row in rows])
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_the_same_mix_is_registered_once(world: World) -> None:
    patched = add_patch(world, alpha=0.5)
    own = reselect(world, patched, alpha=0.5)
    assert (own.status_code, own.json()["version"]["id"], own.json()["is_new"]) == (200, patched.version, False)
    first, again = reselect(world, patched, alpha=0.3), reselect(world, patched, alpha=0.3, name="another name")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["version"] == again.json()["version"]
    other_patch = add_patch(world, alpha=0.4)
    assert reselect(world, other_patch, alpha=0.3).status_code == 201  # equal terms, but another patch's version


def test_a_floor_chooses_the_best_alpha_within_the_allowed_drop(world: World) -> None:
    patched = add_patch(world, alpha=1.0, curves={"flat": SAFE})
    assert chosen(reselect(world, patched, rule="floor", max_supported_drop=0)) == (0.25, "flat")
    assert chosen(reselect(world, patched, rule="floor", max_supported_drop=4)) == (0.5, "flat")
    assert chosen(reselect(world, patched, rule="floor", max_supported_drop={patched.supported: 30})) == (1.0, "flat")
    assert chosen(reselect(world, patched, rule="combined")) == (0.5, "flat")
    answer = reselect(world, patched, rule="floor", max_supported_drop=4).json()
    assert answer["rule"] == "floor"
    assert "drop" in answer["reason"]


def test_limits_are_certified_on_curves_that_count_what_was_lost_and_on_no_other(world: World) -> None:
    patched = add_patch(world, alpha=1.0, curves={"flat": SAFE}, counted=True)
    assert chosen(reselect(world, patched, rule="certified", max_mean_drop=5)) == (0.25, "flat")
    assert chosen(reselect(world, patched, rule="certified", max_mean_drop=10)) == (0.5, "flat")
    assert chosen(reselect(world, patched, rule="certified", max_mean_drop=10, confidence=0.995)) == (0.25, "flat")
    answer = reselect(world, patched, rule="certified", max_supported_drop=10).json()
    assert (answer["rule"], "with 95 % confidence" in answer["reason"]) == ("certified", True)
    assert "too few validation images" in reselect(world, patched, rule="certified").json()["reason"]
    with world.services.database.write() as session:
        row = Patches(session).get(patched.id)
        trial = {"learning_rate": 1e-4, "iterations": 200, "chosen": False}
        row.report = {**(row.report or {}), "trials": [{**trial, "number": number} for number in range(1, 11)]}
    # The best of ten: each was searched at a confidence of 0.995.
    assert chosen(reselect(world, patched, rule="certified", max_mean_drop=10)) == (0.25, "flat")
    older = add_patch(world, [2], alpha=1.0, curves={"flat": SAFE})
    problem = check_problem(reselect(world, older, rule="certified"), 422, "config_invalid")
    assert "search again" in problem["detail"] + problem["next"]


def test_a_floor_that_no_alpha_meets_is_refused_with_the_nearest(world: World) -> None:
    patched = add_patch(world, curves={"flat": [(0.0, 10, 90), (0.5, 90, 85), (1.0, 95, 60)]})
    problem = check_problem(reselect(world, patched, rule="floor", max_supported_drop=1), 422, "no_acceptable_alpha")
    assert "5.00 points" in problem["detail"] + problem["next"]


def test_where_no_path_meets_the_floor_each_tells_its_nearest_miss(world: World) -> None:
    curves = {"flat": [(0.0, 10, 90), (1.0, 95, 60)], "lines": [(0.0, 10, 90), (1.0, 90, 87)]}
    problem = check_problem(
        reselect(world, add_patch(world, curves=curves), rule="floor", max_supported_drop=1), 422, "no_acceptable_alpha"
    )
    assert "on path flat" in problem["detail"]
    assert "30.00 points" in problem["detail"]
    assert "on path lines" in problem["detail"]
    assert "3.00 points" in problem["detail"]
    assert problem["next"].startswith("increase max_supported_drop")


def test_limits_that_name_other_tasks_are_refused(world: World) -> None:
    patched = add_patch(world)
    limits = {"ds_other": 1}
    check_problem(reselect(world, patched, rule="floor", max_supported_drop=limits), 422, "config_invalid")


def test_a_merge_may_be_chosen_again_as_far_as_its_curve_was_measured(world: World) -> None:
    merged = [(0.0, 10, 90), (1.0, 60, 90), (1.8, 90, 88), (3.0, 40, 50)]
    patched = add_patch(world, curves={"flat": merged})
    assert chosen(reselect(world, patched, rule="combined")) == (1.8, "flat")
    assert chosen(reselect(world, patched, alpha=2.4)) == (2.4, "flat")
    old = add_patch(world, curves={"flat": merged[:2]})
    assert "fine-tuned" in check_problem(reselect(world, old, alpha=1.2), 422, "alpha_out_of_range")["detail"]
    assert "beyond" in reselect(world, old, rule="combined").json()["reason"]


def test_both_profiles_by_depth_keep_their_own_meaning_in_a_version(world: World) -> None:
    patched = add_patch(world)
    for profile in ("lines", "lines_paper"):
        found = reselect(world, patched, alpha=0.5, profile=profile)
        assert terms_of(found) == [(patched.vectors[0], 0.5, profile)]
        assert found.json()["validation"] is None


def test_the_mean_of_folds_is_chosen_on_exactly(world: World) -> None:
    """53/3 of 24 images is no number of images: JSON has it as a float, and a floor at its edge is still met."""
    patched = add_patch(world, curves={"flat": [(0.0, 10, 90), (0.5, 50, 265 / 3), (1.0, 90, 88)]})
    limit = 100 * (90 - 265 / 3) / 100
    assert chosen(reselect(world, patched, rule="floor", max_supported_drop=round(limit + 1e-9, 6))) == (0.5, "flat")


LINES = [(0.0, 10, 90), (0.5, 40, 90), (1.5, 97, 88)]


@pytest.mark.parametrize(
    ("curves", "expected"),
    [
        ({"flat": SAFE, "lines": LINES}, (1.5, "lines")),
        ({"flat": SAFE, "lines": [(0.0, 10, 90), (0.5, 20, 90)]}, (0.5, "flat")),
        ({"flat": SAFE, "lines": SAFE}, (0.5, "flat")),  # of equals the paper's own path
    ],
    ids=["lines better", "flat better", "equal"],
)
def test_a_rule_takes_the_better_of_the_paths_that_were_measured(
    world: World, curves: Mapping[str, Sequence[tuple[float, int, int]]], expected: tuple[float, str]
) -> None:
    patched = add_patch(world, curves=curves)
    assert chosen(reselect(world, patched, rule="combined")) == expected


def test_with_a_floor_the_better_path_is_that_of_the_better_patching_accuracy(world: World) -> None:
    gentle = [(0.0, 10, 90), (1.0, 80, 90)]  # best combined
    strong = [(0.0, 10, 90), (1.0, 85, 71)]  # best patching accuracy within 20 points
    patched = add_patch(world, curves={"flat": gentle, "lines": strong})
    assert chosen(reselect(world, patched, rule="combined")) == (1.0, "flat")
    assert chosen(reselect(world, patched, rule="floor", max_supported_drop=20)) == (1.0, "lines")
    assert chosen(reselect(world, patched, rule="floor", max_supported_drop=5)) == (1.0, "flat")


def test_a_profile_limits_a_rule_to_its_curve(world: World) -> None:
    patched = add_patch(world, curves={"flat": SAFE, "lines": LINES})
    assert chosen(reselect(world, patched, rule="combined", profile="flat")) == (0.5, "flat")
    only_flat = add_patch(world)
    refused = reselect(world, only_flat, rule="combined", profile="lines")
    assert "only for flat" in check_problem(refused, 422, "profile_not_measured")["detail"]


def test_the_alphas_between_and_beyond_the_points_are_allowed_with_what_is_known(world: World) -> None:
    patched = add_patch(world)
    between = reselect(world, patched, alpha=0.3).json()
    assert between["validation"]["alpha"] == 0.25  # the nearest, and it says so
    beyond = reselect(world, patched, alpha=1.2, profile="lines")
    assert terms_of(beyond) == [(patched.vectors[0], 1.2, "lines")]
    assert beyond.json()["validation"] is None
    check_problem(reselect(world, patched, alpha=1.2), 422, "alpha_out_of_range")


def test_an_interpolant_tells_what_to_expect_between_the_points(world: World) -> None:
    patched = add_patch(world)
    names = (patched.task, patched.supported)
    curve = add_interpolant(world, patched)
    point = reselect(world, patched, alpha=0.3).json()["validation"]
    expected = curve.scores(0.3)
    assert (point["alpha"], point["measured"]) == (0.3, False)
    assert {name: point["tasks"][name]["correct"] for name in names} == {name: expected[name].correct for name in names}
    assert point["supported"] == pytest.approx(expected[patched.supported].accuracy)
    assert point["patching"] == pytest.approx(expected[patched.task].accuracy)
    assert point["combined"] == pytest.approx((point["supported"] + point["patching"]) / 2)
    measured = reselect(world, patched, alpha=0.25).json()["validation"]
    assert measured["tasks"][patched.task]["correct"] == 50  # where somebody evaluated, that is what counts
    beyond = reselect(world, patched, alpha=1.2, profile="lines").json()["validation"]
    assert beyond is None


@pytest.mark.parametrize("body", [{"rule": "combined"}, {"rule": "floor", "max_supported_drop": 5}, {"alpha": 0.3}])
def test_nothing_is_chosen_again_by_what_was_measured_on_test_splits(world: World, body: dict[str, Any]) -> None:
    patched = add_patch(world, curves={"flat": SAFE})
    with world.services.database.read() as session:
        report = finished_report(Patches(session).get(patched.id))
    tasks = tuple(task.model_copy(update={"test": None}) for task in report.tasks)
    sealed = report.model_copy(update={"tasks": tasks, "transfer": None})  # reading a score of theirs would raise
    request = ReselectRequest(**body)
    assert select(last_stage(patched.id, sealed), request) == select(last_stage(patched.id, report), request)


def test_alpha_zero_is_the_base_and_no_new_version(world: World) -> None:
    check_problem(reselect(world, add_patch(world), alpha=0), 422, "nothing_to_add")


def test_parallel_patches_move_together_each_by_its_weight(world: World) -> None:
    patched = add_patch(world, seeds=(1, 2))
    assert terms_of(reselect(world, patched, alpha=0.8)) == [(vector, 0.4, "flat") for vector in patched.vectors]


def test_of_a_sequence_only_the_last_patch_moves(world: World) -> None:
    patched = add_patch(world, seeds=(2,), fixed=(1,), body={"method": "sequential"})
    kept, moved = patched.vectors
    assert terms_of(reselect(world, patched, alpha=0.75)) == [(kept, 0.25, "flat"), (moved, 0.75, "flat")]
    assert terms_of(reselect(world, patched, alpha=0)) == [(kept, 0.25, "flat")]


def test_of_a_sequence_drops_are_measured_from_zero_shot_not_from_the_patch_before(world: World) -> None:
    """At alpha 0 of the last stage the patch before has already cost 2 points of the 5 that may go."""
    curves = {"flat": [(0.0, 10, 88), (0.5, 60, 85), (1.0, 90, 84)]}
    patched = add_patch(world, seeds=(2,), fixed=(1,), body={"method": "sequential"}, curves=curves)
    report = world.client.get(f"/v1/patches/{patched.id}").json()["report"]
    assert [stage["key"] for stage in report["stages"]] == ["fixed 1", "last"]
    assert chosen(reselect(world, patched, rule="floor", max_supported_drop=5)) == (0.5, "flat")


def test_coefficients_per_task_have_no_alpha_to_choose_again(world: World) -> None:
    search = {"coefficients": [0.2, 0.7], "value": 0.6, "start": [0.5, 0.5], "start_value": 0.5, "num_evaluations": 60}
    patched = add_patch(world, seeds=(1, 2), stage={"coefficients": search})
    problem = check_problem(reselect(world, patched, alpha=0.5), 422, "not_reselectable")
    assert "POST /v1/versions" in problem["next"]


def test_a_patch_that_is_not_done_or_not_there(world: World) -> None:
    done = add_patch(world)
    waiting = world.client.post("/v1/patches", json={"name": "x", "tasks": [done.task]}).json()["patch"]
    path = f"/v1/patches/{waiting['id']}/reselect"
    problem = check_problem(world.client.post(path, json={"alpha": 0.5}), 409, "conflict")
    assert waiting["job_id"] in problem["next"]
    check_problem(world.client.post("/v1/patches/pt_nothing/reselect", json={"alpha": 0.5}), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "exactly one of rule and alpha"),
        ({"alpha": 0.5, "rule": "combined"}, "exactly one of rule and alpha"),
        ({"rule": "floor"}, "needs max_supported_drop"),
        ({"rule": "combined", "max_supported_drop": 1}, "requires rule floor"),
        ({"alpha": 0.5, "max_supported_drop": 1}, "requires rule floor"),
        ({"alpha": -0.1}, "greater than or equal to 0"),
        ({"alpha": 3.1}, "less than or equal to 3"),
        ({"alpha": 0.5, "profile": "steep"}, "'flat', 'lines' or 'lines_paper'"),
        ({"alpha": 0.5, "typo": 1}, "is not a known field"),
    ],
    ids=str,
)
def test_a_body_that_makes_no_sense_is_refused_with_the_reason(world: World, body: dict[str, Any], reason: str) -> None:
    problem = check_problem(world.client.post("/v1/patches/pt_1/reselect", json=body), 422, "invalid_request")
    assert reason in " ".join(each["message"] for each in problem["errors"])


def test_one_version_is_mixed_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.versions.fair_lock.WAIT_SECONDS", 0.05)
    patched = add_patch(world)
    with world.services.composer.turns.take(None):
        check_problem(reselect(world, patched, alpha=0.7), 409, "composition_in_progress")
    assert reselect(world, patched, alpha=0.7).status_code == 201
