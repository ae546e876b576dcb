"""A slice of `make attack`: every abuse for a moment. How slow is too slow, `make attack` says on a quiet machine."""

from pathlib import Path

import pytest

from tests.attack.run import run

_STALLED_SECONDS = 20.0


@pytest.mark.system
def test_abusive_clients_do_not_stop_an_honest_one(tmp_path: Path) -> None:
    outcome = run(tmp_path, seconds=1.0)
    assert list(outcome.faults(_STALLED_SECONDS)) == []
