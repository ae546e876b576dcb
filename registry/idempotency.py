"""Requests that are sent again: `Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header-07).

The key is kept in the transaction that does what was asked for, so either both are there or neither.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete

from registry.errors import RequestRefusedError
from registry.repository import Repository
from registry.tables import IdempotencyKeyRow

KEPT_FOR = timedelta(days=7)
"""After that a key may be used for something else."""


class IdempotencyKeys(Repository):
    """Keys of requests that were carried out, within one transaction. Each owner has keys of their own."""

    def find(self, owner: str | None, key: str, request_sha256: str) -> str | None:
        """Return the id of what the owner's request with this key created, or None if the key is new.

        Args:
            owner: Who made the request; None without API keys.

        Raises:
            RequestRefusedError: The key belongs to a different request.
        """
        self._session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.created_at < self._now() - KEPT_FOR))
        row = self._session.get(IdempotencyKeyRow, (owner or "", key))
        if row is None:
            return None
        if row.request_sha256 != request_sha256:
            raise RequestRefusedError(
                "idempotency_key_reused",
                f"The Idempotency-Key was already used for {row.subject_id} with a different request.",
                "Use a new key for every new request.",
            )
        return row.subject_id

    def keep(self, owner: str | None, key: str, request_sha256: str, subject_id: str) -> None:
        """Remember what a request made; a key of this owner that is there already violates a constraint."""
        row = IdempotencyKeyRow(
            owner=owner or "",
            key=key,
            request_sha256=request_sha256,
            subject_id=subject_id,
            created_at=self._now(),
        )
        self._session.add(row)
        self._session.flush()
