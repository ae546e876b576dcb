"""What answers requests is guarded: a version that costs a supported task too much serves only if somebody insists."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from httpx2 import Response

from app.versions.check_intervals import find_interval
from contract.evaluations import Measurement
from contract.scores import SplitScore
from paint_core.evaluation.statistics import paired_difference
from registry.evidence import MeasuredTask
from registry.measurements import Measurements
from registry.predictions import write_predictions
from registry.tables import VersionRow
from registry.versions import Versions
from tests.app.patched import Patched, add_patch, score
from tests.app.world import World, add_version, check_problem, open_world


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation that allows three points where a patch set no limit."""
    with open_world(tmp_path_factory.mktemp("strict"), max_supported_drop=3) as opened:
        yield opened


def _activate(world: World, version: int, **body: Any) -> Response:
    return world.client.put("/v1/aliases/active", json={"version": version, **body})


def _check(world: World, version: int, alias: str = "active") -> dict[str, Any]:
    answer = world.client.post(f"/v1/aliases/{alias}/check", json={"version": version})
    assert answer.status_code == 200, answer.text
    checked: dict[str, Any] = answer.json()
    return checked


def _active(world: World) -> int:
    return int(world.client.get("/v1/aliases/active").json()["version"])


def _last_move(world: World) -> dict[str, Any]:
    moves: list[dict[str, Any]] = world.client.get("/v1/aliases/active/history").json()["items"]
    return moves[0]


def _measured(world: World, drop: int, limit: Any = None, seed: int = 1) -> int:
    """A version that loses so many of a hundred images of a supported task's test split."""
    version, _ = add_version(world.services, world.base, seed)
    task = {"dataset_id": "ds_food", "name": "food", "role": "supported", "zero_shot": score(90)}
    won = {"dataset_id": "ds_digits", "name": "digits", "role": "patching", "zero_shot": score(90), "patched": score(0)}
    with world.services.database.write() as session:
        row = session.get(VersionRow, version)
        assert row is not None
        tasks = [task | {"patched": score(90 - drop)}, won]
        row.evaluation = {"split": "test", "max_supported_drop": limit, "tasks": tasks}
    return version


@pytest.mark.parametrize("limit", [1.5, {"ds_food": 1.5}])
def test_a_version_beyond_its_patchs_floor_is_refused_with_the_measured_drop(world: World, limit: Any) -> None:
    before = _active(world)
    problem = check_problem(_activate(world, _measured(world, 2, limit)), 409, "supported_drop")
    assert "'food' (ds_food) drops by 2.00 points on its test split; the limit is 1.5" in problem["detail"]
    assert "force" in problem["next"]
    assert _active(world) == before


def test_force_with_a_reason_lets_it_pass_and_the_history_keeps_both(world: World) -> None:
    version = _measured(world, 2, 1.5)
    check_problem(_activate(world, version, force=True), 422, "invalid_request")
    check_problem(_activate(world, version, force=True, reason="  "), 422, "invalid_request")
    assert _activate(world, version, force=True, reason="the fair is tomorrow").status_code == 200
    move = _last_move(world)
    assert (move["to_version"], move["forced"], move["reason"]) == (version, True, "the fair is tomorrow")
    assert _activate(world, 1).status_code == 200
    assert _last_move(world)["forced"] is False


def test_force_does_not_activate_what_fails_its_self_check(world: World) -> None:
    version, sha256 = add_version(world.services, world.base, seed=2)
    world.services.blobs.delete(sha256)
    check_problem(_activate(world, version, force=True, reason="please"), 409, "activation_failed")


def test_a_drop_within_the_floor_and_one_that_nobody_limits_pass(world: World) -> None:
    assert _activate(world, _measured(world, 2, 2.0)).status_code == 200
    assert _activate(world, _measured(world, 40)).status_code == 200
    assert _activate(world, add_version(world.services, world.base, seed=3)[0]).status_code == 200  # never measured


