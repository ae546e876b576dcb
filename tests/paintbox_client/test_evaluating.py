"""`paintbox evaluate`, `compare`, `evaluation` and `evaluations`: what is asked, and what people read."""

from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow.parquet as pq
import pytest

from contract.evaluations import EvaluatedVersion, EvaluationReport, Measurement, VersionComparison
from contract.scores import AccuracyChange, SplitScore
from paintbox_client.client import Client
from registry.evaluations import Evaluations
from registry.jobs import Jobs
from registry.measurements import Measurements
from registry.predictions import write_predictions
from tests.app.world import add_ready_dataset
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run

LABELS = ("pizza", "taco")
PREDICTED = ((0, 1, 0, 1), (0, 0, 1, 1))
TRUTH = (0, 0, 1, 1)


@pytest.fixture(scope="module")
def dataset(served: Served) -> str:
    return add_ready_dataset(served.world.services, list(LABELS), splits=("test",))


def _score(correct: int) -> SplitScore:
    return SplitScore(correct=correct, total=4, accuracy=correct / 4, low=0.1, high=0.9, ece=0.2, correct_top5=4)


def _measurement(correct: int) -> Measurement:
    cells = [{"classname": "pizza", "predicted": "taco", "count": 1}, {"classname": "taco", "predicted": "taco"}]
    cells[1]["count"] = correct - 1
    return Measurement.model_validate(
        {"score": _score(correct).model_dump(), "macro_f1": 0.5, "classes": [], "confusion": cells}
    )


def _finish(served: Served, folder: Path) -> None:
    """Do what a worker does with the evaluation that comes next."""
    services = served.world.services
    while not (waiting := [job for job in served.client.jobs(status="queued") if job.kind == "evaluate"]):
        pass
    with services.database.write() as session:
        lease = Jobs(session).lease(waiting[0].id, "a test")
        assert lease is not None
        row = Evaluations(session).get(Jobs(session).get(waiting[0].id).subject_id)
        evaluated = []
        for version_id, predicted in zip(row.version_ids, PREDICTED, strict=False):
            path = folder / f"{version_id}.parquet"
            columns: dict[str, Any] = {"image": [*"abcd"], "label": TRUTH, "predicted": predicted}
            num_bytes = write_predictions(path, LABELS, columns | {"probability": [0.5] * 4, "margin": [0.1] * 4})
            correct = sum(map(int.__eq__, predicted, TRUTH))
            weights = f"{version_id}" * 64
            identifier = Measurements(session).add(
                weights_fingerprint=weights[:64],
                dataset_id=row.dataset_id,
                split="test",
                head_id="ls_1",
                is_own_head=True,
                num_images=4,
                result=_measurement(correct),
                predictions_sha256=services.blobs.put_file(path),
                num_bytes=num_bytes,
                owner=None,
            )
            evaluated.append(
                EvaluatedVersion(
                    version_id=version_id,
                    weights_fingerprint=weights[:64],
                    measurement_id=identifier,
                    num_images=4,
                    measurement=_measurement(correct),
                )
            )
        change = AccuracyChange(change_points=25.0, low_points=-12.5, high_points=50.0, p_value=0.5)
        compared = [
            VersionComparison(
                version_id=each.version_id,
                against=evaluated[0].version_id,
                changed=2,
                lost=1,
                gained=2,
                change=change,
            )
            for each in evaluated[1:]
        ]
        report = EvaluationReport(
            labels=LABELS,
            templates=("{}",),
            versions=tuple(evaluated),
            comparisons=tuple(compared),
            warnings=("With 4 images the accuracies are uncertain.",),
        )
        Jobs(session).succeed(lease)
        Evaluations(session).complete(row.id, report)


def _ask(served: Served, folder: Path, *arguments: object) -> Any:
    """Run a command that waits for an evaluation."""
    worker = Thread(target=_finish, args=(served, folder), daemon=True)
    worker.start()
    done = run(*arguments, PAINTBOX_URL=served.url)
    worker.join(30)
    return done


def test_versions_are_evaluated_and_people_read_accuracies_changes_and_errors(
    served: Served, dataset: str, tmp_path: Path
) -> None:
    other = served.add_version()
    saved = tmp_path / "all.parquet"
    done = _ask(served, tmp_path, "evaluate", "active", other, "--dataset", dataset, "--save", saved)
    assert done.status == 0, done.err
    assert "4 images, 2 labels" in done.out
    assert "50.0%" in done.out
    assert f"Version {other} against 1: 2 answers changed, 1 lost, 2 gained: +25.0 points [-12.5, +50.0]" in done.out
    assert "pizza" in done.out
    assert "With 4 images the accuracies are uncertain" in done.err
    assert pq.read_table(saved)["predicted"].to_pylist() == list(PREDICTED[0])
    listed = run("evaluations", "--dataset", dataset, "--json", PAINTBOX_URL=served.url).json
    shown = run("evaluation", listed[0]["id"], PAINTBOX_URL=served.url)
    assert "Most frequent errors" in shown.out
    with Client(served.url) as client:
        wrong = list(client.predictions(listed[0]["id"], other, wrong=True))
        assert [each.index for each in wrong] == []
        changed = list(client.predictions(listed[0]["id"], other, limit=1, changed=True))
        assert [(each.image, each.predicted_before, each.predicted) for each in changed] == [("b", "taco", "pizza")]
        client.delete_evaluation(listed[0]["id"])
    assert run("evaluations", "--json", PAINTBOX_URL=served.url).json == []


def test_two_versions_are_compared_by_one_command(served: Served, dataset: str, tmp_path: Path) -> None:
    other = served.add_version()
    done = _ask(served, tmp_path, "compare", 1, other, "--dataset", dataset, "--json")
    assert done.json["version_ids"] == [1, other]
    assert done.json["report"]["comparisons"][0]["gained"] == 2


def test_files_that_cannot_be_used_are_named_before_anything_is_asked(
    served: Served, dataset: str, tmp_path: Path
) -> None:
    refused = run("evaluate", 1, "--dataset", dataset, "--save", tmp_path / "x.txt", PAINTBOX_URL=served.url)
    assert (refused.status, "neither .parquet nor .csv" in refused.err) == (2, True)
    missing = run("evaluate", 1, "--dataset", dataset, "--labels", tmp_path / "none.txt", PAINTBOX_URL=served.url)
    assert (missing.status, "one label per line" in missing.err) == (2, True)
