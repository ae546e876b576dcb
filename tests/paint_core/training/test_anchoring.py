import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.errors import ConfigError, DatasetError, EmptySplitError
from paint_core.evaluation import encode
from paint_core.models import BaseModel, build_head, prompts
from paint_core.training.anchoring import FEATURE_ANCHOR, drop_evaluation_images
from paint_core.training.finetuning import StepReport, finetune
from paint_core.training.objective import is_stochastic
from paint_core.training.train_state import TrainState
from tests.paint_core import tiny
from tests.paint_core.training.test_finetuning import with_dropout

CONFIG = FinetuneConfig(
    iterations=6, batch_size=10, learning_rate=1e-3, warmup_steps=2, anchor_weight=20.0, anchor_batch_size=8
)


@pytest.fixture(scope="module")
def images(tiny_base: BaseModel) -> LabelledImages:
    return tiny.coloured(tiny_base, 32)


@pytest.fixture(scope="module")
def head(tiny_base: BaseModel) -> Tensor:
    return build_head(tiny_base, tiny.COLOURS, prompts.PLAIN)


@pytest.fixture(scope="module")
def pool(tiny_base: BaseModel) -> Tensor:
    pixels = [torch.from_numpy(tiny_base.preprocess.decode(tiny.png(tiny.noise((32, 32), seed=i)))) for i in range(24)]
    return torch.stack(pixels)


def drift(base: BaseModel, theta: dict[str, Tensor], images: Tensor) -> float:
    """The mean 1 - cosine between the features of two weights."""
    visual = copy.deepcopy(base.visual)
    visual.load_state_dict(theta)
    features = [encode(tower, images, base.preprocess) for tower in (base.visual, visual)]
    return float(1 - F.cosine_similarity(*features).mean())


def test_anchors_hold_the_features_of_images_that_nobody_labelled(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor
) -> None:
    long = dataclasses.replace(CONFIG, iterations=40, warmup_steps=4)
    free = finetune(tiny_base, head, images, dataclasses.replace(long, anchor_weight=0.0))
    held = finetune(tiny_base, head, images, long, anchors=pool[:16])
    unseen = pool[16:]
    assert drift(tiny_base, held, unseen) < drift(tiny_base, free, unseen) / 3


def test_the_first_step_finds_the_features_where_they_were(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor
) -> None:
    reports: list[StepReport] = []
    finetune(tiny_base, head, images, CONFIG, anchors=pool, on_step=reports.append)
    values = [report.anchor_loss for report in reports]
    assert values[0] is not None
    assert abs(values[0]) < 1e-6
    assert all(value is not None and value > 1e-4 for value in values[1:])


def test_a_tower_with_dropout_compares_anchors_without_it(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor
) -> None:
    reports: list[StepReport] = []
    config = dataclasses.replace(CONFIG, iterations=3)
    finetune(with_dropout(tiny_base), head, images, config, anchors=pool, on_step=reports.append)
    assert reports[0].anchor_loss == pytest.approx(0.0, abs=1e-6)


def test_without_anchors_there_is_no_anchor_loss(tiny_base: BaseModel, images: LabelledImages, head: Tensor) -> None:
    reports: list[StepReport] = []
    finetune(tiny_base, head, images, dataclasses.replace(CONFIG, anchor_weight=0.0), on_step=reports.append)
    assert {report.anchor_loss for report in reports} == {None}


def test_the_loss_that_is_reported_stays_the_cross_entropy(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor
) -> None:
    first: list[float] = []
    for weight in (1.0, 50.0):
        reports: list[StepReport] = []
        config = dataclasses.replace(CONFIG, anchor_weight=weight)
        finetune(tiny_base, head, images, config, anchors=pool, on_step=reports.append)
        first.append(reports[0].loss)
    assert first[0] == first[1]


def test_anchors_hold_the_start_and_not_the_base(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor
) -> None:
    start = finetune(tiny_base, head, images, dataclasses.replace(CONFIG, anchor_weight=0.0))
    reports: list[StepReport] = []
    finetune(tiny_base, head, images, CONFIG, start=start, anchors=pool, on_step=reports.append)
    assert reports[0].anchor_loss == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("dropout", [False, True])
