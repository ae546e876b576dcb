"""Parameters of lists: number of items, cursor, filters."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, StringConstraints

from contract.bodies import Id
from contract.jobs import JobStatus
from contract.names import Name, check_text
from registry.filters import ListFilters


def _checked(text: str) -> str:
    check_text(text)
    return text


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


_OwnerName = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_checked)]
_YEARS = range(1970, 9999)


def _is_storable(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise ValueError(f"must be between the years {_YEARS[0]} and {_YEARS[-1]}")
    return moment


async def _read_filters(
    name: Annotated[
        Name | None, Query(description="Filter by part of the name, in any case; of a job, that of what it is about")
    ] = None,
    owner: Annotated[_OwnerName | None, Query(description="Filter by owner")] = None,
    since: Annotated[
        Annotated[AwareDatetime, AfterValidator(_is_storable)] | None,
        Query(description="Only what was created then or later, such as `2026-11-30T12:00:00Z`"),
    ] = None,
) -> ListFilters:
    return ListFilters(name, owner, since)


Filters = Annotated[ListFilters, Depends(_read_filters)]
"""Filters that lists have in common."""

UsedDataset = Annotated[Id | None, Query(description="Filter by the id of a data set that it uses")]


class Listed(BaseModel):
    """A page of a list."""

    next_cursor: str | None = Field(description="Pass this as `cursor` to get the next page; null: last page")
