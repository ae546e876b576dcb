"""Stored JSON of earlier and later releases is read, and comes out as it was."""

from typing import Any

import pytest

from contract.evaluation import Evaluation
from contract.lineage import Lineage
from contract.recorded import Recorded
from contract.report import PatchReport
from tests.contract.stored import FIRST_EVALUATION, FIRST_LINEAGE, FIRST_REPORT, unknown_fields

EXAMPLES = [(PatchReport, FIRST_REPORT), (Lineage, FIRST_LINEAGE), (Evaluation, FIRST_EVALUATION), (Lineage, {})]


@pytest.mark.parametrize(("model", "stored"), EXAMPLES)
def test_what_the_first_release_stored_is_read_and_comes_out_without_fields_that_it_had_not(
    model: type[Recorded], stored: dict[str, Any]
) -> None:
    read = model.of_stored(stored)
    assert read.to_json() == stored
    assert unknown_fields(read) == []


def test_fields_of_a_later_release_are_kept_wherever_they_are() -> None:
    point = FIRST_REPORT["curve"][0] | {"certainty": 0.5}
    stored = FIRST_REPORT | {"curve": [point], "colour": {"of": ["paint"]}}
    read = PatchReport.of_stored(stored)
    assert read.to_json() == stored
    assert unknown_fields(read) == [".colour", ".curve[0].certainty"]


def test_absent_fields_read_as_none_or_empty() -> None:
    report = PatchReport.of_stored(FIRST_REPORT)
    assert (report.method, report.stages, report.tasks[0].change, report.curve[0].measured) == (None, (), None, True)
    assert report.tasks[0].test.patched.ece is None
