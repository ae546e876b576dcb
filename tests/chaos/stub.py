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
from worker.job_context import JobContext
from worker.messages import Note
from worker.progress import ProgressMeter
from worker.steps.checkpoint import PatchCheckpoint

TRAINER = (sys.executable, "-m", "tests.chaos.trainer")
STAGES = ("prepare", "finetune", "select", "evaluate", "register")
STEP_SECONDS = 0.02
_NEVER_SECONDS = 600.0


def patch(context: JobContext) -> None:
    """Make a version of a made-up task vector."""
    with context.database.read() as session:
        row = Patches(session).get(context.subject_id)
    _misbehave(row.name, "start")
    num_steps = row.request["finetune"]["iterations"]
    meter = ProgressMeter(context.channel.send, total=num_steps + len(STAGES) - 1)
    checkpoint = PatchCheckpoint(context, meter)
    for stage in STAGES:
        with checkpoint.stage(stage):
            _misbehave(row.name, stage)
            if stage == "finetune" and row.request["method"] != "parallel":
                _finetune(context, checkpoint, meter, num_steps)
            elif stage == "register":
                _register(context, row, _vectors_of_parts(context) or [_store_vector(context)])
            else:
                time.sleep(STEP_SECONDS)
                meter.advance(1)


def finetune(context: JobContext) -> None:
    """Make a made-up task vector, and hand it in as `worker.steps.finetune` does."""
    with context.database.read() as session:
        row = Patches(session).get(context.subject_id)
    num_steps = row.request["finetune"]["iterations"]
    meter = ProgressMeter(context.channel.send, total=num_steps)
    checkpoint = PatchCheckpoint(context, meter)
    with checkpoint.stage("finetune"):
        _misbehave(row.name, "finetune")
        _finetune(context, checkpoint, meter, num_steps)
    checkpoint.save(task_vectors={context.part: _store_vector(context)}, state_sha256=None, step=None)
    with context.database.write() as session:
        recorded = Jobs(session).succeed(context.lease, checkpoint.value)
    if recorded.get("state_sha256"):
        context.blobs.delete(recorded["state_sha256"])


def _vectors_of_parts(context: JobContext) -> list[str]:
    """What the jobs that did this one's parts have handed in; each must have done so by now."""
    with context.database.read() as session:
        parts = Jobs(session).children(context.lease.job_id)
    return [(part.checkpoint or {})["task_vectors"][part.part] for part in parts]


def _store_vector(context: JobContext) -> str:
    return context.blobs.put_bytes(_vector_of(context))


def _vector_of(context: JobContext) -> bytes:
    return f"task vector of {context.lease.job_id}".encode()


def _finetune(context: JobContext, checkpoint: PatchCheckpoint, meter: ProgressMeter, num_steps: int) -> None:
    first = checkpoint.get("step") or 0
    if first:
        stored = context.blobs.read(checkpoint.get("state_sha256"))
        assert stored == f"{context.lease.job_id} after {first} steps".encode()
        context.channel.send(Note("resumed", data={"step": first}))
        meter.skip(first)
    for step in range(first + 1, num_steps + 1):
        time.sleep(STEP_SECONDS)
        meter.advance(1)
        checkpoint.save(
            step=step, state_sha256=context.blobs.put_bytes(f"{context.lease.job_id} after {step} steps".encode())
        )


def _register(context: JobContext, row: PatchRow, vectors: Sequence[str]) -> None:
    """What `worker.steps.register` writes, in one transaction as there."""
    with context.database.write() as session:
        Jobs(session).succeed(context.lease)
        versions = Versions(session)
        for sha256 in vectors:
            versions.add_task_vector(
                sha256=sha256,
                base_fingerprint=row.base_fingerprint,
                num_bytes=len(_vector_of(context)),  # the same for every job
                relative_norm=0.1,
                job_id=context.lease.job_id,
            )
        version = versions.register(
            name=row.name,
            base_fingerprint=row.base_fingerprint,
            terms=[TermSpec(sha256, 0.5) for sha256 in vectors],
            probe=[],
            lineage=Lineage(),
            job_id=context.lease.job_id,
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
