"""Fitting the head term of an instant patch to its tasks, from nothing or on top of an earlier term."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.data import Task
from paint_core.errors import WeightsMismatchError
from paint_core.instant import MAX_SUPPORT, HeadTerm, KernelFit, StatisticsFit, StatisticsTerm
from paint_core.patching.context import PatchContext
from paint_core.runtime.randomness import generator
from paint_core.weights import fingerprint

AnyTerm = HeadTerm | StatisticsTerm
AnyFit = KernelFit | StatisticsFit


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head term.

    Attributes:
        term: what the coefficient multiplies.
        fit: with the leave-one-out accuracy.
        num_images: training images of the tasks, of which a term with features holds at most `MAX_SUPPORT`.
    """

    term: AnyTerm
    fit: AnyFit
    num_images: int


def fit_head(context: PatchContext, start: AnyTerm | None, known: Collection[str]) -> FittedHead:
    """The term of the context's tasks, in the form that the plan keeps.

    Args:
        start: an earlier term to continue; statistics cannot become features again.
        known: names of tasks whose training images `start` has seen already.

    Raises:
        WeightsMismatchError: `start` belongs to other weights, or holds statistics and the plan keeps features.
        DatasetError: the images are too few or too many for the form.
    """
    tower = fingerprint(context.base.visual.state_dict())
    if start is not None and start.tower != tower:
        raise WeightsMismatchError("the term to continue was fitted to the features of other weights: use its own base")
    new = [task for task in context.tasks if task.name not in known]
    if context.plan.keep == "statistics":
        return _fit_statistics(context, start, new, tower)
    if isinstance(start, StatisticsTerm):
        raise WeightsMismatchError("the term to continue holds statistics, not features: continue it with those")
    return _fit_features(context, start, new, tower)


def _fit_features(context: PatchContext, start: HeadTerm | None, new: list[Task], tower: str) -> FittedHead:
    rows: dict[str, Tensor] = {}
    features: list[Tensor] = []
    names: list[str] = []
    if start is not None:
        rows = dict(zip(start.names, start.head.cpu(), strict=True))
        features, names = [start.support.cpu()], _names_of(start)
    for task in new:
        assert task.train is not None  # the plan has checked it
        rows = dict(zip(task.train.classnames, task.head.detach().cpu(), strict=True)) | rows
        features.append(_features(context, task))
        names += _labels_of(task)
    labels = _places(names, {name: place for place, name in enumerate(rows)})
    support = torch.cat(features)
    chosen, head = _draw(labels, context.plan.finetune.seed), torch.stack(list(rows.values()))
    term, fit = HeadTerm.fit(tuple(rows), support[chosen], labels[chosen], head, context.base.logit_scale, tower)
    return FittedHead(term, fit, len(labels))


def _fit_statistics(context: PatchContext, start: AnyTerm | None, new: list[Task], tower: str) -> FittedHead:
    features = [torch.empty(0, context.base.embed_dim)]
    names: list[str] = []
    classnames = [] if start is None else list(start.names)
    if isinstance(start, HeadTerm):
        features, names, start = [start.support.cpu()], _names_of(start), None
    for task in new:
        assert task.train is not None  # the plan has checked it
        features.append(_features(context, task))
        names += _labels_of(task)
    present = set(names)
    classnames = list(
        dict.fromkeys((*classnames, *(name for task in new for name in _classes(task) if name in present)))
    )
    labels = _places(names, {name: place for place, name in enumerate(classnames)})
    term, fit = StatisticsTerm.fit(tuple(classnames), torch.cat(features), labels, tower, start)
    return FittedHead(term, fit, term.num_images)


def _features(context: PatchContext, task: Task) -> Tensor:
    """The unit features of a task's training images, [n, D] on the CPU."""
    assert task.train is not None  # the plan has checked it
    return F.normalize(context.zero_shot_features(task.train).float(), dim=-1).cpu()


def _classes(task: Task) -> tuple[str, ...]:
    assert task.train is not None  # the plan has checked it
    return tuple(task.train.classnames)


def _labels_of(task: Task) -> list[str]:
    assert task.train is not None  # the plan has checked it
    return [task.train.classnames[label] for label in task.train.labels.tolist()]


def _names_of(term: HeadTerm) -> list[str]:
    return [term.names[label] for label in term.labels.tolist()]


def _places(names: list[str], places: Mapping[str, int]) -> Tensor:
    return torch.tensor([places[name] for name in names], dtype=torch.int64)


def _draw(labels: Tensor, seed: int) -> Tensor:
    """At most `MAX_SUPPORT` of the images, as equally many of each class as there are."""
    if len(labels) <= MAX_SUPPORT:
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=generator("support", seed, 0))
    rank = torch.empty_like(labels)
    for label in sorted(set(labels.tolist())):
        own = order[labels[order] == label]
        rank[own] = torch.arange(len(own))
    return rank.argsort(stable=True)[:MAX_SUPPORT].sort().values
