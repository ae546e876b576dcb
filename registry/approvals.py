"""Moves of aliases that wait until somebody else approves them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from contract.versions import ApprovalState
from registry.deliveries import Deliveries
from registry.errors import ConflictError, NotFoundError
from registry.paging import Page, read_page
from registry.repository import Repository
from registry.tables import AliasApprovalRow

VALID_SECONDS = 86_400.0
"""How long a move can be approved after it was requested."""


@dataclass(frozen=True)
class MoveRequest:
    """A move that is to be approved.

    Attributes:
        alias: To move.
        version_id: Where to.
        revision: The alias's revision, which must be the same when the move is approved; 0: there is no such alias.
        reason: Why.
        forced: Whether the guard is overridden.
        actor: Who requests it.
        key_id: Of the requester's key, which cannot approve the move; None: there is none.
    """

    alias: str
    version_id: int
    revision: int
    reason: str
    actor: str
    forced: bool = False
    key_id: str | None = None


@dataclass(frozen=True)
class Decision:
    """Somebody's decision on a requested move; `approval_id` names the request."""

    approval_id: str
    actor: str
    reason: str = ""


class Approvals(Repository):
    """Requested moves within one transaction."""

    def request(self, move: MoveRequest, webhook_url: str | None = None) -> AliasApprovalRow:
        """Return the request of a move; the same one if it is pending already.

        Args:
            webhook_url: Where a message about it is sent; None: nowhere.
        """
        asked = {
            "alias": move.alias,
            "version_id": move.version_id,
            "revision": move.revision,
            "reason": move.reason,
            "forced": move.forced,
            "requested_by": move.actor,
            "requester_key": move.key_id,
        }
        pending = select(AliasApprovalRow).where(
            AliasApprovalRow.state == ApprovalState.PENDING, AliasApprovalRow.expires_at > self._now()
        )
        known = self._session.scalars(pending.filter_by(**asked)).first()
        if known is not None:
            return known
        row = AliasApprovalRow(id=f"ap_{secrets.token_hex(12)}", state=ApprovalState.PENDING, **asked)
        row.created_at, row.expires_at = self._now(), self._now() + timedelta(seconds=VALID_SECONDS)
        self._session.add(row)
        self._session.flush()
        self._tell(row, "alias.approval_requested", webhook_url)
        return row

    def get(self, alias: str, identifier: str, *, locked: bool = False) -> AliasApprovalRow:
        """Return a request of a move of this alias, or raise `NotFoundError`."""
        row = self._get(AliasApprovalRow, identifier, "approval", locked=locked)
        if row.alias != alias:
            raise NotFoundError("approval", identifier)
        return row

    def newest(self, alias: str, limit: int = 100, cursor: str | None = None) -> Page[AliasApprovalRow]:
        """Return a page of the requested moves of an alias, newest first; errors as for `read_page`."""
        query = select(AliasApprovalRow).where(AliasApprovalRow.alias == alias)
        return read_page(self._session, query, (AliasApprovalRow.created_at, AliasApprovalRow.id), limit, cursor)

    def pending(self, limit: int) -> Sequence[AliasApprovalRow]:
        """Return the newest requests that can still be approved, of all aliases."""
        is_open = (AliasApprovalRow.state == ApprovalState.PENDING) & (AliasApprovalRow.expires_at > self._now())
        query = select(AliasApprovalRow).where(is_open).order_by(AliasApprovalRow.created_at.desc()).limit(limit)
        return self._session.scalars(query).all()

    def require_pending(self, row: AliasApprovalRow) -> None:
        """Raise `ConflictError` if the move can no longer be approved or rejected."""
        state = self.state_of(row)
        if state != ApprovalState.PENDING:
            by = f" by {row.decided_by}" if row.decided_by else ""
            raise ConflictError(f"Approval {row.id} is {state}{by}.", "Request the move again if it is still wanted.")

    def state_of(self, row: AliasApprovalRow) -> ApprovalState:
        """Return the state of a request, which expires after a day."""
        is_over = row.state == ApprovalState.PENDING and row.expires_at <= self._now()
        return ApprovalState.EXPIRED if is_over else ApprovalState(row.state)

    def decide(
        self, alias: str, decision: Decision, state: ApprovalState, webhook_url: str | None = None
    ) -> AliasApprovalRow:
        """Return the request, approved or rejected; errors as for `get` and `require_pending`."""
        row = self.get(alias, decision.approval_id, locked=True)
        self.require_pending(row)
        row.state, row.decided_by, row.decision_reason = state, decision.actor, decision.reason
        row.decided_at = self._now()
        if state == ApprovalState.REJECTED:  # an approval is told as a move
            self._tell(row, "alias.approval_rejected", webhook_url)
        return row

    def _tell(self, row: AliasApprovalRow, event: str, webhook_url: str | None) -> None:
        if webhook_url is None:
            return
        data: dict[str, Any] = {
            "approval_id": row.id,
            "alias": row.alias,
            "version": row.version_id,
            "actor": row.decided_by or row.requested_by,
            "reason": row.decision_reason or row.reason,
            "forced": row.forced,
        }
        Deliveries(self._session, self._now).tell(webhook_url, event, data)
