import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.errors import DatasetError
from paint_core.evaluation.statistics import adjusted_p_values, mcnemar, paired_difference, wilson_interval


def outcomes(both: int, gained: int, lost: int, neither: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What two models got right: b gained some images over a and lost others."""
    model_a = [True] * both + [False] * gained + [True] * lost + [False] * neither
    model_b = [True] * both + [True] * gained + [False] * lost + [False] * neither
    return torch.tensor(model_a), torch.tensor(model_b)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_the_wilson_interval_of_published_examples(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.data())
def test_the_interval_holds_the_share_and_narrows(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, total))
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    wider = wilson_interval(4 * correct, 4 * total)
    assert wider[1] - wider[0] < high - low


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_are_no_share_are_refused(correct: int, total: int) -> None:
    with pytest.raises(DatasetError):
        wilson_interval(correct, total)


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (6, 2, 2 * (1 + 8 + 28) / 256), (4, 4, 1.0), (2, 6, 74 / 256)],
)
def test_the_exact_test_counts_the_images_on_which_the_models_differ(gained: int, lost: int, p_value: float) -> None:
    for agreeing in (0, 90):
        difference = mcnemar(*outcomes(agreeing, gained, lost, 10))
        assert difference.p_value == pytest.approx(p_value)
        assert difference.points == pytest.approx(100 * (gained - lost) / (agreeing + gained + lost + 10))


def test_the_exact_test_of_thousands_of_differing_images_is_right_and_quick() -> None:
    difference = mcnemar(*outcomes(0, 4000, 3000, 0))
    z = (1000 - 1) / math.sqrt(7000)
    assert difference.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.2)
    assert mcnemar(*outcomes(0, 5000, 0, 0)).p_value == 0.0  # 2^-4999 has no float
    start = time.process_time()
    assert mcnemar(*outcomes(39_000, 5600, 5400, 0)).p_value == pytest.approx(0.0578, abs=1e-3)
    assert time.process_time() - start < 1  # adding up the binomial coefficients took 3.4 s


@pytest.mark.parametrize("total", [1, 2, 5, 30])
def test_the_interval_leaves_zero_out_if_and_only_if_the_test_rejects(total: int) -> None:
    for gained in range(total + 1):
        for lost in range(total + 1 - gained):
            difference = paired_difference(gained, lost, total)
            assert difference.low <= difference.points + 1e-9
            assert difference.high >= difference.points - 1e-9
            assert (difference.low > 0 or difference.high < 0) == (difference.p_value < 0.05), (gained, lost)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 40_000))
def test_of_larger_tables_too(gained: int, lost: int, agreeing: int) -> None:
    if gained + lost + agreeing == 0:
        return
    difference = paired_difference(gained, lost, gained + lost + agreeing)
    assert (difference.low > 0 or difference.high < 0) == (difference.p_value < 0.05)


def test_the_interval_of_many_images_is_the_usual_one() -> None:
    difference = paired_difference(700, 300, 10_000)
    error = math.sqrt(1000 - 400**2 / 10_000) / 10_000
    assert (difference.low, difference.high) == pytest.approx((4 - 196 * error, 4 + 196 * error), abs=0.05)


def test_the_interval_covers_the_true_difference_nineteen_times_of_twenty() -> None:
    source = np.random.default_rng(0)
    for gain, loss in ((0.1, 0.05), (0.02, 0.02), (0.3, 0.1)):
        tables = source.multinomial(60, [gain, loss, 1 - gain - loss], 300)
        intervals = [paired_difference(int(gained), int(lost), 60) for gained, lost, _ in tables]
        covered = sum(each.low <= 100 * (gain - loss) <= each.high for each in intervals)
        assert covered >= 279, (gain, loss)  # 93 %; the method is meant for 95


@pytest.mark.parametrize(("gained", "lost", "total"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_are_no_table_are_refused(gained: int, lost: int, total: int) -> None:
    with pytest.raises(DatasetError, match="correct the counts"):
        paired_difference(gained, lost, total)


def test_p_values_are_corrected_for_their_number() -> None:
    assert adjusted_p_values([0.01, 0.5, 0.02, 0.03]) == pytest.approx([0.04, 0.5, 0.04, 0.04])
    assert adjusted_p_values([0.3]) == [0.3]
    assert adjusted_p_values([]) == []


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_swapping_the_models_mirrors_the_difference(both: int, gained: int, lost: int, neither: int) -> None:
    if both + gained + lost + neither == 0:
        return
    forth = mcnemar(*outcomes(both, gained, lost, neither))
    back = mcnemar(*reversed(outcomes(both, gained, lost, neither)))
    assert (back.points, back.p_value) == (-forth.points, forth.p_value)
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert forth.low - 1e-9 <= forth.points <= forth.high + 1e-9 or abs(forth.points) == 100


def test_pairing_makes_an_interval_narrower_than_two_unpaired_ones() -> None:
    difference = mcnemar(*outcomes(both=60, gained=6, lost=1, neither=33))
    unpaired = wilson_interval(66, 100)[1] - wilson_interval(66, 100)[0]
    assert difference.high - difference.low < 100 * unpaired


@pytest.mark.parametrize(("size_a", "size_b"), [(0, 0), (3, 4)])
def test_results_that_are_no_pairs_are_refused(size_a: int, size_b: int) -> None:
    with pytest.raises(DatasetError):
        mcnemar(torch.ones(size_a, dtype=torch.bool), torch.ones(size_b, dtype=torch.bool))
