"""What a label set looks like on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from app.access.owner import Owner
from app.datasets.schemas import Templates
from app.http.paging import Listed
from app.http.resources import Resource
from contract.bodies import Body
from contract.names import Name, check_texts

MAX_LABEL, MOST_LABELS = 500, 1_000_000
"""Most characters of a label; most labels that are looked at before the settings' own limit is."""

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_LABEL)]


def _check(labels: tuple[str, ...]) -> tuple[str, ...]:
    check_texts(labels, MAX_LABEL)
    return labels


Labels = Annotated[tuple[Label, ...], Field(fail_fast=True, max_length=MOST_LABELS), AfterValidator(_check)]
"""What images may show: visible text, and the first that is none ends the check."""


class LabelSetRequest(Body):
    """Body of `POST /v1/label-sets`."""

    name: Name | None = Field(default=None, description="Display name; not unique")
    labels: Labels = Field(min_length=1, description="Distinct candidate labels")
    templates: Templates = Field(default=(), description="Prompt templates with `{}`. Default: the base model's own")


class LabelSetBrief(Resource):
    """A label set, without its labels."""

    id: str = Field(description="Hash of labels and templates")
    name: str | None = Field(description="Display name; null: none")
    num_labels: int = Field(description="Number of labels")
    templates: list[str] = Field(description="Prompt templates; empty: the base model's own")
    owner: Owner
    created_at: datetime = Field(description="When it was first stored")


class LabelSet(LabelSetBrief):
    """Labels and templates that classify requests name by id. It never changes."""

    labels: list[str] = Field(description="The labels, in the order in which they were sent")


class LabelSetList(Listed):
    """List label sets, newest first, without their labels."""

    items: list[LabelSetBrief] = Field(description="The label sets")
