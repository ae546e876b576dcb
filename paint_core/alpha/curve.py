"""Scores along a path, one true evaluation per alpha."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from paint_core.alpha.paths import Path
from paint_core.config.precision import Precision, RunPrecision
from paint_core.data import LabelledImages
from paint_core.evaluation import Score, choose_precision, correct_answers, encode, score_features
from paint_core.models import BaseModel
from paint_core.runtime.arguments import require_device
from paint_core.weights import Term, mix_into

EvaluationTask = tuple[Tensor, LabelledImages]
"""A zero-shot head [C, D] and the split to judge it on; a validation split when an alpha is to be chosen."""


@dataclass(frozen=True)
class CurvePoint:
    """The scores of every task at one alpha.

    Attributes:
        alpha: where on the path.
        measured: whether the weights at this alpha were evaluated; otherwise the scores are interpolated.
        profile: of the moving terms.
    """

    alpha: float
    scores: Mapping[str, Score]
    measured: bool = True
    profile: str = "flat"

    def is_paired(self, names: Iterable[str]) -> bool:
        """Whether the scores of these tasks count what was lost and gained against the reference."""
        return all(self.scores[name].lost is not None for name in names)


class PathEvaluator:
    """The features and scores of all tasks at any alpha of a path; owns one tower, whose weights it overwrites.

    Attributes:
        tasks: name to (head [C, D], split).
        profile: of the path's moving terms.
        num_forwards: number of alphas that were encoded, apart from 0.
    """

    def __init__(
        self,
        base: BaseModel,
        path: Path,
        tasks: Mapping[str, EvaluationTask],
        *,
        device: torch.device | str = "cpu",
        on_point: Callable[[CurvePoint], None] | None = None,
        known: Sequence[CurvePoint] = (),
        baseline: Mapping[str, Tensor] | None = None,
        precision: RunPrecision = "fp32",
        paired: bool = False,
        reference: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Arguments as for `evaluate_curve`, and how scores are compared image by image.

        Args:
            base: theta_0.
            path: to evaluate along.
            tasks: what to evaluate on.
            device: where to compute.
            on_point: called after each new point.
            known: points of an interrupted search; those without the counts that `paired` asks for are done again.
            baseline: features at alpha 0.
            precision: of the forward passes.
            paired: whether scores count what was lost and gained against the reference.
            reference: bool [N] by task, images that the reference has right; None: the model at alpha 0.
        """
        self.num_forwards = 0
        self.base, self.tasks, self.profile = base, tasks, path.profile
        self._on_point = on_point
        self._device = require_device(device)
        self._wanted_precision = precision
        self._path = _on_device(path, self._device)
        self._paired, self._reference = paired, reference
        self._points = {
            point.alpha: point
            for point in known
            if point.measured
            and point.profile == path.profile
            and (not paired or point.is_paired(tasks if reference is None else reference))
        }
        self._features: dict[float, Mapping[str, Tensor]] = {} if baseline is None else {0.0: baseline}

    @property
    def baseline(self) -> Mapping[str, Tensor] | None:
        """The features at alpha 0, if they were given or encoded."""
        return self._features.get(0.0)

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Bool [N] by task: which images the reference has right; empty if scores are not compared."""
        if not self._paired:
            return {}
        if self._reference is None:
            at_0 = self.features(0.0)
            self._reference = {
                name: correct_answers(at_0[name], head, images.labels) for name, (head, images) in self.tasks.items()
            }
        return self._reference

    def point(self, alpha: float) -> CurvePoint:
        """The scores at an alpha: known ones, or newly measured ones, with which `on_point` is called."""
        if alpha not in self._points:
            reference, features = self.reference, self.features(alpha)
            scores = {
                name: score_features(
                    features[name],
                    head,
                    images.labels,
                    scale=self.base.logit_scale,
                    bias=self.base.logit_bias,
                    reference=reference.get(name),
                )
                for name, (head, images) in self.tasks.items()
            }
            self._points[alpha] = CurvePoint(alpha, scores, profile=self.profile)
            if self._on_point is not None:
                self._on_point(self._points[alpha])
        return self._points[alpha]

    def features(self, alpha: float) -> Mapping[str, Tensor]:
        """The features at an alpha, name to float32 [N, D]; those at 0 and the newest are kept."""
        if alpha not in self._features:
            mix_into(self._visual, self._theta_base, self._path.terms(alpha))
            self.num_forwards += alpha != 0
            newest = {
                name: encode(
                    self._visual,
                    images.images,
                    self.base.preprocess,
                    device=self._device,
                    precision=self._precision,
                )
                for name, (_, images) in self.tasks.items()
            }
            self._features = {kept: self._features[kept] for kept in self._features if kept == 0} | {alpha: newest}
        return self._features[alpha]

    @cached_property
    def _precision(self) -> Precision:
        # Of the tower at alpha 0, whatever is evaluated first.
        wanted, tower = self._wanted_precision, self.base.visual
        if wanted != "fp32" and self.base.device != self._device:
            tower = copy.deepcopy(tower).to(self._device)
        return choose_precision(tower, self.base.preprocess, wanted, self._device).precision

    @cached_property
    def _visual(self) -> nn.Module:
        return copy.deepcopy(self.base.visual).to(self._device)

    @cached_property
    def _theta_base(self) -> dict[str, Tensor]:
        return {name: tensor.detach().to(self._device) for name, tensor in self.base.visual.state_dict().items()}


def evaluate_curve(
    base: BaseModel,
    path: Path | Mapping[str, Tensor],
    tasks: Mapping[str, EvaluationTask],
    alphas: Sequence[float],
    *,
    device: torch.device | str = "cpu",
    on_point: Callable[[CurvePoint], None] | None = None,
    known: Sequence[CurvePoint] = (),
    baseline: Mapping[str, Tensor] | None = None,
    precision: RunPrecision = "fp32",
    paired: bool = False,
) -> list[CurvePoint]:
    """The scores of every task at every alpha of a path.

    Args:
        path: which terms alpha scales; a bare task vector means the flat path along it.
        tasks: name to (head [C, D], split); validation splits when an alpha is to be chosen.
        on_point: called after each new point; may raise to stop.
        known: points of an interrupted search; not evaluated again.
        baseline: name to float32 [N, D], the features at alpha 0 of every task, if the caller has them.
        precision: of the forward passes; `auto` means bf16 where the hardware computes it.
        paired: whether scores count which images were lost and gained against alpha 0, which is encoded for it.
    """
    path = path if isinstance(path, Path) else Path.of(path)
    evaluator = PathEvaluator(
        base,
        path,
        tasks,
        device=device,
        on_point=on_point,
        known=known,
        baseline=baseline,
        precision=precision,
        paired=paired,
    )
    return [evaluator.point(alpha) for alpha in alphas]


def _on_device(path: Path, device: torch.device) -> Path:
    # On the CPU the mappings stay as they are: they may read their tensors from a file, one at a time.
    if device.type == "cpu":
        return path
    return Path(*(tuple(_moved(term, device) for term in terms) for terms in (path.moving, path.fixed)))


def _moved(term: Term, device: torch.device) -> Term:
    return replace(term, task_vector={name: tensor.to(device) for name, tensor in term.task_vector.items()})
