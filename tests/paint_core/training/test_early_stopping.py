"""Fine-tuning that ends when validation accuracy has stopped improving."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.errors import ConfigError
from paint_core.models import BaseModel, build_head, prompts
from paint_core.training.finetuning import StepReport, finetune
from paint_core.training.train_state import TrainState
from tests.paint_core import tiny

CONFIG = FinetuneConfig(
    iterations=24, batch_size=12, learning_rate=3e-3, warmup_steps=0, crop_scale=(1.0, 1.0), patience=2, check_every=3
)


class StopError(Exception):
    """What a caller stops a run with."""


@pytest.fixture
def head(tiny_base: BaseModel) -> Tensor:
    return build_head(tiny_base, tiny.COLOURS, prompts.PLAIN)


@pytest.fixture
def validation(tiny_base: BaseModel) -> LabelledImages:
    return tiny.coloured(tiny_base, 30, seed=5)


def run(
    base: BaseModel, head: Tensor, config: FinetuneConfig, validation: LabelledImages | None
) -> tuple[dict[str, Tensor], list[StepReport]]:
    reports: list[StepReport] = []
    images = tiny.coloured(base, 36)
    return finetune(base, head, images, config, validation=validation, on_step=reports.append), reports


def test_the_best_weights_of_all_looks_are_kept_and_the_run_ends_when_patience_does(
    tiny_base: BaseModel, head: Tensor, validation: LabelledImages
) -> None:
    weights, reports = run(tiny_base, head, CONFIG, validation)
    looks = {each.step: each.validation_accuracy for each in reports if each.validation_accuracy is not None}
    assert list(looks) == list(range(3, reports[-1].step + 1, 3))
    best = max(looks, key=lambda step: looks[step])
    assert reports[-1].step == min(best + 3 * 2, CONFIG.iterations)
    states: dict[int, TrainState] = {}
    plain = replace(CONFIG, patience=None)
    finetune(
        *(tiny_base, head, tiny.coloured(tiny_base, 36), plain),
        checkpoint_every=1,
        on_checkpoint=lambda state: states.setdefault(state.step, state),
    )
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, states[best].tensors[f"theta/{name}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("stopped_after", [2, 3, 4, 7])
def test_a_run_that_resumes_ends_with_the_same_bits(
    tiny_base: BaseModel, head: Tensor, validation: LabelledImages, stopped_after: int
) -> None:
    images, states = tiny.coloured(tiny_base, 36), []

    def keep(state: TrainState) -> None:
        states.append(TrainState.from_bytes(state.to_bytes()))
        if state.step == stopped_after:
            raise StopError

    whole, reports = run(tiny_base, head, CONFIG, validation)
    with pytest.raises(StopError):
        finetune(tiny_base, head, images, CONFIG, validation=validation, checkpoint_every=1, on_checkpoint=keep)
    again: list[StepReport] = []
    resumed = finetune(tiny_base, head, images, CONFIG, validation=validation, state=states[-1], on_step=again.append)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [each.step for each in again] == [each.step for each in reports][stopped_after:]


def test_patience_without_images_and_images_without_patience_are_refused(
    tiny_base: BaseModel, head: Tensor, validation: LabelledImages
) -> None:
    for config, images in ((CONFIG, None), (replace(CONFIG, patience=None), validation)):
        with pytest.raises(ConfigError, match="give both or neither"):
            run(tiny_base, head, config, images)
    for wrong in ({"patience": 0}, {"check_every": 0}):
        with pytest.raises(ConfigError):
            replace(CONFIG, **wrong)
