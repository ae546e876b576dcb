"""API processes tell of themselves, and are forgotten when they are silent for long."""

from registry.database import Database
from registry.replicas import FORGET_SECONDS, Identity, Replicas, Serving
from tests.registry.clock import Clock


def test_processes_are_listed_with_what_they_last_told(database: Database, clock: Clock) -> None:
    first = Identity("rep_1", "a:1", clock.moment)
    clock.advance(1)
    second = Identity("rep_0", "b:1", clock.moment)
    for who, serving in ((second, Serving(active=1)), (first, Serving(active=1)), (first, Serving(2, 3, 4))):
        clock.advance(1)
        with database.write() as session:
            Replicas(session, clock).announce(who, serving)
    with database.read() as session:
        rows = Replicas(session).all()
    assert [(row.id, row.version_id, row.canary_version_id, row.shadow_version_id) for row in rows] == [
        ("rep_1", 2, 3, 4),
        ("rep_0", 1, None, None),
    ]
    assert (rows[0].started_at, rows[0].seen_at) == (first.started_at, clock.moment)


def test_one_that_stops_is_gone_and_one_that_is_silent_is_forgotten_after_a_while(
    database: Database, clock: Clock
) -> None:
    stops, dies, stays = (Identity(f"rep_{number}", "a:1", clock.moment) for number in range(3))
    with database.write() as session:
        for who in (stops, dies, stays):
            Replicas(session, clock).announce(who, Serving())
        Replicas(session, clock).withdraw(stops.id)
    for seconds, left in ((FORGET_SECONDS - 1, [dies.id, stays.id]), (2, [stays.id])):
        clock.advance(seconds)
        with database.write() as session:
            Replicas(session, clock).announce(stays, Serving())
            assert [row.id for row in Replicas(session, clock).all()] == left
