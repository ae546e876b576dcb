"""The events of the installation, by the client and the command line."""

from itertools import islice

from contract.jobs import JobKind
from registry.jobs import Jobs
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run


def test_the_client_and_the_command_tell_what_happened(served: Served) -> None:
    before = served.client.events(limit=1)[-1].id if served.client.events(limit=1) else "0-0"
    with served.world.services.database.write() as session:
        job = Jobs(session).create(JobKind.PATCH, "pt_none").id
        lease = Jobs(session).lease(job, "a test", 60)
        assert lease is not None
        Jobs(session).note(lease, "fine-tuning", data={"step": 1})
    served.client.activate(1, alias="canary", reason="a test")
    told = served.client.events(before)
    assert [each.message for each in told] == ["queued", "started", "moved"]
    assert told[0].job is not None
    assert (told[0].job.id, told[2].move and told[2].move.to_version) == (job, 1)
    assert list(islice(served.client.follow_events(before), 3)) == told
    url = ("--url", served.url)
    assert run(*url, "events", "--after", before, "--json").json == told
    shown = run(*url, "events", "--after", told[1].id).out.splitlines()
    assert "canary: none → 1" in shown[-1]
    assert served.client.events(told[2].id) == []
