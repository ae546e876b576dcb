"""What lists show of a finished patch."""

from typing import Any

import pytest

from contract.patch_summary import PatchSummary
from contract.report import PatchReport

SCORE = {"correct": 1, "total": 2}
CERTIFICATE = {"stance": "certified", "confidence": 0.95, "bounds": []}


def task(role: str, points: float | None) -> dict[str, Any]:
    change = {"change_points": points, "low_points": 0, "high_points": 0, "p_value": 1, "classes": [], "lost": 0}
    scores = {"validation": {"zero_shot": SCORE}, "test": dict.fromkeys(("zero_shot", "fine_tuned", "patched"), SCORE)}
    change |= {"gained": 0}
    return {"dataset_id": "ds_1", "name": "n", "role": role, "change": change if points is not None else None} | scores


@pytest.mark.parametrize(
    ("tasks", "certificate", "expected"),
    [
        ([task("patching", 3.0), task("patching", 5.0), task("supported", -1.0)], CERTIFICATE, (4.0, -1.0, True)),
        ([task("patching", 3.0), task("supported", None)], None, (3.0, None, None)),
        ([task("patching", 3.0)], CERTIFICATE | {"stance": "no_evidence_of_drop"}, (3.0, None, False)),
    ],
)
def test_changes_are_means_over_the_tasks_of_a_role(
    tasks: list[dict[str, Any]], certificate: dict[str, Any] | None, expected: tuple[object, ...]
) -> None:
    stored = {"alpha": 0.5, "reason": "best", "tasks": tasks, "certificate": certificate}
    found = PatchSummary.of(PatchReport.of_stored(stored))
    assert (found.patching_points, found.supported_points, found.certified) == expected
    assert found.alpha == 0.5
