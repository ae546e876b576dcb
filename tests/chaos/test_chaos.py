"""A slice of `make chaos`, small enough for every run of the tests."""

import os
import secrets
from pathlib import Path

import pytest

from tests.chaos.run import run

pytestmark = pytest.mark.system
NUM_JOBS = 5


def test_every_job_ends_once_and_none_is_lost_while_everything_dies(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(10**6))
    outcome = run(tmp_path, NUM_JOBS, seed)
    assert outcome.broken == [], f"CHAOS_SEED={seed} repeats it: {outcome}"
    assert sum(outcome.statuses.values()) == NUM_JOBS
