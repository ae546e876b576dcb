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
        assert keys.find("k", "a" * 64) is None
        keys.keep("k", "a" * 64, "pt_1")
    clock.advance((KEPT_FOR - timedelta(seconds=1)).total_seconds())
    with database.write() as session:
        keys = IdempotencyKeys(session, clock)
        assert keys.find("k", "a" * 64) == "pt_1"
        assert keys.find("another", "a" * 64) is None
        with pytest.raises(RequestRefusedError, match="pt_1") as caught:
            keys.find("k", "b" * 64)
        assert caught.value.code == "idempotency_key_reused"
    clock.advance(2)
    with database.write() as session:
        assert IdempotencyKeys(session, clock).find("k", "b" * 64) is None


def test_a_key_is_kept_once(database: Database) -> None:
    def keep(subject: str) -> None:
        with database.write() as session:
            IdempotencyKeys(session).keep("k", "a" * 64, subject)

    keep("pt_1")
    with pytest.raises(IntegrityError):
        keep("pt_2")
    with database.write() as session:
        assert IdempotencyKeys(session).find("k", "a" * 64) == "pt_1"
