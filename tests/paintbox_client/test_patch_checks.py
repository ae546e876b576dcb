"""`paintbox patch --dry-run`: what would be done, and nothing is."""

from tests.app.patched import SPLITS
from tests.app.world import add_ready_dataset
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run


def test_a_dry_run_says_what_a_patch_takes_and_starts_none(served: Served) -> None:
    task = add_ready_dataset(served.world.services, ["cat", "dog"], splits=SPLITS)
    supported = add_ready_dataset(served.world.services, ["sun", "moon"], splits=("validation", "test"))
    before = len(served.client.patches())
    asked = ("--url", served.url, "patch", "--task", task, "--supported", supported, "--dry-run")
    shown = run(*asked)
    assert shown.status == 0
    assert "rule certified" in shown.err
    assert "optimizer steps, at least" in shown.err
    assert "No patch of this base has succeeded yet" in shown.err
    assert "the mean of the supported tasks drops by at most 1 points" in shown.err
    found = run(*asked, "--json").json
    assert found == served.client.check_patch(**found["request"])
    assert len(served.client.patches()) == before
