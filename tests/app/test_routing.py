"""Versions that route by labels: the base answers for names that were never patched, and both for mixed lists."""

import base64
from typing import Any

import numpy as np
import pytest

from registry.versions import Versions
from tests.app.patched import add_patch
from tests.app.world import World, add_version, check_problem
from tests.builders import digit_pngs

NAMES = {"zero": {"base": 0.2, "patched": 0.6}, "one": {"base": 0.0, "patched": 0.0}}
OLD = ["a pizza", "a taco", "a bridge"]


@pytest.fixture(scope="module")
def plain(world: World) -> int:
    """A version that answers every list itself."""
    return add_version(world.services, world.base, seed=71)[0]


@pytest.fixture(scope="module")
def routed(world: World, plain: int) -> int:
    """The same weights, routed by labels."""
    version, _ = add_version(world.services, world.base, seed=71)
    with world.services.database.write() as session:
        row = Versions(session).get(version)
        row.routing, row.patched_names = "by_labels", NAMES
    return version


def _ask(world: World, version: int, labels: list[str], **options: Any) -> dict[str, Any]:
    images = [("images", ("0.png", digit_pngs(1)[0]))]  # one, for the bits of a row may depend on its batch
    data = {"candidate_labels": labels, "version": str(version), **options}
    response = world.client.post("/v1/classify", data=data, files=images)
    assert response.status_code == 200, response.text
    return dict(response.json())


def _table(answer: dict[str, Any], labels: list[str], field: str) -> np.ndarray[Any, Any]:
    rows = [{each["label"]: each[field] for each in result["predictions"]} for result in answer["results"]]
    return np.array([[row[label] for label in labels] for row in rows])


def test_a_list_without_patched_names_gets_the_answer_of_the_base_bit_for_bit(
    world: World, routed: int, plain: int
) -> None:
    answer, base, own = (_ask(world, version, OLD) for version in (routed, 1, plain))
    assert (answer["route"], answer["version"]) == ("base", routed)
    assert answer["results"] == base["results"] != own["results"]
    assert "route" not in own


def test_a_list_of_patched_names_only_gets_the_answer_of_the_patched_weights(
    world: World, routed: int, plain: int
) -> None:
    answer, own = (_ask(world, version, ["one", "zero"]) for version in (routed, plain))
    assert answer["route"] == "patched"
    assert answer["results"] == own["results"]


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_mixed_list_is_scored_by_both_weighted_by_what_they_know(
    world: World, routed: int, plain: int, multi_label: bool
) -> None:
    labels = ["a pizza", "zero", "one", "a taco"]
    shares = np.array([0.0, 0.75, 0.5, 0.0])  # of the patched weights
    answer, base, own = (
        _ask(world, version, labels, multi_label=str(multi_label).lower()) for version in (routed, 1, plain)
    )
    assert answer["route"] == "mixed"
    expected = shares * _table(own, labels, "score") + (1 - shares) * _table(base, labels, "score")
    if not multi_label:
        expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(_table(answer, labels, "score"), expected, rtol=1e-5)
    cosines = shares * _table(own, labels, "cosine") + (1 - shares) * _table(base, labels, "cosine")
    np.testing.assert_allclose(_table(answer, labels, "cosine"), cosines, rtol=1e-5, atol=1e-6)


def test_other_protocols_route_alike(world: World, routed: int) -> None:
    image = digit_pngs(3)[0]
    labels = ["zero", "a taco"]
    answer = world.client.post(
        "/v1/classify",
        data={"candidate_labels": labels, "version": str(routed)},
        files=[("images", ("a.png", image))],
    ).json()

    body = {"inputs": base64.b64encode(image).decode(), "parameters": {"candidate_labels": labels}}
    hugging = world.client.post(f"/hf/zero-shot-image-classification?version={routed}", json=body).json()
    scores = {each["label"]: each["score"] for each in answer["results"][0]["predictions"]}
    assert {each["label"]: each["score"] for each in hugging} == scores


def test_a_composition_routes_by_the_names_that_its_task_vectors_were_trained_on(world: World) -> None:
    patch = add_patch(world, seeds=(72,))
    terms = [{"patch": patch.id}]
    body = {"name": "routed", "terms": terms, "routing": "by_labels"}
    problem = check_problem(world.client.post("/v1/versions", json=body), 422, "no_patched_names")
    assert "routing" in problem["next"]
    with world.services.database.write() as session:
        versions = Versions(session)
        row = versions.get(patch.version)
        assert row.job_id is not None
        versions.task_vector(patch.vectors[0]).job_id = row.job_id  # as a worker records it
        row.patched_names = NAMES
    made = world.client.post("/v1/versions", json=body).json()
    assert (made["routing"], made["patched_names"]) == ("by_labels", NAMES)
    assert _ask(world, made["id"], OLD)["route"] == "base"
    unrouted = world.client.post("/v1/versions", json={"name": "not routed", "terms": terms}).json()
    assert (unrouted["routing"], unrouted["patched_names"]) == ("none", NAMES)
