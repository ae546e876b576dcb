"""Parameters of lists: number of items, cursor, filters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from contract.jobs import JobStatus
from contract.names import Name

Cursor = Annotated[
    str | None, Query(max_length=200, description="`next_cursor` of the previous page; default: the first page")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Maximum number of items, newest first")]

Reference = Annotated[
    Name | None,
    Query(
        alias="ref",
        description="Filter by the beginning of the id or name, such as `digits`, `ds_3f` or `3f`",
    ),
]

Statuses = Annotated[
    Annotated[list[JobStatus], Field(fail_fast=True)] | None,
    Query(max_length=5, description="Filter; repeatable"),
]
"""Filter of lists by job status."""


class Listed(BaseModel):
    """A page of a list."""

    next_cursor: str | None = Field(description="Pass this as `cursor` to get the next page; null: last page")
