"""Last stage of a patch: in one transaction the task vectors, the version, the report and the job's end."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from contract.environment import AlphaSettings, Environment
from contract.evaluation import Evaluation
from contract.lineage import Lineage, LineageBase
from contract.report import ReportCandidate, ReportInstant
from contract.storage import VectorStorage
from paint_core.data import Task
from paint_core.evaluation import probe_features
from paint_core.evaluation.feature_cache import FolderFeatureCache
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, PatchResult
from paint_core.runtime.provenance import describe_environment
from paint_core.weights import fingerprint, mix_into, relative_norm
from pipeline.heads import answers_fingerprint, load_heads
from registry.acceptance import Assessment, assess
from registry.evidence import EvidenceReader
from registry.jobs import Jobs
from registry.measurements import Measurements
from registry.patches import Patches
from registry.versions import HEAD_PROFILE, TermSpec, Versions
from worker.job_context import JobContext
from worker.steps.acceptance import carry_out, describe_activation, judge
from worker.steps.checkpoint import PatchCheckpoint
from worker.steps.compatibility import measure_compatibility
from worker.steps.journal import JobJournal
from worker.steps.measurement import Judged, store_answers
from worker.steps.names import measure_names
from worker.steps.precisions import check_precisions
from worker.steps.prepare import PatchJob, templates_of
from worker.steps.report import build_evaluation, build_report, used_settings
from worker.steps.validation_features import ValidationFeatures


def register(
    context: JobContext,
    job: PatchJob,
    base: BaseModel,
    tasks: Mapping[str, Task],
    plan: PatchPlan,
    result: PatchResult,
    journal: JobJournal,
    checkpoint: PatchCheckpoint,
    instant: ReportInstant | None = None,
    candidates: tuple[ReportCandidate, ...] = (),
) -> None:
    """Write the version, its report and the job's success in one transaction; move the alias if that was requested."""
    visual = _mixed(base, result)
    tower_fingerprint = fingerprint(visual.state_dict())
    probe: list[list[float]] = probe_features(visual, base).tolist()
    interpolants = {
        profile: context.blobs.put_bytes(interpolant.to_bytes())
        for profile, interpolant in result.stages[-1].search.interpolants.items()
    }
    lineage = _lineage(job, base, plan, result, journal.task_vectors)
    report = build_report(job, plan, tasks, result, journal.task_vectors)
    terms = [TermSpec(term.task_vector_sha256, term.coefficient, term.profile) for term in report.terms]
    weights_fingerprint = answers_fingerprint(tower_fingerprint, terms)
    evaluation, asked = build_evaluation(plan, report), job.request.activate
    decision = activation = None
    if asked != "never":
        assessment = _assess(context, base.fingerprint, weights_fingerprint, evaluation)
        needs_certificate = asked == "if_certified"
        decision = judge(
            assessment, base, terms, probe, context.blobs, report.certificate, needs_certificate=needs_certificate
        )
        activation = describe_activation(decision, context.settings, asked)
    tower = visual if result.vectors else None
    features = _validation_features(context, job, base, tasks, tower)
    report = report.model_copy(
        update={
            "interpolants": interpolants,
            "final_losses": journal.final_losses,
            "timings_seconds": checkpoint.timings_seconds,
            "environment": lineage.environment,
            "activation": activation,
            "instant": instant,
            "candidates": candidates,
            "embeddings": measure_compatibility(features, job),
        }
    )
    vectors = _describe_task_vectors(context, base, result, journal.task_vectors)
    measured = list(_store_answers(context, job, base, tasks, result, weights_fingerprint))
    heads = load_heads(base, terms, context.blobs)
    patched_names = measure_names(features, job.request.tasks, heads)
    precisions = check_precisions(tower, base, features.tasks, heads, context.settings.program_dir)
    with context.database.write() as session:  # nothing slow in here: others wait to write
        Jobs(session).succeed(context.lease)
        versions = Versions(session)
        for each in vectors:
            versions.add_task_vector(**each)
        version = versions.register(
            name=job.request.name,
            base_fingerprint=base.fingerprint,
            terms=terms,
            probe=probe,
            lineage=lineage,
            job_id=context.lease.job_id,
            patch_id=job.row.id,
            owner=job.row.owner,
            parents=() if job.request.version is None else (job.request.version,),
            weights_fingerprint=weights_fingerprint,
            evaluation=evaluation,
            routing=job.request.routing,
            patched_names=versions.names_of(job.below) | patched_names,
            precision_checks=precisions,
        )
        for each in measured:
            Measurements(session).add(**each, owner=job.row.owner, patch_id=job.row.id)
        Patches(session).complete(job.row.id, version_id=version.id, report=report)
        if decision is not None:
            carry_out(decision, session, context.settings, version.id, f"patch {job.row.id}")


