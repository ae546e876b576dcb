"""What a finished patch answers at any alpha, and which images change, from the stored interpolant."""

from typing import Any

import pytest
import torch
from httpx2 import Response

from app.patches.interpolants import Interpolants, StoredCurve
from contract.scores import AlphaPoint
from paint_core.alpha import FeatureCurve
from paint_core.errors import WeightsMismatchError
from paint_core.evaluation import predictions
from tests.app.patched import ZERO_SHOT_TASK, Patched, add_interpolant, add_patch
from tests.app.world import World, check_problem

NUM_IMAGES = 40


def ask(world: World, patched: Patched, what: str, **query: Any) -> Response:
    return world.client.get(f"/v1/patches/{patched.id}/{what}", params=query)


def changes(world: World, patched: Patched, **query: Any) -> dict[str, Any]:
    response = ask(world, patched, "changes", **{"task": patched.task, **query})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture(scope="module")
def patched(world: World) -> Patched:
    return add_patch(world, counted=True)


@pytest.fixture(scope="module")
def curve(world: World, patched: Patched) -> FeatureCurve:
    return add_interpolant(world, patched, NUM_IMAGES)


def test_any_alpha_has_the_scores_of_every_task_and_what_was_lost_and_gained(
    world: World, patched: Patched, curve: FeatureCurve
) -> None:
    answer = ask(world, patched, "curve", alpha=0.3).json()
    point = AlphaPoint.model_validate(answer["point"])
    assert (answer["patch_id"], answer["profile"], answer["nodes"]) == (patched.id, "flat", [0.0, 0.5, 1.0])
    assert (point.alpha, point.measured) == (0.3, False)
    right = curve.correct_answers(0.3)
    at_0 = curve.correct_answers(0.0)
    for name, score in point.tasks.items():
        assert (score.correct, score.total) == (int(right[name].sum()), NUM_IMAGES)
        assert score.lost == int((at_0[name] & ~right[name]).sum())
        assert score.gained == int((right[name] & ~at_0[name]).sum())
    accuracies = [point.tasks[name].accuracy or 0.0 for name in (patched.task, patched.supported)]
    assert [point.patching, point.supported, point.combined] == pytest.approx([*accuracies, sum(accuracies) / 2])


def test_where_the_weights_were_evaluated_their_scores_are_the_answer(
    world: World, patched: Patched, curve: FeatureCurve
) -> None:
    point = ask(world, patched, "curve", alpha=0.25).json()["point"]
    assert (point["measured"], point["tasks"][patched.task]["correct"]) == (True, 50)
    assert point["tasks"][patched.task]["gained"] == 50 - ZERO_SHOT_TASK
    assert ask(world, patched, "curve").json()["point"]["alpha"] == 0.5  # the chosen one


def test_the_changes_between_two_alphas_are_the_images_with_another_answer(
    world: World, patched: Patched, curve: FeatureCurve
) -> None:
    answer = changes(world, patched, **{"from": 0.1, "to": 0.9})
    before, after = (predictions(curve.at(alpha, patched.task), curve.heads[patched.task]) for alpha in (0.1, 0.9))
    labels = curve.labels[patched.task]
    differs = (before != after).nonzero()[:, 0].tolist()
    assert differs
    assert [(each["index"], each["name"]) for each in answer["items"]] == [(index, f"{index}.png") for index in differs]
    for each in answer["items"]:
        place = each["index"]
        told = (each["label"], each["before"], each["after"])
        assert told == tuple("abc"[int(column[place])] for column in (labels, before, after))
        kinds = {(True, False): "lost", (False, True): "won", (False, False): "other"}
        assert each["kind"] == kinds[bool(before[place] == labels[place]), bool(after[place] == labels[place])]
        assert (each["margin_before"] > 0, each["margin_after"] > 0) == (each["kind"] == "lost", each["kind"] == "won")
    assert (answer["from_measured"], answer["to_measured"]) == (False, False)


def test_lost_and_won_images_are_as_many_as_the_curve_counts(
    world: World, patched: Patched, curve: FeatureCurve
) -> None:
    score = ask(world, patched, "curve", alpha=0.7).json()["point"]["tasks"][patched.task]
    both = {kind: changes(world, patched, to=0.7, kind=kind) for kind in ("lost", "won")}
    for kind, counted in (("lost", "lost"), ("won", "gained")):
        assert {each["kind"] for each in both[kind]["items"]} == {kind}
        assert len(both[kind]["items"]) == both[kind][f"num_{kind}"] == score[counted] > 0
    assert both["lost"]["from_measured"] is True
    assert both["lost"]["num_changed"] <= both["lost"]["num_images"] == NUM_IMAGES


