"""A slice of `make attack`: some abuses for a moment. How slow is too slow, `make attack` says on a quiet machine."""

from pathlib import Path

import pytest

from tests.attack.run import run

_STALLED_SECONDS = 20.0
_SLICE = ("wrong_items", "new_labels", "others_things")


@pytest.mark.system
@pytest.mark.timeout(480)
def test_abusive_clients_do_not_stop_an_honest_one(tmp_path: Path) -> None:
    outcome = run(tmp_path, 0.5, _SLICE)
    assert list(outcome.faults(_STALLED_SECONDS)) == []
