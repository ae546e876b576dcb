"""A cancel takes at most two seconds in every stage and leaves nothing half-registered; with real trainer processes."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import select

from registry.jobs import Jobs
from registry.patches import Patches
from registry.tables import TaskVectorRow
from tests.chaos.conftest import Bench
from tests.chaos.stub import STAGES

LIMIT_SECONDS = 2.0


def wait_for(is_so: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("stage", ["start", *STAGES])
def test_a_cancel_ends_the_job_within_two_seconds_and_registers_nothing(bench: Bench, stage: str) -> None:
    patch = bench.submit(f"stay in {stage}")
    working = bench.work_on(patch.job_id)
    if stage == "start":
        wait_for(lambda: bench.forks.running(patch.job_id))
    else:
        wait_for(lambda: bench.job(patch.job_id).stage == stage)
    asked = time.monotonic()
    with bench.database.write() as session:
        Jobs(session).request_cancel(patch.job_id)
    wait_for(lambda: bench.job(patch.job_id).status == "cancelled", LIMIT_SECONDS)
    assert time.monotonic() - asked < LIMIT_SECONDS
    working.join(LIMIT_SECONDS)
    assert not working.is_alive()
    assert bench.forks.running(patch.job_id) == []
    assert [each.cause for each in bench.attempts(patch.job_id)] == ["cancelled"]
    assert bench.num_versions(patch.job_id) == 0
    with bench.database.read() as session:
        row = Patches(session).get(patch.id)
        assert (row.version_id, row.report) == (None, None)
        assert session.scalars(select(TaskVectorRow).where(TaskVectorRow.job_id == patch.job_id)).all() == []
