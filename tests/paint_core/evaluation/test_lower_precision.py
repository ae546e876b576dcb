"""What a lower precision changes: nothing that matters of a sound tower, and it says what it changes of another."""

import copy

import torch
from torch import Tensor, nn

from paint_core.data import Task
from paint_core.evaluation.lower_precision import PrecisionComparison, bf16_forward, compare_precisions
from paint_core.models import BaseModel
from tests.paint_core import tiny


class Shifted(nn.Module):
    """A tower that, in bfloat16, answers as if another class were shown."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.tower(images)
        return features if images.dtype == torch.float32 else features.roll(3, dims=1)


def _compare(visual: nn.Module, base: BaseModel, task: Task, name: str = "bf16") -> PrecisionComparison:
    lower = {name: bf16_forward(visual, base)}
    return compare_precisions(visual, lower, base, {task.name: (task.head, task.validation)})[name]


def test_a_sound_tower_keeps_its_answers(tiny_base: BaseModel) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    found = _compare(tiny_base.visual, tiny_base, task)
    assert found.num_images == len(task.validation)
    assert found.cosine > 0.999
    assert found.refusal is None or "first label" in found.refusal, "few images: one that is near a border is many"


def test_a_tower_that_answers_otherwise_is_refused_with_the_reason(tiny_base: BaseModel) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    shifted = Shifted(copy.deepcopy(tiny_base.visual)).eval()
    found = _compare(shifted, tiny_base.with_tower(shifted), task)
    assert found.cosine < 0.999
    assert "cosine" in (found.refusal or "")


def test_each_condition_refuses_alone() -> None:
    sound = {"num_images": 1000, "cosine": 0.9999, "agreement": 0.999, "drop_points": 0.1}
    assert PrecisionComparison(**sound).refusal is None  # type: ignore[arg-type]
    for name, value, told in (
        ("cosine", float("nan"), "cosine"),
        ("agreement", 0.994, "99.40 %"),
        ("drop_points", 0.2, "0.20 points"),
    ):
        assert told in (PrecisionComparison(**{**sound, name: value}).refusal or "")  # type: ignore[arg-type]


def test_only_bf16_has_to_keep_the_direction_of_every_image(tiny_base: BaseModel) -> None:
    """Other precisions are judged by their answers: int8 moves features further without changing the first label."""
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    shifted = Shifted(copy.deepcopy(tiny_base.visual)).eval()
    found = _compare(shifted, tiny_base.with_tower(shifted), task, "int8")
    assert found.cosine < 0.999
    assert "cosine" not in (found.refusal or "")
