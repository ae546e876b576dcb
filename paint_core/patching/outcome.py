"""Results of patching: task vectors, the terms that use them, and how alpha was chosen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from paint_core.alpha import AlphaSearch
from paint_core.evaluation import Score, UsedPrecision
from paint_core.evaluation.answers import Answers
from paint_core.patching.analysis import TaskChange, Update
from paint_core.patching.coefficients import CoefficientSearch
from paint_core.patching.storing import UNROUNDED, Storage
from paint_core.patching.terms import HEAD_PROFILE, NamedTerm
from paint_core.patching.trials import Trial
from paint_core.weights import TaskVector, Term


@dataclass(frozen=True, eq=False, repr=False)
class StageResult:
    """One search for alpha.

    Attributes:
        key: `joint`, `parallel`, or `task:NAME`.
        patching: names of the tasks to improve that the choice considered.
        supported: names of the tasks that must not get worse.
        moving: the direction: terms at alpha 1; the chosen terms have these coefficients times alpha.
        fixed: terms from earlier stages.
        coefficients: the search for one coefficient per task, if there was one; it then decides instead of alpha.
        storage: the form in which the moving terms' task vectors are stored, along which alpha was searched for.
    """

    key: str
    search: AlphaSearch
    patching: tuple[str, ...]
    supported: tuple[str, ...]
    moving: tuple[NamedTerm, ...]
    fixed: tuple[NamedTerm, ...] = ()
    coefficients: CoefficientSearch | None = None
    storage: Storage = UNROUNDED

    def __repr__(self) -> str:
        return f"StageResult({self.key!r}, {self.search!r})"

    @property
    def chosen(self) -> tuple[NamedTerm, ...]:
        """The terms of the direction with the coefficients that were chosen."""
        alpha, profile = self.search.choice.alpha, self.search.profile
        factors = self.coefficients.coefficients if self.coefficients else [t.coefficient * alpha for t in self.moving]
        return tuple(
            NamedTerm(term.key, factor, profile, term.builds_on)
            for term, factor in zip(self.moving, factors, strict=True)
        )


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """The result of a method, before it is evaluated on test splits.

    Attributes:
        vectors: every task vector that was made, by key.
        terms: the patch.
        finetuned: the terms of the fully fine-tuned end, without interpolation.
        stages: the searches, in their order.
        specialised: task name to the key of the task vector that was trained from the base on this task alone.
        notes: remarks for readers of the report.
        trials: of learning rate and iterations, if the plan asks for any.
    """

    vectors: Mapping[str, TaskVector]
    terms: tuple[NamedTerm, ...]
    finetuned: tuple[NamedTerm, ...]
    stages: tuple[StageResult, ...]
    specialised: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()

    def mix_terms(self, terms: tuple[NamedTerm, ...]) -> list[Term]:
        """The terms with their task vectors, ready to be mixed."""
        return [Term(self.vectors[term.key], term.coefficient, term.profile) for term in terms]


@dataclass(frozen=True, eq=False, repr=False)
class PatchResult:
    """A patch and its effects; all scores are of the test splits, which never influence a choice.

    Attributes:
        vectors: every task vector that was made, by key; a merged one is listed with those it was made from.
        terms: the patch: which task vectors to add to the base, and how much of them.
        stages: the searches for alpha on validation data, in their order.
        finetuned: scores of the end of the path: theta_1 of `single` and `joint`; alpha 1 for `parallel`, which is the
            plain average (or sum, or merge); for `sequential` every term in full, which was never fine-tuned: the
            later terms were measured on top of partly patched weights. The paper's baseline of a chain of fine-tunings
            is not among the scores.
        answers: to each test image, by `zero_shot` or `patched` and task.
        on_union: per supported task the score among its own classes and those of the patching tasks, by `zero_shot` or
            `patched`: users send lists that hold both.
        specialised: per patching task the score of the model fine-tuned on it alone, where the method trains one.
        changes: per task, compared with zero-shot.
        update: how far the fully fine-tuned end is from theta_0.
        distance_to_optimal: of the last stage's curve, in points.
        distance_to_specialised: in points; None where no specialised models were trained.
        precision: the arithmetic of the evaluations that chose alpha.
        notes: remarks for readers of the report.
        trials: of learning rate and iterations, if the plan asks for any; the chosen one is the patch.
    """

    vectors: Mapping[str, TaskVector]
    terms: tuple[NamedTerm, ...]
    stages: tuple[StageResult, ...]
    zero_shot: Mapping[str, Score]
    finetuned: Mapping[str, Score]
    patched: Mapping[str, Score]
    answers: Mapping[Literal["zero_shot", "patched"], Mapping[str, Answers]]
    on_union: Mapping[Literal["zero_shot", "patched"], Mapping[str, Score]]
    specialised: Mapping[str, Score]
    changes: Mapping[str, TaskChange]
    update: Update
    distance_to_optimal: float
    distance_to_specialised: float | None
    precision: UsedPrecision
    notes: tuple[str, ...]
    trials: tuple[Trial, ...] = ()

    def __repr__(self) -> str:
        terms = ", ".join(f"{term.coefficient:g} x {term.key}" for term in self.terms) or "nothing"
        changes = ", ".join(
            f"{name} {100 * self.zero_shot[name].accuracy:.1f} % -> {100 * score.accuracy:.1f} %"
            for name, score in self.patched.items()
        )
        return f"PatchResult({terms}; test accuracies: {changes})"

    def mix_terms(self) -> list[Term]:
        """The patch's terms with their task vectors, ready to be mixed."""
        return [
            Term(self.vectors[term.key], term.coefficient, term.profile)
            for term in self.terms
            if term.profile != HEAD_PROFILE
        ]