def _validation_features(
    context: JobContext, job: PatchJob, base: BaseModel, tasks: Mapping[str, Task], tower: nn.Module | None
) -> ValidationFeatures:
    """Return the features of the tasks to improve and of the supported ones; `tower` is None if it is the base's."""
    judging = {name: tasks[name] for name in (*job.request.tasks, *job.request.supported)}
    cache = FolderFeatureCache(context.settings.feature_cache_dir, context.settings.feature_cache_bytes)
    return ValidationFeatures(tower, base, judging, cache)


def _assess(context: JobContext, base: str, weights_fingerprint: str, evaluation: Evaluation) -> Assessment:
    """Return how the new weights stand against every limit that was set for them, as the API judges them, too."""
    with context.database.read() as session:
        evidence = EvidenceReader(session).of_new(base, weights_fingerprint, evaluation)
    return assess(evidence, context.settings.max_supported_drop)


def _mixed(base: BaseModel, result: PatchResult) -> nn.Module:
    visual = copy.deepcopy(base.visual)
    mix_into(visual, base.visual.state_dict(), result.mix_terms())
    return visual


def _store_answers(
    context: JobContext,
    job: PatchJob,
    base: BaseModel,
    tasks: Mapping[str, Task],
    result: PatchResult,
    weights_fingerprint: str,
) -> Iterator[dict[str, Any]]:
    """Store the answers to all test images, and yield what is recorded of them, as an evaluation on request would."""
    weights = {"zero_shot": fingerprint(base.visual.state_dict()), "patched": weights_fingerprint}
    scores = {"zero_shot": result.zero_shot, "patched": result.patched}
    for name, task in tasks.items():
        row = job.datasets[name]
        judged = Judged(row, "test", task.test.classnames, templates_of(row, base), task.test.labels)
        for state, answers in result.answers.items():
            yield store_answers(context, judged, weights[state], answers[name], scores[state][name])


def _describe_task_vectors(
    context: JobContext, base: BaseModel, result: PatchResult, hashes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the registry's rows of the task vectors, which are read and hashed before the transaction."""
    theta_0 = {name: tensor.cpu() for name, tensor in base.visual.state_dict().items()}
    norms = {key: relative_norm(tau, theta_0) for key, tau in result.vectors.items()}
    heads = [term.key for term in result.terms if term.profile == HEAD_PROFILE]
    return [
        {
            "sha256": hashes[key],
            "base_fingerprint": base.fingerprint,
            "num_bytes": context.blobs.fetch(hashes[key]).stat().st_size,
            "relative_norm": norms.get(key, 0.0),
            "job_id": context.lease.job_id,
            "kind": "head" if key in heads else "tower",
        }
        for key in (*norms, *heads)
    ]


def _lineage(
    job: PatchJob, base: BaseModel, plan: PatchPlan, result: PatchResult, hashes: Mapping[str, str]
) -> Lineage:
    heads = [term.key for term in result.terms if term.profile == HEAD_PROFILE]
    return Lineage(
        base=LineageBase(ref=base.ref, fingerprint=base.fingerprint),
        task_vectors={key: hashes[key] for key in (*result.vectors, *heads)},
        storage={term.key: VectorStorage(**asdict(stage.storage)) for stage in result.stages for term in stage.moving},
        datasets={identifier: row.content_sha256 for identifier, row in job.datasets.items()},
        anchors={row.id: row.content_sha256 for row in job.pools},
        request=job.row.request,
        finetune=None if plan.method == "instant" else used_settings(plan, result),
        alpha=AlphaSettings(
            **asdict(plan.alpha),
            used_precision=result.precision.precision,
            precision_reason=result.precision.reason or None,
        ),
        environment=Environment(**describe_environment(base.device)),
    )
