import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paint_core.errors import ConfigError
from paint_core.patching.coefficients import Coefficients, search_coefficients

TARGET = (0.1, 0.6, 1.4)
START = (0.3, 0.3, 0.3)


def nearness(coefficients: Coefficients) -> float:
    """Highest at TARGET, where no common scalar is."""
    return -sum((own - best) ** 2 for own, best in zip(coefficients, TARGET, strict=True))


def test_the_search_finds_coefficients_that_no_scalar_reaches() -> None:
    best_scalar = max(nearness((index / 100,) * 3) for index in range(151))
    found = search_coefficients(nearness, START, nearness(START))
    assert found.value > best_scalar / 4
    assert found.value == nearness(found.coefficients)


@given(st.integers(1, 40), st.integers(0, 3))
def test_the_search_is_bounded_repeatable_and_stays_in_the_box(max_evaluations: int, seed: int) -> None:
    asked: list[Coefficients] = []

    def objective(coefficients: Coefficients) -> float:
        asked.append(coefficients)
        return nearness(coefficients)

    found = search_coefficients(objective, START, nearness(START), max_evaluations=max_evaluations, seed=seed)
    assert found.num_evaluations == len(asked) == max_evaluations
    assert all(0 <= value <= 1.5 for coefficients in asked for value in coefficients)
    first = list(asked)
    again = search_coefficients(objective, START, nearness(START), max_evaluations=max_evaluations, seed=seed)
    assert again == found
    assert asked[max_evaluations:] == first


def test_another_seed_asks_for_other_coefficients() -> None:
    found = {search_coefficients(nearness, START, -9.0, max_evaluations=1, seed=seed).coefficients for seed in (0, 1)}
    assert len(found) == 2


def test_what_is_nowhere_better_stays_at_the_start() -> None:
    found = search_coefficients(lambda _: 0.5, START, 0.5, max_evaluations=20)
    assert found.coefficients == START
    assert found.value == found.start_value == 0.5


def test_no_global_random_state_is_touched() -> None:
    state = np.random.get_state(legacy=False)
    search_coefficients(nearness, START, nearness(START), max_evaluations=10)
    after = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    assert isinstance(after, dict)
    assert state["state"]["pos"] == after["state"]["pos"]
    assert np.array_equal(state["state"]["key"], after["state"]["key"])


@pytest.mark.parametrize(
    ("start", "max_evaluations", "reason"),
    [((0.3,), 9, "scalar"), ((0.3, 1.6), 9, "within"), ((-0.1, 0.3), 9, "within"), (START, 0, "at least 1")],
)
def test_a_search_that_cannot_be_is_refused(start: Coefficients, max_evaluations: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        search_coefficients(nearness, start, 0.0, max_evaluations=max_evaluations)
