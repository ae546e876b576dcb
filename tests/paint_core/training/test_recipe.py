"""Fine-tuning does what the recipe says, step by step, compared with one that is written down by hand."""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.models import BaseModel, build_head, load_base, prompts
from paint_core.training.finetuning import StepReport, finetune
from paint_core.training.train_state import TrainState
from tests.paint_core import tiny
from tests.paint_core.training.recipe import finetune_by_hand

PLAIN = FinetuneConfig(
    iterations=5, batch_size=8, learning_rate=1e-2, warmup_steps=2, max_grad_norm=1e6, weight_decay=0.0
)
"""Without anything that a case adds; 20 images, so that batches run over the border of two epochs."""

CASES = {
    "schedule and crops": PLAIN,
    "no warm-up, no crops": dataclasses.replace(PLAIN, warmup_steps=0, crop_scale=(1.0, 1.0)),
    "small crops": dataclasses.replace(PLAIN, crop_scale=(0.2, 0.5)),
    "weight decay": dataclasses.replace(PLAIN, weight_decay=2.0),
    "clipping": dataclasses.replace(PLAIN, max_grad_norm=1.0),
    "label smoothing": dataclasses.replace(PLAIN, label_smoothing=0.3),
    "another seed": dataclasses.replace(PLAIN, seed=5),
    "the paper's": FinetuneConfig(iterations=6, batch_size=8, learning_rate=1e-2, warmup_steps=3),
    "accumulation": dataclasses.replace(PLAIN, accumulation_steps=4, max_grad_norm=1.0),
}
ANCHORED = dataclasses.replace(PLAIN, anchor_weight=5.0, anchor_batch_size=4, max_grad_norm=1.0)


@pytest.fixture(scope="module")
def images(tiny_base: BaseModel) -> LabelledImages:
    return tiny.coloured(tiny_base, 20)


@pytest.fixture(scope="module")
def head(tiny_base: BaseModel) -> Tensor:
    return build_head(tiny_base, tiny.COLOURS, prompts.PLAIN)


@pytest.fixture(scope="module")
def anchors(tiny_base: BaseModel) -> Tensor:
    return tiny.coloured(tiny_base, 10, seed=7).images


def with_scale(base: BaseModel, scale: float) -> BaseModel:
    """The same towers with another logit scale."""
    model = nn.Module()
    model.visual = base.visual
    model.logit_scale = nn.Parameter(torch.tensor(scale).log(), requires_grad=False)
    return dataclasses.replace(base, model=model)


def assert_same_updates(
    theta: Mapping[str, Tensor], expected: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> None:
    """Every tensor moved by the same, but for rounding errors."""
    assert theta.keys() == expected.keys()
    for name, before in start.items():
        ours, hands = (_moved(name, weights[name] - before) for weights in (theta, expected))
        assert float((ours - hands).norm()) <= 0.01 * float(hands.norm()), name


def _moved(name: str, update: Tensor) -> Tensor:
    if not name.endswith("in_proj_bias"):
        return update
    # A bias of attention's keys changes no output: its gradient is rounding errors, which AdamW makes large.
    queries, _, values = update.chunk(3)
    return torch.cat([queries, values])


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_the_recipes(name: str, tiny_base: BaseModel, images: LabelledImages, head: Tensor) -> None:
    reports: list[StepReport] = []
    theta = finetune(tiny_base, head, images, CASES[name], on_step=reports.append)
    course = finetune_by_hand(tiny_base, head, images, CASES[name])
    assert_same_updates(theta, course.theta, tiny_base.visual.state_dict())
    assert [report.loss for report in reports] == pytest.approx(course.losses, rel=1e-3)
    assert [report.learning_rate for report in reports] == pytest.approx(course.rates)
    assert [report.anchor_loss for report in reports] == [None] * len(reports)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_anchors_add_their_weight_times_the_mean_of_one_less_the_cosine(
    accumulation_steps: int, tiny_base: BaseModel, images: LabelledImages, head: Tensor, anchors: Tensor
) -> None:
    config = dataclasses.replace(ANCHORED, accumulation_steps=accumulation_steps)
    reports: list[StepReport] = []
    theta = finetune(tiny_base, head, images, config, anchors=anchors, on_step=reports.append)
    course = finetune_by_hand(tiny_base, head, images, config, anchors=anchors)
    assert_same_updates(theta, course.theta, tiny_base.visual.state_dict())
    assert [report.anchor_loss for report in reports] == pytest.approx(course.anchor_losses, rel=1e-3, abs=1e-5)
    assert [report.loss for report in reports] == pytest.approx(course.losses, rel=1e-3)


def test_a_run_from_other_weights_is_held_to_how_they_see_the_anchors(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, anchors: Tensor
) -> None:
    start = finetune_by_hand(tiny_base, head, images, dataclasses.replace(PLAIN, seed=3)).theta
    theta = finetune(tiny_base, head, images, ANCHORED, start=start, anchors=anchors)
    course = finetune_by_hand(tiny_base, head, images, ANCHORED, start=start, anchors=anchors)
    assert_same_updates(theta, course.theta, start)


def test_a_resumed_run_goes_on_in_the_middle_of_the_recipe(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, anchors: Tensor
) -> None:
    states: list[TrainState] = []
    finetune(tiny_base, head, images, ANCHORED, anchors=anchors, checkpoint_every=3, on_checkpoint=states.append)
    theta = finetune(tiny_base, head, images, ANCHORED, anchors=anchors, state=states[0])
    course = finetune_by_hand(tiny_base, head, images, ANCHORED, anchors=anchors)
    assert_same_updates(theta, course.theta, tiny_base.visual.state_dict())


def test_small_gradients_meet_adams_epsilon(tiny_base: BaseModel, images: LabelledImages, head: Tensor) -> None:
    base = with_scale(tiny_base, 1e-6)
    theta = finetune(base, head, images, PLAIN)
    course = finetune_by_hand(base, head, images, PLAIN)
    assert_same_updates(theta, course.theta, base.visual.state_dict())


def test_the_logit_scale_and_bias_of_the_model_are_in_the_loss(tmp_path: Path) -> None:
    weights = tiny.state_dict(model_cfg=tiny.SIGLIP_CFG)
    base = load_base(f"local-dir:{tiny.write_model(tmp_path, weights, model_cfg=tiny.SIGLIP_CFG)}")
    head, images = build_head(base, tiny.COLOURS, prompts.PLAIN), tiny.coloured(base, 20)
    reports: list[StepReport] = []
    theta = finetune(base, head, images, PLAIN, on_step=reports.append)
    course = finetune_by_hand(base, head, images, PLAIN)
    assert_same_updates(theta, course.theta, base.visual.state_dict())
    assert [report.loss for report in reports] == pytest.approx(course.losses, rel=1e-3)


def test_what_does_not_learn_is_neither_decayed_nor_counted_in_the_clipped_norm(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    config = dataclasses.replace(CASES["the paper's"], trainable="last_k", last_k=1, weight_decay=2.0)

    def learns(name: str) -> bool:
        return name.startswith(("transformer.resblocks.0", "ln_post", "proj"))

    theta_0 = copy.deepcopy(tiny_base.visual.state_dict())
    theta = finetune(tiny_base, head, images, config)
    course = finetune_by_hand(tiny_base, head, images, config, learns=learns)
    assert_same_updates(theta, course.theta, theta_0)
    frozen = [name for name in theta_0 if not learns(name)]
    assert frozen == [name for name in theta_0 if torch.equal(theta[name], theta_0[name])]
