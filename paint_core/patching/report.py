"""What a patch does on the test splits, which chose nothing."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paint_core.data import Task
from paint_core.evaluation import Score, encode, score_features
from paint_core.evaluation.answers import Answers, answer
from paint_core.patching.analysis import distance_to_optimal, distance_to_specialised, measure_update, task_change
from paint_core.patching.context import PatchContext, TestPoint
from paint_core.patching.outcome import Outcome, PatchResult
from paint_core.weights import Term, mix_into


@dataclass(frozen=True, eq=False)
class Verdict:
    """The results of some weights on a test split.

    Attributes:
        answers: to each image.
        on_union: of a supported task, the score among its own classes and those of the patching tasks; None: another
            task.
    """

    score: Score
    answers: Answers
    on_union: Score | None


def report(context: PatchContext, outcome: Outcome, transfer: Sequence[Task] = ()) -> PatchResult:
    """The complete report of a patch.

    Args:
        transfer: tasks that had no part in the patch, evaluated too.
    """
    everything = (*context.tasks, *context.supported, *transfer)
    finetuned_terms = outcome.mix_terms(outcome.finetuned)
    with context.journal.stage("evaluate"):
        tower = copy.deepcopy(context.base.visual).to(context.device)
        judged = {
            name: _judge(context, tower, name, terms, everything)
            for name, terms in (
                ("zero_shot", []),
                ("finetuned", finetuned_terms),
                ("patched", outcome.mix_terms(outcome.terms)),
            )
        }
        specialised = _specialised(context, tower, outcome, judged["finetuned"])
    scores = {name: {task: verdict.score for task, verdict in verdicts.items()} for name, verdicts in judged.items()}
    last = outcome.stages[-1]
    return PatchResult(
        vectors=outcome.vectors,
        terms=outcome.terms,
        stages=outcome.stages,
        zero_shot=scores["zero_shot"],
        finetuned=scores["finetuned"],
        patched=scores["patched"],
        answers={
            name: {task: verdict.answers for task, verdict in judged[name].items()} for name in ("zero_shot", "patched")
        },
        on_union={
            name: {task.name: score for task in context.supported if (score := judged[name][task.name].on_union)}
            for name in ("zero_shot", "patched")
        },
        specialised=specialised,
        changes={
            task.name: task_change(
                task.test.labels,
                judged["zero_shot"][task.name].answers.predicted,
                judged["patched"][task.name].answers.predicted,
                task.test.classnames,
            )
            for task in everything
        },
        update=measure_update(context.theta_base, finetuned_terms),
        distance_to_optimal=distance_to_optimal(last.search.curve, last.patching, last.supported),
        distance_to_specialised=distance_to_specialised(scores["patched"], specialised) if specialised else None,
        precision=context.precision,
        notes=outcome.notes,
        trials=outcome.trials,
    )


def judge(context: PatchContext, tower: nn.Module, terms: Sequence[Term], tasks: Sequence[Task]) -> dict[str, Verdict]:
    """The results of the mix of these terms on the tasks' test splits.

    Args:
        tower: a copy of the image tower on the run's device; overwritten.
    """
    if not terms:
        return {task.name: _verdict(context, context.zero_shot_features(task.test), task) for task in tasks}
    mix_into(tower, context.base.visual.state_dict(), terms)
    return {
        task.name: _verdict(
            context, encode(tower, task.test.images, context.base.preprocess, device=context.device), task
        )
        for task in tasks
    }


def _judge(
    context: PatchContext, tower: nn.Module, name: str, terms: Sequence[Term], tasks: Sequence[Task]
) -> dict[str, Verdict]:
    verdicts = judge(context, tower, terms, tasks)
    context.tell(TestPoint(name, {task: verdict.score for task, verdict in verdicts.items()}))
    return verdicts


def _verdict(context: PatchContext, features: Tensor, task: Task) -> Verdict:
    base = context.base
    score = score_features(features, task.head, task.test.labels, scale=base.logit_scale, bias=base.logit_bias)
    answers = answer(features, task.head, scale=base.logit_scale, bias=base.logit_bias)
    on_union = None
    if task.name in {each.name for each in context.supported}:
        head = union_head(task, context.tasks)
        on_union = score_features(features, head, task.test.labels, scale=base.logit_scale, bias=base.logit_bias)
    return Verdict(score, answers, on_union)


def union_head(task: Task, others: Sequence[Task]) -> Tensor:
    """The head of a task with the classes of other tasks behind its own, each name once: a list as users send it.

    Returns:
        [C, D] with C at least the task's own number of classes.
    """
    names, rows = set(task.test.classnames), [task.head]
    for other in others:
        new = [index for index, name in enumerate(other.test.classnames) if name not in names]
        names.update(other.test.classnames)
        rows.append(other.head[new].to(task.head))
    return torch.cat(rows)


def _specialised(
    context: PatchContext, tower: nn.Module, outcome: Outcome, finetuned: Mapping[str, Verdict]
) -> dict[str, Score]:
    """Each patching task's score under the model fine-tuned on it alone; of `single` that is theta_1."""
    if len(context.tasks) == 1:
        return {task.name: finetuned[task.name].score for task in context.tasks}
    scores: dict[str, Score] = {}
    for task in context.tasks:
        if key := outcome.specialised.get(task.name):
            terms = [Term(outcome.vectors[key], 1.0)]
            scores[task.name] = judge(context, tower, terms, [task])[task.name].score
    return scores
