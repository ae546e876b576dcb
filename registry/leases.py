"""Leases on jobs: what proves that a worker holds a job, and when it no longer does.

Leases are judged by wall clocks, which are set, drift apart and stand still while a machine sleeps. Two rules keep a
clock that jumps from taking a job from a healthy worker, or from holding one for ever:

- A lease that was renewed in the future was written by a clock that has been set back since; it is void.
- A process whose own clock has just jumped judges no lease for a few seconds, in which workers renew theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, false, or_

from contract.jobs import JobKind, JobStatus
from registry.tables import JobRow

LEASE_SECONDS = 30.0
CLOCK_TOLERANCE_SECONDS = 2 * LEASE_SECONDS
"""How far the clocks of an installation's machines may differ."""

_JUMP_SECONDS = 5.0
_SETTLING_SECONDS = 10.0


@dataclass(frozen=True)
class Lease:
    """Proof that a worker holds a job.

    Attributes:
        token: Fencing token; larger than that of any earlier lease on this job.
        kind: Of the job; None where only the proof is needed.
    """

    job_id: str
    token: int
    kind: JobKind | None = field(default=None, compare=False)


class ClockWatch:
    """Detects that the wall clock was set, or that the machine slept.

    Args:
        wall: Seconds since the epoch.
        steady: Seconds of a clock that is never set and stops while the machine sleeps.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self._settled_at = steady()

    def has_settled(self) -> bool:
        """Return whether the wall clock has gone on evenly for the last seconds, as far as was looked."""
        now = self._steady()
        offset = self._wall() - now
        if abs(offset - self._offset) > _JUMP_SECONDS:
            self._settled_at = now + _SETTLING_SECONDS
        self._offset = offset
        return now >= self._settled_at


_CLOCK = ClockWatch()


def has_lapsed(now: datetime, clock: ClockWatch = _CLOCK) -> ColumnElement[bool]:
    """Return the condition that a worker has held the job and its lease has ended; false while the clock settles."""
    if not clock.has_settled():
        return false()
    ahead = JobRow.lease_renewed_at > now + timedelta(seconds=CLOCK_TOLERANCE_SECONDS)
    return and_(JobRow.status == JobStatus.RUNNING, or_(JobRow.lease_expires_at < now, ahead))
