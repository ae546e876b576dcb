"""Base models, task vectors, versions and aliases."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import defer

from registry.contract import ACTIVE_ALIAS
from registry.errors import AliasMovedError, ConflictError, NotFoundError
from registry.paging import Page, read_page
from registry.repository import Repository
from registry.tables import (
    AliasHistoryRow,
    AliasRow,
    BaseModelRow,
    TaskVectorRow,
    VersionRow,
    VersionTermRow,
)


@dataclass(frozen=True)
class TermSpec:
    """One term of a version: `coefficient` x `profile` x the task vector with this hash."""

    task_vector_sha256: str
    coefficient: float
    profile: str = "flat"


class Versions(Repository):
    """Versions and what they are made of, within one transaction."""

    def ensure_base(self, *, ref: str, fingerprint: str, embed_dim: int, image_size: int) -> BaseModelRow:
        """Return the base with this fingerprint, added if it is new."""
        row = self._session.get(BaseModelRow, fingerprint)
        if row is None:
            row = BaseModelRow(fingerprint=fingerprint, ref=ref, embed_dim=embed_dim, image_size=image_size)
            row.created_at = self._now()
            self._session.add(row)
            self._session.flush()
        return row

    def base_by_ref(self, ref: str) -> BaseModelRow:
        """Return the base that was registered under this reference.

        Args:
            ref: Reference such as `starter`, as the settings name it.

        Returns:
            The row, attached to the session.

        Raises:
            NotFoundError: There is none.
        """
        row = self._session.scalar(select(BaseModelRow).where(BaseModelRow.ref == ref))
        if row is None:
            raise NotFoundError("base", ref, "Name it in PAINTBOX_BASES and restart the API.")
        return row

    def base(self, fingerprint: str) -> BaseModelRow:
        """Return the base with this fingerprint, which a version or patch names."""
        row = self._session.get(BaseModelRow, fingerprint)
        assert row is not None  # a foreign key holds it
        return row

    def add_task_vector(
        self, *, sha256: str, base_fingerprint: str, num_bytes: int, relative_norm: float, job_id: str
    ) -> None:
        """Record a stored task vector, once."""
        if self._session.get(TaskVectorRow, sha256) is None:
            row = TaskVectorRow(
                sha256=sha256,
                base_fingerprint=base_fingerprint,
                num_bytes=num_bytes,
                relative_norm=relative_norm,
                job_id=job_id,
                created_at=self._now(),
            )
            self._session.add(row)
            self._session.flush()

    def task_vector(self, sha256: str) -> TaskVectorRow:
        """Return the task vector's row.

        Args:
            sha256: Hash of its blob.

        Returns:
            The row, attached to the session.

        Raises:
            NotFoundError: There is no such task vector.
        """
        row = self._session.get(TaskVectorRow, sha256)
        if row is None:
            raise NotFoundError("task vector", sha256, "A version's terms and a patch's report name those there are.")
        return row

    def register(
        self,
        *,
        name: str,
        base_fingerprint: str,
        terms: Sequence[TermSpec],
        probe: list[Any],
        lineage: dict[str, Any],
        job_id: str | None = None,
        patch_id: str | None = None,
        owner: str | None = None,
    ) -> VersionRow:
        """Return a new version. A second one for the same job violates a unique constraint."""
        row = VersionRow(
            name=name,
            base_fingerprint=base_fingerprint,
            patch_id=patch_id,
            job_id=job_id,
            probe=probe,
            lineage=lineage,
            owner=owner,
            created_at=self._now(),
        )
        self._session.add(row)
        self._session.flush()
        for position, term in enumerate(terms):
            self._session.add(VersionTermRow(version_id=row.id, position=position, **vars(term)))
        self._session.flush()
        return row

    def get(self, version_id: int) -> VersionRow:
        """Return the version.

        Args:
            version_id: Number of the version.

        Returns:
            The row, attached to the session.

        Raises:
            NotFoundError: There is no such version.
        """
        row = self._session.get(VersionRow, version_id)
        if row is None:
            raise NotFoundError("version", version_id)
        return row

    def terms(self, version_id: int) -> list[TermSpec]:
        """Return the version's terms in order."""
        return self.terms_of([version_id])[version_id]

    def terms_of(self, version_ids: Sequence[int]) -> dict[int, list[TermSpec]]:
        """Return the terms of these versions, by version, in order, read at once."""
        query = select(VersionTermRow).where(VersionTermRow.version_id.in_(version_ids))
        found: dict[int, list[TermSpec]] = {version_id: [] for version_id in version_ids}
        for row in self._session.scalars(query.order_by(VersionTermRow.version_id, VersionTermRow.position)):
            found[row.version_id].append(TermSpec(row.task_vector_sha256, row.coefficient, row.profile))
        return found

    def newest(self, limit: int = 100, cursor: str | None = None) -> Page[VersionRow]:
        """Return a page of versions, newest first, whose probes are read only when asked for.

        Errors as for `read_page`.
        """
        query = select(VersionRow).options(defer(VersionRow.probe))
        return read_page(self._session, query, (VersionRow.id,), limit, cursor)

    def of_patch(self, patch_id: str) -> Sequence[VersionRow]:
        """Return the versions that the patch and its reselections made, oldest first."""
        query = select(VersionRow).where(VersionRow.patch_id == patch_id).order_by(VersionRow.id)
        return self._session.scalars(query).all()

    def base_version(self, fingerprint: str) -> VersionRow | None:
        """Return the version that is the unpatched base, if it is registered: the first one without terms."""
        term = exists().where(VersionTermRow.version_id == VersionRow.id)
        query = select(VersionRow).where(VersionRow.base_fingerprint == fingerprint, ~term)
        return self._session.scalar(query.order_by(VersionRow.id).limit(1))


