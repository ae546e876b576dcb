"""API schemas of moves of aliases that wait for a second person."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import Field

from app.http.paging import Listed
from app.http.resources import Resource
from contract.bodies import Body, Reason
from contract.versions import ApprovalState
from registry.tables import AliasApprovalRow


class AliasApproval(Resource):
    """A requested move of an alias, and the decision on it."""

    id: str = Field(description="Id of the request")
    alias: str = Field(description="The alias to move")
    version: int = Field(description="Id of the version to move to")
    state: ApprovalState = Field(
        description="`pending`; `approved`: the alias has moved; `rejected`; `expired`: nobody decided within a day"
    )
    reason: str = Field(description="Reason given in the request")
    forced: bool = Field(description="Whether the limit on the drop of supported tasks is ignored")
    requested_by: str = Field(description="Who requested it: the name of a key, or a patch")
    decided_by: str | None = Field(description="Who approved or rejected it; null: nobody")
    decision_reason: str | None = Field(description="Reason of the decision; null: it is not decided")
    created_at: datetime = Field(description="When it was requested")
    expires_at: datetime = Field(description="When it can no longer be approved")
    decided_at: datetime | None = Field(description="When it was approved or rejected; null: it is not decided")

    @classmethod
    def of(cls, row: AliasApprovalRow, state: ApprovalState) -> Self:
        """Return the resource of a row and its state at this moment."""
        return cls.from_row(row, version=row.version_id, state=state)


class AliasApprovalList(Listed):
    """Requested moves of an alias, newest first."""

    items: list[AliasApproval] = Field(description="The requests")


class ApprovalDecision(Body):
    """Body of an approval or a rejection."""

    reason: Reason = ""
