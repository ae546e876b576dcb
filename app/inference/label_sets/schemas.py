"""What a label set looks like on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.access.owner import Owner
from app.http.paging import Listed
from app.http.resources import Resource
from contract.bodies import Body
from contract.labels import Labels, Templates
from contract.names import Name


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