def test_the_canary_is_guarded_alike_and_aliases_without_traffic_are_not(world: World) -> None:
    version = _measured(world, 2, 1.5)
    body = {"version": version}
    problem = check_problem(world.client.put("/v1/aliases/canary", json=body), 409, "supported_drop")
    assert "the limit is 1.5" in problem["detail"]
    check_problem(world.client.get("/v1/aliases/canary"), 404, "not_found")
    for alias in ("tried", "shadow"):
        assert world.client.put(f"/v1/aliases/{alias}", json=body).status_code == 200
    forced = body | {"force": True, "reason": "a tenth of the traffic"}
    assert world.client.put("/v1/aliases/canary", json=forced).status_code == 200
    for alias in ("tried", "shadow", "canary"):
        assert world.client.delete(f"/v1/aliases/{alias}").status_code == 204


@pytest.mark.parametrize("alias", ["canary", "shadow"])
def test_the_canary_and_the_shadow_move_only_to_what_loads_and_gives_its_recorded_features(
    world: World, alias: str
) -> None:
    version, _ = add_version(world.services, world.base, seed=40)
    with world.services.database.write() as session:
        row = Versions(session).get(version)
        row.probe = [features[::-1] for features in row.probe]
    body = {"version": version, "force": True, "reason": "please"}
    problem = check_problem(world.client.put(f"/v1/aliases/{alias}", json=body), 409, "version_not_loaded")
    assert "probe cosine" in problem["detail"]
    checked = _check(world, version, alias)
    assert (checked["accepted"], checked["loads"], checked["reasons"][0]["code"]) == (
        False,
        False,
        "version_not_loaded",
    )


def test_a_rollback_is_not_asked_again(world: World) -> None:
    version = _measured(world, 2, 1.5)
    _activate(world, version, force=True, reason="try")
    _activate(world, 1)
    assert world.client.post("/v1/aliases/active/rollback").json()["version"] == version


def test_the_installations_limit_holds_where_a_patch_set_none(strict: World) -> None:
    check_problem(_activate(strict, _measured(strict, 4)), 409, "supported_drop")
    assert _activate(strict, _measured(strict, 3)).status_code == 200
    assert _activate(strict, _measured(strict, 4, 5.0)).status_code == 200  # its patch's own


def _compose(world: World, *terms: dict[str, Any]) -> int:
    answer = world.client.post("/v1/versions", json={"name": "composed", "terms": list(terms)})
    assert answer.status_code in (200, 201), answer.text
    return int(answer.json()["id"])


def _limit(world: World, version: int, drop: int, limit: float | None) -> None:
    task: dict[str, Any] = {"dataset_id": "ds_food", "name": "food", "role": "supported"}
    scores: dict[str, Any] = {"zero_shot": score(90), "patched": score(90 - drop)}
    with world.services.database.write() as session:
        row = Versions(session).get(version)
        row.evaluation = {"split": "test", "max_supported_drop": limit, "tasks": [task | scores]}


def test_the_same_weights_under_another_number_are_judged_by_the_same_evaluation(world: World) -> None:
    patch = add_patch(world, seeds=(11,), alpha=0.5)
    copy = _compose(world, {"task_vector_sha256": patch.vectors[0], "coefficient": 0.5})
    assert copy != patch.version
    with world.services.database.write() as session:
        versions = Versions(session)
        versions.get(patch.version).weights_fingerprint = versions.get(copy).weights_fingerprint  # as a worker does
    _limit(world, patch.version, 2, 1.5)
    check_problem(_activate(world, copy), 409, "supported_drop")
    _limit(world, patch.version, 1, 1.5)
    assert _activate(world, copy).status_code == 200


@pytest.mark.parametrize("coefficient", [0.8, -1.0, 2.0])
def test_no_composition_gets_past_the_limit_of_the_patch_that_it_is_made_of(world: World, coefficient: float) -> None:
    patch = add_patch(world, seeds=(12,), alpha=0.5)
    _limit(world, patch.version, 1, 1.5)
    composed = _compose(world, {"version": patch.version, "coefficient": coefficient})
    problem = check_problem(_activate(world, composed), 409, "not_evaluated")
    assert "force" in problem["next"]
    assert _activate(world, composed, force=True, reason="measured elsewhere").status_code == 200


