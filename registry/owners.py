"""Who owns what: the name on the key that made a thing, or nobody if it was made without a key."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import select

from registry.repository import Repository
from registry.tables import DatasetRow, JobRow, LabelSetRow, PatchRow, VersionRow

_MAX_VERSION_DIGITS = 10


class Owned(StrEnum):
    """Kinds of things that have an owner."""

    DATASET = "dataset"
    PATCH = "patch"
    JOB = "job"
    VERSION = "version"
    LABEL_SET = "label_set"


_TABLES: dict[Owned, type[DatasetRow | PatchRow | JobRow | VersionRow | LabelSetRow]] = {
    Owned.DATASET: DatasetRow,
    Owned.PATCH: PatchRow,
    Owned.JOB: JobRow,
    Owned.VERSION: VersionRow,
    Owned.LABEL_SET: LabelSetRow,
}


class Owners(Repository):
    """Owners of things within one transaction."""

    def is_owned_by_another(self, kind: Owned, identifier: str, name: str | None) -> bool:
        """Return whether there is such a thing and it belongs to somebody else or to nobody.

        Args:
            kind: What it is.
            identifier: Its id, as a path holds it.
            name: Who asks.

        Returns:
            False also where there is no such thing.
        """
        table = _TABLES[kind]
        key: str | int = identifier
        if kind is Owned.VERSION:
            if not (identifier.isdecimal() and identifier.isascii() and len(identifier) <= _MAX_VERSION_DIGITS):
                return False
            key = int(identifier)
        found = self._session.execute(select(table.owner).where(table.id == key)).first()
        return found is not None and (found[0] is None or found[0] != name)
