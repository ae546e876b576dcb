"""docs/report.md explains every field of a report."""

import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from contract.report import PatchReport
from tests.project.paths import ROOT


def _fields(annotation: Any) -> Iterator[str]:
    for each in get_args(annotation):
        yield from _fields(each)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield name
            yield from _fields(field.annotation)


def test_every_field_of_a_report_is_named_in_its_document() -> None:
    named = set(re.findall(r"`([a-z0-9_]+)`", (ROOT / "docs" / "report.md").read_text(encoding="utf-8")))
    fields = set(_fields(PatchReport))
    assert len(fields) > 90
    assert sorted(fields - named) == []
