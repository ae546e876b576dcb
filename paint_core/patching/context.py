"""What every method needs: the base, the tasks, and the two things that cost time, training and searching."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from paint_core.alpha import AlphaOptions, AlphaSearch, CurvePoint, Goal, Path, evaluate_curve, search_alpha
from paint_core.config.finetune import FinetuneConfig
from paint_core.config.precision import Precision
from paint_core.data import LabelledImages, Task
from paint_core.evaluation import Score, UsedPrecision, choose_precision, correct_answers, encode
from paint_core.evaluation.feature_cache import FeatureCache, features_key
from paint_core.models import BaseModel
from paint_core.patching.journal import Journal, Resume
from paint_core.patching.plan import PatchPlan
from paint_core.patching.trials import Trial
from paint_core.training.finetuning import StepReport, finetune
from paint_core.weights import TaskVector, Term, mix, task_vector


@dataclass(frozen=True)
class TestPoint:
    """The scores of one set of weights on the test splits.

    Attributes:
        name: `zero_shot`, `finetuned` or `patched`.
    """

    __test__ = False  # not a test of pytest's

    name: str
    scores: Mapping[str, Score]


Event = StepReport | CurvePoint | TestPoint | Trial
"""What `on_event` receives: a fine-tuning step, a point of a validation curve, scores on the test splits, or a trial of
settings that has been judged."""


@dataclass(frozen=True, eq=False)
class PatchContext:
    """One run.

    Attributes:
        supported: tasks that must not get worse.
        anchors: uint8 [M, S, S, 3], an unlabelled pool for anchored fine-tuning; else None.
        journal: results of earlier attempts.
        on_event: called with every step and point; may raise to stop.
        feature_cache: keeps the features at theta_0 for later patches; None computes them again.
    """

    base: BaseModel
    tasks: tuple[Task, ...]
    supported: tuple[Task, ...]
    plan: PatchPlan
    anchors: Tensor | None
    device: torch.device | str
    journal: Journal
    on_event: Callable[[Event], None] | None
    feature_cache: FeatureCache | None = None

    @property
    def theta_base(self) -> dict[str, Tensor]:
        """The base's image-tower weights, on the CPU."""
        return {name: tensor.detach().cpu() for name, tensor in self.base.visual.state_dict().items()}

    @cached_property
    def precision(self) -> UsedPrecision:
        """The arithmetic of all evaluations that choose alpha."""
        return choose_precision(self._zero_shot_tower, self.base.preprocess, self.plan.alpha.precision, self.device)

    @property
    def goal(self) -> Goal:
        """The plan's rule, applied to all of the run's tasks."""
        return Goal.of(self.plan.alpha, [task.name for task in self.tasks], [task.name for task in self.supported])

    def train(
        self,
        key: str,
        head: Tensor,
        images: LabelledImages,
        validation: LabelledImages | None,
        terms: Sequence[Term] = (),
        config: FinetuneConfig | None = None,
    ) -> TaskVector:
        """The task vector of one fine-tuning run, from the journal if it is recorded there.

        Args:
            validation: images that early stopping looks at, labelled as `images`; not used if the plan has none.
            terms: already mixed in at the start of the run; none means theta_0.
            config: settings to use in place of the plan's.

        Returns:
            The update from the start of the run.
        """
        settings = config or self.plan.finetune

        def make(resume: Resume) -> TaskVector:
            start = mix(self.theta_base, terms)
            theta_1 = finetune(
                self.base,
                head,
                images,
                settings,
                start=start if terms else None,
                anchors=self.anchors,
                validation=validation if self.plan.finetune.patience is not None else None,
                device=self.device,
                state=resume.state,
                on_step=self.on_event,
                checkpoint_every=resume.checkpoint_every,
                on_checkpoint=resume.on_checkpoint,
            )
            return task_vector(start, theta_1)

        with self.journal.stage("finetune"):
            return self.journal.task_vector(key, make)

    def search(
        self,
        key: str,
        path: Path,
        patching: Sequence[Task],
        *,
        options: AlphaOptions | None = None,
        reference: Mapping[str, Score] | None = None,
    ) -> AlphaSearch:
        """The search for alpha on the validation splits of these tasks and of the supported ones.

        Args:
            key: names the search in the journal, as `select:KEY`.
            patching: tasks to improve that the choice considers.
            options: to use in place of the plan's.
            reference: zero-shot scores of the supported tasks, where the path's alpha 0 is not theta_0.
        """
        everything = (*patching, *self.supported)
        options = replace(options or self.plan.alpha, precision=self.precision.precision)
        with self.journal.stage("select"):
            return search_alpha(
                self.base,
                path,
                {task.name: (task.head, task.validation) for task in everything},
                [task.name for task in patching],
                [task.name for task in self.supported],
                options,
                device=self.device,
                on_point=lambda point: self.record(f"select:{key}", point),
                known=self.journal.points(f"select:{key}"),
                reference=reference,
                reference_correct=self._zero_shot_correct(self.supported) if path.fixed else None,
                baseline=self._baseline(path, everything),
            )

    def evaluate(self, path: Path, tasks: Sequence[Task], alpha: float) -> CurvePoint:
        """The scores at one alpha of a path, on the validation splits of these tasks."""
        splits = {task.name: (task.head, task.validation) for task in tasks}
        with self.journal.stage("select"):
            (point,) = evaluate_curve(
                self.base, path, splits, [alpha], device=self.device, precision=self.precision.precision
            )
        return point

    def zero_shot_features(self, images: LabelledImages, precision: Precision = "fp32") -> Tensor:
        """The features at theta_0, from the cache if it has them.

        Returns:
            float32 [N, D] on the run's device, not of unit length.
        """

        def compute() -> Tensor:
            tower, preprocess = self._zero_shot_tower, self.base.preprocess
            return encode(tower, images.images, preprocess, device=self.device, precision=precision)

        if self.feature_cache is None:
            return compute()
        key = features_key(self.base, images.images, precision, self.device)
        return self.feature_cache.features(key, compute).to(self.device)

    def record(self, key: str, point: CurvePoint) -> None:
        """Writes a new point into the journal and tells the caller of it."""
        self.journal.add_point(key, point)
        self.tell(point)

    def tell(self, event: Event) -> None:
        """Tells the caller of an event."""
        if self.on_event is not None:
            self.on_event(event)

    @cached_property
    def _zero_shot_tower(self) -> nn.Module:
        if self.base.device == torch.device(self.device):
            return self.base.visual
        return copy.deepcopy(self.base.visual).to(self.device)

    def _zero_shot_correct(self, tasks: Sequence[Task]) -> dict[str, Tensor]:
        """Bool [N] by task: the validation images that theta_0 classifies correctly."""
        return {
            task.name: correct_answers(
                self.zero_shot_features(task.validation, self.precision.precision), task.head, task.validation.labels
            )
            for task in tasks
        }

    def _baseline(self, path: Path, tasks: Sequence[Task]) -> dict[str, Tensor] | None:
        """The features at the path's alpha 0, where that is theta_0 and there is a cache; else None."""
        if self.feature_cache is None or path.fixed:
            return None
        return {task.name: self.zero_shot_features(task.validation, self.precision.precision) for task in tasks}
