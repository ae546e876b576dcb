import dataclasses

import pytest
import torch

from paint_core.alpha import CurvePoint, choose_alpha, grid
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.finetune import FinetuneConfig, StepReport
from paint_core.models import BaseModel
from paint_core.patching import Event, patch_single
from paint_core.weights import fingerprint
from tests.paint_core import tiny

CONFIG = FinetuneConfig(iterations=20, batch_size=16, learning_rate=3e-3, warmup_steps=2)


def test_a_patch_goes_from_images_to_a_reported_mix(tiny_base: BaseModel) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    old = dataclasses.replace(tiny.colour_task(tiny_base, "old", seed=5, classnames=("dog", "cat", "cow")), train=None)
    events: list[Event] = []
    before = fingerprint(tiny_base.model.state_dict())
    result = patch_single(tiny_base, task, [old], CONFIG, alphas=grid(0.25), on_event=events.append)
    assert fingerprint(tiny_base.model.state_dict()) == before
    assert sum(isinstance(event, StepReport) for event in events) == 20
    assert [event.alpha for event in events if isinstance(event, CurvePoint)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert result.choice == choose_alpha(result.curve, ["colours"], ["old"])
    assert result.patched["colours"].accuracy >= result.zero_shot["colours"].accuracy
    assert result.finetuned["colours"].total == len(task.test)
    assert set(result.patched) == {"colours", "old"}
    assert 0 < result.relative_norm < 1
    assert 0.5 < result.cosine < 1


def test_the_patched_weights_load_into_the_tower(tiny_base: BaseModel) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    result = patch_single(tiny_base, task, [], dataclasses.replace(CONFIG, iterations=3), alphas=(0.5,))
    weights = result.state_dict(tiny_base)
    base = tiny_base.visual.state_dict()
    name = "proj"
    torch.testing.assert_close(weights[name], base[name] + 0.5 * result.task_vector[name])


def test_a_task_without_training_images_or_with_a_taken_name_is_refused(tiny_base: BaseModel) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    with pytest.raises(EmptySplitError, match="training"):
        patch_single(tiny_base, dataclasses.replace(task, train=None), [], CONFIG)
    with pytest.raises(ConfigError, match="share a name"):
        patch_single(tiny_base, task, [task], CONFIG)
