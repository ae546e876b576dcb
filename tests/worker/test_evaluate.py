"""Evaluations through the worker's step, on a small model: what is measured, what is kept, and what is done again."""

from typing import Any

import pytest
import torch
from sqlalchemy import func, select

from contract.datasets import DatasetKind
from contract.evaluations import EvaluationReport, EvaluationRequest
from contract.lineage import Lineage
from contract.routing import NameAccuracy
from paint_core.data import decode_all
from paint_core.evaluation import correct_answers, encode, evaluate, probe_features
from paint_core.models import BaseModel, build_head
from paint_core.weights import fingerprint, save_task_vector
from pipeline.towers import mix_tower
from registry.datasets import DatasetOptions
from registry.errors import RequestRefusedError
from registry.evaluations import Evaluations
from registry.jobs import Jobs
from registry.measurements import Measurements
from registry.predictions import read_predictions
from registry.shards import read_names, read_shard
from registry.tables import DatasetRow, MeasurementRow, VersionRow
from registry.versions import TermSpec, Versions
from tests.app.world import random_task_vector
from tests.builders import digit_members, digit_pngs, write_zip
from tests.worker.conftest import Installation
from tests.worker.runs import FINETUNE, Recorder, begin, begin_job
from worker.messages import Progress
from worker.steps import evaluate as step
from worker.steps.patch import patch


@pytest.fixture(scope="module")
def versions(installation: Installation, base: BaseModel) -> list[int]:
    """The bare base and two mixes of it."""
    return [_add_version(installation, base, *seeds) for seeds in ((), (1,), (2,))]


def _add_version(installation: Installation, base: BaseModel, *seeds: int, known: bool = True) -> int:
    terms = []
    with installation.database.write() as session:
        for seed in seeds:
            data = save_task_vector(random_task_vector(base, seed, 0.5), {})
            terms.append(TermSpec(installation.blobs.put_bytes(data), 1.0))
            Versions(session).add_task_vector(
                sha256=terms[-1].task_vector_sha256,
                base_fingerprint=base.fingerprint,
                num_bytes=1,
                relative_norm=0.1,
                job_id=f"job_{seed}",
            )
        tower = mix_tower(base, terms, installation.blobs)
        row = Versions(session).register(
            name="a mix",
            base_fingerprint=base.fingerprint,
            terms=terms,
            probe=probe_features(tower, base).tolist(),
            lineage=Lineage(),
            weights_fingerprint=fingerprint(tower.state_dict()) if known else None,
        )
        return row.id


def _submit(installation: Installation, **request: Any) -> str:
    with installation.database.write() as session:
        return Evaluations(session).submit(EvaluationRequest.model_validate(request)).id


def _run(installation: Installation, identifier: str, recorder: Recorder | None = None) -> EvaluationReport:
    with installation.database.read() as session:
        job = Jobs(session).get(Evaluations(session).get(identifier).job_id)
    step.evaluate(begin_job(installation, job, recorder or Recorder()))
    with installation.database.read() as session:
        report = Evaluations(session).get(identifier).report
    assert report is not None
    return EvaluationReport.of_stored(report)


def _num_measurements(installation: Installation) -> int:
    with installation.database.read() as session:
        return int(session.scalar(select(func.count()).select_from(MeasurementRow)) or 0)


