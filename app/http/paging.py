"""How lists are asked for: how many items, and from where."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from contract.jobs import JobStatus
from contract.names import Name

Cursor = Annotated[
    str | None, Query(max_length=200, description="`next_cursor` of the page before; left out: the first page")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most items to return, the newest")]

Reference = Annotated[
    Name | None,
    Query(
        alias="ref",
        description="Only items whose id or name begins with this, such as `digits`, `ds_3f` or `3f`",
    ),
]

Statuses = Annotated[
    Annotated[list[JobStatus], Field(fail_fast=True)] | None,
    Query(max_length=5, description="Only these; repeat it"),
]
"""Of jobs."""


class Listed(BaseModel):
    """A page of a list."""

    next_cursor: str | None = Field(description="Give this as `cursor` to get the next page; null: this is the last")
