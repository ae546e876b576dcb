import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from paint_core.data.sampling import Sampling, merge_training_sets, sampling_rows, union_head
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.models import BaseModel, build_head, prompts
from tests.paint_core import tiny

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def rows(count: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_union_holds_every_class_once_and_each_task_finds_its_own_rows() -> None:
    first, second = rows(3, 0), rows(4, 1)
    second[2] = first[1]
    union = union_head([first, second])
    assert union.head.shape == (6, 8)
    assert torch.equal(union.head[union.rows[0]], first)
    assert torch.equal(union.head[union.rows[1]], second)
    assert union.rows[1].tolist() == [3, 4, 1, 5]


def test_classes_that_differ_by_rounding_only_are_one(tiny_base: BaseModel) -> None:
    alone = build_head(tiny_base, ["red"], prompts.PLAIN)
    among = build_head(tiny_base, ["dog", "red", "cat"], prompts.PLAIN)
    assert len(union_head([alone + 1e-7, among]).head) == 3


def test_one_class_under_other_templates_stays_two(tiny_base: BaseModel) -> None:
    heads = [build_head(tiny_base, ["red"], [template]) for template in ("a photo of {}.", "a drawing of {}.")]
    assert len(union_head(heads).head) == 2


def test_a_union_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one task"):
        union_head([])


def test_merged_images_keep_their_class_under_the_union(tiny_base: BaseModel) -> None:
    tasks = [
        tiny.colour_task(tiny_base, "colours", seed=1),
        tiny.colour_task(tiny_base, "animals", seed=5, classnames=("dog", "red", "cow")),
    ]
    head, merged = merge_training_sets(tasks)
    assert len(head) == len(merged.classnames) == 5  # "red" is shared
    assert merged.classnames[:3] == tiny.COLOURS
    position = 0
    for task in tasks:
        assert task.train is not None
        for index in range(len(task.train)):
            assert torch.equal(merged.images[position], task.train.images[index])
            own = task.head[task.train.labels[index]]
            assert torch.dot(head[merged.labels[position]], own) == pytest.approx(1, abs=1e-5)
            position += 1
    assert position == len(merged)


def test_a_task_without_training_images_cannot_be_merged(tiny_base: BaseModel) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    with pytest.raises(EmptySplitError, match="'colours'"):
        merge_training_sets([dataclasses.replace(task, train=None)])


@given(SIZES)
def test_proportional_sampling_visits_every_image_once(sizes: list[int]) -> None:
    assert [rows.tolist() for rows in sampling_rows(sizes, "proportional")] == [list(range(size)) for size in sizes]


@given(SIZES, st.integers(0, 5))
def test_balanced_sampling_visits_every_task_equally_often_and_its_images_evenly(sizes: list[int], seed: int) -> None:
    for size, rows in zip(sizes, sampling_rows(sizes, "balanced", seed), strict=True):
        visits = torch.bincount(rows, minlength=size)
        assert int(visits.sum()) == max(sizes)
        assert 1 <= int(visits.min()) <= int(visits.max()) <= int(visits.min()) + 1


def test_the_remainder_is_drawn_from_the_seed() -> None:
    first, again, other = (sampling_rows([50, 80], "balanced", seed)[0].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_balanced_merge_holds_the_small_task_as_often_as_the_large_one(tiny_base: BaseModel) -> None:
    large, small = tiny.colour_task(tiny_base, "a", seed=1), tiny.colour_task(tiny_base, "b", seed=5)
    assert large.train is not None
    assert small.train is not None
    few = dataclasses.replace(small, train=small.train.subset(range(7)))
    _, merged = merge_training_sets([large, few], "balanced")
    assert len(merged) == 48 + 48
    own = {image.numpy().tobytes() for image in small.train.images[:7]}
    assert {image.numpy().tobytes() for image in merged.images[48:]} == own


def test_an_unknown_sampling_is_refused() -> None:
    unknown: Sampling = "often"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="'balanced'"):
        sampling_rows([1], unknown)
