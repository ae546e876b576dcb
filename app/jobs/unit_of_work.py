"""Transactions that queue jobs, which are dispatched after the commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from sqlalchemy.orm import Session

from app.http.dependencies import DatabaseDep, built
from app.jobs.dispatcher import Dispatcher, DispatcherDep
from registry.datasets import Datasets
from registry.evaluations import Evaluations
from registry.idempotency import IdempotencyKeys
from registry.jobs import Jobs
from registry.patches import Patches


class UnitOfWork:
    """One transaction, its repositories, and the actions after its commit."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._after_commit: list[Callable[[], object]] = []
        self._to_dispatch: list[str] = []

    @cached_property
    def jobs(self) -> Jobs:
        """The jobs."""
        return Jobs(self.session)

    @cached_property
    def datasets(self) -> Datasets:
        """The data sets."""
        return Datasets(self.session)

    @cached_property
    def patches(self) -> Patches:
        """The patches."""
        return Patches(self.session)

    @cached_property
    def evaluations(self) -> Evaluations:
        """The evaluations."""
        return Evaluations(self.session)

    @cached_property
    def keys(self) -> IdempotencyKeys:
        """The idempotency keys."""
        return IdempotencyKeys(self.session)

    def dispatch(self, job_ids: Iterable[str]) -> None:
        """Mark queued jobs as dispatched, and dispatch them after the commit."""
        for job_id in job_ids:
            self.jobs.mark_dispatched(job_id)
            self._to_dispatch.append(job_id)

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call `action` after the commit, before any job is dispatched."""
        self._after_commit.append(action)

    def finish(self, dispatcher: Dispatcher) -> None:
        """Run the actions that were deferred until after the commit."""
        for action in self._after_commit:
            action()
        for job_id in self._to_dispatch:
            dispatcher.dispatch(job_id)


@dataclass(frozen=True)
class UnitsOfWork:
    """Begins units of work, whose jobs are dispatched after the commit."""

    database: DatabaseDep
    dispatcher: DispatcherDep

    @contextmanager
    def begin(self) -> Iterator[UnitOfWork]:
        """Yield a unit of work: committed and then dispatched, or rolled back after an error."""
        with self.database.write() as session:
            unit = UnitOfWork(session)
            yield unit
        unit.finish(self.dispatcher)


UnitsOfWorkDep = Annotated[UnitsOfWork, built(UnitsOfWork)]
