"""What a worker records of a version's answers in lower precisions."""

import pytest

from contract.precision import PrecisionCheck
from registry.tables import DatasetRow
from registry.versions import Versions
from tests.worker.conftest import Installation
from tests.worker.runs import FINETUNE, Recorder, begin
from worker.steps import precisions
from worker.steps.patch import patch


@pytest.mark.parametrize("has_instructions", [True, False])
def test_a_version_records_what_lower_precisions_change_where_the_worker_has_them(
    installation: Installation, digits: DatasetRow, monkeypatch: pytest.MonkeyPatch, has_instructions: bool
) -> None:
    for name in ("has_bf16", "has_int8"):
        monkeypatch.setattr(precisions, name, lambda _: has_instructions)
    row = installation.submit_patch(name="a patch", finetune=FINETUNE, tasks=[digits.id])
    patch(begin(installation, row, Recorder(), {}))
    version_id = installation.patch(row.id).version_id
    assert version_id is not None
    with installation.database.read() as session:
        checks = Versions(session).get(version_id).precision_checks
    if not has_instructions:
        assert checks is None
        return
    found = [PrecisionCheck.of_stored(each) for each in checks or ()]
    assert [check.precision for check in found] == ["bf16", "int8"]
    for check in found:
        assert check.num_images == (digits.shards or {})["validation"]["num_images"]
        assert check.cosine > 0.99
        assert check.accepted == (check.reason is None)
