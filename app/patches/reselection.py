"""Choosing another alpha for a finished patch, on the validation curve that its report holds. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from contract.evaluation import EvaluatedTask, Evaluation
from contract.patch_request import PatchOptions
from contract.report import PatchReport
from contract.scores import AlphaPoint, SplitScore
from contract.versions import ReselectRequest
from paint_core.alpha import AlphaOptions, CurvePoint, Goal
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation import Metric, Score
from registry.composition import add_up
from registry.errors import ConflictError, RequestRefusedError
from registry.tables import PatchRow
from registry.versions import HEAD_PROFILE, TermSpec

_END_OF_FLAT = 1.0  # the fine-tuned weights; some merges have none and were searched further


@dataclass(frozen=True)
class Direction:
    """A task vector that alpha scales: its coefficient is `weight` x alpha."""

    task_vector_sha256: str
    weight: float


@dataclass(frozen=True)
class Stage:
    """The last search for alpha in a report.

    Attributes:
        profile: The chosen profile.
        patching: Ids of the data sets to improve on.
        supported: Ids of the data sets that must not get worse.
        curves: Points by profile.
        directions: What alpha scales.
        fixed: Terms of the earlier stages.
        reference: Zero-shot scores by data set id; None: those of the curve at alpha 0.
        num_trials: How many searches it was the best of, which share the error of rule `certified`; 1: it was alone.
    """

    profile: str
    patching: tuple[str, ...]
    supported: tuple[str, ...]
    curves: Mapping[str, Sequence[AlphaPoint]]
    directions: tuple[Direction, ...]
    fixed: tuple[TermSpec, ...]
    reference: Mapping[str, Score] | None
    num_trials: int = 1

    def terms(self, alpha: float, profile: str) -> tuple[TermSpec, ...]:
        """Return the mix at an alpha; alpha 0 leaves only the terms of the earlier stages."""
        moved = [TermSpec(each.task_vector_sha256, each.weight * alpha, profile) for each in self.directions]
        return add_up((*self.fixed, *moved))


@dataclass(frozen=True)
class Selection:
    """Another choice of alpha.

    Attributes:
        alpha: The coefficient.
        profile: How it varies with depth.
        reason: Why, in one sentence.
        validation: The curve's point at this alpha, or the nearest one; None beyond the curve's end.
    """

    alpha: float
    profile: str
    reason: str
    validation: AlphaPoint | None


def finished_report(patch: PatchRow) -> PatchReport:
    """Return the report of a patch.

    Raises:
        ConflictError: The patch is not finished.
    """
    return PatchReport.of_stored(stored_report(patch))


def stored_report(patch: PatchRow) -> dict[str, Any]:
    """Return the report of a patch as it is stored; errors as for `finished_report`."""
    if patch.report is None:
        raise ConflictError(f"Patch {patch.id} has no report yet.", f"Wait until job {patch.job_id} has succeeded.")
    return patch.report


def last_stage(patch_id: str, report: PatchReport) -> Stage:
    """Return the last search of a finished patch.

    Raises:
        RequestRefusedError: The patch has no single alpha to choose again.
    """
    stage = report.stages[-1] if report.stages else None
    if stage is None or stage.coefficients or not stage.directions:
        raise RequestRefusedError(
            "not_reselectable",
            f"Patch {patch_id} has no single alpha: each of its task vectors has its own coefficient.",
            "Compose a version with other coefficients: POST /v1/versions.",
        )
    return Stage(
        profile=stage.profile,
        patching=stage.patching,
        supported=stage.supported,
        curves=stage.curves,
        directions=tuple(Direction(each.task_vector_sha256, each.weight) for each in stage.directions),
        fixed=tuple(TermSpec(each.task_vector_sha256, each.coefficient, each.profile) for each in stage.fixed),
        reference=_zero_shot(report) if len(report.stages) > 1 else None,
        num_trials=max(1, len(report.trials)),
    )


def select(stage: Stage, request: ReselectRequest, metric: Metric = "accuracy") -> Selection:
    """Return the alpha that the request names, or the one that its rule chooses on the stored curves.

    Args:
        stage: The search to choose from.
        request: What is asked for.
        metric: What a rule maximises: that of the patch.

    Raises:
        RequestRefusedError: The alpha is beyond the end of a flat path, or the profile was not measured.
    """
    if request.alpha is not None:
        return _named(stage, request.alpha, request.profile or stage.profile)
    curves = {name: points for name, points in stage.curves.items() if request.profile in (None, name)}
    if not curves:
        raise RequestRefusedError(
            "profile_not_measured",
            f"The report has no curve for profile {request.profile}, only for {', '.join(stage.curves)}.",
            "Specify alpha, or create a patch with this path.",
        )
    options = AlphaOptions(
        rule=request.rule or "combined",
        max_supported_drop=request.max_supported_drop,
        max_mean_drop=request.max_mean_drop,
        confidence=request.confidence or AlphaOptions.confidence,
        metric=metric,
    )
    paths = len(curves) * stage.num_trials
    return _best({name: _by_rule(stage, name, points, options, paths) for name, points in curves.items()})


def limits_of(request: ReselectRequest, patch: PatchOptions) -> AlphaOptions:
    """Return options with the limits of the request's rule or, if it has no limits, with those of the patch."""
    limited = patch.alpha if request.rule in (None, "combined") else request
    return AlphaOptions(
        rule=limited.rule or "combined",
        max_supported_drop=limited.max_supported_drop,
        max_mean_drop=limited.max_mean_drop,
    )


