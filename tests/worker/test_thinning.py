"""A long job's history stays short, a short one's is complete."""

from hypothesis import given
from hypothesis import strategies as st

from worker.thinning import Thinning


def let_through(count: int, expected: float, most: int) -> list[int]:
    thinning = Thinning(expected, most)
    return [index for index in range(count) if thinning.is_due()]


def test_few_things_are_all_let_through() -> None:
    assert let_through(150, expected=150, most=200) == list(range(150))


def test_many_things_are_let_through_evenly_from_first_to_last() -> None:
    assert let_through(1000, expected=1000, most=100) == list(range(0, 1000, 10))


@given(st.integers(0, 20_000), st.integers(1, 5_000), st.integers(2, 200))
def test_however_wrong_the_expectation_there_are_never_many(count: int, expected: int, most: int) -> None:
    doublings = max(count, expected).bit_length() - expected.bit_length() + 1
    assert len(let_through(count, expected, most)) <= most * (1 + doublings)
