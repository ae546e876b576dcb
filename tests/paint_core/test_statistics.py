import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.errors import DatasetError
from paint_core.statistics import mcnemar, wilson_interval


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


def test_the_exact_test_does_not_overflow() -> None:
    difference = mcnemar(*outcomes(0, 4000, 3000, 0))
    z = (1000 - 1) / math.sqrt(7000)
    assert difference.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.2)
    assert mcnemar(*outcomes(0, 5000, 0, 0)).p_value == 0.0  # 2^-4999 has no float


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
