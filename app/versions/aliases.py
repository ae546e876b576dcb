"""Asking for aliases, and moving them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from anyio import from_thread
from sqlalchemy.exc import IntegrityError

from app.access.callers import Caller
from app.http.dependencies import DatabaseDep, SettingsDep, built
from app.models.follower import AliasFollowerDep
from app.versions.approval_schemas import AliasApproval
from app.versions.approvals import ApprovalDeskDep
from app.versions.guard import AliasGuardDep
from app.versions.refusals import AliasRefusalsDep
from app.versions.schemas import Alias, AliasChange, AliasHistory, AliasList, AliasMove, RolledBackAlias
from contract.versions import ACTIVE_ALIAS
from registry.aliases import Aliases, MoveFacts
from registry.approvals import Decision
from registry.database import Database
from registry.errors import ConflictError, NotFoundError


def list_aliases(database: Database) -> AliasList:
    """Return every alias, by name."""
    with database.read() as session:
        return AliasList(items=[Alias.of(row) for row in Aliases(session).all()])


def get_alias(database: Database, name: str) -> tuple[Alias, int]:
    """Return the alias and its revision."""
    with database.read() as session:
        aliases = Aliases(session)
        return Alias.of(aliases.get(name)), aliases.revision(name)


def list_history(database: Database, name: str, limit: int, cursor: str | None) -> AliasHistory:
    """Return a page of the moves of an alias, which may have been deleted, newest first."""
    with database.read() as session:
        aliases = Aliases(session)
        if not aliases.has_been(name):
            raise NotFoundError("alias", name)
        page = aliases.history(name, limit, cursor)
        return AliasHistory(items=[AliasChange.of(row) for row in page], next_cursor=page.next_cursor)


def find_earlier(database: Database, name: str) -> int | None:
    """Return the id of the version that a rollback of the alias would restore; None: there is none."""
    with database.read() as session:
        try:
            return Aliases(session).earlier(name).to_version_id
        except (ConflictError, NotFoundError):
            return None


@dataclass(frozen=True)
class AliasMover:
    """Moves aliases, if the guard lets them."""

    database: DatabaseDep
    follower: AliasFollowerDep
    guard: AliasGuardDep
    refusals: AliasRefusalsDep
    approvals: ApprovalDeskDep
    settings: SettingsDep

    def move(
        self, name: str, move: AliasMove, expected: Collection[int] | None, caller: Caller
    ) -> tuple[Alias, int] | AliasApproval:
        """Return the alias and its revision; `active` once the version that it names is served.

        Args:
            name: Of an alias, which is created if needed.
            move: Where to, and why.
            expected: Revisions of which the alias must have one; None: any, or no alias.
            caller: Who requests it, for the history.

        Returns:
            The alias, and its revision: the number of its last move; or the request, if the move has to be approved.
        """
        with self.refusals.reported(name, move.version, caller.actor):
            if not move.force:
                self.guard.require_within_limits(name, move.version)
            if self.approvals.is_needed(name, move.version):
                from_thread.run(self.guard.require_loadable, name, move.version)
                return self.approvals.request(name, move, expected, caller)
            self._move(name, move, expected, caller.actor)
        return get_alias(self.database, name)

    def approve(self, name: str, approval_id: str, reason: str, caller: Caller) -> tuple[Alias, int]:
        """Return the alias and its revision, moved as somebody else requested; see `ApprovalDesk.require_decidable`.

        The alias must not have moved since the request, and the guard is asked again.
        """
        row = self.approvals.require_decidable(name, approval_id, caller)
        move = AliasMove(version=row.version_id, reason=row.reason, force=row.forced)
        actor = f"{row.requested_by}, approved by {caller.actor}"
        with self.refusals.reported(name, move.version, actor):
            if not move.force:
                self.guard.require_within_limits(name, move.version)
            self._move(name, move, [row.revision], actor, decision=Decision(approval_id, caller.actor, reason))
        return get_alias(self.database, name)

    def roll_back(
        self, name: str, reason: str, expected: Collection[int] | None, actor: str
    ) -> tuple[RolledBackAlias, int]:
        """Return the alias and its revision, moved to the version that it named before; see `Aliases.earlier`.

        A rollback skips the check of supported tasks: the version was served before. The other arguments are those of
        `move`.
        """
        with self.database.read() as session:
            aliases = Aliases(session)
            earlier, revision = aliases.earlier(name), aliases.revision(name)
            aliases.require_revision(name, expected)
            current = aliases.get(name).version_id
        assert earlier.to_version_id is not None
        move = AliasMove(version=earlier.to_version_id, reason=reason or "rollback")
        with self.refusals.reported(name, move.version, actor):
            # The stack of moves must not change while the version is loaded.
            self._move(name, move, [revision], actor, restores=earlier.id)
        alias, revision = get_alias(self.database, name)
        return RolledBackAlias(**vars(alias), from_version=current, to_version=move.version), revision

    def _move(
        self,
        name: str,
        move: AliasMove,
        expected: Collection[int] | None,
        actor: str,
        restores: int | None = None,
        decision: Decision | None = None,
    ) -> None:
        facts: MoveFacts = {
            "actor": actor,
            "reason": move.reason,
            "expected": expected,
            "forced": move.force,
            "restores": restores,
            "webhook_url": self.settings.webhook_url,
            "decision": decision,
        }
        if name == ACTIVE_ALIAS:
            return self.follower.activate(move.version, **facts)
        from_thread.run(self.guard.require_loadable, name, move.version)
        try:
            with self.database.write() as session:
                Aliases(session).move(name, move.version, **facts)
        except IntegrityError as error:  # the same alias was created concurrently
            raise ConflictError(
                f"Alias {name!r} is being created by another request.", "Get the alias, then retry."
            ) from error


def delete_alias(
    database: Database,
    name: str,
    reason: str,
    expected: Collection[int] | None,
    actor: str,
    webhook_url: str | None = None,
) -> None:
    """Remove an alias; its history stays. Errors as for `Aliases.delete`."""
    with database.write() as session:
        Aliases(session).delete(name, actor=actor, reason=reason, expected=expected, webhook_url=webhook_url)


AliasMoverDep = Annotated[AliasMover, built(AliasMover)]
