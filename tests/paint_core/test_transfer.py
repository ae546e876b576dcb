import dataclasses

import pytest
import torch

from paint_core import prompts
from paint_core.datasets import Task
from paint_core.errors import ConfigError
from paint_core.evaluation import evaluate
from paint_core.heads import build_head
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, broad_transfer, restrict_classes
from tests.paint_core import tiny
from tests.paint_core.patches import COARSE, CONFIG, old_task, tower_with

NAMES = ("red", "green", "blue", "dark red", "dark green", "dark blue")


@pytest.fixture(scope="module")
def task(tiny_base: BaseModel) -> Task:
    """Six classes: three colours, light and dark."""
    colours = tiny.colour_task(tiny_base, "colours", seed=1)
    splits = []
    for split in (colours.train, colours.validation, colours.test):
        assert split is not None
        dark = torch.arange(len(split)) % 2
        images = split.images // (1 + dark.to(torch.uint8))[:, None, None, None]
        splits.append(dataclasses.replace(split, images=images, labels=split.labels + 3 * dark, classnames=NAMES))
    return Task("colours", build_head(tiny_base, NAMES, prompts.PLAIN), *splits)


def test_a_restricted_task_keeps_its_classes_images_and_no_others(task: Task) -> None:
    part = restrict_classes(task, [4, 1])
    assert part.test.classnames == ("green", "dark green")
    assert torch.equal(part.head, task.head[[1, 4]])
    kept = torch.isin(task.test.labels, torch.tensor([1, 4]))
    assert torch.equal(part.test.images, task.test.images[kept])
    names = [task.test.classnames[label] for label in task.test.labels[kept]]
    assert [part.test.classnames[label] for label in part.test.labels] == names
    with pytest.raises(ConfigError, match=r"choose 0\.\.5"):
        restrict_classes(task, [6])


def test_broad_transfer_judges_classes_that_the_patch_has_never_seen(tiny_base: BaseModel, task: Task) -> None:
    plan = PatchPlan("single", CONFIG, COARSE)
    transfer = broad_transfer(tiny_base, task, [old_task(tiny_base)], plan, seed=1)
    assert sorted(transfer.seen + transfer.unseen) == sorted(NAMES)
    assert len(transfer.seen) == 3
    (stage,) = transfer.patch.stages
    assert set(stage.search.curve[0].scores) == {"colours", "old"}
    unseen = restrict_classes(task, [NAMES.index(name) for name in transfer.unseen])
    theta = {name: tensor.clone() for name, tensor in tiny_base.visual.state_dict().items()}
    for term in transfer.patch.mix_terms():
        theta = {name: tensor + term.coefficient * term.task_vector[name] for name, tensor in theta.items()}
    tower = tower_with(tiny_base, theta)
    assert transfer.before == evaluate(tiny_base.visual, tiny_base, unseen.head, unseen.test)
    assert transfer.after.correct == evaluate(tower, tiny_base, unseen.head, unseen.test).correct
    gain = 100 * (transfer.after.accuracy - transfer.before.accuracy)
    assert transfer.difference.points == pytest.approx(gain)


def test_the_halves_are_drawn_from_the_seed(tiny_base: BaseModel, task: Task) -> None:
    short = PatchPlan("single", dataclasses.replace(CONFIG, iterations=1, warmup_steps=0), COARSE)
    halves = [set(broad_transfer(tiny_base, task, [], short, seed=seed).seen) for seed in (0, 0, 1, 2)]
    assert halves[0] == halves[1]
    assert len({frozenset(half) for half in halves}) > 1


def test_too_few_classes_for_two_halves_are_refused(tiny_base: BaseModel) -> None:
    three = tiny.colour_task(tiny_base, "colours", seed=1)
    with pytest.raises(ConfigError, match="at least four"):
        broad_transfer(tiny_base, three, [], PatchPlan("single", CONFIG, COARSE))
