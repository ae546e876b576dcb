"""Versions are immutable and numbered once; aliases move and remember every move."""

import threading
import time

import pytest
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from contract.lineage import Lineage
from registry.aliases import Aliases
from registry.database import Database
from registry.errors import NotFoundError
from registry.tables import AliasHistoryRow, VersionRow
from registry.versions import TermSpec, Versions
from tests.registry.clock import Clock
from tests.registry.rows import FINGERPRINT, VECTOR, add_base, add_task_vector, add_version


def test_a_version_is_a_base_and_terms_in_order(database: Database) -> None:
    terms = (TermSpec(VECTOR, 0.5), TermSpec("b" * 64, -0.25, "lines"), TermSpec(VECTOR, 1.5))
    with database.write() as session:
        add_base(session)
        add_task_vector(session)
        add_task_vector(session, "b" * 64)
        version_id = add_version(session, "job_1", terms).id
    with database.read() as session:
        assert Versions(session).terms(version_id) == list(terms)
        row = Versions(session).get(version_id)
        assert (row.base_fingerprint, row.probe, row.lineage) == (FINGERPRINT, [0.5], {"by": "test"})


def test_a_second_version_of_one_job_rolls_back_everything(database: Database) -> None:
    with database.write() as session:
        add_base(session)
        first = add_version(session, "job_1").id

    def register_again() -> None:
        with database.write() as session:
            add_task_vector(session)
            Aliases(session).move("active", first, actor="a", reason="r")
            add_version(session, "job_1", (TermSpec(VECTOR, 1.0),))

    with pytest.raises(IntegrityError):
        register_again()
    with database.read() as session:
        assert [row.id for row in Versions(session).newest()] == [first]
        assert Versions(session).terms(first) == []
        assert Aliases(session).active_version_id() is None
        assert Aliases(session).history("active") == []
    with database.write() as session:
        add_task_vector(session)  # the one of the refused transaction is not there


def test_versions_without_a_job_may_be_many(database: Database) -> None:
    with database.write() as session:
        first, second = add_version(session).id, add_version(session).id
        assert first < second
        base_version = Versions(session).base_version(FINGERPRINT)
        assert base_version is not None
        assert base_version.id == first


def test_a_version_needs_a_known_base_and_known_task_vectors(database: Database) -> None:
    def register(base: str, term: str) -> None:
        with database.write() as session:
            add_base(session)
            Versions(session).register(
                name="v", base_fingerprint=base, terms=[TermSpec(term, 1.0)], probe=[], lineage=Lineage()
            )

    with database.write() as session:
        add_base(session)
        add_task_vector(session)
    for base, term in (("unknown", VECTOR), (FINGERPRINT, "unknown")):
        with pytest.raises(IntegrityError):
            register(base, term)
    with database.read() as session:
        assert Versions(session).newest() == []


def test_a_version_id_is_never_used_again(database: Database) -> None:
    with database.write() as session:
        gone = add_version(session).id
    with database.write() as session:
        session.execute(delete(VersionRow).where(VersionRow.id == gone))
    with database.write() as session:
        assert add_version(session).id > gone


def test_a_version_in_use_cannot_be_deleted(database: Database) -> None:
    def remove() -> None:
        with database.write() as session:
            session.execute(delete(VersionRow))

    with database.write() as session:
        Aliases(session).move("active", add_version(session).id, actor="a", reason="r")
    with pytest.raises(IntegrityError):
        remove()


def test_newest_versions_come_first(database: Database) -> None:
    with database.write() as session:
        made = [add_version(session).id for _ in range(3)]
        assert [row.id for row in Versions(session).newest()] == made[::-1]
        assert [row.id for row in Versions(session).newest(limit=1)] == made[-1:]


def test_a_base_is_added_once(database: Database, clock: Clock) -> None:
    with database.write() as session:
        versions = Versions(session, clock)
        first = versions.ensure_base(ref="starter", fingerprint=FINGERPRINT, embed_dim=8, image_size=32)
        clock.advance(60)
        again = versions.ensure_base(ref="starter", fingerprint=FINGERPRINT, embed_dim=8, image_size=32)
        assert again is first
        assert versions.base_by_ref("starter") is versions.base(FINGERPRINT) is first


