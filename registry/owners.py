"""Ownership: the name on the key that created a resource, or none if it was created without a key."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import select

from registry.repository import Repository
from registry.tables import DatasetRow, EvaluationRow, JobRow, LabelSetRow, PatchRow, VersionRow


class Owned(StrEnum):
    """Kinds of things that have an owner."""

    DATASET = "dataset"
    PATCH = "patch"
    JOB = "job"
    VERSION = "version"
    LABEL_SET = "label_set"
    EVALUATION = "evaluation"


_TABLES: dict[Owned, type[DatasetRow | PatchRow | JobRow | VersionRow | LabelSetRow | EvaluationRow]] = {
    Owned.DATASET: DatasetRow,
    Owned.PATCH: PatchRow,
    Owned.JOB: JobRow,
    Owned.VERSION: VersionRow,
    Owned.LABEL_SET: LabelSetRow,
    Owned.EVALUATION: EvaluationRow,
}


class Owners(Repository):
    """Owners of things within one transaction."""

    def is_owned_by_another(self, kind: Owned, identifier: int | str, name: str | None) -> bool:
        """Return whether the resource exists and belongs to another owner or to none.

        Returns:
            False also if it does not exist.

        Raises:
            TypeError: The id has the wrong type.
        """
        table = _TABLES[kind]
        if type(identifier) is not (int if kind is Owned.VERSION else str):
            raise TypeError(f"{identifier!r} is not the id of a {kind}")
        found = self._session.execute(select(table.owner).where(table.id == identifier)).first()
        return found is not None and (found[0] is None or found[0] != name)
