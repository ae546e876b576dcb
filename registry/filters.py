"""Filters that lists have in common: by name, owner, time, and the data set that something uses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, Text, cast, or_, select

from registry.orm import Base
from registry.tables import DatasetRow, EvaluationRow, JobRow, PatchRow, VersionRow

NAMED = (DatasetRow, PatchRow, EvaluationRow)
"""What jobs are about."""

_Named = type[DatasetRow] | type[PatchRow] | type[EvaluationRow] | type[VersionRow]
_RowT = TypeVar("_RowT", bound=Base)


@dataclass(frozen=True)
class ListFilters:
    """Which rows of a list are wanted; None: any.

    Attributes:
        name: Part of their names, in any case; of a job the name of what it is about.
        owner: Name on the key of whoever created them.
        since: Created then or later.
    """

    name: str | None = None
    owner: str | None = None
    since: datetime | None = None

    def apply(self, query: Select[_RowT], table: _Named) -> Select[_RowT]:
        """Return the query for rows of `table`, restricted to those that are wanted."""
        if self.name is not None:
            query = query.where(_is_named(table, self.name))
        return self._restrict(query, table)

    def apply_to_jobs(self, query: Select[_RowT]) -> Select[_RowT]:
        """Return the query for jobs, restricted to those that are wanted."""
        if self.name is not None:
            found = (select(table.id).where(_is_named(table, self.name)) for table in NAMED)
            query = query.where(or_(*(JobRow.subject_id.in_(ids) for ids in found)))
        return self._restrict(query, JobRow)

    def _restrict(self, query: Select[_RowT], table: _Named | type[JobRow]) -> Select[_RowT]:
        if self.owner is not None:
            query = query.where(table.owner == self.owner)
        if self.since is not None:
            query = query.where(table.created_at >= self.since)
        return query


ANY = ListFilters()


def uses_dataset(identifier: str) -> ColumnElement[bool]:
    """Whether a patch's request names a data set."""
    return cast(PatchRow.request, Text).contains(f'"{identifier}"', autoescape=True)


def _is_named(table: _Named, name: str) -> ColumnElement[bool]:
    return table.name.icontains(name, autoescape=True)
