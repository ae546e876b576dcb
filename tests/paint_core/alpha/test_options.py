import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paint_core.alpha import AlphaOptions, grid
from paint_core.errors import ConfigError


def test_the_grid_of_the_paper_has_21_exact_points() -> None:
    assert grid() == tuple(index / 20 for index in range(21))


@given(st.floats(0.001, 1), st.floats(0.01, 3))
def test_a_grid_rises_from_zero_to_its_end_exactly(step: float, end: float) -> None:
    alphas = grid(step, end)
    assert (alphas[0], alphas[-1]) == (0.0, end)
    assert all(0 < later - earlier <= step + 1e-5 for earlier, later in itertools.pairwise(alphas))


@pytest.mark.parametrize("step", [0.0, -0.1, 1.5, float("nan")])
def test_a_step_that_makes_no_grid_is_refused(step: float) -> None:
    with pytest.raises(ConfigError):
        grid(step)


@pytest.mark.parametrize("end", [0.0, -1.0, float("inf"), float("nan")])
def test_an_end_that_makes_no_grid_is_refused(end: float) -> None:
    with pytest.raises(ConfigError):
        grid(0.05, end)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"rule": "best"}, "rule"),
        ({"strategy": "random"}, "strategy"),
        ({"path": "curved"}, "path"),
        ({"rule": "floor"}, "max_supported_drop"),
        ({"max_supported_drop": 2.0}, "max_supported_drop"),
        ({"rule": "floor", "max_supported_drop": -1.0}, "max_supported_drop"),
        ({"rule": "floor", "max_supported_drop": {"a": 1.0, "b": float("nan")}}, "max_supported_drop"),
        ({"step": 0.0}, "step"),
        ({"max_alpha": 1.2}, "lines"),
        ({"max_alpha": 0.0, "path": "lines"}, "alpha"),
        ({"max_flat_alpha": 0.5}, "max_flat_alpha"),
        ({"max_flat_alpha": 3.0, "max_alpha": 3.5}, "max_alpha"),
        ({"nodes": (0.0, 0.5, 1.0)}, "interpolated"),
        ({"nodes": (0.0, 0.5), "strategy": "interpolated"}, "nodes"),
        ({"nodes": (0.0, 0.5, 0.5, 1.0), "strategy": "interpolated"}, "nodes"),
        ({"tolerance_points": -0.5}, "tolerance_points"),
        ({"precision": "fp16"}, "precision"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        AlphaOptions(**wrong)


def test_the_lines_path_goes_further_than_the_flat_one() -> None:
    best = AlphaOptions(path="best")
    assert best.profiles == ("flat", "lines_paper")
    assert (best.alphas("flat")[-1], best.alphas("lines_paper")[-1]) == (1.0, 1.5)
    further = AlphaOptions(path="best", max_alpha=2.0)
    assert (further.alphas("flat")[-1], further.alphas("lines_paper")[-1]) == (1.0, 2.0)
    assert AlphaOptions(max_alpha=0.5).alphas("flat") == grid(0.05, 0.5)


def test_what_a_merge_gives_is_searched_to_three_in_longer_steps_beyond_one() -> None:
    merged = AlphaOptions(path="best", max_flat_alpha=3.0)
    for profile in merged.profiles:
        alphas = merged.alphas(profile)
        assert alphas[:21] == grid()
        assert alphas[21:] == pytest.approx([1 + index / 10 for index in range(1, 21)])
        assert alphas[-1] == 3.0
    assert AlphaOptions(max_alpha=2.0, max_flat_alpha=3.0).alphas("flat")[-1] == 2.0
    assert AlphaOptions(step=0.75, max_alpha=1.5, max_flat_alpha=3.0).alphas("flat") == (0.0, 0.75, 1.0, 1.5)
    nodes = AlphaOptions(strategy="interpolated", max_flat_alpha=3.0).node_alphas("flat")
    assert nodes == pytest.approx((0.0, 0.15, 0.45, 0.9, 1.5, 2.25, 3.0), abs=0.011)


@given(st.floats(0.01, 0.5), st.sampled_from(["flat", "lines"]))
def test_there_are_as_many_nodes_as_asked_and_both_ends_among_them(step: float, profile: str) -> None:
    options = AlphaOptions(path=profile, strategy="interpolated", step=step)  # type: ignore[arg-type]
    nodes = options.node_alphas(profile)
    assert len(nodes) == 6
    assert list(nodes) == sorted(set(nodes))
    assert (nodes[0], nodes[-1]) == (0.0, options.max_alpha_of(profile))


def test_nodes_are_alphas_to_choose_from_on_a_fine_grid() -> None:
    lines = AlphaOptions(path="lines", strategy="interpolated")
    assert set(lines.node_alphas("lines")) <= set(lines.alphas("lines"))
