"""Requested moves are decided once, within a day, and an approval is part of the move; on both engines."""

import pytest

from contract.versions import ApprovalState
from registry.aliases import Aliases
from registry.approvals import VALID_SECONDS, Approvals, Decision, MoveRequest
from registry.database import Database
from registry.errors import AliasMovedError, ConflictError, NotFoundError
from tests.registry.clock import Clock
from tests.registry.rows import add_version


def test_a_request_is_approved_with_its_move_or_not_at_all(database: Database, clock: Clock) -> None:
    with database.write() as session:
        first, second = add_version(session).id, add_version(session).id
        aliases, approvals = Aliases(session, clock), Approvals(session, clock)
        row = approvals.request(MoveRequest("active", second, 0, "better", "ann", key_id="k1"))
        assert approvals.request(MoveRequest("active", second, 0, "better", "ann", key_id="k1")) is row
        assert approvals.request(MoveRequest("active", second, 0, "better", "bob", key_id="k2")) is not row
        decision = Decision(row.id, "bob", "fine")
        with pytest.raises(AliasMovedError):
            aliases.move("active", second, actor="ann", reason="", expected=[7], decision=decision)
        assert approvals.state_of(row) == ApprovalState.PENDING
        aliases.move("active", second, actor="ann", reason="", expected=[row.revision], decision=decision)
        assert (row.state, row.decided_by, row.decision_reason) == ("approved", "bob", "fine")
        with pytest.raises(ConflictError, match="approved by bob"):
            aliases.move("active", first, actor="ann", reason="", decision=decision)
        with pytest.raises(NotFoundError):
            aliases.move("canary", first, actor="ann", reason="", decision=decision)
        assert aliases.active_version_id() == second


def test_a_request_expires_after_a_day_and_may_be_made_again(database: Database, clock: Clock) -> None:
    asked = MoveRequest("active", 1, 0, "", "ann")
    with database.write() as session:
        approvals = Approvals(session, clock)
        row = approvals.request(asked)
        clock.advance(VALID_SECONDS - 1)
        approvals.require_pending(row)
        clock.advance(1)
        assert approvals.state_of(row) == ApprovalState.EXPIRED
        with pytest.raises(ConflictError, match="is expired"):
            approvals.decide("active", Decision(row.id, "bob"), ApprovalState.REJECTED)
        again = approvals.request(asked)
        assert again.id != row.id
        approvals.decide("active", Decision(again.id, "bob", "no"), ApprovalState.REJECTED)
        assert [approvals.state_of(each) for each in approvals.newest("active")] == ["rejected", "expired"]
        assert approvals.newest("canary") == []
