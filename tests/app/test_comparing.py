"""Two versions side by side: their terms, and their answers to the images that both were evaluated on."""

from typing import Any

import pytest

from contract.evaluations import Measurement
from paint_core.evaluation.statistics import paired_difference
from registry.measurements import Measurements
from registry.predictions import write_predictions
from registry.versions import Versions
from tests.app.patched import add_patch, score
from tests.app.world import World, check_problem

NUM_IMAGES = 100


def measure(world: World, version: int, predicted: list[int], dataset: str = "ds_food", *, own: bool = True) -> str:
    """Record what a version answered to images of class 0, and return the hash of the answers."""
    path = world.services.settings.scratch_dir / "predictions.parquet"
    columns: dict[str, Any] = {"image": [f"{each}.png" for each in range(NUM_IMAGES)], "label": [0] * NUM_IMAGES}
    columns |= {"predicted": predicted} | dict.fromkeys(("probability", "margin"), [0.9] * NUM_IMAGES)
    write_predictions(path, ("pizza", "taco", "sushi"), columns)
    sha256 = world.services.blobs.put_file(path)
    result = {"score": score(predicted.count(0)), "macro_f1": 0.5, "classes": [], "confusion": []}
    with world.services.database.write() as session:
        weights = Versions(session).get(version).weights_fingerprint
        assert weights is not None
        Measurements(session).add(
            weights_fingerprint=weights,
            dataset_id=dataset,
            split="test",
            head_id="ls_own" if own else "ls_other",
            is_own_head=own,
            num_images=NUM_IMAGES,
            result=Measurement.of_stored(result),
            predictions_sha256=sha256,
            num_bytes=1,
            owner=None,
        )
    return sha256


def compare(world: World, before: int, after: int) -> dict[str, Any]:
    found: dict[str, Any] = world.client.get(f"/v1/versions/{before}/compare", params={"with": after}).json()
    return found


def compose(world: World, *terms: dict[str, Any]) -> int:
    response = world.client.post("/v1/versions", json={"name": "a mix", "terms": terms})
    assert response.status_code == 201, response.text
    return int(response.json()["id"])


@pytest.fixture(scope="module")
def version(world: World) -> int:
    """A version that is mixed by the service, so that its weights have a fingerprint."""
    return compose(world, {"version": add_patch(world, seeds=(1,), alpha=0.5).version, "coefficient": 0.8})


def test_answers_to_the_same_images_are_compared_one_by_one(world: World, version: int) -> None:
    measure(world, 1, [0] * 90 + [1] * 10)
    measure(world, version, [2] * 5 + [0] * 89 + [1] * 6)
    found = compare(world, 1, version)
    (task,) = found["tasks"]
    assert (task["changed"], task["lost"], task["gained"]) == (9, 5, 4)
    assert (task["before"]["correct"], task["after"]["correct"]) == (90, 89)
    wanted = paired_difference(4, 5, NUM_IMAGES)
    change = task["change"]
    assert (change["change_points"], change["low_points"], change["high_points"], change["p_value"]) == (
        wanted.points,
        wanted.low,
        wanted.high,
        wanted.p_value,
    )
    turned = compare(world, version, 1)["tasks"][0]
    assert (turned["lost"], turned["gained"], turned["change"]["change_points"]) == (4, 5, -wanted.points)


def test_what_only_one_was_evaluated_on_is_named_and_other_labels_do_not_count(world: World, version: int) -> None:
    measure(world, version, [0] * NUM_IMAGES, "ds_only")
    measure(world, version, [0] * NUM_IMAGES, "ds_labels", own=False)
    found = compare(world, 1, version)
    assert [(each["dataset"], each["missing"]) for each in found["uncompared"]] == [("ds_only", 1)]
    assert "ds_labels" not in str(found)


def test_terms_are_those_that_the_other_one_does_not_have(world: World, version: int) -> None:
    composed = compose(world, {"version": version, "coefficient": 0.5})
    found = compare(world, version, composed)
    assert found["same_weights"] is False
    assert [len(found[side]["terms"]) for side in ("before", "after")] == [1, 1]
    assert [each["coefficient"] for side in ("before", "after") for each in found[side]["terms"]] == [0.4, 0.2]
    assert "active" in compare(world, 1, version)["before"]["aliases"]
    same = compare(world, version, version)
    assert (same["same_weights"], same["before"]["terms"]) == (True, [])


def test_answers_that_are_gone_leave_the_accuracies(world: World, version: int) -> None:
    world.services.blobs.delete(measure(world, 1, [0] * 40 + [1] * 60, "ds_gone"))
    measure(world, version, [0] * 50 + [1] * 50, "ds_gone")
    task = next(each for each in compare(world, 1, version)["tasks"] if each["dataset"] == "ds_gone")
    assert (task["before"]["correct"], task["after"]["correct"]) == (40, 50)
    assert (task["changed"], task["change"], task["name"]) == (None, None, None)


def test_a_version_that_is_not_there_is_named(world: World) -> None:
    check_problem(world.client.get("/v1/versions/1/compare", params={"with": 999}), 404, "not_found")
    check_problem(world.client.get("/v1/versions/999/compare", params={"with": 1}), 404, "not_found")
    check_problem(world.client.get("/v1/versions/1/compare"), 422, "invalid_request")
