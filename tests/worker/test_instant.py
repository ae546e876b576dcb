"""An instant patch through the worker's step: the version has a head term, and evaluations find what it reports."""

from pathlib import Path

import pytest

from contract.evaluations import EvaluationRequest
from contract.report import PatchReport
from paint_core.instant import load_head_term
from paint_core.models import BaseModel
from paint_core.patching import auto
from pipeline.heads import load_heads
from registry.errors import RequestRefusedError
from registry.evaluations import Evaluations
from registry.jobs import Jobs
from registry.tables import DatasetRow
from registry.versions import Versions
from tests.builders import digit_members, write_zip
from tests.contract.stored import unknown_fields
from tests.worker.conftest import Installation
from tests.worker.runs import Recorder, begin, begin_job
from worker.steps.evaluate import evaluate
from worker.steps.patch import patch


def test_an_instant_patch_is_registered_reported_and_evaluated(
    installation: Installation, base: BaseModel, digits: DatasetRow, kept: DatasetRow
) -> None:
    row = installation.submit_patch(name="now", method="instant", tasks=[digits.id], supported=[kept.id])
    patch(begin(installation, row, Recorder(), {}))
    stored = installation.patch(row.id).report or {}
    report = PatchReport.of_stored(stored)
    assert unknown_fields(report) == []
    assert (report.method, report.finetune, report.update) == ("instant", None, None)
    assert report.instant is not None
    assert (report.instant.num_images, report.instant.num_used) == (5 * 24, 5 * 24)
    assert (report.instant.leave_one_out_accuracy or 0) > 0.7
    assert report.instant.features_fit == "good"
    task, supported = report.tasks
    assert task.test.patched.accuracy > task.test.zero_shot.accuracy + 0.3
    assert supported.test.patched == supported.test.zero_shot
    assert supported.test_on_union is not None
    with installation.database.read() as session:
        versions = Versions(session)
        version = versions.get(report.version_id or 0)
        (term,) = versions.terms(version.id)
        assert term.is_head
        assert versions.task_vector(term.task_vector_sha256).kind == "head"
        base_version = versions.base_version(base.fingerprint)
        fingerprints = version.weights_fingerprint, base_version and base_version.weights_fingerprint
        assert set(version.patched_names or {}) == set(digits.classnames or ())
    assert fingerprints[0] != fingerprints[1]
    assert len(load_heads(base, [term], installation.blobs).terms) == 1
    # What an evaluation on the validation split finds is what the curve says at the chosen alpha.
    with installation.database.write() as session:
        request = EvaluationRequest(versions=(version.id,), dataset=digits.id, split="validation")
        asked = Evaluations(session).submit(request)
        job = Jobs(session).get(asked.job_id)
    evaluate(begin_job(installation, job, Recorder()))
    with installation.database.read() as session:
        (found,) = (Evaluations(session).get(asked.id).report or {})["versions"]
    assert found["weights_fingerprint"] == fingerprints[0]
    assert task.validation.patched is not None
    assert found["measurement"]["score"]["correct"] == task.validation.patched.correct


def test_an_instant_patch_takes_in_more_classes_and_gives_some_up_without_the_earlier_images(
    installation: Installation, base: BaseModel, digits: DatasetRow, tmp_path: Path
) -> None:
    more = installation.ingest_here(
        write_zip(tmp_path / "more.zip", digit_members(range(5, 7), train=12, val=4, test=4))
    )
    first = installation.submit_patch(name="now", method="instant", tasks=[digits.id])
    patch(begin(installation, first, Recorder(), {}))
    names = list(digits.classnames or ())
    request = {"method": "instant", "tasks": [digits.id, more.id], "extends": first.id, "forget": names[:1]}
    second = installation.submit_patch(name="later", **request)
    patch(begin(installation, second, Recorder(), {}))
    report = PatchReport.of_stored(installation.patch(second.id).report or {})
    assert report.instant is not None
    assert report.instant.num_images == 4 * 24 + 2 * 12
    term = load_head_term(installation.blobs.fetch(report.terms[0].task_vector_sha256))
    assert set(term.names) == {*names[1:], *(more.classnames or ())}
    task = next(each for each in report.tasks if each.dataset_id == more.id)
    assert task.test.patched.accuracy > task.test.zero_shot.accuracy
    third = installation.submit_patch(name="wrong", **{**request, "forget": ["no class"]})
    with pytest.raises(RequestRefusedError, match="no class 'no class'"):
        patch(begin(installation, third, Recorder(), {}))


def test_a_patch_of_statistics_is_extended_forgets_and_is_never_asked_for_features(
    installation: Installation, base: BaseModel, digits: DatasetRow, kept: DatasetRow, tmp_path: Path
) -> None:
    fields = {"method": "instant", "keep": "statistics", "tasks": [digits.id], "supported": [kept.id]}
    first = installation.submit_patch(name="now", **fields)
    patch(begin(installation, first, Recorder(), {}))
    report = PatchReport.of_stored(installation.patch(first.id).report or {})
    assert unknown_fields(report) == []
    assert report.instant is not None
    assert (report.instant.keep, report.instant.gamma, report.instant.num_used) == ("statistics", None, 5 * 24)
    assert (report.instant.leave_one_out_accuracy or 0) > 0.6
    task, supported = report.tasks
    assert task.test.patched.accuracy > task.test.zero_shot.accuracy + 0.2
    assert supported.test.patched == supported.test.zero_shot
    assert _judged_later(installation, report.version_id or 0, digits) == report.tasks[0].test.patched.correct


def _judged_later(installation: Installation, version: int, dataset: DatasetRow) -> int:
    """Correct test images of a version, as an evaluation on request finds."""
    with installation.database.write() as session:
        request = EvaluationRequest(versions=(version,), dataset=dataset.id, split="test")
        asked = Evaluations(session).submit(request)
        job = Jobs(session).get(asked.job_id)
    evaluate(begin_job(installation, job, Recorder()))
    with installation.database.read() as session:
        (found,) = (Evaluations(session).get(asked.id).report or {})["versions"]
    return int(found["measurement"]["score"]["correct"])


def _keep(candidates: auto._Candidates, way: str) -> auto.AutoResult:
    candidate, result, instant = next(found for found in candidates._found if found[0].way == way)
    return auto.AutoResult(result, candidate, tuple(each for each, _, _ in candidates._found), instant)
