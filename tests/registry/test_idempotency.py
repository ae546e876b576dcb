"""Keys of requests, on both engines."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from registry.database import Database
from registry.errors import RequestRefusedError
from registry.idempotency import KEPT_FOR, IdempotencyKeys
from tests.registry.clock import Clock


def test_a_key_finds_what_its_request_made_until_it_is_forgotten(database: Database, clock: Clock) -> None:
    with database.write() as session:
        keys = IdempotencyKeys(session, clock)
        assert keys.find("me", "k", "a" * 64) is None
        keys.keep("me", "k", "a" * 64, "pt_1")
    clock.advance((KEPT_FOR - timedelta(seconds=1)).total_seconds())
    with database.write() as session:
        keys = IdempotencyKeys(session, clock)
        assert keys.find("me", "k", "a" * 64) == "pt_1"
        assert keys.find("me", "another", "a" * 64) is None
        with pytest.raises(RequestRefusedError, match="pt_1") as caught:
            keys.find("me", "k", "b" * 64)
        assert caught.value.code == "idempotency_key_reused"
    clock.advance(2)
    with database.write() as session:
        assert IdempotencyKeys(session, clock).find("me", "k", "b" * 64) is None


def test_a_key_is_kept_once(database: Database) -> None:
    def keep(subject: str) -> None:
        with database.write() as session:
            IdempotencyKeys(session).keep("me", "k", "a" * 64, subject)

    keep("pt_1")
    with pytest.raises(IntegrityError):
        keep("pt_2")
    with database.write() as session:
        assert IdempotencyKeys(session).find("me", "k", "a" * 64) == "pt_1"


def test_owners_do_not_share_keys(database: Database) -> None:
    with database.write() as session:
        keys = IdempotencyKeys(session)
        for owner in ("me", "you", None):
            assert keys.find(owner, "nightly", "a" * 64) is None
            keys.keep(owner, "nightly", "a" * 64, f"pt_{owner}")
    with database.write() as session:
        keys = IdempotencyKeys(session)
        assert [keys.find(owner, "nightly", "a" * 64) for owner in ("me", "you", None)] == [
            "pt_me",
            "pt_you",
            "pt_None",
        ]
