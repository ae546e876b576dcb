"""Bounds of a drop: they hold as often as they say, and get narrower with more images."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paint_core.errors import DatasetError
from paint_core.evaluation.drops import (
    PairedCounts,
    drop_p_value,
    images_to_certify,
    largest_drop,
    mean_counts,
    smallest_drop,
)


@st.composite
def paired_counts(draw: st.DrawFn) -> PairedCounts:
    total = draw(st.integers(1, 300))
    lost = draw(st.integers(0, total))
    return PairedCounts(lost, draw(st.integers(0, total - lost)), total)


def simulated(size: int, flip_rate: float, drop: float, repeats: int, seed: int = 0) -> list[PairedCounts]:
    shares = [(flip_rate + drop) / 2, (flip_rate - drop) / 2, 1 - flip_rate]
    rows = np.random.default_rng(seed).multinomial(size, shares, size=repeats)
    return [PairedCounts(int(lost), int(gained), size) for lost, gained, _ in rows]


def most_by_chance(repeats: int, error: float = 0.05) -> int:
    """What a test of this error rejects in one of ten thousand simulations at most."""
    return int(stats.binom.ppf(1 - 1e-4, repeats, error))


@pytest.mark.parametrize(
    ("size", "flip_rate", "drop"),
    [(30, 0.1, 0.02), (60, 0.04, 0.02), (100, 0.3, 0.01), (100, 0.05, 0.0), (240, 0.08, 0.02), (60, 0.2, -0.05)],
)
def test_a_drop_of_the_limit_is_rejected_no_more_often_than_the_confidence_allows(
    size: int, flip_rate: float, drop: float
) -> None:
    repeats = 2000
    rejected = sum(drop_p_value(counts, drop) <= 0.05 for counts in simulated(size, flip_rate, drop, repeats))
    assert rejected <= most_by_chance(repeats)


def test_the_mean_of_tasks_of_unequal_sizes_and_flip_rates_is_rejected_no_more_often() -> None:
    repeats, tasks = 1000, [(240, 0.08, 0.02), (60, 0.3, 0.05), (500, 0.02, 0.0), (100, 0.05, 0.01)]
    columns = [simulated(*task, repeats, seed) for seed, task in enumerate(tasks)]
    mean = sum(drop for _, _, drop in tasks) / len(tasks)
    rejected = sum(drop_p_value(mean_counts(row), mean) <= 0.05 for row in zip(*columns, strict=True))
    assert rejected <= most_by_chance(repeats)


def test_the_test_is_about_as_powerful_as_the_normal_approximation() -> None:
    for size, flip_rate, limit in ((542, 0.08, 0.02), (1083, 0.04, 0.01)):
        assert size == images_to_certify(flip_rate, limit, power=0.5)
        certified = sum(drop_p_value(counts, limit) <= 0.05 for counts in simulated(size, flip_rate, 0.0, 300))
        assert 0.35 * 300 < certified < 0.65 * 300


@given(paired_counts())
def test_the_bounds_enclose_the_observed_drop_and_mirror_each_other(counts: PairedCounts) -> None:
    low, high = smallest_drop(counts), largest_drop(counts)
    assert -1 <= low <= counts.drop <= high <= 1
    mirrored = PairedCounts(counts.gained, counts.lost, counts.total)
    assert (low, high) == (-largest_drop(mirrored), -smallest_drop(mirrored))


@given(paired_counts(), st.floats(0.001, 0.5))
def test_the_upper_bound_is_where_the_test_begins_to_reject(counts: PairedCounts, limit: float) -> None:
    bound = largest_drop(counts)
    assert bound == 1 or drop_p_value(counts, bound) <= 0.05
    if abs(bound - limit) > 2 / counts.total:  # nearer, p-values rise and fall from one whole number to the next
        assert (drop_p_value(counts, limit) <= 0.05) == (limit > bound)


def test_images_that_never_differ_bound_the_drop_as_a_share_of_none_is_bounded() -> None:
    for size in (50, 300, 960):
        bound = largest_drop(PairedCounts(0, 0, size))
        assert 1 - 0.05 ** (1 / size) <= bound < 1.3 * (1 - 0.05 ** (1 / size)) + 0.0002


@pytest.mark.parametrize("copies", [4, 16])
def test_more_images_narrow_the_bounds(copies: int) -> None:
    few, many = PairedCounts(6, 4, 100), PairedCounts(6 * copies, 4 * copies, 100 * copies)
    assert largest_drop(many) < largest_drop(few)
    assert smallest_drop(many) > smallest_drop(few)


def test_tasks_of_equal_sizes_are_counted_together() -> None:
    tasks = [PairedCounts(8, 6, 240), PairedCounts(0, 2, 240), PairedCounts(20, 20, 240)]
    assert mean_counts(tasks) == PairedCounts(28, 28, 720)
    assert mean_counts(tasks[:1]) == tasks[0]


@given(st.lists(paired_counts(), min_size=1, max_size=5))
def test_the_mean_weighs_each_task_the_same_and_is_rounded_against_the_patch(tasks: list[PairedCounts]) -> None:
    mean = mean_counts(tasks)
    exact = sum(float(task.drop) for task in tasks) / len(tasks)
    assert exact - 1e-9 <= float(mean.drop) <= exact + 2 / mean.total + 1e-9
    assert mean.total <= sum(task.total for task in tasks)


def test_the_images_that_certify_are_those_of_the_normal_approximation_and_enough_without_a_flip() -> None:
    assert [images_to_certify(rate, 0.02, power=0.5) for rate in (0.02, 0.04, 0.08)] == [149, 271, 542]
    assert images_to_certify(0.08, 0.01) == math.ceil(0.08 * (1.6448536 + 0.8416212) ** 2 / 0.0001)
    needed = images_to_certify(0.0, 0.01)
    assert drop_p_value(PairedCounts(0, 0, 2 * needed), 0.01) < 0.05


def test_counts_that_contradict_each_other_are_refused() -> None:
    for counts in ((3, 3, 5), (-1, 0, 5), (0, 0, 0)):
        with pytest.raises(DatasetError, match="impossible"):
            PairedCounts(*counts)
