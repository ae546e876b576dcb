"""Patching in closed form: features once, one linear solution, and a coefficient from the same rules as an alpha.

The tower does not change, so supported tasks keep their answers under their own labels exactly. What can be
lost is lost in lists that hold patched names too, so supported tasks are judged there: under both kinds of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.alpha import AlphaSearch, CurvePoint, grid
from paint_core.alpha.rules import AlphaChoice
from paint_core.data import LabelledImages, Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation import Score, UsedPrecision, score_features
from paint_core.evaluation.answers import Answers, answer
from paint_core.evaluation.feature_cache import FeatureCache
from paint_core.evaluation.scoring import Correction, corrected_logits
from paint_core.models import BaseModel
from paint_core.patching.analysis import Update, distance_to_optimal, task_change
from paint_core.patching.context import Event, PatchContext, TestPoint
from paint_core.patching.head_fits import AnyFit, AnyTerm, fit_head
from paint_core.patching.journal import Journal, NoJournal
from paint_core.patching.outcome import PatchResult, StageResult
from paint_core.patching.plan import PatchPlan
from paint_core.patching.report import union_head
from paint_core.patching.terms import HEAD_PROFILE, NamedTerm
from paint_core.runtime.arguments import require_device

HEAD_KEY = "head"
_STEP = 0.05
_NOTES = (
    "an instant patch changes no weights: lists of labels without patched names keep every answer. Validation "
    "accuracies of supported tasks are those in lists that hold the patched names too, which is where they can lose",
)


@dataclass(frozen=True, eq=False)
class InstantResult:
    """A patch in closed form.

    Attributes:
        patch: terms and scores, as of any patch; its only term has the key `HEAD_KEY`.
        term: what the coefficient multiplies.
        fit: with the leave-one-out accuracy.
        num_images: training images of the tasks, of which a term with features holds at most `MAX_SUPPORT`.
        on_own_labels: validation scores of the supported tasks in lists of their own labels, which no coefficient
            changes.
    """

    patch: PatchResult
    term: AnyTerm
    fit: AnyFit
    num_images: int
    on_own_labels: Mapping[str, Score]


def run_instant(
    base: BaseModel,
    tasks: Sequence[Task],
    supported: Sequence[Task],
    plan: PatchPlan,
    *,
    device: torch.device | str = "cpu",
    journal: Journal | None = None,
    on_event: Callable[[Event], None] | None = None,
    transfer: Sequence[Task] = (),
    feature_cache: FeatureCache | None = None,
    start: AnyTerm | None = None,
    known: Collection[str] = (),
    origin: BaseModel | None = None,
) -> InstantResult:
    """A patch of the head alone, without training; other arguments and errors as for `run_patch`.

    Args:
        origin: the base that everything is compared with, where `base` is a patched one already.
        start: an earlier term to continue: the new one has seen its images too, which are not needed for that.
        known: names of tasks whose training images `start` has seen already; they only help to choose the coefficient.
    """
    plan.require_tasks(tasks, supported, transfer)
    record = NoJournal() if journal is None else journal
    context = PatchContext(
        base, tuple(tasks), tuple(supported), plan, None, require_device(device), record, on_event, feature_cache
    )
    with record.stage("fit"):
        fitted = fit_head(context, start, known)
    run = _Run(context, fitted.term)
    before = run if origin is None else _Run(replace(context, base=origin), fitted.term)
    with record.stage("select"):
        search = _search(context, run, before)
    with record.stage("evaluate"):
        patch = _report(context, run, before, search, transfer)
        own = {task.name: run.score(task.validation, _List.of(task), 0.0) for task in supported}
    return InstantResult(patch, fitted.term, fitted.fit, fitted.num_images, own)


@dataclass(frozen=True, eq=False)
class _Run:
    """What evaluations at several coefficients share."""

    context: PatchContext
    term: AnyTerm
    _features: dict[int, Tensor] = field(default_factory=dict)
    _fitted: dict[int, Tensor] = field(default_factory=dict)

    def score(self, images: LabelledImages, lists: _List, coefficient: float, reference: Tensor | None = None) -> Score:
        """The score of a split under a list of labels."""
        return score_features(
            self.features(images),
            lists.head,
            images.labels,
            scale=self.context.base.logit_scale,
            bias=self.context.base.logit_bias,
            reference=reference,
            correct=self.correction(images, lists, coefficient),
        )

    def answers(self, images: LabelledImages, lists: _List, coefficient: float) -> Answers:
        """The answers to a split."""
        base = self.context.base
        features, correct = self.features(images), self.correction(images, lists, coefficient)
        return answer(features, lists.head, scale=base.logit_scale, bias=base.logit_bias, correct=correct)

    def right(self, images: LabelledImages, lists: _List) -> Tensor:
        """Bool [N]: whether the base is right."""
        features, head = self.features(images), lists.head
        logits = corrected_logits(features, head.to(features.device), self.context.base.logit_scale)
        return logits.argmax(dim=1) == images.labels.to(features.device)

    def features(self, images: LabelledImages) -> Tensor:
        """The unit features of a split, encoded once."""
        key = id(images)
        if key not in self._features:
            self._features[key] = F.normalize(self.context.zero_shot_features(images).float(), dim=-1)
        return self._features[key]

    def correction(self, images: LabelledImages, lists: _List, coefficient: float) -> Correction | None:
        """What the term does with the logits of a list, for one evaluation, which takes the rows in their order.

        The fitted answers are computed once for each split.
        """
        if coefficient == 0 or not self._placed.concerns(lists.names):
            return None
        key = id(images)
        if key not in self._fitted:
            self._fitted[key] = self._placed.fitted(self.features(images))
        rest = self._fitted[key]

        def correct(_: Tensor, logits: Tensor) -> Tensor:
            nonlocal rest
            fitted, rest = rest[: len(logits)], rest[len(logits) :]
            return self._placed.blend(logits, fitted, lists.names, coefficient)

        return correct

    @cached_property
    def _placed(self) -> AnyTerm:
        return self.term.to(torch.device(self.context.device))


@dataclass(frozen=True, eq=False)
class _List:
    """A list of labels and its zero-shot head [C, D]."""

    names: tuple[str, ...]
    head: Tensor

    @classmethod
    def of(cls, task: Task, others: Sequence[Task] = ()) -> _List:
        """The classes of a task, and behind them those of others, each name once."""
        names = dict.fromkeys(name for each in (task, *others) for name in each.test.classnames)
        return cls(tuple(names), union_head(task, others))


def _search(context: PatchContext, run: _Run, origin: _Run) -> AlphaSearch:
    """The choice of the coefficient by the plan's rule, on validation splits; drops are measured from `origin`."""
    judged: dict[str, tuple[LabelledImages, _List]] = {}
    for task in (*context.tasks, *context.supported):
        others = context.tasks if task in context.supported else ()
        judged[task.name] = (task.validation, _List.of(task, others))
    before = {name: origin.right(*each) for name, each in judged.items()}
    goal = replace(context.goal, reference={name: origin.score(*each, 0.0) for name, each in judged.items()})
    goal.require_usable()
    curve = []
    for alpha in grid(context.plan.alpha.step or _STEP):
        scores = {name: run.score(*each, alpha, before[name]) for name, each in judged.items()}
        curve.append(CurvePoint(alpha, scores, profile=HEAD_PROFILE))
        context.tell(curve[-1])
    choice: AlphaChoice
    try:
        choice = goal.choose(curve)
    except NoAcceptableAlphaError as error:
        if goal.rule != "certified":
            raise
        choice = goal.nothing(curve, str(error))
    return AlphaSearch(choice, HEAD_PROFILE, curve, {HEAD_PROFILE: curve}, num_forwards=0)