def test_what_is_unknown_is_not_found(database: Database) -> None:
    with database.read() as session:
        for ask in (
            lambda: Versions(session).get(404),
            lambda: Versions(session).base_by_ref("nothing"),
            lambda: Aliases(session).get("nothing"),
        ):
            with pytest.raises(NotFoundError):
                ask()
        assert Versions(session).base_version(FINGERPRINT) is None


def test_an_alias_names_the_version_it_was_moved_to(database: Database, clock: Clock) -> None:
    with database.write() as session:
        aliases = Aliases(session, clock)
        first, second = add_version(session).id, add_version(session).id
        assert aliases.active_version_id() is None
        aliases.move("active", first, actor="ann", reason="first")
        clock.advance(5)
        aliases.move("active", second, actor="bob", reason="better")
        aliases.move("canary", first, actor="ann", reason="try")
        assert aliases.active_version_id() == second
        assert (aliases.get("active").version_id, aliases.get("active").updated_at) == (second, clock.moment)
        assert aliases.get("canary").version_id == first


def test_every_move_of_an_alias_is_remembered(database: Database, clock: Clock) -> None:
    with database.write() as session:
        aliases = Aliases(session, clock)
        first, second = add_version(session).id, add_version(session).id
        seen: list[int] = []
        for version_id in (first, second, first, first):
            aliases.move("active", version_id, actor="ann", reason=f"to {version_id}")
            aliases.move("canary", version_id, actor="ann", reason="along")
            moves = aliases.history("active")
            assert [move.id for move in moves][1:] == seen  # append-only: what was there stays, in order
            seen = [move.id for move in moves]
        told = [(move.from_version_id, move.to_version_id, move.reason) for move in aliases.history("active")]
        assert told[::-1] == [
            (None, first, f"to {first}"),
            (first, second, f"to {second}"),
            (second, first, f"to {first}"),
            (first, first, f"to {first}"),
        ]
        assert len(aliases.history("active", limit=2)) == 2


def test_an_alias_cannot_name_what_is_not_there(database: Database) -> None:
    def move() -> None:
        with database.write() as session:
            Aliases(session).move("active", 404, actor="a", reason="r")

    with pytest.raises(NotFoundError):
        move()
    with database.read() as session:
        assert Aliases(session).history("active") == []


def test_two_moves_at_once_still_make_one_chain(database: Database) -> None:
    with database.write() as session:
        ids = [add_version(session).id for _ in range(3)]
        Aliases(session).move("active", ids[0], actor="a", reason="start")

    def move() -> None:
        with database.write() as session:
            Aliases(session).move("active", ids[2], actor="b", reason="second")

    second = threading.Thread(target=move)
    with database.write() as session:
        Aliases(session).move("active", ids[1], actor="a", reason="first")
        second.start()
        time.sleep(0.2)
    second.join()
    with database.read() as session:
        moves: list[AliasHistoryRow] = list(Aliases(session).history("active"))[::-1]
        assert [(move.from_version_id, move.to_version_id) for move in moves] == [
            (None, ids[0]),
            (ids[0], ids[1]),
            (ids[1], ids[2]),
        ]


def test_a_composed_version_is_not_taken_for_the_base(database: Database) -> None:
    with database.write() as session:
        add_base(session)
        add_task_vector(session)
        add_version(session, None, (TermSpec(VECTOR, 0.5),))  # no job, but terms
        assert Versions(session).base_version(FINGERPRINT) is None
        bare = add_version(session)
        assert Versions(session).base_version(FINGERPRINT) is bare


def test_a_task_vector_is_found_by_its_hash(database: Database) -> None:
    with database.write() as session:
        add_base(session)
        add_task_vector(session)
        assert Versions(session).task_vector(VECTOR).base_fingerprint == FINGERPRINT
        with pytest.raises(NotFoundError, match="task vector"):
            Versions(session).task_vector("e" * 64)
