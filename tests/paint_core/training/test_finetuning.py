import copy
import dataclasses
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.config.precision import Precision
from paint_core.data import LabelledImages
from paint_core.errors import ConfigError, DatasetError, NonFiniteLossError, WeightsMismatchError
from paint_core.evaluation import evaluate
from paint_core.models import BaseModel, build_head, prompts
from paint_core.training.finetuning import StepReport, finetune, learning_rate_at
from paint_core.training.train_state import TrainState
from paint_core.weights import Term, fingerprint, mix_into, task_vector
from tests.paint_core import tiny

CONFIG = FinetuneConfig(iterations=6, batch_size=10, learning_rate=1e-3, warmup_steps=2)


@pytest.fixture(scope="module")
def images(tiny_base: BaseModel) -> LabelledImages:
    return tiny.coloured(tiny_base, 32)


@pytest.fixture(scope="module")
def head(tiny_base: BaseModel) -> Tensor:
    return build_head(tiny_base, tiny.COLOURS, prompts.PLAIN)


def with_dropout(base: BaseModel) -> BaseModel:
    """The same base with a tower that draws random numbers in training."""
    model = nn.Module()
    model.visual = nn.Sequential(base.visual, nn.Dropout(0.3))
    model.logit_scale = base.model.logit_scale
    return dataclasses.replace(base, model=model)


