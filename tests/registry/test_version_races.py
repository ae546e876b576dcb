"""What happens when two transactions want to write the same row at the same moment."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.database import Database
from registry.tables import BaseModelRow, TaskVectorRow
from tests.registry.rows import VECTOR, add_base, add_task_vector, add_version
from tests.registry.test_job_races import in_turn, overtake


def test_two_jobs_that_trained_the_same_task_vector_both_register_it(database: Database) -> None:
    with database.write() as session:
        add_base(session)

    def register(session: Session) -> int:
        add_task_vector(session)
        return add_version(session).id

    (second,) = overtake(database, register, register)
    with database.read() as session:
        assert session.scalars(select(TaskVectorRow.sha256)).all() == [VECTOR]
    assert isinstance(second, int)


def test_processes_that_start_together_register_the_base_once(database: Database) -> None:
    def register(session: Session) -> bool:
        was_there = session.scalar(select(func.count()).select_from(BaseModelRow)) == 1
        add_base(session)
        return was_there

    assert in_turn(database, register, register) == [False, True]
