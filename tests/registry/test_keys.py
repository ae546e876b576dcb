"""API keys at rest: hashes only, found by a public id, revoked for good."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from contract.access import Scope
from registry.database import Database
from registry.errors import ConflictError, NotFoundError, RequestRefusedError
from registry.keys import ApiKeys, hash_token, key_id_of
from tests.registry.clock import Clock


def make(database: Database, clock: Clock, *scopes: Scope, days: int | None = None) -> tuple[str, str]:
    ends = None if days is None else clock() + timedelta(days=days)
    with database.write() as session:
        keys = ApiKeys(session, clock)
        row, token = keys.create(name="a team", scopes=scopes, expires_at=ends, created_by="a test")
    return row.id, token


def test_a_token_is_long_random_and_names_its_key(database: Database, clock: Clock) -> None:
    made = [make(database, clock, Scope.READ) for _ in range(20)]
    secrets = {token.split("_", 2)[2] for _, token in made}
    assert len(secrets) == 20
    assert all(len(secret) >= 43 for secret in secrets)  # 256 bits in base64
    assert [key_id_of(token) for _, token in made] == [key_id for key_id, _ in made]


@pytest.mark.parametrize("token", ["", "x", "paintbox_", "paintbox_abc", "Paintbox_abc_def", "key_abc"])
def test_what_is_no_token_of_ours_names_no_key(token: str) -> None:
    assert key_id_of(token) is None


def test_the_token_is_nowhere_in_the_database(database: Database, clock: Clock) -> None:
    key_id, token = make(database, clock, Scope.WRITE, Scope.READ)
    with database.read() as session:
        (row,) = session.execute(text("SELECT * FROM api_keys")).all()
    assert hash_token(token) in row
    assert not any(token.split("_", 2)[2] in str(value) for value in row)
    with database.read() as session:
        kept = ApiKeys(session).get(key_id)
    assert (kept.scopes, kept.name, kept.created_by, kept.created_at) == (
        ["read", "write"],
        "a team",
        "a test",
        clock(),
    )


def test_a_revoked_key_stays_and_keeps_the_moment(database: Database, clock: Clock) -> None:
    key_id, _ = make(database, clock, Scope.READ)
    revoked_at = clock()
    for _ in range(2):
        with database.write() as session:
            ApiKeys(session, clock).revoke(key_id)
        clock.advance(60)
    with database.read() as session:
        (row,) = ApiKeys(session).all()
    assert row.revoked_at == revoked_at
    with database.write() as session, pytest.raises(NotFoundError):
        ApiKeys(session).revoke("key_nothing")


def test_there_is_an_admin_only_while_one_lasts(database: Database, clock: Clock) -> None:
    make(database, clock, Scope.READ, Scope.WRITE)
    make(database, clock, Scope.ADMIN, days=1)
    with database.read() as session, pytest.raises(ConflictError, match="PAINTBOX_API_KEY"):
        ApiKeys(session).require_admin()
    key_id, _ = make(database, clock, Scope.ADMIN)
    with database.read() as session:
        ApiKeys(session).require_admin()
    with database.write() as session:
        ApiKeys(session, clock).revoke(key_id)
    with database.read() as session, pytest.raises(ConflictError):
        ApiKeys(session).require_admin()


def test_keys_are_listed_newest_first_in_pages(database: Database, clock: Clock) -> None:
    made = []
    for _ in range(5):
        made.append(make(database, clock, Scope.READ)[0])
        clock.advance(1)
    with database.read() as session:
        keys = ApiKeys(session)
        first = keys.newest(3)
        second = keys.newest(3, first.next_cursor)
        with pytest.raises(RequestRefusedError):
            keys.newest(3, "nonsense")
    assert [row.id for row in (*first, *second)] == made[::-1]
    assert second.next_cursor is None
