"""A slice of what `make mutate` reads, with another seed than its own."""

import pytest

from tests.mutations.run import run


@pytest.mark.parametrize(("kind", "count"), [("images", 50), ("archives", 8), ("models", 4)])
def test_mutated_inputs_are_read_or_refused_and_nothing_else(kind: str, count: int) -> None:
    report = run(kind, count, seed=7)
    assert report.findings == []
    assert report.endings.total() == count
