"""Method `auto`: an instant patch, an anchored fine-tuning, and both together; the best by the rule is kept.

An instant patch takes seconds, and an image tower that has features for the task needs no more. Where it leaves errors,
fine-tuning is tried, and instant patches on top of a part of it: weights that have moved a little have better features
for the task, and cost the supported tasks less than weights that have moved all the way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from paint_core.alpha import CurvePoint, Goal
from paint_core.data import Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation.feature_cache import FeatureCache
from paint_core.models import BaseModel
from paint_core.patching.analysis import distance_to_specialised
from paint_core.patching.context import Event
from paint_core.patching.instant import InstantResult, run_instant
from paint_core.patching.journal import Journal
from paint_core.patching.outcome import PatchResult
from paint_core.patching.plan import PatchPlan
from paint_core.patching.run import run_patch
from paint_core.patching.terms import NamedTerm
from paint_core.weights import mix_into

Way = Literal["instant", "finetuned", "stacked"]
ENOUGH = 0.995
"""Validation accuracy of the instant patch above which fine-tuning is not tried: it could win half a point at most."""

SHARES = (0.5, 0.25)
"""Of the alpha that fine-tuning's own search chose: where instant patches are put on top."""

_NUM_INSTANT = 1 + len(SHARES)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to patch, at the choice of its own search.

    Attributes:
        way: `instant`, `finetuned`, or `stacked`: the instant patch of a mix.
        alpha: its last coefficient.
        weights_alpha: where on the path of fine-tuning its weights are; 0: those of the base.
        point: its scores on validation splits, every task under its own labels, so that candidates are comparable.
        value: what the rule maximises.
        is_certified: with rule `certified`, whether every search of it ended with a certificate.
    """

    way: Way
    alpha: float
    weights_alpha: float
    point: CurvePoint
    value: Fraction
    is_certified: bool


@dataclass(frozen=True, eq=False)
class AutoResult:
    """The best of the candidates.

    Attributes:
        patch: the kept one.
        kept: which of the candidates it is.
        candidates: all that were tried, in this order; one without an acceptable alpha is missing.
        instant: the instant patch whose head term is kept, or else the one of the base; None: none was acceptable.
    """

    patch: PatchResult
    kept: Candidate
    candidates: tuple[Candidate, ...]
    instant: InstantResult | None


def run_auto(
    base: BaseModel,
    tasks: Sequence[Task],
    supported: Sequence[Task],
    plan: PatchPlan,
    *,
    anchors: Tensor | None = None,
    device: torch.device | str = "cpu",
    journal: Journal | None = None,
    on_event: Callable[[Event], None] | None = None,
    transfer: Sequence[Task] = (),
    feature_cache: FeatureCache | None = None,
) -> AutoResult:
    """The best of an instant patch, an anchored fine-tuning, and both, by the plan's rule on validation splits.

    Several tasks are fine-tuned jointly. Arguments and errors are those of `run_patch`. With rule `certified` the
    instant patches share the error that the confidence allows, because the best one of them is kept.

    Raises:
        NoAcceptableAlphaError: no way has an acceptable alpha.
    """

    def instantly(on: BaseModel, origin: BaseModel | None = None) -> InstantResult | None:
        try:
            return run_instant(
                on,
                tasks,
                supported,
                _instant_plan(plan),
                device=device,
                journal=journal,
                on_event=on_event,
                transfer=transfer,
                feature_cache=feature_cache,
                origin=origin,
            )
        except NoAcceptableAlphaError:
            return None

    candidates = _Candidates(Goal.of(plan.alpha, [each.name for each in tasks], [each.name for each in supported]))
    instant = instantly(base)
    if instant is not None:
        candidates.add("instant", instant.patch, instant)
        if candidates.leave_little():
            return candidates.best()
    try:
        finetuned = run_patch(
            base,
            tasks,
            supported,
            replace(plan, method="single" if len(tasks) == 1 else "joint", keep="features"),
            anchors=anchors,
            device=device,
            journal=journal,
            on_event=on_event,
            transfer=transfer,
            feature_cache=feature_cache,
        )
    except NoAcceptableAlphaError:
        if instant is None:
            raise
        return candidates.best()
    alpha = finetuned.stages[-1].search.choice.alpha
    candidates.add("finetuned", finetuned, instant, alpha)
    for share in SHARES if alpha > 0 else ():
        below = replace(finetuned, terms=tuple(_scaled(term, share) for term in finetuned.terms))
        stacked = instantly(_mixed(base, below), base)
        if stacked is not None:
            patch = _stack(below, stacked.patch, share * alpha)
            candidates.add("stacked", patch, stacked, share * alpha)
    return candidates.best()


class _Candidates:
    """What was tried, and which is best by the rule; among equals the one that was tried first."""

    def __init__(self, goal: Goal) -> None:
        self._goal = goal
        self._found: list[tuple[Candidate, PatchResult, InstantResult | None]] = []

    def add(self, way: Way, patch: PatchResult, instant: InstantResult | None, weights_alpha: float = 0.0) -> None:
        """Adds a candidate.

        Args:
            instant: its head term, or that of the first one. Supported tasks are judged under their own labels,
                whatever lists the coefficient was chosen in.
        """
        choices = [stage.search.choice for stage in patch.stages]
        point = next(each for each in patch.stages[-1].search.curve if each.alpha == choices[-1].alpha)
        if way != "finetuned":
            assert instant is not None
            point = replace(point, scores={**point.scores, **instant.on_own_labels})
        is_certified = all(choice.certificate and choice.certificate.stance == "certified" for choice in choices)
        value = self._goal.value(point)
        self._found.append(
            (Candidate(way, choices[-1].alpha, weights_alpha, point, value, is_certified), patch, instant)
        )

    def leave_little(self) -> bool:
        """Whether the first candidate leaves so few errors that another one is not worth its time."""
        point = self._found[0][0].point
        return all(point.scores[name].accuracy >= ENOUGH for name in self._goal.patching)

    def best(self) -> AutoResult:
        """The best one."""
        candidate, patch, instant = max(self._found, key=lambda found: (found[0].is_certified, found[0].value))
        return AutoResult(patch, candidate, tuple(each for each, _, _ in self._found), instant)


def _instant_plan(plan: PatchPlan) -> PatchPlan:
    """The plan of an instant patch with the same rule; a coefficient has no path by depth."""
    alpha = replace(plan.alpha, path="flat", max_alpha=None)
    if plan.alpha.rule == "certified":
        alpha = replace(alpha, confidence=1 - (1 - alpha.confidence) / _NUM_INSTANT)
    return PatchPlan(method="instant", finetune=plan.finetune, alpha=alpha, keep=plan.keep)


def _scaled(term: NamedTerm, share: float) -> NamedTerm:
    return replace(term, coefficient=share * term.coefficient)


def _mixed(base: BaseModel, patch: PatchResult) -> BaseModel:
    """The base with the weights of a patch."""
    visual = copy.deepcopy(base.visual)
    mix_into(visual, base.visual.state_dict(), patch.mix_terms())
    return base.with_tower(visual)


def _stack(below: PatchResult, above: PatchResult, weights_alpha: float) -> PatchResult:
    """The patch of both: `above` was made for the weights that the terms of `below` give."""
    (stage,) = above.stages
    return replace(
        above,
        vectors=below.vectors,
        terms=(*below.terms, *above.terms),
        stages=(*below.stages, replace(stage, fixed=below.terms)),
        finetuned=below.finetuned,
        specialised=below.specialised,
        update=below.update,
        distance_to_optimal=below.distance_to_optimal,
        distance_to_specialised=(
            distance_to_specialised(above.patched, below.specialised) if below.specialised else None
        ),
        precision=below.precision,
        notes=(
            *below.notes,
            f"the fine-tuned weights have alpha {weights_alpha:g}, a fraction of the alpha that was chosen without a "
            "head term; the head term was fitted to their features. Validation accuracies of supported tasks on its "
            "curve are those in lists that hold the patched names too",
        ),
    )
