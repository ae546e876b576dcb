"""Data sets of corrections over HTTP: what is chosen, what is refused, and the patch that is suggested."""

from collections.abc import Iterator
from typing import Any

import pytest

from contract.datasets import DatasetKind
from contract.patch_request import PatchRequest
from registry.corrections import split_of
from registry.datasets import Datasets
from registry.feedback import Feedback
from tests.app.asking import post_json
from tests.app.patched import add_patch
from tests.app.world import World, add_ready_dataset, check_problem, open_world
from tests.builders import WORDS, digit_pngs

PATH = "/v1/datasets/from-feedback"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("corrections")) as opened:
        yield opened


@pytest.fixture
def sent(world: World) -> Iterator[list[dict[str, Any]]]:
    """Corrections of two classes, enough of them for all splits."""
    stored = []
    for digit in (2, 3):
        for image in digit_pngs(digit)[:20]:
            answer = post_json(world.client, "/v1/feedback", [image], label=WORDS[digit], predicted="seven")
            stored.append(answer.json())
    yield stored
    states = ["open", "accepted", "dismissed", "used"]
    world.client.delete("/v1/feedback", params={"state": states})


def ask(world: World, **body: Any) -> Any:
    return world.client.post(PATH, json={"name": "corrections", **body})


def test_open_and_accepted_corrections_become_a_data_set_once(world: World, sent: list[dict[str, Any]]) -> None:
    world.client.patch(f"/v1/feedback/{sent[0]['id']}", json={"state": "accepted"})
    world.client.patch(f"/v1/feedback/{sent[1]['id']}", json={"state": "dismissed"})
    post_json(world.client, "/v1/feedback", [digit_pngs(9)[0]])  # without a label
    made = ask(world)
    assert made.status_code == 202, made.text
    told = made.json()
    assert (told["dataset"]["state"], told["dataset"]["name"]) == ("ingesting", "corrections")
    assert sum(told["num_images"].values()) == len(sent) - 1
    with world.services.database.read() as session:
        rows = [Feedback(session).get(each["id"]) for each in sent]
    trained = sum(split_of(row.picture_sha256) == "train" for row in rows if row.state != "dismissed")
    assert told["num_images"]["train"] == trained
    assert made.headers["location"] == f"/v1/datasets/{told['dataset']['id']}"
    assert world.dispatcher.dispatched[-1] == told["dataset"]["job_id"]
    again = ask(world)
    assert (again.status_code, again.json()["dataset"]["id"]) == (200, told["dataset"]["id"])
    other = ask(world, templates=["a scan of {}"])
    assert other.json()["dataset"]["id"] != told["dataset"]["id"]


def test_corrections_are_chosen_by_id_or_by_filter(world: World, sent: list[dict[str, Any]]) -> None:
    by_label = ask(world, filter={"label": "three", "state": ["open"], "version": 1})
    assert sum(by_label.json()["num_images"].values()) == 20
    by_id = ask(world, ids=[each["id"] for each in sent if each["label"] == "three"])
    assert by_id.json()["dataset"]["id"] == by_label.json()["dataset"]["id"]
    check_problem(ask(world, filter={"label": "nothing"}), 422, "no_feedback")
    check_problem(ask(world, ids=["fb_nothing"]), 404, "not_found")
    for body in ({"ids": []}, {"filter": {"state": ["used"]}}, {"ids": ["fb_1"], "filter": {}}, {"classnames": 1}):
        check_problem(ask(world, **body), 422, "invalid_request")
    check_problem(ask(world, classnames={"unicorn": "horse"}), 422, "unknown_class")


def test_what_no_patch_could_use_is_refused(world: World, sent: list[dict[str, Any]]) -> None:
    unlabelled = post_json(world.client, "/v1/feedback", [digit_pngs(8)[0]]).json()["id"]
    problem = check_problem(ask(world, ids=[unlabelled]), 422, "unusable_feedback")
    assert unlabelled in problem["detail"]
    check_problem(ask(world, ids=[sent[0]["id"]]), 422, "too_few_corrections")
    conflict = post_json(world.client, "/v1/feedback", [digit_pngs(2)[0]], label="three").json()["id"]
    problem = check_problem(ask(world), 422, "conflicting_labels")
    assert conflict in problem["detail"]
    assert sent[0]["id"] in problem["detail"]


def test_the_suggested_patch_keeps_what_the_active_version_has_learned(
    world: World, sent: list[dict[str, Any]]
) -> None:
    alone = ask(world).json()["patch"]
    assert (alone["method"], alone["supported"], alone["anchors"]) == ("single", [], None)
    patched = add_patch(world)
    move = {"version": patched.version, "force": True, "reason": "a test"}
    assert world.client.put("/v1/aliases/active", json=move).status_code == 200
    pool = add_ready_dataset(world.services, [], splits=("train",))
    with world.services.database.write() as session:
        Datasets(session).get(pool).kind = DatasetKind.POOL
    told = ask(world).json()
    patch = told["patch"]
    assert (patch["method"], patch["tasks"]) == ("joint", [told["dataset"]["id"], patched.task])
    assert (patch["supported"], patch["base"]) == ([patched.supported], "starter")
    assert patch["anchors"]["dataset"] == pool
    assert "alpha" not in patch
    assert PatchRequest.model_validate(patch | {"activate": "if_certified"}).alpha.rule == "certified"
