"""Collecting over HTTP: which rows a request names, what is refused, and that the same request is the same data set."""

from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response

from contract.collections import Manifest
from contract.datasets import DatasetKind
from registry.datasets import Datasets
from tests.app.galleries import Row, add_stored_dataset
from tests.app.test_evaluations import LABELS, ROWS, measure_and_finish
from tests.app.world import World, check_problem
from tests.builders import digit_pngs


def rows(labels: str) -> list[Row]:
    return [(digit_pngs(0)[place], f"{place}.png", int(label)) for place, label in enumerate(labels)]


@pytest.fixture(scope="module")
def source(world: World) -> str:
    return add_stored_dataset(world.services, LABELS, {"train": rows("0120"), "test": rows("00112")})


def ask(world: World, *sources: dict[str, Any], **options: Any) -> Response:
    return world.client.post("/v1/datasets/collect", json={"name": "picked", "from": sources} | options)


def manifest(world: World, response: Response) -> list[tuple[str, list[int], str | None, str | None]]:
    """What a worker is told to copy."""
    assert response.status_code == 202, response.text
    with world.services.database.read() as session:
        row = Datasets(session).get(response.json()["id"])
    told = Manifest.model_validate_json(world.services.blobs.read(row.archive_sha256))
    return [(each.split, list(each.rows), each.as_split, each.as_label) for each in told.sources]


def test_images_are_named_by_data_set_split_class_or_row(world: World, source: str) -> None:
    def told(*sources: dict[str, Any], **options: Any) -> object:
        return manifest(world, ask(world, *sources, **options))

    train, test = ("train", [0, 1, 2, 3], None, None), ("test", [0, 1, 2, 3, 4], None, None)
    assert told({"dataset": source}) == [train, test]
    assert told({"dataset": source, "split": "test"}) == [test]
    assert told({"dataset": source, "label": "pizza"}) == [("train", [0, 3], None, None), ("test", [0, 1], None, None)]
    assert told({"dataset": source, "split": "train", "rows": [3, 1, 3]}) == [("train", [1, 3], None, None)]
    parts = [
        {"split": "train", "rows": [2], "as_label": "x"},
        {"split": "train", "rows": [0], "as_split": "validation"},
    ]
    assert told(*({"dataset": source} | each for each in parts), {"dataset": source, "split": "test", "rows": [4]}) == [
        ("train", [2], None, "x"), ("train", [0], "validation", None), ("test", [4], None, None),
    ]  # fmt: skip
    assert told({"dataset": source, "split": "train"}, kind="pool") == [train]


def test_the_answer_is_a_data_set_whose_job_somebody_is_told_of(world: World, source: str) -> None:
    asked = {"dataset": source, "split": "train", "rows": [0]}
    response = ask(world, asked, templates=["a {}"])
    dataset = response.json()
    assert (response.status_code, response.headers["location"]) == (202, f"/v1/datasets/{dataset['id']}")
    assert (dataset["state"], dataset["templates"]) == ("ingesting", ["a {}"])
    assert dataset["collected"] == {
        "sources": [{"dataset_id": source, "split": "train", "num_images": 1, "as_split": None, "as_label": None}],
        "splits": "keep", "allow_test_images": False, "num_left_out": None, "num_test_images_in_training": None,
    }  # fmt: skip
    assert world.dispatcher.dispatched.count(dataset["job_id"]) == 1
    again = ask(world, asked, templates=["a {}"], name="another name")
    assert (again.status_code, again.json()["id"]) == (200, dataset["id"])
    assert ask(world, asked).json()["id"] != dataset["id"]
    check_problem(world.client.delete(f"/v1/datasets/{source}"), 409, "conflict")


