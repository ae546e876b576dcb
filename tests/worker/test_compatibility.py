"""A report tells how far an index of the base's embeddings stays usable with the new version."""

import pytest
import torch
import torch.nn.functional as F

from contract.report import PatchReport
from paint_core.data import LabelledImages, decode_all
from paint_core.evaluation import encode
from paint_core.evaluation.compatibility import compare_embeddings
from paint_core.models import BaseModel
from pipeline.towers import mix_tower
from registry.shards import read_shard
from registry.tables import DatasetRow
from registry.versions import Versions
from tests.worker.conftest import Installation
from tests.worker.runs import FINETUNE, Recorder, begin
from worker.steps.patch import patch


def _report(installation: Installation, **fields: object) -> PatchReport:
    row = installation.submit_patch(name="digits", **fields)
    patch(begin(installation, row, Recorder(), {}))
    return PatchReport.of_stored(installation.patch(row.id).report or {})


def _validation(installation: Installation, base: BaseModel, row: DatasetRow) -> LabelledImages:
    shard = installation.blobs.fetch((row.shards or {})["validation"]["sha256"])
    return decode_all(read_shard(shard), base.preprocess, row.classnames or [])


def test_it_is_measured_on_the_validation_images_of_all_tasks(
    installation: Installation, base: BaseModel, digits: DatasetRow, others: DatasetRow
) -> None:
    report = _report(
        installation,
        tasks=[digits.id],
        supported=[others.id],
        finetune=FINETUNE | {"learning_rate": 0.05, "iterations": 12},
        alpha={"rule": "combined", "strategy": "grid", "grid_step": 0.5},
    )
    assert report.embeddings is not None
    assert report.version_id is not None
    with installation.database.read() as session:
        tower = mix_tower(base, Versions(session).terms(report.version_id), installation.blobs)
    splits = [_validation(installation, base, row) for row in (digits, others)]
    pictures = torch.cat([split.images for split in splits])
    old, new = (encode(visual, pictures, base.preprocess) for visual in (base.visual, tower))
    expected = compare_embeddings(old, new)
    found = report.embeddings
    assert (found.num_images, found.neighbours) == (len(pictures), 10)
    assert found.recall == pytest.approx(float(expected.recall.mean()), abs=1e-3)
    assert found.mean_cosine == pytest.approx(float((F.normalize(old) * F.normalize(new)).sum(1).mean()), abs=1e-4)
    assert [(task.dataset_id, task.num_images) for task in found.tasks] == [
        (row.id, len(split)) for row, split in zip((digits, others), splits, strict=True)
    ]
    weighted = sum(task.recall * task.num_images for task in found.tasks) / found.num_images
    assert weighted == pytest.approx(found.recall)


def test_an_instant_patch_leaves_the_index_as_it_is(
    installation: Installation, digits: DatasetRow, others: DatasetRow
) -> None:
    report = _report(installation, tasks=[digits.id], supported=[others.id], method="instant")
    assert report.embeddings is not None
    assert report.embeddings.recall == 1.0
    assert report.embeddings.mean_cosine == pytest.approx(1.0)


def test_of_many_images_a_part_is_compared(
    installation: Installation, digits: DatasetRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.steps.compatibility.MOST_IMAGES", 7)
    report = _report(installation, tasks=[digits.id], method="instant", alpha={"rule": "combined"})
    assert report.embeddings is not None
    assert (report.embeddings.num_images, report.embeddings.neighbours) == (7, 6)
