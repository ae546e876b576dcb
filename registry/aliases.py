"""Aliases: movable names of versions, and the history of every move."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NotRequired, TypedDict

from sqlalchemy import exists, func, select

from contract.versions import ACTIVE_ALIAS, ApprovalState
from registry.approvals import Approvals, Decision
from registry.deliveries import Deliveries
from registry.errors import AliasMovedError, ConflictError, NotFoundError
from registry.paging import Page, read_page
from registry.repository import Repository
from registry.tables import AliasHistoryRow, AliasRow, VersionRow
from registry.versions import Versions

ANY_REVISION: Collection[int] = range(1, 2**63)
"""What `If-Match: *` allows: whatever the alias names, but it must be there (RFC 9110, 13.1.1)."""


class MoveFacts(TypedDict):
    """What is recorded with a move of an alias; see `Aliases.move`."""

    actor: str
    reason: str
    expected: NotRequired[Collection[int] | None]
    forced: NotRequired[bool]
    restores: NotRequired[int | None]
    webhook_url: NotRequired[str | None]
    decision: NotRequired[Decision | None]


class Aliases(Repository):
    """Aliases and their history within one transaction."""

    def get(self, name: str) -> AliasRow:
        """Return the alias.

        Raises:
            NotFoundError: There is no such alias.
        """
        row = self.find(name)
        if row is None:
            raise NotFoundError("alias", name)
        return row

    def find(self, name: str) -> AliasRow | None:
        """Return the alias, or None if there is none of this name."""
        return self._session.get(AliasRow, name)

    def names_of(self, version_ids: Collection[int]) -> dict[int, list[str]]:
        """Return the aliases that name these versions, by version, sorted."""
        query = select(AliasRow).where(AliasRow.version_id.in_(version_ids)).order_by(AliasRow.name)
        found: dict[int, list[str]] = {version_id: [] for version_id in version_ids}
        for row in self._session.scalars(query):
            found[row.version_id].append(row.name)
        return found

    def active_version_id(self) -> int | None:
        """Return the id of the version that `active` names, or None before the first start is over."""
        return self._session.scalar(select(AliasRow.version_id).where(AliasRow.name == ACTIVE_ALIAS))

    def all(self) -> Sequence[AliasRow]:
        """Return every alias, by name."""
        return self._session.scalars(select(AliasRow).order_by(AliasRow.name)).all()

    def named_versions(self) -> dict[str, tuple[int, str | None]]:
        """Return by alias the version that it names, and the precision that was chosen for that version, if any."""
        query = select(AliasRow.name, VersionRow.id, VersionRow.serving_precision)
        rows = self._session.execute(query.join(VersionRow, VersionRow.id == AliasRow.version_id))
        return {row.name: (row.id, row.serving_precision) for row in rows}

    def revision(self, name: str) -> int:
        """Return the number of the alias's last move, which no other state of it has; 0 if there is no such alias."""
        if self._session.get(AliasRow, name) is None:
            return 0
        return self._session.scalar(select(func.max(AliasHistoryRow.id)).where(AliasHistoryRow.alias == name)) or 0

    def earlier(self, name: str) -> AliasHistoryRow:
        """Return the move whose state a rollback restores.

        Moves are a stack: a rollback pops the last one, and a second rollback the one below it. So two people who
        both roll back a bad version do not bring it back, not even where the alias named it earlier, too, until
        somebody moves the alias to it by its number. The history keeps all of it.

        Returns:
            The move; its `to_version_id` is the version to restore and differs from the current one.

        Raises:
            ConflictError: The alias has no earlier version.
        """
        moves = self.history(name, limit=1)
        skipped = {self.get(name).version_id, None, *self._rolled_back_from(name)}
        state = self._restored(moves[0]) if moves else None
        while state is not None:
            below = self._below(state)
            state = self._restored(below) if below is not None else None
            if state is not None and state.to_version_id not in skipped:
                return state
            if state is not None and state.to_version_id is None:  # the alias was deleted, and began anew
                break
        raise ConflictError(f"Alias {name!r} has no earlier version.", "Move it to a version instead.")

    def _rolled_back_from(self, name: str) -> set[int]:
        """Return the versions that a rollback of the alias left, and to which nobody moved it by number since."""
        is_rollback = AliasHistoryRow.restores_id.is_not(None)
        left = select(AliasHistoryRow.from_version_id, func.max(AliasHistoryRow.id))
        left = left.where(AliasHistoryRow.alias == name, is_rollback).group_by(AliasHistoryRow.from_version_id)
        named = select(AliasHistoryRow.to_version_id, func.max(AliasHistoryRow.id))
        named = named.where(AliasHistoryRow.alias == name, ~is_rollback).group_by(AliasHistoryRow.to_version_id)
        last_named = {version: move for version, move in self._session.execute(named)}
        found = self._session.execute(left)
        return {version for version, move in found if version is not None and move > last_named.get(version, 0)}

    def _restored(self, move: AliasHistoryRow) -> AliasHistoryRow:
        return move if move.restores_id is None else self._session.get_one(AliasHistoryRow, move.restores_id)

    def _below(self, move: AliasHistoryRow) -> AliasHistoryRow | None:
        older = select(AliasHistoryRow).where(AliasHistoryRow.alias == move.alias, AliasHistoryRow.id < move.id)
        return self._session.scalar(older.order_by(AliasHistoryRow.id.desc()).limit(1))

    def require_revision(self, name: str, expected: Collection[int] | None) -> None:
        """Raise an error if the alias has moved.

        Args:
            expected: Accepted revisions; None accepts any, and a missing alias.

        Raises:
            AliasMovedError: Its revision is another one, or the alias is missing.
        """
        if expected is not None and self.revision(name) not in expected:
            raise AliasMovedError(name, self.revision(name))

    def move(
        self,
        name: str,
        version_id: int,
        *,
        actor: str,
        reason: str,
        expected: Collection[int] | None = None,
        forced: bool = False,
        restores: int | None = None,
        webhook_url: str | None = None,
        decision: Decision | None = None,
    ) -> AliasRow:
        """Point the alias at this version and return it; the move is added to the history.

        Args:
            expected: As for `require_revision`.
            forced: Whether the caller overrode the guard.
            restores: For a rollback: the id of the move from `earlier`.
            webhook_url: Where a message about the move is sent; None: nowhere.
            decision: The approval of the move, which is recorded with it.
        """
        Versions(self._session, self._now).get_not_trashed(version_id, lock=True)
        row = self._locked(name, expected)
        if decision is not None:
            Approvals(self._session, self._now).decide(name, decision, ApprovalState.APPROVED)
        previous = row.version_id if row else None
        if row is None:
            row = AliasRow(name=name)
            self._session.add(row)
        row.version_id, row.updated_at = version_id, self._now()
        move = AliasHistoryRow(from_version_id=previous, to_version_id=version_id, forced=forced, restores_id=restores)
        self._remember(name, move, actor, reason, webhook_url)
        return row

    def delete(
        self,
        name: str,
        *,
        actor: str,
        reason: str,
        expected: Collection[int] | None = None,
        webhook_url: str | None = None,
    ) -> None:
        """Remove the alias; its history stays. The arguments are those of `move`.

        Raises:
            NotFoundError: There is no such alias.
            ConflictError: It is the alias that serves requests.
        """
        if name == ACTIVE_ALIAS:
            raise ConflictError(f"Alias {name!r} cannot be deleted.", "Move it to another version instead.")
        row = self._locked(name, expected)
        if row is None:
            raise NotFoundError("alias", name)
        self._session.delete(row)
        move = AliasHistoryRow(from_version_id=row.version_id, to_version_id=None, forced=False)
        self._remember(name, move, actor, reason, webhook_url)

    def _locked(self, name: str, expected: Collection[int] | None) -> AliasRow | None:
        row = self._session.get(AliasRow, name, with_for_update=True, populate_existing=True)
        self.require_revision(name, expected)
        return row

    def _remember(self, name: str, move: AliasHistoryRow, actor: str, reason: str, webhook_url: str | None) -> None:
        move.alias, move.actor, move.reason, move.at = name, actor, reason, self._now()
        self._session.add(move)
        self._session.flush()
        if webhook_url is not None:
            data = {
                "alias": name,
                "from_version": move.from_version_id,
                "to_version": move.to_version_id,
                "actor": actor,
                "reason": reason,
                "forced": move.forced,
                "rollback": move.restores_id is not None,
            }
            Deliveries(self._session, self._now).tell(webhook_url, "alias.moved", data)

    def has_been(self, name: str) -> bool:
        """Return whether there is or was an alias of this name."""
        return bool(self._session.scalar(select(exists().where(AliasHistoryRow.alias == name))))

    def history(self, name: str, limit: int = 100, cursor: str | None = None) -> Page[AliasHistoryRow]:
        """Return a page of the alias's moves, newest first; errors as for `read_page`."""
        query = select(AliasHistoryRow).where(AliasHistoryRow.alias == name)
        return read_page(self._session, query, (AliasHistoryRow.id,), limit, cursor)