def test_versions_get_the_scores_that_the_library_computes_and_each_image_its_answer(
    installation: Installation, base: BaseModel, digits: DatasetRow, versions: list[int]
) -> None:
    recorder = Recorder()
    report = _run(installation, _submit(installation, versions=versions, dataset=digits.id), recorder)
    assert [each.version_id for each in report.versions] == versions
    names = tuple(digits.classnames or ())
    shard = installation.blobs.fetch((digits.shards or {})["test"]["sha256"])
    images = decode_all(read_shard(shard), base.preprocess, names)
    head = build_head(base, names, base.default_templates)
    right = []
    for each in report.versions:
        with installation.database.read() as session:
            terms = Versions(session).terms(each.version_id)
            stored = Measurements(session).find([each.measurement_id])[each.measurement_id]
        tower = mix_tower(base, terms, installation.blobs)
        expected = evaluate(tower, base, head, images)
        assert each.measurement is not None
        score = each.measurement.score
        assert (score.correct, score.total, score.correct_top5) == (expected.correct, 20, expected.correct_top5)
        assert score.loss == pytest.approx(expected.loss)
        assert sum(cell.count for cell in each.measurement.confusion) == each.num_images == 20
        diagonal = [cell.count for cell in each.measurement.confusion if cell.classname == cell.predicted]
        assert sum(diagonal) == sum(row.correct for row in each.measurement.classes) == score.correct
        assert [row.classname for row in each.measurement.classes] == list(names)
        table = read_predictions(installation.blobs.fetch(stored.predictions_sha256)).table
        assert table["image"].to_pylist() == read_names(shard)
        answers = correct_answers(encode(tower, images.images, base.preprocess), head, images.labels)
        assert [row["label"] == row["predicted"] for row in table.to_pylist()] == answers.tolist()
        right.append(answers)
    for comparison, answers in zip(report.comparisons, right[1:], strict=True):
        assert comparison.against == versions[0]
        assert comparison.gained == int((answers & ~right[0]).sum())
        assert comparison.lost == int((right[0] & ~answers).sum())
        assert comparison.change is not None
        change = 100 * float(answers.float().mean() - right[0].float().mean())
        assert comparison.change.change_points == pytest.approx(change, abs=1e-4)
        assert comparison.change.low_points <= comparison.change.change_points <= comparison.change.high_points
    stages = [each.stage for each in recorder.messages if isinstance(each, Progress)]
    assert (stages[0], stages[-1]) == ("decode", "evaluate")


def test_the_same_weights_are_not_measured_again_whatever_version_has_them(
    installation: Installation, base: BaseModel, digits: DatasetRow, versions: list[int]
) -> None:
    first = _run(installation, _submit(installation, versions=versions, dataset=digits.id))
    before = _num_measurements(installation)
    twin = _add_version(installation, base, 1)
    again = _run(installation, _submit(installation, versions=[twin], dataset=digits.id))
    assert again.versions[0].was_known
    assert again.versions[0].measurement == first.versions[1].measurement
    assert "decode" not in again.timings_seconds
    assert _num_measurements(installation) == before


def test_what_an_older_release_registered_gets_its_fingerprint(
    installation: Installation, base: BaseModel, digits: DatasetRow
) -> None:
    version = _add_version(installation, base, 5, known=False)
    report = _run(installation, _submit(installation, versions=[version], dataset=digits.id, split="validation"))
    with installation.database.read() as session:
        row = session.get_one(VersionRow, version)
        assert row.weights_fingerprint == report.versions[0].weights_fingerprint