def test_a_request_that_is_repeated_with_its_key_is_carried_out_once(world: World, source: str) -> None:
    body = {"name": "keyed", "from": [{"dataset": source, "split": "train", "rows": [1]}]}
    first, again = (
        world.client.post("/v1/datasets/collect", json=body, headers={"idempotency-key": "k1"}) for _ in range(2)
    )
    assert (first.status_code, again.status_code, again.headers["idempotent-replayed"]) == (202, 200, "true")
    other = world.client.post("/v1/datasets/collect", json=body | {"name": "o"}, headers={"idempotency-key": "k1"})
    check_problem(other, 422, "idempotency_key_reused")


def test_a_cell_of_a_confusion_matrix_is_a_data_set(world: World, source: str, tmp_path: Path) -> None:
    evaluation = measure_and_finish(world, source, [1], tmp_path)
    wrong = [place for place, (label, answer, _) in enumerate(ROWS) if label != answer]
    asked = {"evaluation": evaluation, "wrong": True}
    assert manifest(world, ask(world, asked)) == [("test", wrong, None, None)]
    cell = [place for place, (label, answer, _) in enumerate(ROWS) if (label, answer) == (0, 1)]
    asked = {"evaluation": evaluation, "label": "pizza", "predicted": "taco"}
    assert manifest(world, ask(world, asked)) == [("test", cell, None, None)]
    check_problem(ask(world, asked | {"as_split": "train"}), 422, "test_images")
    allowed = ask(world, asked | {"as_split": "train"}, allow_test_images=True)
    assert manifest(world, allowed) == [("test", cell, "train", None)]
    problem = check_problem(ask(world, asked | {"predicted": "soup"}), 422, "invalid_request")
    assert "body.from.0.predicted" in problem["detail"]


@pytest.mark.parametrize(
    ("sources", "options", "status", "code"),
    [
        ([{"dataset": "ds_none"}], {}, 404, "not_found"),
        ([{"evaluation": "ev_none"}], {}, 404, "not_found"),
        ([{"split": "train"}], {}, 422, "invalid_request"),
        ([{"dataset": "SOURCE", "evaluation": "ev_none"}], {}, 422, "invalid_request"),
        ([{"dataset": "SOURCE", "wrong": True}], {}, 422, "invalid_request"),
        ([{"dataset": "SOURCE", "rows": [1]}], {}, 422, "invalid_request"),
        ([{"dataset": "SOURCE", "split": "train", "rows": [-1]}], {}, 422, "invalid_request"),
        ([{"dataset": "SOURCE", "split": "train", "rows": [4]}], {}, 422, "row_not_found"),
        ([{"dataset": "SOURCE", "split": "validation"}], {}, 422, "invalid_request"),
        ([{"dataset": "SOURCE", "label": "soup"}], {}, 422, "invalid_request"),
        ([{"dataset": "SOURCE", "split": "train", "label": "taco", "rows": [0]}], {}, 422, "no_images"),
        ([{"dataset": "SOURCE", "as_split": "train"}], {}, 422, "test_images"),
        ([{"dataset": "SOURCE"}], {"kind": "pool"}, 422, "test_images"),
        ([{"dataset": "SOURCE", "as_label": "x"}], {"kind": "pool"}, 422, "invalid_request"),
        ([{"dataset": "SOURCE"}, {"dataset": "SOURCE", "as_label": "x"}], {}, 422, "contradictory_rows"),
        ([], {}, 422, "invalid_request"),
        ([{"dataset": "SOURCE"}] * 101, {}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_collected_is_refused_at_once(
    world: World, source: str, sources: list[dict[str, Any]], options: dict[str, Any], status: int, code: str
) -> None:
    named = [{name: source if value == "SOURCE" else value for name, value in each.items()} for each in sources]
    check_problem(ask(world, *named, **options), status, code)


def test_images_of_a_pool_need_a_class(world: World) -> None:
    pool = add_stored_dataset(world.services, (), {"train": rows("00")}, DatasetKind.POOL)
    check_problem(ask(world, {"dataset": pool}), 422, "unlabelled_pool")
    assert manifest(world, ask(world, {"dataset": pool, "as_label": "x"})) == [("train", [0, 1], None, "x")]
