"""Patch: prepare → finetune → select → evaluate → register, each stage resumable from the job's checkpoint."""

from __future__ import annotations

import time

from paint_core import alpha as alpha_search
from paint_core.alpha import AlphaChoice, CurvePoint
from paint_core.datasets import Task
from paint_core.evaluation import Score
from paint_core.finetune import StepReport, TrainState, finetune
from paint_core.finetune_config import FinetuneConfig
from paint_core.models import BaseModel
from paint_core.weights import TaskVector, load_task_vector, save_task_vector, task_vector
from registry.errors import BlobCorruptError, BlobMissingError
from worker.messages import Note
from worker.progress import ProgressMeter
from worker.run import Run
from worker.steps.prepare import (
    PatchJob,
    choose_device,
    load_checked_base,
    load_job,
    load_tasks,
    resolve_config,
)
from worker.steps.register import Result, register
from worker.steps.state import PatchState

# Work of one image, in forwards through the image tower: decoding it, and a training step's forward and backward.
_DECODE_UNITS = 0.3
_TRAIN_UNITS = 3.0
_LOSS_EVENTS = 20


def patch(run: Run) -> None:
    """Make the patch's version and report, or raise why it cannot be made."""
    job = load_job(run)
    base = load_checked_base(job, choose_device(run.settings.device))
    config = resolve_config(base.finetune_defaults, job.request.finetune)
    alphas = alpha_search.grid(job.request.alpha.grid_step)
    meter = ProgressMeter(run.channel.send, _total_units(job, config, len(alphas)))
    state = PatchState(run, meter)
    with state.stage("prepare"):
        tasks = load_tasks(run, job, base, lambda num_images: meter.advance(_DECODE_UNITS * num_images))
    with state.stage("finetune"):
        tau = _finetune(run, base, tasks[job.request.tasks[0]], config, state, meter)
    with state.stage("select"):
        curve = _evaluate_curve(base, tau, tasks, alphas, state, meter)
        choice = alpha_search.choose_alpha(curve, patching=job.request.tasks, supported=job.request.supported)
    with state.stage("evaluate"):
        tests = _evaluate_tests(base, tau, tasks, choice, meter)
    with state.stage("register"):
        result = Result(tau, curve, choice, tests, config)
        register(run, job, base, tasks, result, state)


def _total_units(job: PatchJob, config: FinetuneConfig, num_alphas: int) -> float:
    images = job.num_images
    decode = _DECODE_UNITS * sum(images.values())
    train = _TRAIN_UNITS * config.iterations * config.batch_size
    return decode + train + num_alphas * images["validation"] + 3 * images["test"]


def _finetune(
    run: Run, base: BaseModel, task: Task, config: FinetuneConfig, state: PatchState, meter: ProgressMeter
) -> TaskVector:
    """Return the task vector: the stored one if an earlier attempt got that far, else a newly trained one."""
    theta_0 = base.visual.state_dict()
    units = _TRAIN_UNITS * config.batch_size
    if stored := state.get("task_vector_sha256"):
        meter.skip(units * config.iterations)
        return load_task_vector(run.blobs.fetch(stored), theta_0)
    assert task.train is not None  # a patching task has one
    resumed = _stored_state(run, state)
    meter.skip(units * (resumed.step if resumed else 0))
    losses: list[float] = []
    last_saved = time.monotonic()

    def on_step(report: StepReport) -> None:
        losses.append(report.loss)
        meter.advance(units)
        if report.step % max(report.total // _LOSS_EVENTS, 1) == 0 or report.step == report.total:
            data = {"step": report.step, "loss": report.loss, "learning_rate": report.learning_rate}
            run.channel.send(Note("fine-tuning", data=data | {"images_per_second": report.images_per_second}))

    def checkpoint_due(_step: int) -> bool:
        return time.monotonic() - last_saved >= run.settings.checkpoint_seconds

    def on_checkpoint(training: TrainState) -> None:
        nonlocal last_saved
        state.save(state_sha256=run.blobs.put_bytes(training.to_bytes()), step=training.step)
        last_saved = time.monotonic()

    theta_1 = finetune(
        base,
        task.head,
        task.train,
        config,
        device=base.device,
        state=resumed,
        on_step=on_step,
        checkpoint_every=checkpoint_due,
        on_checkpoint=on_checkpoint,
    )
    tau = task_vector({name: tensor.cpu() for name, tensor in theta_0.items()}, theta_1)
    stored = run.blobs.put_bytes(save_task_vector(tau, {"base": base.fingerprint}))
    final_loss = losses[-1] if losses else state.get("final_loss")
    state.save(task_vector_sha256=stored, final_loss=final_loss, state_sha256=None, step=None)
    return tau


def _stored_state(run: Run, state: PatchState) -> TrainState | None:
    """Return the training state of the last checkpoint; one that is gone or damaged means starting over."""
    stored = state.get("state_sha256")
    if not stored:
        return None
    try:
        training = TrainState.from_bytes(run.blobs.read(stored))
    except (BlobMissingError, BlobCorruptError) as error:
        run.channel.send(Note("checkpoint unusable; fine-tuning starts over", "warn", {"cause": str(error)}))
        return None
    run.channel.send(Note("resumed", data={"step": training.step}))
    return training


def _evaluate_curve(
    base: BaseModel,
    tau: TaskVector,
    tasks: dict[str, Task],
    alphas: tuple[float, ...],
    state: PatchState,
    meter: ProgressMeter,
) -> list[CurvePoint]:
    """Return validation scores of every task at every alpha, going on from the points already there."""
    num_images = sum(len(task.validation) for task in tasks.values())
    known = [_point_from_json(point) for point in state.get("curve") or []]
    meter.skip(num_images * len(known))

    def on_point(point: CurvePoint) -> None:
        meter.advance(num_images)
        state.save(curve=[*(state.get("curve") or []), _point_as_json(point)])

    validation = {name: (task.head, task.validation) for name, task in tasks.items()}
    return alpha_search.evaluate_curve(
        base, tau, validation, alphas, device=base.device, on_point=on_point, known=known
    )


def _evaluate_tests(
    base: BaseModel, tau: TaskVector, tasks: dict[str, Task], choice: AlphaChoice, meter: ProgressMeter
) -> list[CurvePoint]:
    """Return test scores of every task before, at the chosen alpha, and fully fine-tuned."""
    num_images = sum(len(task.test) for task in tasks.values())
    tests = {name: (task.head, task.test) for name, task in tasks.items()}
    alphas = sorted({0.0, choice.alpha, 1.0})
    return alpha_search.evaluate_curve(
        base, tau, tests, alphas, device=base.device, on_point=lambda _: meter.advance(num_images)
    )


def _point_as_json(point: CurvePoint) -> dict[str, object]:
    return {"alpha": point.alpha, "scores": {name: vars(score) for name, score in point.scores.items()}}


def _point_from_json(data: dict[str, object]) -> CurvePoint:
    scores = data["scores"]
    assert isinstance(scores, dict)
    alpha = data["alpha"]
    assert isinstance(alpha, float)
    return CurvePoint(alpha, {name: Score(**score) for name, score in scores.items()})
