import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.alpha import CurvePoint, choose_alpha, combined, evaluate_curve, grid
from paint_core.errors import ConfigError
from paint_core.evaluation import Score, evaluate
from paint_core.models import BaseModel
from paint_core.weights import Term, fingerprint, mix_into
from tests.paint_core import tiny


def test_the_grid_of_the_paper_has_21_exact_points() -> None:
    assert grid() == tuple(index / 20 for index in range(21))


@given(st.floats(0.001, 1))
def test_a_grid_rises_from_zero_to_one_exactly(step: float) -> None:
    alphas = grid(step)
    assert (alphas[0], alphas[-1]) == (0.0, 1.0)
    assert all(0 < later - earlier <= step + 1e-5 for earlier, later in itertools.pairwise(alphas))


@pytest.mark.parametrize("step", [0.0, -0.1, 1.5, float("nan")])
def test_a_step_that_makes_no_grid_is_refused(step: float) -> None:
    with pytest.raises(ConfigError):
        grid(step)


def point(alpha: float, **correct: int) -> CurvePoint:
    return CurvePoint(alpha, {name: Score(count, 100, 0.0, 0.0, count) for name, count in correct.items()})


def test_both_groups_weigh_one_half_whatever_their_sizes() -> None:
    scores = point(0.5, new=90, a=30, b=50, c=40)
    assert combined(scores, ["new"], ["a", "b", "c"]) == pytest.approx((0.9 + 0.4) / 2)
    assert combined(scores, ["new", "a"], ["b"]) == pytest.approx((0.6 + 0.5) / 2)


def test_without_supported_tasks_only_the_patching_tasks_count() -> None:
    assert combined(point(0.5, new=90, a=30), ["new"], []) == pytest.approx(0.9)
    choice = choose_alpha([point(0.0, new=1), point(1.0, new=2)], ["new"], [])
    assert choice.alpha == 1.0
    assert "patching" in choice.reason


def test_without_patching_tasks_or_points_there_is_no_choice() -> None:
    with pytest.raises(ConfigError):
        combined(point(0.5, new=90), [], ["new"])
    with pytest.raises(ConfigError):
        choose_alpha([], ["new"], [])


def test_the_best_combined_accuracy_wins() -> None:
    curve = [point(0.0, new=10, old=80), point(0.5, new=80, old=70), point(1.0, new=90, old=20)]
    choice = choose_alpha(curve, ["new"], ["old"])
    assert choice.alpha == 0.5
    assert choice.combined == pytest.approx(0.75)
    assert "75.00 %" in choice.reason


def test_among_equals_the_smaller_alpha_wins_in_any_order() -> None:
    curve = [
        point(0.8, new=70, old=60),
        point(0.3, new=60, old=70),
        point(0.5, new=65, old=65),
        point(0.0, new=1, old=9),
    ]
    for order in (curve, curve[::-1]):
        choice = choose_alpha(order, ["new"], ["old"])
        assert choice.alpha == 0.3
        assert "3 equal" in choice.reason


@pytest.fixture(scope="module")
def tau(tiny_base: BaseModel) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(tensor.shape, generator=source) * 0.1
        for name, tensor in tiny_base.visual.state_dict().items()
    }


def test_a_curve_holds_the_scores_of_the_mixes(tiny_base: BaseModel, tau: dict[str, torch.Tensor]) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    before = fingerprint(tiny_base.model.state_dict())
    curve = evaluate_curve(tiny_base, tau, {"colours": (task.head, task.validation)}, [0.0, 0.7, 1.0])
    assert fingerprint(tiny_base.model.state_dict()) == before
    assert curve[0].scores["colours"] == evaluate(tiny_base.visual, tiny_base, task.head, task.validation)
    visual = copy.deepcopy(tiny_base.visual)
    for scored in curve:
        mix_into(visual, tiny_base.visual.state_dict(), [Term(tau, scored.alpha)])
        assert scored.scores["colours"] == evaluate(visual, tiny_base, task.head, task.validation)


def test_a_killed_search_goes_on_where_it_was(tiny_base: BaseModel, tau: dict[str, torch.Tensor]) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    tasks = {"colours": (task.head, task.validation)}
    alphas = grid(0.25)
    whole = evaluate_curve(tiny_base, tau, tasks, alphas)
    seen: list[CurvePoint] = []

    class KilledError(Exception):
        """Stands for the kill."""

    def kill(done: CurvePoint) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise KilledError

    with pytest.raises(KilledError):
        evaluate_curve(tiny_base, tau, tasks, alphas, on_point=kill)
    new: list[CurvePoint] = []
    assert evaluate_curve(tiny_base, tau, tasks, alphas, known=seen, on_point=new.append) == whole
    assert [done.alpha for done in new] == [0.75, 1.0]
