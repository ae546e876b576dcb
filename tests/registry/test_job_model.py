"""Jobs walked at random against a model of a few lines: what is allowed, what changes, and what never does."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete

from contract.datasets import DatasetState
from contract.jobs import MAX_ATTEMPTS, JobKind, JobStatus
from registry.database import Database
from registry.datasets import DatasetOptions, Datasets
from registry.errors import ConflictError, LeaseLostError
from registry.jobs import Jobs
from registry.leases import Lease
from registry.tables import Base
from tests.registry.clock import Clock
from tests.registry.test_jobs import ENDS, WRITES, row

MAX_JOBS = 3
Row = dict[str, object]


@dataclass
class Model:
    """What a job should be."""

    kind: JobKind
    subject_id: str
    created_at: datetime
    status: JobStatus = JobStatus.QUEUED
    owner: str | None = None
    token: int = 0
    attempt: int = 0
    expires_at: datetime | None = None
    dispatched_at: datetime | None = None
    cancel_requested: bool = False
    events: list[tuple[int, str]] = field(default_factory=list)
    ended_row: Row | None = None

    def lapsed(self, now: datetime) -> bool:
        return self.status is JobStatus.RUNNING and self.expires_at is not None and self.expires_at < now

    def free(self, now: datetime) -> bool:
        waiting = self.status is JobStatus.QUEUED or self.lapsed(now)
        return waiting and not self.cancel_requested and self.attempt < MAX_ATTEMPTS

    def end(self, status: JobStatus) -> None:
        self.status, self.owner, self.expires_at = status, None, None


class JobMachine(RuleBasedStateMachine):
    database: Database  # given by the subclass that a test makes

    leases = Bundle("leases")

    @initialize()
    def start_empty(self) -> None:
        with self.database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
        self.clock = Clock()
        self.models: dict[str, Model] = {}

    @staticmethod
    def ends(life: str) -> list[str]:
        return [message for message in life.split() if message in ("succeeded", "failed", "cancelled")]

    def pick(self, number: int) -> str:
        return sorted(self.models, key=lambda job_id: self.models[job_id].created_at)[number % len(self.models)]

    @rule(seconds=st.sampled_from([1, 12, 31]))  # 31 outlasts every lease
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: len(self.models) < MAX_JOBS)
    @rule(kind=st.sampled_from(JobKind))
    def create(self, kind: JobKind) -> None:
        self.clock.advance(0.001)  # so that the order of creation is told by the clock
        with self.database.write() as session:
            if kind is JobKind.INGEST:
                archive = f"{len(self.models):064}"
                dataset, _ = Datasets(session, self.clock).submit("d", archive, DatasetOptions())
                job_id, subject_id = dataset.job_id, dataset.id
            else:
                job_id, subject_id = Jobs(session, self.clock).create(kind, "pt_1").id, "pt_1"
        self.models[job_id] = Model(kind, subject_id, self.clock.moment)

    @precondition(lambda self: self.models)
    @rule(target=leases, number=st.integers(0, 2), owner=st.sampled_from("ab"), seconds=st.integers(5, 30))
    def lease(self, number: int, owner: str, seconds: int) -> object:
        job_id = self.pick(number)
        model = self.models[job_id]
        with self.database.write() as session:
            lease = Jobs(session, self.clock).lease(job_id, owner, seconds)
        if not model.free(self.clock.moment):
            assert lease is None
            return multiple()
        model.status, model.owner = JobStatus.RUNNING, owner
        model.token += 1
        model.attempt += 1
        model.expires_at = self.clock.moment + timedelta(seconds=seconds)
        assert lease == Lease(job_id, model.token)
        return lease

    def write(self, lease: Lease, name: str) -> bool:
        """Whether the write went through, which it must exactly if the lease is the job's newest and it runs."""
        model = self.models[lease.job_id]
        holds = model.status is JobStatus.RUNNING and model.token == lease.token
        try:
            with self.database.write() as session:
                WRITES[name](Jobs(session, self.clock), lease)
        except LeaseLostError:
            assert not holds
            return False
        assert holds
        return True

    @rule(lease=leases, name=st.sampled_from(["report", "save_checkpoint", "note"]))
    def record(self, lease: Lease, name: str) -> None:
        self.write(lease, name)

    @rule(lease=leases)
    def heartbeat(self, lease: Lease) -> None:
        if self.write(lease, "heartbeat"):
            self.models[lease.job_id].expires_at = self.clock.moment + timedelta(seconds=30)

    @rule(lease=leases, name=st.sampled_from(sorted(ENDS)))
    def end(self, lease: Lease, name: str) -> None:
        if self.write(lease, name):
            self.models[lease.job_id].end(ENDS[name])

    @rule(lease=leases, counts=st.booleans())
    def release(self, lease: Lease, counts: bool) -> None:
        model = self.models[lease.job_id]
        holds = model.status is JobStatus.RUNNING and model.token == lease.token
        try:
            with self.database.write() as session:
                Jobs(session, self.clock).release(lease, "stopping", counts_as_attempt=counts)
        except LeaseLostError:
            assert not holds
            return
        assert holds
        model.attempt -= not counts
        if model.cancel_requested:
            model.end(JobStatus.CANCELLED)
        elif model.attempt >= MAX_ATTEMPTS:
            model.end(JobStatus.FAILED)
        else:
            model.end(JobStatus.QUEUED)
            model.dispatched_at = None

    @precondition(lambda self: self.models)
    @rule(number=st.integers(0, 2))
    def request_cancel(self, number: int) -> None:
        job_id = self.pick(number)
        model = self.models[job_id]
        refused = model.status in (JobStatus.SUCCEEDED, JobStatus.FAILED) and not model.cancel_requested
        try:
            with self.database.write() as session:
                Jobs(session, self.clock).request_cancel(job_id)
        except ConflictError:
            assert refused
            return
        assert not refused
        if not model.status.ended:
            model.cancel_requested = True
        if model.status is JobStatus.QUEUED:
            model.end(JobStatus.CANCELLED)

    @precondition(lambda self: self.models)
    @rule(number=st.integers(0, 2))
    def retry(self, number: int) -> None:
        job_id = self.pick(number)
        model = self.models[job_id]
        allowed = model.status in (JobStatus.FAILED, JobStatus.CANCELLED) and model.kind in (
            JobKind.PATCH,
            JobKind.EVALUATE,
        )
        try:
            with self.database.write() as session:
                Jobs(session, self.clock).retry(job_id)
        except ConflictError:
            assert not allowed
            return
        assert allowed
        model.status, model.attempt, model.cancel_requested = JobStatus.QUEUED, 0, False
        model.dispatched_at = model.ended_row = None

    @precondition(lambda self: self.models)
    @rule(number=st.integers(0, 2), times=st.integers(1, MAX_ATTEMPTS), cancelled=st.booleans())
    def workers_vanish(self, number: int, times: int, cancelled: bool) -> None:
        """One worker after another takes the job and is never heard of again."""
        for _ in range(times):
            self.lease(number, "b", 20)
            if cancelled:
                self.request_cancel(number)
            self.clock.advance(31)

    @precondition(lambda self: self.models)
    @rule(number=st.integers(0, 2))
    def dispatch(self, number: int) -> None:
        job_id = self.pick(number)
        if self.models[job_id].status.ended:
            return  # the reaper names no such job, so it is not dispatched
        with self.database.write() as session:
            Jobs(session, self.clock).mark_dispatched(job_id)
        self.models[job_id].dispatched_at = self.clock.moment

    @rule(redispatch_after_seconds=st.integers(0, 60))
    def reap(self, redispatch_after_seconds: int) -> None:
        now = self.clock.moment
        with self.database.write() as session:
            due = Jobs(session, self.clock).reap(redispatch_after_seconds)
        for model in self.models.values():
            if model.lapsed(now) and model.cancel_requested:
                model.end(JobStatus.CANCELLED)
            elif model.lapsed(now) and model.attempt >= MAX_ATTEMPTS:
                model.end(JobStatus.FAILED)
        dispatched_before = now - timedelta(seconds=redispatch_after_seconds)
        assert due == [
            job_id
            for job_id, model in self.models.items()
            if (model.status is JobStatus.QUEUED or model.lapsed(now))
            and (model.dispatched_at is None or model.dispatched_at < dispatched_before)
        ]

    @invariant()
    def jobs_are_what_the_model_says(self) -> None:
        with self.database.read() as session:
            jobs = Jobs(session, self.clock)
            for job_id, model in self.models.items():
                found = row(jobs, job_id)
                assert (found["status"], found["lease_owner"]) == (model.status, model.owner)
                assert (found["lease_token"], found["attempt"]) == (model.token, model.attempt)
                assert (found["lease_expires_at"], found["dispatched_at"]) == (model.expires_at, model.dispatched_at)
                assert found["cancel_requested"] == model.cancel_requested
                self.an_ended_job_never_changes(model, found)
                self.events_are_only_ever_appended(model, [(e.id, e.message) for e in jobs.events(job_id)])
                if model.kind is JobKind.INGEST:
                    failed = model.status in (JobStatus.FAILED, JobStatus.CANCELLED)
                    state = Datasets(session).get(model.subject_id).state
                    assert state == (DatasetState.FAILED if failed else DatasetState.INGESTING)

    def an_ended_job_never_changes(self, model: Model, found: Row) -> None:
        if model.ended_row is not None:
            assert found == model.ended_row
        elif model.status.ended:
            assert found["finished_at"] == self.clock.moment
            model.ended_row = found

    def events_are_only_ever_appended(self, model: Model, events: list[tuple[int, str]]) -> None:
        assert events[: len(model.events)] == model.events
        assert events == sorted(events)
        told = " ".join(message for _, message in events).replace("cancel requested", "")
        *lives, life = told.split("retried")
        assert all(self.ends(each) in (["failed"], ["cancelled"]) for each in lives)
        assert self.ends(life) == ([model.status] if model.status.ended else [])
        model.events = events


def test_jobs_keep_their_promises_whatever_happens(database: Database) -> None:
    machine = type("Machine", (JobMachine,), {"database": database})
    found_not_shrunk = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking here would outlast the time limit
    num_walks = 15 if database.sqlite_path else 6  # each statement takes longer over a connection
    limits = settings(max_examples=num_walks, stateful_step_count=30, deadline=None, phases=found_not_shrunk)
    run_state_machine_as_test(machine, settings=limits)
