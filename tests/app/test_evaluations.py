"""Evaluations over HTTP: what is refused, what is answered, and whose predictions a page shows."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from contract.evaluations import EvaluatedVersion, EvaluationReport
from registry.evaluations import Evaluations
from registry.integrity import find_named_blobs
from registry.jobs import Jobs
from registry.measurements import Measurements
from registry.predictions import write_predictions
from registry.tables import MeasurementRow, UnusedBlobRow
from tests.app.world import World, add_ready_dataset, add_version, check_problem

LABELS = ("pizza", "taco", "=1+1")
ROWS = ((0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 0, 1), (2, 2, 0))
"""Label, answer of the first version, answer of the second."""


@pytest.fixture(scope="module")
def dataset(world: World) -> str:
    return add_ready_dataset(world.services, list(LABELS), splits=("train", "validation", "test"))


@pytest.fixture(scope="module")
def versions(world: World) -> list[int]:
    return [1, add_version(world.services, world.base, seed=4)[0]]


@pytest.fixture
def evaluation(world: World, dataset: str, versions: list[int], tmp_path: Path) -> Iterator[str]:
    identifier = measure_and_finish(world, dataset, versions, tmp_path)
    yield identifier
    world.client.delete(f"/v1/evaluations/{identifier}")


def measure_and_finish(world: World, dataset: str, versions: list[int], folder: Path) -> str:
    """A finished evaluation of one or two versions, as a worker would write it."""
    body = {"versions": versions, "dataset": dataset}
    started = world.client.post("/v1/evaluations", json=body)
    assert started.status_code == 202
    row = started.json()["evaluation"]
    with world.services.database.write() as session:
        lease = Jobs(session).lease(row["job_id"], "a test")
        assert lease is not None
        Jobs(session).succeed(lease)
        measurements, places = Measurements(session), range(1, len(versions) + 1)
        evaluated = [_measure(world, measurements, dataset, place, folder, versions) for place in places]
        report = EvaluationReport(labels=LABELS, templates=("{}",), versions=tuple(evaluated))
        Evaluations(session).complete(row["id"], report)
    return str(row["id"])


def _measure(
    world: World, measurements: Measurements, dataset: str, place: int, folder: Path, versions: list[int]
) -> EvaluatedVersion:
    path = folder / f"{place}.parquet"
    columns: dict[str, Any] = {
        "image": [f"{number}.png" for number in range(len(ROWS))],
        "label": [row[0] for row in ROWS],
        "predicted": [row[place] for row in ROWS],
        "probability": [0.75] * len(ROWS),
        "margin": [0.5] * len(ROWS),
    }
    num_bytes = write_predictions(path, LABELS, columns)
    identifier = measurements.add(
        weights_fingerprint=f"{place}" * 64,
        dataset_id=dataset,
        split="test",
        head_id="ls_1",
        is_own_head=True,
        num_images=len(ROWS),
        result=None,
        predictions_sha256=world.services.blobs.put_file(path),
        num_bytes=num_bytes,
        owner=None,
    )
    return EvaluatedVersion(
        version_id=versions[place - 1],
        weights_fingerprint=f"{place}" * 64,
        measurement_id=identifier,
        num_images=len(ROWS),
    )


def _page(world: World, evaluation: str, **query: Any) -> dict[str, Any]:
    response = world.client.get(f"/v1/evaluations/{evaluation}/predictions", params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_a_request_becomes_a_job_and_the_same_key_the_same_evaluation(
    world: World, dataset: str, versions: list[int]
) -> None:
    body = {"versions": ["active", versions[1], versions[0]], "dataset": dataset, "split": "validation"}
    headers = {"Idempotency-Key": "evaluate-once"}
    first, second = (world.client.post("/v1/evaluations", json=body, headers=headers) for _ in range(2))
    assert first.json()["evaluation"]["id"] == second.json()["evaluation"]["id"]
    assert second.headers["Idempotent-Replayed"] == "true"
    started = first.json()
    assert started["job"]["kind"] == "evaluate"
    assert started["job"]["links"]["subject"] == f"/v1/evaluations/{started['evaluation']['id']}"
    assert started["evaluation"]["version_ids"] == versions
    listed = world.client.get("/v1/evaluations", params={"dataset": dataset}).json()["items"]
    assert started["evaluation"]["id"] in [each["id"] for each in listed]
    path = f"/v1/evaluations/{started['evaluation']['id']}"
    check_problem(world.client.get(f"{path}/predictions"), 409, "conflict")
    check_problem(world.client.delete(path), 409, "conflict")
    check_problem(world.client.delete(f"/v1/datasets/{dataset}"), 409, "conflict")
    assert world.client.post(f"/v1/jobs/{started['job']['id']}/cancel").status_code == 200
    assert world.client.post(f"/v1/jobs/{started['job']['id']}/retry").status_code == 202
    assert world.client.post(f"/v1/jobs/{started['job']['id']}/cancel").status_code == 200
    assert world.client.delete(path).status_code == 204
    check_problem(world.client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"versions": []}, 422, "invalid_request"),
        ({"versions": [1, 1]}, 422, "invalid_request"),
        ({"versions": [999_999]}, 404, "not_found"),
        ({"versions": ["no-such-alias"]}, 404, "not_found"),
        ({"dataset": "ds_missing"}, 404, "not_found"),
        ({"split": "all"}, 422, "invalid_request"),
        ({"labels": []}, 422, "invalid_request"),
        ({"labels": ["pizza", "pizza"]}, 422, "invalid_request"),
        ({"labels": ["pizza", "taco"]}, 422, "missing_labels"),
        ({"labels": [*LABELS, "\u0000"]}, 422, "invalid_request"),
        ({"templates": ["no placeholder"]}, 422, "invalid_request"),
        ({"webhook_url": "http://169.254.169.254/"}, 422, "webhook_refused"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_once(
    world: World, dataset: str, change: dict[str, Any], status: int, code: str
) -> None:
    response = world.client.post("/v1/evaluations", json={"versions": [1], "dataset": dataset, **change})
    check_problem(response, status, code)


def test_a_page_shows_the_answers_of_one_version_beside_those_of_the_first(
    world: World, evaluation: str, versions: list[int]
) -> None:
    page = _page(world, evaluation, version=versions[1])
    assert (page["total"], page["next_cursor"], page["version_id"]) == (5, None, versions[1])
    assert page["items"][1] == {
        "index": 1,
        "image": "1.png",
        "label": "pizza",
        "predicted": "pizza",
        "probability": 0.75,
        "margin": 0.5,
        "predicted_before": "taco",
    }
    assert _page(world, evaluation)["items"][0]["predicted_before"] is None


@pytest.mark.parametrize(
    ("query", "indices"),
    [
        ({"wrong": True}, [4]),
        ({"wrong": False}, [0, 1, 2, 3]),
        ({"changed": True}, [1, 3, 4]),
        ({"changed": False}, [0, 2]),
        ({"label": "taco"}, [2, 3]),
        ({"predicted": "pizza"}, [0, 1, 4]),
        ({"predicted": "pizza", "changed": True}, [1, 4]),
        ({"label": "=1+1", "wrong": False}, []),
    ],
)
def test_filters_choose_images(
    world: World, evaluation: str, versions: list[int], query: dict[str, Any], indices: list[int]
) -> None:
    page = _page(world, evaluation, version=versions[1], **query)
    assert [each["index"] for each in page["items"]] == indices
    assert page["total"] == len(indices)


def test_pages_join_to_the_whole(world: World, evaluation: str) -> None:
    cursor, seen = None, []
    while True:
        page = _page(world, evaluation, limit=2, **({} if cursor is None else {"cursor": cursor}))
        seen += [each["index"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == list(range(5))


@pytest.mark.parametrize("query", [{"version": 999_999}, {"label": "dog"}, {"cursor": "-1"}, {"cursor": "x"}])
def test_what_a_page_cannot_show_is_named(world: World, evaluation: str, query: dict[str, Any]) -> None:
    response = world.client.get(f"/v1/evaluations/{evaluation}/predictions", params=query)
    problem = check_problem(response, 422, "invalid_request")
    assert next(iter(query)) in problem["detail"]


def test_all_predictions_are_one_file(world: World, evaluation: str, versions: list[int]) -> None:
    path = f"/v1/evaluations/{evaluation}/predictions/file"
    parquet = world.client.get(path, params={"version": versions[1]})
    assert pq.read_table(BytesIO(parquet.content))["predicted"].to_pylist() == [row[2] for row in ROWS]
    csv = world.client.get(path, params={"format": "csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    lines = csv.text.splitlines()
    assert lines[0] == '"image","label","predicted","probability","margin"'
    assert lines[2] == '"1.png","pizza","taco",0.75,0.5'


def test_predictions_are_verified_with_everything_else(world: World, evaluation: str, versions: list[int]) -> None:
    with world.services.database.read() as session:
        named = find_named_blobs(session)
        rows = session.query(MeasurementRow).all()
    assert {named[row.predictions_sha256] for row in rows} == {f"predictions of measurement {row.id}" for row in rows}
    assert len(rows) == len(versions)


def test_predictions_are_deleted_with_the_last_evaluation_that_refers_to_them(world: World, evaluation: str) -> None:
    assert world.client.delete(f"/v1/evaluations/{evaluation}").status_code == 204
    with world.services.database.read() as session:
        assert session.query(MeasurementRow).count() == 0
        assert session.query(UnusedBlobRow).count() >= 2
