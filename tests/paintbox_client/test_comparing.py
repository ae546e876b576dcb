"""`paintbox compare` without a data set: what is known about two versions."""

from tests.app.patched import add_patch
from tests.app.test_comparing import compose, measure
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run


def test_two_versions_are_compared_by_what_is_known_about_them(served: Served) -> None:
    patch = add_patch(served.world, seeds=(7,), alpha=0.5)
    version = compose(served.world, {"version": patch.version, "coefficient": 0.6})
    measure(served.world, 1, [0] * 90 + [1] * 10)
    measure(served.world, version, [0] * 60 + [1] * 40)
    measure(served.world, version, [0] * 60 + [1] * 40, "ds_only")
    found = served.client.compare_versions(1, version)
    assert (found.tasks[0].lost, found.tasks[0].gained, found.before.terms) == (30, 0, [])
    shown = run("--url", served.url, "compare", "1", str(version))
    assert "-30.0 [" in shown.out
    assert "only it has 0.3 x" in shown.err
    assert "Version 1 was not evaluated on ds_only (test)" in shown.err
    assert run("--url", served.url, "compare", "1", str(version), "--json").json == found
    refused = run("--url", served.url, "compare", "1", str(version), "--split", "test")
    assert (refused.status, "--dataset" in refused.err) == (2, True)