def test_pages_of_changes_put_together_are_all_of_them(world: World, patched: Patched, curve: FeatureCurve) -> None:
    whole = changes(world, patched, to=1)
    assert whole["next_cursor"] is None
    items, query = [], dict[str, Any](to=1, limit=3)
    while True:
        page = changes(world, patched, **query)
        items += page["items"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert items == whole["items"]
    assert len(items) > 3


def test_of_a_deleted_data_set_the_names_are_gone_and_the_rest_is_not(world: World) -> None:
    patched = add_patch(world)
    add_interpolant(world, patched)
    path = f"/v1/datasets/{patched.task}"
    assert world.client.delete(path, params={"force": True}).status_code == 204
    answer = changes(world, patched, to=1)
    assert answer["items"]
    assert {each["name"] for each in answer["items"]} == {None}


def test_later_stages_of_a_sequence_count_nothing_against_the_base(world: World) -> None:
    patched = add_patch(world, seeds=(2,), fixed=(1,), body={"method": "sequential"})
    add_interpolant(world, patched)
    scores = ask(world, patched, "curve", alpha=0.3).json()["point"]["tasks"]
    assert [scores[patched.task].get(name) for name in ("lost", "gained")] == [None, None]


def test_what_cannot_be_answered_says_what_to_do(world: World, patched: Patched, curve: FeatureCurve) -> None:
    waiting = world.client.post("/v1/patches", json={"name": "x", "tasks": [patched.task]}).json()["patch"]
    unfinished, bare = Patched(waiting["id"], 0, (), patched.task, ""), add_patch(world)
    for what in ("curve", "changes"):
        query = {"task": patched.task} if what == "changes" else {}
        assert waiting["job_id"] in check_problem(ask(world, unfinished, what, **query), 409, "conflict")["next"]
        assert "again" in check_problem(ask(world, bare, what, **query), 409, "no_interpolant")["next"]
        steep = ask(world, patched, what, **query, profile="lines_paper")
        assert "for profile flat" in check_problem(steep, 409, "no_interpolant")["detail"]
        check_problem(ask(world, Patched("pt_none", 0, (), "", ""), what, **query), 404, "not_found")
    assert "[0, 1]" in check_problem(ask(world, patched, "curve", alpha=1.2), 422, "alpha_out_of_range")["next"]
    too_far = {"task": patched.task, "from": 1.2}
    check_problem(ask(world, patched, "changes", **too_far), 422, "alpha_out_of_range")
    problem = check_problem(ask(world, patched, "changes", task="ds_other"), 422, "task_not_evaluated")
    assert patched.task in problem["next"]
    for query in ({"alpha": -0.1}, {"alpha": 3.1}, {"alpha": "nan"}, {"profile": "steep"}):
        check_problem(ask(world, patched, "curve", **query), 422, "invalid_request")
    check_problem(ask(world, patched, "changes", task=patched.task, cursor="x"), 422, "bad_cursor")


def test_an_interpolant_is_loaded_once_and_the_cache_stays_within_its_size(world: World, patched: Patched) -> None:
    made = [add_interpolant(world, patched, num_images) for num_images in (10, 11, 12)]
    hashes = [world.services.blobs.put_bytes(each.to_bytes()) for each in made]
    sizes = [StoredCurve.of(each).num_bytes for each in made]
    assert sizes[0] > sum(stack.nbytes for stack in made[0].features.values())
    cache = Interpolants(world.services.blobs, max_bytes=sizes[1] + sizes[2])
    first = cache.curve(hashes[0])
    assert first is not None
    assert cache.curve(hashes[0]) is first
    torch.testing.assert_close(first.correct_at_0, made[0].correct_answers(0.0), atol=0, rtol=0)
    kept = [cache.curve(each) for each in hashes[1:]]
    assert [cache.curve(each) for each in hashes[1:]] == kept
    assert cache.curve(hashes[0]) is not first  # the least recently used one had to go
    tiny = Interpolants(world.services.blobs, max_bytes=sizes[0] - 1)
    assert tiny.curve(hashes[0]) is not tiny.curve(hashes[0])
    assert Interpolants(world.services.blobs, max_stored_bytes=1000).curve(hashes[0]) is None
    with pytest.raises(WeightsMismatchError):
        cache.curve(world.services.blobs.put_bytes(b"no interpolant"))