@settings(max_examples=8)
@given(first=st.integers(1, 5), precision=st.sampled_from(["fp32", "bf16"]), dropout=st.booleans())
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, first: int, precision: Precision, dropout: bool
) -> None:
    base = with_dropout(tiny_base) if dropout else tiny_base
    config = dataclasses.replace(CONFIG, precision=precision)
    checkpoints: list[TrainState] = []
    whole = finetune(base, head, images, config, checkpoint_every=first, on_checkpoint=checkpoints.append)
    state = TrainState.from_bytes(checkpoints[0].to_bytes())
    assert state.step == first
    resumed = finetune(base, head, images, config, state=state)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_starter_resumes_bit_for_bit(starter_base: BaseModel, precision: Precision) -> None:
    images = tiny.coloured(starter_base, 12)
    head = build_head(starter_base, tiny.COLOURS, prompts.STARTER)
    config = FinetuneConfig(iterations=3, batch_size=8, learning_rate=1e-4, warmup_steps=1, precision=precision)
    checkpoints: list[TrainState] = []
    whole = finetune(starter_base, head, images, config, checkpoint_every=2, on_checkpoint=checkpoints.append)
    resumed = finetune(starter_base, head, images, config, state=TrainState.from_bytes(checkpoints[0].to_bytes()))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_that_was_stopped_by_its_caller_resumes_too(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    class StopError(Exception):
        """The caller's own."""

    def stop(report: StepReport) -> None:
        if report.step == 4:
            raise StopError

    checkpoints: list[TrainState] = []
    with pytest.raises(StopError):
        finetune(tiny_base, head, images, CONFIG, on_step=stop, checkpoint_every=3, on_checkpoint=checkpoints.append)
    resumed = finetune(tiny_base, head, images, CONFIG, state=checkpoints[-1])
    whole = finetune(tiny_base, head, images, CONFIG)
    assert fingerprint(resumed) == fingerprint(whole)


def test_equal_seeds_give_equal_weights_and_other_seeds_others(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    seeds = (0, 0, 1)
    runs = [finetune(tiny_base, head, images, dataclasses.replace(CONFIG, seed=seed)) for seed in seeds]
    assert fingerprint(runs[0]) == fingerprint(runs[1]) != fingerprint(runs[2])


def test_neither_the_base_nor_the_callers_random_numbers_are_touched(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    before = fingerprint(tiny_base.model.state_dict()), head.clone(), images.images.clone(), torch.get_rng_state()
    finetune(with_dropout(tiny_base), head, images, CONFIG)
    assert fingerprint(tiny_base.model.state_dict()) == before[0]
    assert torch.equal(head, before[1])
    assert torch.equal(images.images, before[2])
    assert torch.equal(torch.get_rng_state(), before[3])
    assert not any(parameter.requires_grad for parameter in tiny_base.visual.parameters())
    assert not tiny_base.visual.training


def test_fine_tuning_learns(tiny_base: BaseModel, images: LabelledImages, head: Tensor) -> None:
    config = FinetuneConfig(iterations=40, batch_size=32, learning_rate=3e-3, warmup_steps=4)
    losses: list[float] = []
    theta_1 = finetune(tiny_base, head, images, config, on_step=lambda report: losses.append(report.loss))
    assert losses[-1] < losses[0] / 2
    visual = copy.deepcopy(tiny_base.visual)
    mix_into(visual, tiny_base.visual.state_dict(), [Term(task_vector(tiny_base.visual.state_dict(), theta_1), 1.0)])
    fresh = tiny.coloured(tiny_base, 40, seed=9)
    before = evaluate(tiny_base.visual, tiny_base, head, fresh).accuracy
    assert evaluate(visual, tiny_base, head, fresh).accuracy > max(before, 0.8)


def test_the_result_is_a_fresh_float32_state_dict_of_the_tower(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    theta_1 = finetune(tiny_base, head, images, CONFIG)
    theta_0 = tiny_base.visual.state_dict()
    assert theta_1.keys() == theta_0.keys()
    assert all(theta_1[name].shape == theta_0[name].shape for name in theta_0)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in theta_1.values())
    assert not any(tensor.requires_grad for tensor in theta_1.values())


def test_every_step_is_reported(tiny_base: BaseModel, images: LabelledImages, head: Tensor) -> None:
    reports: list[StepReport] = []
    finetune(tiny_base, head, images, CONFIG, on_step=reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert {report.total for report in reports} == {6}
    assert all(report.images_per_second > 0 for report in reports)
    assert [report.learning_rate for report in reports] == [learning_rate_at(step, CONFIG) for step in range(6)]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor
) -> None:
    config = dataclasses.replace(CONFIG, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(NonFiniteLossError) as caught:
        finetune(tiny_base, head, images, config)
    assert caught.value.step == 2


def test_labels_beyond_the_head_are_refused(tiny_base: BaseModel, images: LabelledImages, head: Tensor) -> None:
    with pytest.raises(DatasetError, match="rebuild the head"):
        finetune(tiny_base, head[:2], images, CONFIG)


def test_a_state_of_another_model_is_refused(tiny_base: BaseModel, images: LabelledImages, head: Tensor) -> None:
    state = TrainState(1, {"theta/other": torch.zeros(1)})
    with pytest.raises(WeightsMismatchError, match="another model"):
        finetune(tiny_base, head, images, CONFIG, state=state)


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", b"\x02\0\0\0\0\0\0\0{}"])
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(WeightsMismatchError):
        TrainState.from_bytes(data)


def test_the_rate_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    config = FinetuneConfig()
    assert learning_rate_at(0, config) == pytest.approx(1e-5 / 200)
    assert learning_rate_at(199, config) == pytest.approx(1e-5)
    assert learning_rate_at(200, config) == pytest.approx(1e-5)
    assert learning_rate_at(1100, config) == pytest.approx(0.5e-5)
    assert 0 < learning_rate_at(1999, config) < 1e-10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("warmup_steps", -1),
        ("warmup_steps", 2000),
        ("weight_decay", -0.1),
        ("max_grad_norm", 0.0),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.9, 0.8)),
        ("crop_scale", (0.9,)),
        ("seed", -1),
        ("precision", "fp16"),
        ("learning_rate", float("inf")),
        ("weight_decay", float("inf")),
        ("max_grad_norm", float("inf")),
        ("crop_scale", (0.9, 1.1)),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("accumulation_steps", 0),
        ("accumulation_steps", 3),
        ("trainable", "none"),
        ("last_k", 2),
        ("lora_rank", 0),
        ("lora_alpha", 0.0),
        ("lora_alpha", float("inf")),
        ("anchor_weight", -1.0),
        ("anchor_weight", float("inf")),
        ("anchor_batch_size", 0),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(FinetuneConfig(), **{field: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"iterations": 1, "warmup_steps": 0, "batch_size": 1, "seed": 0},
        {"iterations": 201, "weight_decay": 0.0, "label_smoothing": 0.0, "crop_scale": (1.0, 1.0)},
        {"accumulation_steps": 128, "trainable": "last_k", "last_k": 1},
        {"lora_rank": 1, "lora_alpha": 1e-6, "trainable": "lora"},
        {"anchor_weight": 1e-6, "anchor_batch_size": 2, "accumulation_steps": 2},
        {"anchor_weight": 0.0, "anchor_batch_size": 1, "accumulation_steps": 2},
    ],
    ids=str,
)
def test_settings_at_the_ends_of_their_ranges_are_accepted(settings: dict[str, Any]) -> None:
    config = dataclasses.replace(FinetuneConfig(), **settings)
    assert {name: getattr(config, name) for name in settings} == settings


def test_anchors_are_shared_out_evenly_among_the_parts_of_a_batch() -> None:
    with pytest.raises(ConfigError, match="anchor_batch_size is 3"):
        FinetuneConfig(anchor_weight=1.0, anchor_batch_size=3, accumulation_steps=2)


def test_the_defaults_are_the_papers_and_what_it_does_not_know_is_off() -> None:
    assert dataclasses.asdict(FinetuneConfig()) == {
        "iterations": 2000,
        "batch_size": 128,
        "learning_rate": 1e-5,
        "warmup_steps": 200,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "crop_scale": (0.9, 1.0),
        "seed": 0,
        "precision": "fp32",
        "label_smoothing": 0.0,
        "accumulation_steps": 1,
        "gradient_checkpointing": False,
        "trainable": "all",
        "last_k": None,
        "lora_rank": 8,
        "lora_alpha": None,
        "deterministic": False,
        "anchor_weight": 0.0,
        "anchor_batch_size": 64,
        "class_balance": "none",
        "patience": None,
        "check_every": 20,
    }


def test_a_warm_up_that_nobody_chose_follows_the_number_of_iterations() -> None:
    assert FinetuneConfig(iterations=20).warmup_steps == 2
    assert dataclasses.replace(FinetuneConfig(), iterations=20).warmup_steps == 2
    assert dataclasses.replace(FinetuneConfig(warmup_steps=5), iterations=20).warmup_steps == 5
    assert json.loads(json.dumps(dataclasses.asdict(FinetuneConfig(iterations=30))))["warmup_steps"] == 3
    with pytest.raises(ConfigError, match=r"in 0\.\.19"):
        FinetuneConfig(iterations=20, warmup_steps=20)
