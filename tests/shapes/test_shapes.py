"""Every rebuilt data set is read right, or refused with the way to make it readable."""

from pathlib import Path

import pytest

from tests.shapes.shape import Shape, matches, try_shape
from tests.shapes.table import SHAPES


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_a_shape_is_read_right_or_refused_with_a_way(shape: Shape, tmp_path: Path) -> None:
    outcome = try_shape(shape, tmp_path)
    assert matches(shape, outcome), outcome
    if outcome.code:
        assert len(outcome.detail) + len(outcome.advice) < 2000