def test_the_interval_of_a_change_comes_from_stored_answers_if_nothing_else_tells_it(world: World) -> None:
    answers = []
    for right in (90, 88):
        path = world.services.settings.scratch_dir / "predictions.parquet"
        columns: dict[str, Any] = {"image": [f"{each}.png" for each in range(100)], "label": [0] * 100}
        columns["predicted"] = [0] * right + [1] * (100 - right)
        write_predictions(path, ("pizza", "taco"), columns | dict.fromkeys(("probability", "margin"), [0.9] * 100))
        answers.append(world.services.blobs.put_file(path))
    before, after = (SplitScore.of_stored(score(right)) for right in (90, 88))
    task = MeasuredTask("ds_food", "food", "supported", "test", None, before, after, None, (answers[0], answers[1]))
    low, high = find_interval(task, world.services.blobs) or (0, 0)
    difference = paired_difference(0, 2, 100)
    assert (low, high) == (difference.low, difference.high)
    world.services.blobs.delete(answers[0])
    assert find_interval(task, world.services.blobs) is None


def _measure_on_request(world: World, version: int, correct: int, *, is_own_head: bool = True) -> None:
    """Record what an evaluation on request of the base and of a version would, on the test images of food."""
    with world.services.database.write() as session:
        for each, right in ((1, 90), (version, correct)):
            weights = Versions(session).get(each).weights_fingerprint
            assert weights is not None
            result = {"score": score(right), "macro_f1": 0.5, "classes": [], "confusion": []}
            Measurements(session).add(
                weights_fingerprint=weights,
                dataset_id="ds_food",
                split="test",
                head_id="ls_own" if is_own_head else "ls_other",
                is_own_head=is_own_head,
                num_images=100,
                result=Measurement.of_stored(result),
                predictions_sha256="0" * 64,
                num_bytes=1,
                owner=None,
            )


@pytest.mark.parametrize(("correct", "code"), [(89, None), (88, "supported_drop")])
def test_an_evaluation_on_request_is_evidence_for_or_against_a_composition(
    world: World, correct: int, code: str | None
) -> None:
    patch = add_patch(world, seeds=(correct,), alpha=0.5)
    _limit(world, patch.version, 1, 1.5)
    composed = _compose(world, {"version": patch.version, "coefficient": 0.8})
    _measure_on_request(world, composed, 90, is_own_head=False)  # among labels of the caller's choice: no evidence
    check_problem(_activate(world, composed), 409, "not_evaluated")
    _measure_on_request(world, composed, correct)
    answer = _activate(world, composed)
    assert answer.status_code == 200 if code is None else check_problem(answer, 409, code)


def test_what_was_measured_of_a_version_without_ancestors_is_held_against_the_installations_limit(
    strict: World,
) -> None:
    for seed, correct in ((35, 86), (36, 87)):
        imported, _ = add_version(strict.services, strict.base, seed=seed)
        with strict.services.database.write() as session:
            Versions(session).get(imported).weights_fingerprint = f"{seed}" * 32
        _measure_on_request(strict, imported, correct)
        answer = _activate(strict, imported)
        assert answer.status_code == (200 if correct == 87 else 409), answer.text
        (task,) = _check(strict, imported)["tasks"]
        assert (task["dataset_id"], task["measured_version"], task["change_points"]) == ("ds_food", None, correct - 90)
        assert task["low_points"] is None  # nobody stored the answers
    assert _activate(strict, 1).status_code == 200


def test_what_a_version_was_to_improve_is_no_supported_task(strict: World) -> None:
    version, _ = add_version(strict.services, strict.base, seed=37)
    task = {"dataset_id": "ds_food", "name": "food", "role": "patching", "zero_shot": score(10), "patched": score(90)}
    with strict.services.database.write() as session:
        row = Versions(session).get(version)
        row.weights_fingerprint = "37" * 32
        row.evaluation = {"split": "test", "max_supported_drop": None, "tasks": [task]}
    _measure_on_request(strict, version, 95)  # as its patch does for every task
    problem = check_problem(_activate(strict, version), 409, "not_evaluated")
    assert "on any supported task" in problem["detail"]
    assert "POST /v1/evaluations" in problem["next"]
    assert _check(strict, version)["tasks"][0]["role"] == "patching"


