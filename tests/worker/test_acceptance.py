"""A patch that asks for it answers at once, but only if what chose nothing agrees: the test splits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import select

from contract.evaluation import Evaluation
from contract.lineage import Lineage
from contract.report import Certificate
from contract.versions import ACTIVE_ALIAS
from paint_core.evaluation import probe_features
from paint_core.models import BaseModel
from paint_core.weights import save_task_vector
from registry.acceptance import Assessment, assess
from registry.aliases import Aliases
from registry.approvals import Approvals
from registry.database import Database
from registry.evidence import Evidence, MeasuredTask
from registry.tables import DatasetRow, PatchRow, WebhookDeliveryRow
from registry.versions import TermSpec, Versions
from tests.builders import write_zip
from tests.worker.conftest import Installation
from tests.worker.runs import FINETUNE, Recorder, begin, mastered_members
from worker.steps.acceptance import Decision, carry_out, describe_activation, judge
from worker.steps.patch import patch

SCORE = {"correct": 80, "total": 100}


def _assessment(patched: float, limit: float) -> Assessment:
    task = {"dataset_id": "ds_1", "name": "food", "role": "supported", "zero_shot": SCORE}
    scores = [task | {"patched": SCORE | {"correct": patched}}]
    own = Evaluation.of_stored({"split": "test", "max_supported_drop": limit, "tasks": scores})
    (measured,) = own.tasks
    measurement = MeasuredTask("ds_1", "food", "supported", "test", None, measured.zero_shot, measured.patched)
    return assess(Evidence((measurement,), own))


def _run(
    installation: Installation, task: DatasetRow, supported: DatasetRow, limit: float, **finetune: Any
) -> PatchRow:
    row = installation.submit_patch(
        name="a patch",
        tasks=[task.id],
        supported=[supported.id],
        finetune=FINETUNE | finetune,
        alpha={"rule": "floor", "max_supported_drop": limit, "strategy": "grid", "grid_step": 0.5},
        activate="if_accepted",
    )
    patch(begin(installation, row, Recorder(), {}))
    return installation.patch(row.id)


def _active(database: Database) -> int | None:
    with database.read() as session:
        return Aliases(session).active_version_id()


def test_an_accepted_patch_is_active_and_the_report_and_the_history_say_why(
    installation: Installation,
    digits: DatasetRow,
    kept: DatasetRow,
) -> None:
    row = _run(installation, digits, kept, 100, iterations=40)
    report = row.report or {}
    assert report["activation"]["accepted"] is True
    assert _active(installation.database) == row.version_id
    with installation.database.read() as session:
        (move,) = Aliases(session).history(ACTIVE_ALIAS)
        assert (move.to_version_id, move.actor, move.forced) == (row.version_id, f"patch {row.id}", False)
        assert report["activation"]["reason"] in move.reason
        assert row.version_id is not None
        version = Versions(session).get(row.version_id)
    assert version.weights_fingerprint is not None
    tasks = {task["dataset_id"]: task for task in (version.evaluation or {})["tasks"]}
    assert tasks[kept.id]["role"] == "supported"
    assert tasks[digits.id]["patched"] == report["tasks"][0]["test"]["patched"]


def test_a_floor_that_holds_on_validation_but_not_on_test_moves_nothing(
    installation: Installation,
    base: BaseModel,
    digits: DatasetRow,
    tmp_path: Path,
) -> None:
    right = mastered_members(base)
    kinds = sorted({name.split("/")[1] for name in right})
    wrong = dict(zip(kinds, kinds[1:] + kinds[:1], strict=True))
    members = {name: data for name, data in right.items() if name.startswith("test/")}
    for name, data in right.items():  # validation labels that are wrong: there is nothing to lose
        split, kind, picture = name.split("/")
        if split == "val":
            members[f"val/{wrong[kind]}/{picture}"] = data
    misleading = installation.ingest_here(write_zip(tmp_path / "misleading.zip", members))
    before = _active(installation.database)
    done = _run(installation, digits, misleading, 5, learning_rate=2e-3, iterations=40)
    activation = (done.report or {})["activation"]
    assert activation["accepted"] is False
    assert "misleading" in activation["reason"]
    assert "the limit is 5" in activation["reason"]
    assert done.version_id is not None  # it is registered all the same
    assert _active(installation.database) == before


@pytest.mark.parametrize(("patched", "accepted"), [(78, True), (77, False)])
def test_a_drop_of_just_the_limit_is_within_it(
    installation: Installation, base: BaseModel, patched: int, accepted: bool
) -> None:
    probe, terms = _stored(installation, base)
    assert judge(_assessment(patched, 2.0), base, terms, probe, installation.blobs).accepted is accepted


def test_what_cannot_be_built_or_adds_nothing_is_not_accepted(installation: Installation, base: BaseModel) -> None:
    probe, terms = _stored(installation, base)
    within = _assessment(80, 0.0)
    nothing = judge(within, base, [TermSpec(terms[0].task_vector_sha256, 0.0)], probe, installation.blobs)
    unsure = Certificate(stance="no_evidence_of_drop", confidence=0.95, bounds=())
    refused = judge(within, base, terms, probe, installation.blobs, unsure)
    assert (refused.accepted, "too few to certify" in refused.reason) == (False, True)
    without = judge(within, base, terms, probe, installation.blobs, needs_certificate=True)
    assert (without.accepted, "has no certificate" in without.reason) == (False, True)
    sure = unsure.model_copy(update={"stance": "certified"})
    assert judge(within, base, terms, probe, installation.blobs, sure, needs_certificate=True).accepted
    lost = judge(within, base, [TermSpec("e" * 64, 1.0)], probe, installation.blobs)
    other = judge(within, base, terms, [row[::-1] for row in probe], installation.blobs)
    assert [each.accepted for each in (nothing, lost, other)] == [False, False, False]
    assert "adds nothing" in nothing.reason
    assert "missing" in lost.reason
    assert "probe" in other.reason


def _stored(installation: Installation, base: BaseModel) -> tuple[list[list[float]], list[TermSpec]]:
    tau = {name: torch.zeros_like(each) for name, each in base.visual.state_dict().items() if each.is_floating_point()}
    sha256 = installation.blobs.put_bytes(save_task_vector(tau, {}))
    return probe_features(base.visual, base).tolist(), [TermSpec(sha256, 1.0)]


def test_where_approvals_are_wanted_an_accepted_version_waits_for_an_admin_and_a_refusal_is_told(
    installation: Installation, base: BaseModel
) -> None:
    settings = installation.settings.model_copy(update={"approvals": True, "webhook_url": "https://hooks.example.com/"})
    accepted, refused = Decision(True, "the worst: food"), Decision(False, "food drops")
    with installation.database.read() as session:  # drops what it writes
        version = Versions(session).register(
            name="v", base_fingerprint=base.fingerprint, terms=[], probe=[], lineage=Lineage()
        )
        before = Aliases(session).active_version_id()
        carry_out(accepted, session, settings, version.id, "patch pt_1")
        (asked,) = Approvals(session).newest(ACTIVE_ALIAS)
        assert (asked.version_id, asked.requested_by, asked.state) == (version.id, "patch pt_1", "pending")
        assert Aliases(session).active_version_id() == before
        carry_out(refused, session, settings, version.id, "patch pt_1")
        carry_out(accepted, session, settings.model_copy(update={"approvals": False}), version.id, "patch pt_1")
        assert Aliases(session).active_version_id() == version.id
        told = [
            row.payload for row in session.scalars(select(WebhookDeliveryRow).order_by(WebhookDeliveryRow.created_at))
        ]
    assert [each["type"] for each in told] == ["alias.approval_requested", "alias.refused", "alias.moved"]
    assert told[1]["data"]["detail"] == "food drops"
    described = describe_activation(accepted, settings, "if_certified")
    assert (described.asked, described.accepted) == ("if_certified", False)
    assert "waits for the approval" in described.reason
