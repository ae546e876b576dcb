"""One patch of one task, step by step: trained once and kept, alpha chosen on validation splits, judged on test splits.

tau = trained("anchoring/plain-digits-0", base, task, config)
chosen = choose(base, tau, task, held, AlphaOptions(rule="combined", strategy="interpolated"))
(outcome,) = judge(base, tau, task, held, [chosen.alpha])
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from _cache import CACHE, write_whole
from safetensors.torch import load_file, save
from torch import Tensor

from paint_core.alpha import AlphaOptions, CurvePoint, Path, evaluate_curve, search_alpha
from paint_core.config.finetune import FinetuneConfig
from paint_core.data import Task
from paint_core.errors import NoAcceptableAlphaError
from paint_core.models import BaseModel
from paint_core.training.anchoring import FEATURE_ANCHOR, AnchorLoss
from paint_core.training.finetuning import finetune
from paint_core.weights import TaskVector, Term, task_vector


@dataclass(frozen=True)
class Outcome:
    """What a patched model can do.

    Attributes:
        alpha: of the mix.
        patching: accuracy on the patched task, in percent.
        supported_change: mean accuracy over the supported tasks less the base's, in points.
        profile: the path that was chosen along with alpha.
    """

    alpha: float
    patching: float
    supported_change: float
    profile: str = "flat"

    @property
    def worth(self) -> float:
        """What the combined rule maximises, in percentage points above a base that knows nothing of the task."""
        return (self.patching + self.supported_change) / 2


def trained(
    name: str,
    base: BaseModel,
    task: Task,
    config: FinetuneConfig,
    *,
    pool: Tensor | None = None,
    anchor_loss: AnchorLoss = FEATURE_ANCHOR,
) -> TaskVector:
    """Return the update of one fine-tuning, from the cache or trained now.

    Args:
        name: Where it is kept below the cache, without an ending; says all that the update depends on.
        base: To be fine-tuned.
        task: With a training split.
        config: Of the fine-tuning.
        pool: Anchor images, uint8 [M, S, S, 3].
        anchor_loss: Their loss.
    """
    path = CACHE / f"{name}.safetensors"
    if not path.exists():
        print(f"training {path.stem}", flush=True)
        assert task.train is not None
        theta_1 = finetune(base, task.head, task.train, config, anchors=pool, anchor_loss=anchor_loss)
        tau = task_vector(base.visual.state_dict(), theta_1)
        write_whole(path, save({key: tensor.contiguous() for key, tensor in tau.items()}))
    return load_file(path)


def choose(base: BaseModel, tau: TaskVector, task: Task, held: Mapping[str, Task], options: AlphaOptions) -> Outcome:
    """Return what the rule chooses on validation splits, and what that gives there; alpha is 0 if nothing is accepted.

    Args:
        base: That the update starts from.
        tau: The update.
        task: The patched task.
        held: The supported tasks.
        options: Of the search.
    """
    splits = {name: (each.head, each.validation) for name, each in {task.name: task, **held}.items()}
    try:
        search = search_alpha(base, Path.of(tau), splits, [task.name], [*held], options)
    except NoAcceptableAlphaError as error:
        return outcome(task, held, error.curve[0], error.curve[0])
    points = {point.alpha: point for point in search.curve}
    return outcome(task, held, points[0.0], points[search.choice.alpha])


def judge(
    base: BaseModel,
    tau: TaskVector,
    task: Task,
    held: Mapping[str, Task],
    alphas: Sequence[float],
    profile: str = "flat",
) -> list[Outcome]:
    """Return what each alpha gives on test splits.

    Args:
        base: That the update starts from.
        tau: The update.
        task: The patched task.
        held: The supported tasks.
        alphas: In any order.
        profile: Of the path.
    """
    splits = {name: (each.head, each.test) for name, each in {task.name: task, **held}.items()}
    path = Path((Term(tau, 1.0, profile),))
    points = {point.alpha: point for point in evaluate_curve(base, path, splits, sorted({0.0, *alphas}))}
    return [outcome(task, held, points[0.0], points[alpha]) for alpha in alphas]


def outcome(task: Task, held: Mapping[str, Task], before: CurvePoint, after: CurvePoint) -> Outcome:
    """Return what a point of a curve is worth.

    Args:
        task: The patched task.
        held: The supported tasks.
        before: At alpha 0.
        after: The point.
    """
    first, last = (statistics.mean(point.scores[name].accuracy for name in held) for point in (before, after))
    return Outcome(after.alpha, 100 * after.scores[task.name].accuracy, 100 * (last - first), after.profile)