def test_where_the_installation_sets_a_limit_nothing_unmeasured_is_activated(strict: World) -> None:
    version, sha256 = add_version(strict.services, strict.base, seed=13)
    check_problem(_activate(strict, version), 409, "not_evaluated")
    composed = _compose(strict, {"task_vector_sha256": sha256, "coefficient": 0.3})
    check_problem(_activate(strict, composed), 409, "not_evaluated")
    assert _activate(strict, 1).status_code == 200  # the base


def test_a_limit_is_not_lost_on_the_way_through_other_versions(world: World) -> None:
    """Compose, negate, remove, compose again: whatever the way, the limit of the first ancestor holds."""
    patch, other = add_patch(world, seeds=(21,), alpha=0.5), add_patch(world, seeds=(22,), alpha=0.5)
    _limit(world, patch.version, 1, 1.5)
    both = _compose(world, {"version": patch.version}, {"version": other.version})
    negated = _compose(world, {"version": both, "coefficient": -0.5})
    rest = world.client.post("/v1/versions", json={"name": "rest", "from_version": negated, "remove": [other.id]})
    again = _compose(world, {"version": rest.json()["id"], "coefficient": -1.2})
    for version in (both, negated, rest.json()["id"], again):
        for alias in ("active", "canary"):
            refused = world.client.put(f"/v1/aliases/{alias}", json={"version": version})
            assert "'food' (ds_food)" in check_problem(refused, 409, "not_evaluated")["detail"]
        assert [task["dataset_id"] for task in _check(world, version)["missing"]] == ["ds_food"]
    with world.services.database.write() as session:  # as if `again` came out as the weights that were measured
        versions = Versions(session)
        versions.get(patch.version).weights_fingerprint = versions.get(again).weights_fingerprint
    checked = _check(world, again)
    assert (checked["accepted"], checked["tasks"][0]["measured_version"]) == (True, patch.version)
    assert _activate(world, again).status_code == 200


def test_what_was_measured_on_other_tasks_does_not_answer_for_those_of_its_ancestors(world: World) -> None:
    patch = add_patch(world, seeds=(23,), alpha=0.5)
    _limit(world, patch.version, 1, 1.5)
    reselected = _reselect(world, patch, alpha=0.25)  # measured on the patch's own supported task alone
    problem = check_problem(_activate(world, reselected), 409, "not_evaluated")
    assert "ds_food" in problem["detail"]
    assert patch.supported not in problem["detail"]


def test_a_version_without_ancestors_is_measured_or_forced_where_the_installation_sets_a_limit(strict: World) -> None:
    imported, _ = add_version(strict.services, strict.base, seed=24)
    with strict.services.database.write() as session:
        row = Versions(session).get(imported)
        row.job_id, row.evaluation = None, {"split": "test", "max_supported_drop": None, "tasks": []}
    problem = check_problem(_activate(strict, imported), 409, "not_evaluated")
    assert "on any supported task" in problem["detail"]
    assert _activate(strict, imported, force=True, reason="evaluated by hand").status_code == 200
    assert _activate(strict, 1).status_code == 200


def test_a_check_tells_what_a_move_would_do_and_moves_nothing(world: World) -> None:
    before = _active(world)
    version = _measured(world, 2, 1.5, seed=25)
    with world.services.database.write() as session:
        row = Versions(session).get(version)
        food, digits = (row.evaluation or {})["tasks"]
        change = {"change_points": -2.0, "low_points": -5.5, "high_points": 1.5, "p_value": 0.4}
        counted = digits | {"patched": digits["patched"] | {"lost": 90, "gained": 0}}
        row.evaluation = (row.evaluation or {}) | {"tasks": [food | {"change": change}, counted]}
    checked = _check(world, version)
    assert (checked["alias"], checked["version"], checked["current_version"]) == ("active", version, before)
    assert (checked["accepted"], checked["loads"], checked["missing"]) == (False, True, [])
    assert [reason["code"] for reason in checked["reasons"]] == ["supported_drop"]
    supported, patching = checked["tasks"]
    assert supported == {
        "dataset_id": "ds_food", "name": "food", "role": "supported", "split": "test", "num_images": 100,
        "measured_version": version, "before": 0.9, "after": 0.88, "change_points": -2.0, "low_points": -5.5,
        "high_points": 1.5, "limit_points": 1.5, "within_limit": False,
    }  # fmt: skip
    assert patching["low_points"] < patching["change_points"] == -90.0 < patching["high_points"]
    assert (patching["limit_points"], patching["within_limit"]) == (None, True)
    assert checked["mean_supported_change_points"] == -2.0
    assert checked["mean_patching_change_points"] == -90.0
    assert _active(world) == before
    assert _check(world, version, "elsewhere")["accepted"] is True  # nobody is served by that name
    assert _check(world, 1)["accepted"] is True


