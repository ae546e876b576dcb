"""Moves of `active` and `canary` that wait for a second person, if the installation wants that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import structlog

from app.access.callers import Caller
from app.http.dependencies import DatabaseDep, SettingsDep, built
from app.http.errors import AccessRefusedError
from app.versions.approval_schemas import AliasApproval, AliasApprovalList
from app.versions.schemas import AliasMove
from contract.versions import GUARDED_ALIASES, ApprovalState
from registry.aliases import Aliases
from registry.approvals import Approvals, Decision, MoveRequest
from registry.tables import AliasApprovalRow

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ApprovalDesk:
    """Takes requests of moves, and decisions on them."""

    database: DatabaseDep
    settings: SettingsDep

    def is_needed(self, alias: str, version_id: int) -> bool:
        """Return whether a move has to be approved; one that changes nothing has not."""
        if not self.settings.approvals or alias not in GUARDED_ALIASES:
            return False
        with self.database.read() as session:
            row = Aliases(session).find(alias)
        return row is None or row.version_id != version_id

    def request(self, alias: str, move: AliasMove, expected: Collection[int] | None, caller: Caller) -> AliasApproval:
        """Return the request of a move, which is valid while nobody else moves the alias."""
        with self.database.write() as session:
            aliases, approvals = Aliases(session), Approvals(session)
            aliases.require_revision(alias, expected)
            asked = MoveRequest(
                alias=alias,
                version_id=move.version,
                revision=aliases.revision(alias),
                reason=move.reason,
                forced=move.force,
                actor=caller.actor,
                key_id=caller.key_id,
            )
            row = approvals.request(asked, self.settings.webhook_url)
            _log.info("approval requested", approval=row.id, alias=alias, version=move.version)
            return AliasApproval.of(row, approvals.state_of(row))

    def list(self, alias: str, limit: int, cursor: str | None) -> AliasApprovalList:
        """Return a page of the requested moves of an alias, newest first."""
        with self.database.read() as session:
            approvals = Approvals(session)
            page = approvals.newest(alias, limit, cursor)
            items = [AliasApproval.of(row, approvals.state_of(row)) for row in page]
            return AliasApprovalList(items=items, next_cursor=page.next_cursor)

    def require_decidable(self, alias: str, identifier: str, caller: Caller) -> AliasApprovalRow:
        """Return a pending request that the caller may approve.

        Raises:
            NotFoundError: There is none of this id.
            ConflictError: It has been decided, or has expired.
            AccessRefusedError: The caller's key requested it, or no keys are in use.
        """
        with self.database.read() as session:
            approvals = Approvals(session)
            row = approvals.get(alias, identifier)
            approvals.require_pending(row)
        if caller.key_id is None or caller.key_id == row.requester_key:
            raise AccessRefusedError(
                "own_request",
                f"Approval {identifier} needs a key other than the one that requested it.",
                "Ask another admin to approve it; `paintbox keys create --scope admin` creates a key.",
            )
        return row

    def reject(self, alias: str, identifier: str, reason: str, caller: Caller) -> AliasApproval:
        """Return the request, rejected; its requester may withdraw it in this way. Errors as for `Approvals.decide`."""
        with self.database.write() as session:
            decision = Decision(identifier, caller.actor, reason)
            row = Approvals(session).decide(alias, decision, ApprovalState.REJECTED, self.settings.webhook_url)
            return AliasApproval.of(row, ApprovalState.REJECTED)


ApprovalDeskDep = Annotated[ApprovalDesk, built(ApprovalDesk)]