def evaluate(report: PatchReport, stage: Stage, point: AlphaPoint, limits: AlphaOptions) -> Evaluation:
    """Return the evaluation of a mix on validation splits, for the tasks whose zero-shot scores the report holds.

    Args:
        report: Of the mix's patch.
        stage: The search that was chosen from again.
        point: Of a curve, at the mix's alpha.
        limits: Of the supported tasks, from `limits_of`.
    """
    tasks = [
        EvaluatedTask(
            dataset_id=each.dataset_id,
            name=each.name,
            role="supported" if each.dataset_id in stage.supported else "patching",
            zero_shot=each.validation.zero_shot,
            patched=point.tasks[each.dataset_id],
        )
        for each in report.tasks
        if each.validation.zero_shot is not None and each.dataset_id in point.tasks
    ]
    limit = limits.max_supported_drop
    return Evaluation(
        split="validation",
        max_supported_drop=dict(limit) if isinstance(limit, Mapping) else limit,
        max_mean_drop=limits.max_mean_drop,
        tasks=tuple(tasks),
    )


def _named(stage: Stage, alpha: float, profile: str) -> Selection:
    end = max([_END_OF_FLAT, *(point.alpha for point in stage.curves.get("flat", ()))])
    if (profile == HEAD_PROFILE) != (stage.profile == HEAD_PROFILE) or (profile == HEAD_PROFILE and alpha > 1):
        raise RequestRefusedError(
            "alpha_out_of_range",
            f"The coefficient of a head term is 0 to 1 and has no profile by depth, not {alpha:g} with {profile}.",
            "Choose alpha in [0, 1], and leave the profile out.",
        )
    if profile == "flat" and alpha > end:
        where = "the fine-tuned weights" if end == _END_OF_FLAT else "the last alpha that the patch evaluated"
        raise RequestRefusedError(
            "alpha_out_of_range",
            f"Alpha {alpha:g} is greater than {where}.",
            f"Choose alpha in [0, {end:g}], or use profile lines_paper, which allows more.",
        )
    point = _nearest(stage.curves.get(profile, ()), alpha)
    return Selection(alpha, profile, "Given in the request.", point)


def _nearest(points: Sequence[AlphaPoint], alpha: float) -> AlphaPoint | None:
    if not points or alpha > max(point.alpha for point in points):
        return None
    return min(points, key=lambda point: abs(point.alpha - alpha))


@dataclass(frozen=True)
class _Candidate:
    selection: Selection
    preference: tuple[bool, Fraction]


def _by_rule(
    stage: Stage, profile: str, points: Sequence[AlphaPoint], options: AlphaOptions, num_paths: int
) -> _Candidate | NoAcceptableAlphaError:
    curve = [_curve_point(point) for point in points]
    goal = Goal.of(options, stage.patching, stage.supported, stage.reference, num_paths)
    goal.require_usable()
    try:
        choice = goal.choose(curve)
    except NoAcceptableAlphaError as error:
        return error
    selection = Selection(choice.alpha, profile, choice.reason, _nearest(points, choice.alpha))
    return _Candidate(selection, goal.preference(choice, curve))


def _best(found: Mapping[str, _Candidate | NoAcceptableAlphaError]) -> Selection:
    candidates = [each for each in found.values() if isinstance(each, _Candidate)]
    if candidates:
        return max(candidates, key=lambda each: each.preference).selection  # the first of equals: flat
    errors = {profile: each for profile, each in found.items() if isinstance(each, NoAcceptableAlphaError)}
    if len(errors) == 1:
        raise next(iter(errors.values()))
    reasons = {profile: str(error).partition(": ") for profile, error in errors.items()}
    detail = "; ".join(f"on path {profile} {reason}" for profile, (reason, _, _) in reasons.items())
    advice = next(iter(reasons.values()))[2]
    raise NoAcceptableAlphaError(f"{detail}: {advice}", [point for error in errors.values() for point in error.curve])


def _curve_point(point: AlphaPoint) -> CurvePoint:
    return CurvePoint(point.alpha, {name: _score(each) for name, each in point.tasks.items()}, measured=point.measured)


def _score(score: SplitScore) -> Score:
    """Return a score of the report; fields that a report lacks play no part in a rule."""
    return Score(
        correct=score.exact(score.correct),
        total=score.total,
        loss=score.loss or 0.0,
        ece=score.ece or 0.0,
        correct_top5=score.exact(score.correct_top5 or 0),
        lost=score.lost,
        gained=score.gained,
        balanced_accuracy=score.balanced_accuracy,
        macro_f1=score.macro_f1,
    )


def _zero_shot(report: PatchReport) -> dict[str, Score]:
    """Return the known zero-shot scores: at alpha 0 of a later stage the earlier patches are mixed in already."""
    known = {each.dataset_id: each.validation.zero_shot for each in report.tasks}
    return {name: _score(score) for name, score in known.items() if score is not None}
