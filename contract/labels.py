"""Labels and prompt templates of a request."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from contract.names import check_text, check_texts

MAX_LABEL, MOST_LABELS = 500, 1_000_000
"""Most characters of a label; most labels that are looked at before the settings' own limit is."""

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_LABEL)]


def _check(labels: tuple[str, ...]) -> tuple[str, ...]:
    check_texts(labels, MAX_LABEL)
    return labels


Labels = Annotated[tuple[Label, ...], Field(fail_fast=True, max_length=MOST_LABELS), AfterValidator(_check)]
"""What images may show: visible text, and the first that is none ends the check."""

_MAX_TEMPLATE = 500


def _check_template(text: str) -> str:
    if "{}" not in text and "{c}" not in text:
        raise ValueError("must contain {} or {c} as the placeholder of the label")
    check_text(text, _MAX_TEMPLATE)
    return text


Template = Annotated[
    str,
    StringConstraints(min_length=2, max_length=_MAX_TEMPLATE),
    AfterValidator(_check_template),
    WithJsonSchema({"type": "string", "minLength": 2, "maxLength": _MAX_TEMPLATE, "pattern": r"\{c?\}"}),
]
Templates = Annotated[tuple[Template, ...], Field(fail_fast=True, max_length=200)]
