"""A patch without its arithmetic: stages, progress, checkpoints with blobs, and one transaction at the end.

What a patch is called tells what shall happen to it: `stay in STAGE`, `exit 3 in STAGE`, `kill in STAGE`, …
"""

import os
import signal
import sys
import time

from registry.jobs import Jobs
from registry.patches import Patches
from registry.tables import PatchRow
from registry.versions import TermSpec, Versions
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
            if stage == "finetune":
                _finetune(run, state, meter, num_steps)
            elif stage == "register":
                _register(run, row)
            else:
                time.sleep(STEP_SECONDS)
                meter.advance(1)


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


def _register(run: Run, row: PatchRow) -> None:
    """What `worker.steps.register` writes, in one transaction as there."""
    data = f"task vector of {run.lease.job_id}".encode()
    sha256 = run.blobs.put_bytes(data)
    with run.database.write() as session:
        Jobs(session).succeed(run.lease)
        versions = Versions(session)
        versions.add_task_vector(
            sha256=sha256,
            base_fingerprint=row.base_fingerprint,
            num_bytes=len(data),
            relative_norm=0.1,
            job_id=run.lease.job_id,
        )
        version = versions.register(
            name=row.name,
            base_fingerprint=row.base_fingerprint,
            terms=[TermSpec(sha256, 0.5)],
            probe=[],
            lineage={},
            job_id=run.lease.job_id,
            patch_id=row.id,
            owner=row.owner,
        )
        Patches(session).complete(row.id, version_id=version.id, report={"alpha": 0.5})


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