def test_a_check_of_what_is_not_there_is_an_error(world: World) -> None:
    check_problem(world.client.post("/v1/aliases/active/check", json={"version": 99_999}), 404, "not_found")
    trashed, _ = add_version(world.services, world.base, seed=26)
    world.client.delete(f"/v1/versions/{trashed}")
    check_problem(world.client.post("/v1/aliases/active/check", json={"version": trashed}), 409, "conflict")
    check_problem(world.client.post("/v1/aliases/active/check", json={}), 422, "invalid_request")


def test_a_refusal_is_logged_and_counted(world: World) -> None:
    version = _measured(world, 2, 1.5, seed=27)
    with structlog.testing.capture_logs() as logs:
        _activate(world, version)
    (line,) = [each for each in logs if each["event"] == "alias move refused"]
    assert (line["alias"], line["version"], line["code"]) == ("active", version, "supported_drop")
    assert 'paintbox_alias_refusals_total{alias="active",code="supported_drop"}' in world.client.get("/metrics").text


def _reselect(world: World, patch: Patched, **body: Any) -> int:
    answer = world.client.post(f"/v1/patches/{patch.id}/reselect", json=body)
    assert answer.status_code in (200, 201), answer.text
    return int(answer.json()["version"]["id"])


def test_another_alpha_is_judged_by_its_validation_images(strict: World) -> None:
    patch = add_patch(strict, seeds=(4,))  # a task vector of its own: no limits of others come with it
    far = _reselect(strict, patch, alpha=1.0)
    evaluation = strict.client.get(f"/v1/versions/{far}").json()["evaluation"]
    assert evaluation["split"] == "validation"
    assert {task["role"] for task in evaluation["tasks"]} == {"patching", "supported"}
    problem = check_problem(_activate(strict, far), 409, "supported_drop")
    assert "drops by 30.00 points on its validation split; the limit is 3" in problem["detail"]
    assert _activate(strict, _reselect(strict, patch, alpha=0.25)).status_code == 200


def test_a_rule_of_the_reselection_sets_its_own_limit(strict: World) -> None:
    patch = add_patch(strict, seeds=(5,), alpha=0.25)
    chosen = _reselect(strict, patch, rule="floor", max_supported_drop=4)
    evaluation = strict.client.get(f"/v1/versions/{chosen}").json()["evaluation"]
    assert evaluation["max_supported_drop"] == 4
    assert _activate(strict, chosen).status_code == 200


def test_a_patch_that_is_to_answer_needs_a_floor_and_a_base_that_is_loaded(world: World) -> None:
    patch = add_patch(world)
    body = {"name": "x", "tasks": [patch.task], "supported": [patch.supported], "activate": "if_accepted"}
    body["alpha"] = {"rule": "combined"}
    problem = check_problem(world.client.post("/v1/patches", json=body), 422, "invalid_request")
    assert "needs rule certified or floor" in problem["errors"][0]["message"]
    body["alpha"] = {"rule": "floor", "max_supported_drop": 1}
    assert world.client.post("/v1/patches", json=body).status_code == 202
    with world.services.database.write() as session:
        Versions(session).ensure_base(ref="elsewhere", fingerprint="e" * 64, embed_dim=8, image_size=32)
    problem = check_problem(world.client.post("/v1/patches", json=body | {"base": "elsewhere"}), 409, "conflict")
    assert "PAINTBOX_BASES" in problem["next"]
    assert world.client.post("/v1/patches", json=body | {"base": "elsewhere", "activate": "never"}).status_code == 202
