"""Last stage of a patch: the report, and in one transaction the task vector, the version and the job's end."""

from __future__ import annotations

import copy
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version as library_version
from typing import Any

import torch

from paint_core.alpha import AlphaChoice, CurvePoint, combined
from paint_core.datasets import Task
from paint_core.evaluation import Score
from paint_core.finetune_config import FinetuneConfig
from paint_core.models import BaseModel
from paint_core.probe import probe_features
from paint_core.weights import TaskVector, Term, cosine, mix, mix_into, relative_norm
from registry.jobs import Jobs
from registry.patches import Patches
from registry.versions import TermSpec, Versions
from worker.run import Run
from worker.steps.prepare import PatchJob
from worker.steps.state import PatchState

_LIBRARIES = ("paintbox", "torch", "torchvision", "open_clip_torch", "timm", "safetensors", "numpy", "pillow")


@dataclass(frozen=True)
class Result:
    """What the stages before found.

    Attributes:
        tau: The task vector.
        curve: Validation scores along alpha.
        choice: The chosen alpha and why.
        tests: Test scores at alpha 0, the chosen one and 1.
        config: How tau was trained.
    """

    tau: TaskVector
    curve: list[CurvePoint]
    choice: AlphaChoice
    tests: list[CurvePoint]
    config: FinetuneConfig


def register(
    run: Run, job: PatchJob, base: BaseModel, tasks: Mapping[str, Task], result: Result, state: PatchState
) -> None:
    """Write the version, the report and the job's success, all or nothing.

    Args:
        run: The attempt.
        job: What was asked.
        base: What the version is mixed from.
        tasks: By data set id.
        result: What the stages before found.
        state: Names the stored task vector, and how long the stages took.

    Raises:
        LeaseLostError: Another attempt holds the job; nothing is written.
    """
    tau_sha256 = state.get("task_vector_sha256")
    theta_0 = base.visual.state_dict()
    visual = copy.deepcopy(base.visual)
    mix_into(visual, theta_0, [Term(result.tau, result.choice.alpha)])
    probe = probe_features(visual, base)
    theta_1 = mix(theta_0, [Term(result.tau, 1.0)])
    update = {"relative_norm": relative_norm(result.tau, theta_0), "cosine": cosine(theta_0, theta_1)}
    lineage = _lineage(job, base, result, tau_sha256)
    report = _report(job, tasks, result, state) | {"update": update, "task_vector_sha256": tau_sha256}
    with run.database.write() as session:
        Jobs(session).succeed(run.lease)
        versions = Versions(session)
        versions.add_task_vector(
            sha256=tau_sha256,
            base_fingerprint=base.fingerprint,
            num_bytes=run.blobs.fetch(tau_sha256).stat().st_size,
            relative_norm=update["relative_norm"],
            job_id=run.lease.job_id,
        )
        version = versions.register(
            name=job.request.name,
            base_fingerprint=base.fingerprint,
            terms=[TermSpec(tau_sha256, result.choice.alpha)],
            probe=probe.tolist(),
            lineage=lineage,
            job_id=run.lease.job_id,
            patch_id=job.row.id,
        )
        report |= {"version_id": version.id, "environment": lineage["environment"]}
        Patches(session).complete(job.row.id, version_id=version.id, report=report)


def _report(job: PatchJob, tasks: Mapping[str, Task], result: Result, state: PatchState) -> dict[str, Any]:
    return {
        "alpha": result.choice.alpha,
        "rule": job.request.alpha.rule,
        "reason": result.choice.reason,
        "tasks": [_task_report(job, name, task, result) for name, task in tasks.items()],
        "curve": [_point_report(job, point) for point in result.curve],
        "finetune": asdict(result.config) | {"final_loss": state.get("final_loss")},
        "timings_seconds": state.timings_seconds,
    }


def _task_report(job: PatchJob, name: str, task: Task, result: Result) -> dict[str, Any]:
    return {
        "dataset_id": name,
        "name": job.datasets[name].name,
        "role": "patching" if name in job.request.tasks else "supported",
        "num_classes": int(task.head.shape[0]),
        "validation": _three(result.curve, name, result.choice.alpha),
        "test": _three(result.tests, name, result.choice.alpha),
    }


def _three(points: list[CurvePoint], name: str, alpha: float) -> dict[str, Any]:
    scores = {point.alpha: point.scores[name] for point in points}
    named = {"zero_shot": 0.0, "fine_tuned": 1.0, "patched": alpha}
    return {column: _score_report(scores[at]) for column, at in named.items()}


def _score_report(score: Score) -> dict[str, Any]:
    low, high = score.interval()
    return {
        "correct": score.correct,
        "total": score.total,
        "accuracy": score.accuracy,
        "low": low,
        "high": high,
        "loss": score.loss,
    }


def _point_report(job: PatchJob, point: CurvePoint) -> dict[str, Any]:
    patching, supported = job.request.tasks, job.request.supported
    return {
        "alpha": point.alpha,
        "combined": combined(point, patching, supported),
        "patching": _mean_accuracy(point, patching),
        "supported": _mean_accuracy(point, supported),
        "tasks": {name: _score_report(score) for name, score in point.scores.items()},
    }


def _mean_accuracy(point: CurvePoint, names: tuple[str, ...]) -> float | None:
    return sum(point.scores[name].accuracy for name in names) / len(names) if names else None


def _lineage(job: PatchJob, base: BaseModel, result: Result, tau_sha256: str) -> dict[str, Any]:
    return {
        "base": {"ref": base.ref, "fingerprint": base.fingerprint},
        "task_vector_sha256": tau_sha256,
        "alpha": result.choice.alpha,
        "datasets": {identifier: row.content_sha256 for identifier, row in job.datasets.items()},
        "request": job.row.request,
        "finetune": asdict(result.config),
        "environment": _environment(base.device),
    }


def _environment(device: torch.device) -> dict[str, Any]:
    """Return what the weights depend on beside data and settings: library versions and hardware."""
    on_cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "libraries": {name: library_version(name) for name in _LIBRARIES},
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if on_cuda else "cpu",
        "num_threads": torch.get_num_threads(),
    }