def test_an_anchored_run_resumes_bit_for_bit(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor, dropout: bool
) -> None:
    base = with_dropout(tiny_base) if dropout else tiny_base
    checkpoints: list[TrainState] = []
    whole = finetune(base, head, images, CONFIG, anchors=pool, checkpoint_every=3, on_checkpoint=checkpoints.append)
    resumed = finetune(base, head, images, CONFIG, anchors=pool, state=TrainState.from_bytes(checkpoints[0].to_bytes()))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_form_of_anchor_can_take_the_place(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor
) -> None:
    class LengthAnchor:
        """Holds the length of the features."""

        def targets(self, features: Tensor) -> Tensor:
            return features.norm(dim=-1)

        def loss(self, features: Tensor, targets: Tensor) -> Tensor:
            return (features.norm(dim=-1) - targets).square().mean()

    reports: list[StepReport] = []
    finetune(tiny_base, head, images, CONFIG, anchors=pool, anchor_loss=LengthAnchor(), on_step=reports.append)
    assert reports[0].anchor_loss == pytest.approx(0.0, abs=1e-6)
    assert reports[-1].anchor_loss is not None
    assert reports[-1].anchor_loss > 0


def test_the_anchor_loss_is_one_minus_the_cosine_whatever_the_length() -> None:
    old, new = torch.randn(5, 7), torch.randn(5, 7)
    expected = 1 - F.cosine_similarity(old, new).mean()
    assert torch.allclose(FEATURE_ANCHOR.loss(3 * new, FEATURE_ANCHOR.targets(2 * old)), expected)


def test_a_weight_without_anchors_and_anchors_without_a_weight_are_refused(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor
) -> None:
    with pytest.raises(ConfigError, match="no anchors"):
        finetune(tiny_base, head, images, CONFIG)
    with pytest.raises(ConfigError, match="anchor_weight is 0"):
        finetune(tiny_base, head, images, dataclasses.replace(CONFIG, anchor_weight=0.0), anchors=pool)


def test_anchors_that_the_tower_cannot_read_are_refused(
    tiny_base: BaseModel, images: LabelledImages, head: Tensor, pool: Tensor
) -> None:
    for anchors in (pool.float(), pool[:, :16, :16], pool[0]):
        with pytest.raises(DatasetError, match="uint8"):
            finetune(tiny_base, head, images, CONFIG, anchors=anchors)
    with pytest.raises(EmptySplitError, match="pool"):
        finetune(tiny_base, head, images, CONFIG, anchors=pool[:0])


def test_images_of_an_evaluation_split_leave_the_pool_and_the_others_keep_their_order(pool: Tensor) -> None:
    def split(indices: list[int]) -> LabelledImages:
        return LabelledImages(pool[indices], torch.zeros(len(indices), dtype=torch.int64), ("x",))

    left = drop_evaluation_images(pool, split([3, 5]), split([5, 20]))
    assert torch.equal(left, pool[[i for i in range(24) if i not in (3, 5, 20)]])
    assert len(drop_evaluation_images(pool, split(list(range(24))))) == 0
    nearly = pool[3:4].clone()
    nearly[0, 0, 0, 0] ^= 1
    assert len(drop_evaluation_images(nearly, split([3]))) == 1


def test_a_tower_that_draws_random_numbers_is_known_by_its_drawing(tiny_base: BaseModel) -> None:
    pixels = torch.zeros(1, 3, 32, 32)
    dropping = nn.Sequential(copy.deepcopy(tiny_base.visual), nn.Dropout(0.1))
    before = torch.get_rng_state()
    assert not is_stochastic(copy.deepcopy(tiny_base.visual).train(), pixels)
    assert is_stochastic(dropping.train(), pixels)
    assert not is_stochastic(dropping.eval(), pixels)
    assert torch.equal(torch.get_rng_state(), before)