def _report(
    context: PatchContext, run: _Run, before: _Run, search: AlphaSearch, transfer: Sequence[Task]
) -> PatchResult:
    """The scores on test splits, which chose nothing; `before` gives those of zero-shot."""
    alpha, everything = search.choice.alpha, (*context.tasks, *context.supported, *transfer)
    lists = {task.name: _List.of(task) for task in everything}
    unions = {task.name: _List.of(task, context.tasks) for task in context.supported}
    ends = {"zero_shot": (before, 0.0), "finetuned": (run, 1.0), "patched": (run, alpha)}
    scores = {
        name: {task.name: model.score(task.test, lists[task.name], end) for task in everything}
        for name, (model, end) in ends.items()
    }
    for name, found in scores.items():
        context.tell(TestPoint(name, found))
    answers = {
        name: {task.name: model.answers(task.test, lists[task.name], end) for task in everything}
        for name, (model, end) in ends.items()
        if name != "finetuned"
    }
    patching, supported = (tuple(task.name for task in each) for each in (context.tasks, context.supported))
    moving = (NamedTerm(HEAD_KEY, 1.0, HEAD_PROFILE),)
    stage = StageResult(HEAD_KEY, search, patching, supported, moving)
    return PatchResult(
        vectors={},
        terms=stage.chosen,
        stages=(stage,),
        zero_shot=scores["zero_shot"],
        finetuned=scores["finetuned"],
        patched=scores["patched"],
        answers={"zero_shot": answers["zero_shot"], "patched": answers["patched"]},
        on_union={
            "zero_shot": _on_unions(before, context.supported, unions, 0.0),
            "patched": _on_unions(run, context.supported, unions, alpha),
        },
        specialised={},
        changes={
            task.name: task_change(
                task.test.labels,
                answers["zero_shot"][task.name].predicted,
                answers["patched"][task.name].predicted,
                task.test.classnames,
            )
            for task in everything
        },
        update=Update(cosine=1.0, relative_norm=0.0, blocks={}),
        distance_to_optimal=distance_to_optimal(search.curve, patching, supported),
        distance_to_specialised=None,
        precision=UsedPrecision("fp32"),
        notes=_NOTES,
    )


def _on_unions(
    run: _Run, supported: Sequence[Task], unions: Mapping[str, _List], coefficient: float
) -> dict[str, Score]:
    return {task.name: run.score(task.test, unions[task.name], coefficient) for task in supported}
