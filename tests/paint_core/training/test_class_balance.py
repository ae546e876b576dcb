"""Classes with different numbers of images."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.config.finetune import ClassBalance, FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.evaluation import evaluate
from paint_core.models import BaseModel, build_head, prompts
from paint_core.training.class_balance import ClassSampler, loss_weights
from paint_core.training.finetuning import finetune
from tests.paint_core import tiny

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


@given(sizes=SIZES, seed=st.integers(0, 5), batch_size=st.integers(1, 7))
def test_classes_are_drawn_equally_often_and_so_are_the_images_of_a_class(
    sizes: list[int], seed: int, batch_size: int
) -> None:
    labels = torch.tensor([label for label, size in enumerate(sizes) for _ in range(size)])
    sampler = ClassSampler.of(labels, seed)
    present = sum(size > 0 for size in sizes)
    epoch = present * -(-len(labels) // present)
    num_steps = 12 * epoch  # whole epochs, whatever the batch size
    drawn = torch.cat([sampler.indices(step, batch_size, seed) for step in range(num_steps)])
    by_class = Counter(labels[drawn].tolist())
    assert len(set(by_class.values())) == 1
    assert len(by_class) == present
    for label in by_class:
        images = Counter(index for index in drawn.tolist() if labels[index] == label)
        assert len(images) == sizes[label]
        assert max(images.values()) - min(images.values()) <= 1


@given(sizes=SIZES)
def test_weights_make_classes_count_the_same(sizes: list[int]) -> None:
    labels = torch.tensor([label for label, size in enumerate(sizes) for _ in range(size)])
    weights = loss_weights(labels)
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-5)
    sums = [float(weights[labels == label].sum()) for label in set(labels.tolist())]
    assert sums == pytest.approx([sums[0]] * len(sums), rel=1e-5)


@pytest.mark.parametrize("balance", ["sampling", "loss"])
def test_a_rare_class_is_learned(tiny_base: BaseModel, balance: ClassBalance) -> None:
    everything = tiny.coloured(tiny_base, 60)
    rare = torch.cat([torch.where(everything.labels == 0)[0][:1], torch.where(everything.labels != 0)[0]])
    images = LabelledImages(everything.images[rare], everything.labels[rare], everything.classnames)
    head = build_head(tiny_base, tiny.COLOURS, prompts.PLAIN)
    config = FinetuneConfig(iterations=12, batch_size=20, learning_rate=3e-3, warmup_steps=0, crop_scale=(1.0, 1.0))

    def loss_of_rare(chosen: ClassBalance) -> float:
        weights = finetune(tiny_base, head, images, replace(config, class_balance=chosen))
        visual = copy.deepcopy(tiny_base.visual)
        visual.load_state_dict(weights)
        of_rare = everything.subset(torch.where(everything.labels == 0)[0])
        return evaluate(visual, tiny_base, head, of_rare).loss

    assert loss_of_rare(balance) < loss_of_rare("none")