def test_an_attempt_that_ends_early_leaves_what_it_has_measured_to_the_next_one(
    installation: Installation, base: BaseModel, digits: DatasetRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixes = [_add_version(installation, base, seed) for seed in (11, 12)]
    identifier = _submit(installation, versions=mixes, dataset=digits.id)
    with installation.database.read() as session:
        job = Jobs(session).get(Evaluations(session).get(identifier).job_id)
    encoded = []

    def fail_at_the_second(*args: Any, **options: Any) -> torch.Tensor:
        encoded.append(1)
        if len(encoded) == 2:
            raise BrokenPipeError
        return encode(*args, **options)

    monkeypatch.setattr(step, "encode", fail_at_the_second)
    context = begin_job(installation, job, Recorder())
    with pytest.raises(BrokenPipeError):
        step.evaluate(context)
    with installation.database.write() as session:
        Jobs(session).release(context.lease, "the trainer ended", counts_as_attempt=True)
    report = _run(installation, identifier)
    assert [each.was_known for each in report.versions] == [True, False]
    assert len(encoded) == 3


def test_images_are_judged_among_more_labels_than_their_classes(
    installation: Installation, digits: DatasetRow, versions: list[int]
) -> None:
    labels = ["a taco", *reversed(digits.classnames or ()), "a pizza"]
    report = _run(installation, _submit(installation, versions=versions[:1], dataset=digits.id, labels=labels))
    measurement = report.versions[0].measurement
    assert measurement is not None
    assert report.labels == tuple(labels)
    assert [row.total for row in measurement.classes] == [0, *[4] * 5, 0]
    assert {cell.classname for cell in measurement.confusion} == set(digits.classnames or ())
    with pytest.raises(RequestRefusedError, match="lack classes"):
        _submit(installation, versions=versions[:1], dataset=digits.id, labels=labels[2:])


def test_images_without_labels_get_predictions_and_no_scores(
    installation: Installation, versions: list[int], tmp_path: Any
) -> None:
    members = {f"{number}.png": data for number, data in enumerate(digit_pngs(3)[:5])}
    pool = installation.ingest_here(write_zip(tmp_path / "pool.zip", members), DatasetOptions(kind=DatasetKind.POOL))
    with pytest.raises(RequestRefusedError, match="unlabelled"):
        _submit(installation, versions=versions, dataset=pool.id)
    report = _run(installation, _submit(installation, versions=versions, dataset=pool.id, labels=["one", "two"]))
    assert [each.measurement for each in report.versions] == [None] * 3
    assert report.comparisons[0].lost is None
    with installation.database.read() as session:
        stored = Measurements(session).find([report.versions[0].measurement_id])
    table = read_predictions(installation.blobs.fetch(next(iter(stored.values())).predictions_sha256)).table
    assert table["label"].null_count == len(table) == 5
    assert set(table["predicted"].to_pylist()) <= {0, 1}


@pytest.mark.usefixtures("versions")
def test_what_a_patch_measured_need_not_be_measured_again(
    installation: Installation, digits: DatasetRow, others: DatasetRow
) -> None:
    request = {"tasks": [digits.id], "supported": [others.id], "alpha": {"rule": "combined"}, "routing": "by_labels"}
    row = installation.submit_patch(name="a patch", finetune=FINETUNE, **request)
    patch(begin(installation, row, Recorder(), {}))
    done = installation.patch(row.id)
    assert done.version_id is not None
    with installation.database.write() as session:
        bare = Versions(session).base_version(done.base_fingerprint)
        version = Versions(session).get(done.version_id)
        names = {name: NameAccuracy.of_stored(each) for name, each in (version.patched_names or {}).items()}
    assert bare is not None
    assert (version.routing, list(names)) == ("by_labels", list(digits.classnames or ()))
    (task,) = (each for each in (done.report or {})["tasks"] if each["role"] == "patching")
    for state, field in (("zero_shot", "base"), ("patched", "patched")):
        mean = sum(getattr(each, field) for each in names.values()) / len(names)  # all classes have as many images
        assert mean == pytest.approx(task["validation"][state]["accuracy"])
    for dataset in (digits, others):
        report = _run(installation, _submit(installation, versions=[bare.id, done.version_id], dataset=dataset.id))
        assert all(each.was_known for each in report.versions)
        (task,) = (each for each in (done.report or {})["tasks"] if each["dataset_id"] == dataset.id)
        for each, state in zip(report.versions, ("zero_shot", "patched"), strict=True):
            assert each.measurement is not None
            assert each.measurement.score.to_json() == task["test"][state]
        (comparison,) = report.comparisons
        assert comparison.change is not None
        assert comparison.change.change_points == task["change"]["change_points"]


def test_what_cannot_be_evaluated_is_refused(
    installation: Installation, digits: DatasetRow, others: DatasetRow, versions: list[int]
) -> None:
    with pytest.raises(RequestRefusedError, match="no images in train"):
        _submit(installation, versions=versions, dataset=others.id, split="train")
    waiting = installation.submit_dataset(
        write_zip(installation.settings.data_dir / "later.zip", digit_members(range(2), test=2))
    )
    with pytest.raises(RequestRefusedError, match="is still being read"):
        _submit(installation, versions=versions, dataset=waiting.id)