class Aliases(Repository):
    """Aliases and their history within one transaction."""

    def get(self, name: str) -> AliasRow:
        """Return the alias.

        Args:
            name: Name such as `active`.

        Returns:
            The row, attached to the session.

        Raises:
            NotFoundError: There is no such alias.
        """
        row = self._session.get(AliasRow, name)
        if row is None:
            raise NotFoundError("alias", name)
        return row

    def active_version_id(self) -> int | None:
        """Return the id of the version that `active` names, or None before the first start is over."""
        return self._session.scalar(select(AliasRow.version_id).where(AliasRow.name == ACTIVE_ALIAS))

    def all(self) -> Sequence[AliasRow]:
        """Return every alias, by name."""
        return self._session.scalars(select(AliasRow).order_by(AliasRow.name)).all()

    def revision(self, name: str) -> int:
        """Return the number of the alias's last move, which no other state of it has; 0 if it never moved."""
        return self._session.scalar(select(func.max(AliasHistoryRow.id)).where(AliasHistoryRow.alias == name)) or 0

    def before(self, name: str) -> int:
        """Return the id of the version that the alias named before its last move.

        Args:
            name: Name such as `active`.

        Returns:
            The version's id.

        Raises:
            NotFoundError: There is no such alias.
            ConflictError: It has named one version only.
        """
        self.get(name)
        moves = self.history(name, limit=1)
        if not moves or moves[0].from_version_id is None:
            raise ConflictError(f"Alias {name!r} has named one version only.", "Move it to a version by number.")
        return moves[0].from_version_id

    def require_revision(self, name: str, expected: Collection[int] | None) -> None:
        """Refuse to go on if the alias has moved.

        Args:
            name: Name such as `active`.
            expected: Revisions of which it must have one; None allows any.

        Raises:
            AliasMovedError: It has another.
        """
        if expected is not None and self.revision(name) not in expected:
            raise AliasMovedError(name, self.revision(name))

    def move(
        self, name: str, version_id: int, *, actor: str, reason: str, expected: Collection[int] | None = None
    ) -> AliasRow:
        """Return the alias, now naming this version; the move is added to the history.

        Args:
            name: Of an alias, made now if there is none.
            version_id: The version.
            actor: Who asks.
            reason: Why.
            expected: As for `require_revision`.

        Returns:
            The row, attached to the session.

        Raises:
            AliasMovedError: It has moved.
        """
        row = self._session.get(AliasRow, name, with_for_update=True, populate_existing=True)
        self.require_revision(name, expected)
        previous = row.version_id if row else None
        if row is None:
            row = AliasRow(name=name)
            self._session.add(row)
        row.version_id, row.updated_at = version_id, self._now()
        self._session.add(
            AliasHistoryRow(
                alias=name,
                from_version_id=previous,
                to_version_id=version_id,
                actor=actor,
                reason=reason,
                at=self._now(),
            )
        )
        self._session.flush()
        return row

    def history(self, name: str, limit: int = 100, cursor: str | None = None) -> Page[AliasHistoryRow]:
        """Return a page of the alias's moves, newest first; errors as for `read_page`."""
        query = select(AliasHistoryRow).where(AliasHistoryRow.alias == name)
        return read_page(self._session, query, (AliasHistoryRow.id,), limit, cursor)
