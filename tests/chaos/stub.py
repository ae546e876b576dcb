"""A patch, or a part of one, without its arithmetic: stages, progress, checkpoints with blobs, one last transaction.

What a patch is called tells what shall happen to it: `stay in STAGE`, `exit 3 in STAGE`, `kill in STAGE`, …
"""

import os
import signal
import sys
import time
from collections.abc import Sequence

from contract.lineage import Lineage
from registry.jobs import Jobs
from registry.patches import Patches
from registry.tables import PatchRow
from registry.versions import TermSpec, Versions
from tests.builders import small_report
from worker.messages import Note
from worker.progress import ProgressMeter
from worker.run import Run
from worker.steps.state import PatchState

TRAINER = (sys.executable, "-m", "tests.chaos.trainer")
STAGES = ("prepare", "finetune", "select", "evaluate", "register")
STEP_SECONDS = 0.02
_NEVER_SECONDS = 600.0


def patch(run: Run) -> None:
    """Make a version of a made-up task vector."""
    with run.database.read() as session:
        row = Patches(session).get(run.subject_id)
    _misbehave(row.name, "start")
    num_steps = row.request["finetune"]["iterations"]
    meter = ProgressMeter(run.channel.send, total=num_steps + len(STAGES) - 1)
    state = PatchState(run, meter)
    for stage in STAGES:
        with state.stage(stage):
            _misbehave(row.name, stage)
            if stage == "finetune" and row.request["method"] != "parallel":
                _finetune(run, state, meter, num_steps)
            elif stage == "register":
                _register(run, row, _vectors_of_parts(run) or [_store_vector(run)])
            else:
                time.sleep(STEP_SECONDS)
                meter.advance(1)


def finetune(run: Run) -> None:
    """Make a made-up task vector, and hand it in as `worker.steps.finetune` does."""
    with run.database.read() as session:
        row = Patches(session).get(run.subject_id)
    num_steps = row.request["finetune"]["iterations"]
    meter = ProgressMeter(run.channel.send, total=num_steps)
    state = PatchState(run, meter)
    with state.stage("finetune"):
        _misbehave(row.name, "finetune")
        _finetune(run, state, meter, num_steps)
    state.save(task_vectors={run.part: _store_vector(run)}, state_sha256=None, step=None)
    with run.database.write() as session:
        recorded = Jobs(session).succeed(run.lease, state.value)
    if recorded.get("state_sha256"):
        run.blobs.delete(recorded["state_sha256"])


def _vectors_of_parts(run: Run) -> list[str]:
    """What the jobs that did this one's parts have handed in; each must have done so by now."""
    with run.database.read() as session:
        parts = Jobs(session).parts(run.lease.job_id)
    return [(part.checkpoint or {})["task_vectors"][part.part] for part in parts]


def _store_vector(run: Run) -> str:
    return run.blobs.put_bytes(_vector_of(run))


def _vector_of(run: Run) -> bytes:
    return f"task vector of {run.lease.job_id}".encode()


def _finetune(run: Run, state: PatchState, meter: ProgressMeter, num_steps: int) -> None:
    first = state.get("step") or 0
    if first:
        stored = run.blobs.read(state.get("state_sha256"))
        assert stored == f"{run.lease.job_id} after {first} steps".encode()
        run.channel.send(Note("resumed", data={"step": first}))
        meter.skip(first)
    for step in range(first + 1, num_steps + 1):
        time.sleep(STEP_SECONDS)
        meter.advance(1)
        state.save(step=step, state_sha256=run.blobs.put_bytes(f"{run.lease.job_id} after {step} steps".encode()))


def _register(run: Run, row: PatchRow, vectors: Sequence[str]) -> None:
    """What `worker.steps.register` writes, in one transaction as there."""
    with run.database.write() as session:
        Jobs(session).succeed(run.lease)
        versions = Versions(session)
        for sha256 in vectors:
            versions.add_task_vector(
                sha256=sha256,
                base_fingerprint=row.base_fingerprint,
                num_bytes=len(_vector_of(run)),  # the same for every job
                relative_norm=0.1,
                job_id=run.lease.job_id,
            )
        version = versions.register(
            name=row.name,
            base_fingerprint=row.base_fingerprint,
            terms=[TermSpec(sha256, 0.5) for sha256 in vectors],
            probe=[],
            lineage=Lineage(),
            job_id=run.lease.job_id,
            patch_id=row.id,
            owner=row.owner,
        )
        Patches(session).complete(row.id, version_id=version.id, report=small_report())


def _misbehave(name: str, stage: str) -> None:
    action, _, where = name.rpartition(" in ")
    if where != stage:
        return
    sys.stderr.write(f"about to {action}\n")
    sys.stderr.flush()
    if action == "stay":
        time.sleep(_NEVER_SECONDS)
    elif action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action.startswith("exit "):
        os._exit(int(action.removeprefix("exit ")))
