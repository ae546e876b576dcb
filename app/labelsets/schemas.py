"""What a label set looks like on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.access.owner import Owner
from app.datasets.schemas import Templates
from app.paging import Listed
from registry.names import Name
from registry.tables import LabelSetRow

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class LabelSetRequest(BaseModel):
    """Body of `POST /v1/label-sets`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name | None = Field(default=None, description="For people; need not be unique")
    labels: tuple[Label, ...] = Field(min_length=1, description="What images may show, each once")
    templates: Templates = Field(default=(), description="Prompts with `{}`; left out: the base model's own")


class LabelSetBrief(BaseModel):
    """A label set, without its labels."""

    id: str = Field(description="Hash of labels and templates")
    name: str | None
    num_labels: int
    templates: list[str] = Field(description="Empty: the base model's own")
    owner: Owner
    created_at: datetime

    @classmethod
    def of(cls, row: LabelSetRow) -> LabelSetBrief:
        """Return the resource of a row, whose labels are not read."""
        return cls(
            id=row.id,
            name=row.name,
            num_labels=row.num_labels,
            templates=row.templates,
            owner=row.owner,
            created_at=row.created_at,
        )


class LabelSet(LabelSetBrief):
    """Labels and templates that classify requests name by id. It never changes."""

    labels: list[str]

    @classmethod
    def of(cls, row: LabelSetRow) -> LabelSet:
        """Return the resource of a row."""
        return cls(**vars(LabelSetBrief.of(row)), labels=row.labels)


class LabelSetList(Listed):
    """Label sets, newest first, without their labels."""

    items: list[LabelSetBrief]
