import copy

import pytest
import torch

from paint_core.alpha import CurvePoint, Path, evaluate_curve, grid
from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.evaluation import encode, evaluate
from paint_core.models import BaseModel
from paint_core.weights import Term, fingerprint, mix_into
from tests.paint_core import tiny

Tau = dict[str, torch.Tensor]


def random_tau(base: BaseModel, size: float, seed: int) -> Tau:
    source = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=source) * size for name, tensor in base.visual.state_dict().items()
    }


@pytest.fixture(scope="module")
def tau(tiny_base: BaseModel) -> Tau:
    return random_tau(tiny_base, 0.1, seed=0)


def test_a_curve_holds_the_scores_of_the_mixes(tiny_base: BaseModel, tau: Tau) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    before = fingerprint(tiny_base.model.state_dict())
    curve = evaluate_curve(tiny_base, tau, {"colours": (task.head, task.validation)}, [0.0, 0.7, 1.0])
    assert fingerprint(tiny_base.model.state_dict()) == before
    assert curve[0].scores["colours"] == evaluate(tiny_base.visual, tiny_base, task.head, task.validation)
    visual = copy.deepcopy(tiny_base.visual)
    for scored in curve:
        mix_into(visual, tiny_base.visual.state_dict(), [Term(tau, scored.alpha)])
        assert scored.scores["colours"] == evaluate(visual, tiny_base, task.head, task.validation)


def test_alpha_moves_the_moving_terms_only_each_by_its_own_coefficient(tiny_base: BaseModel, tau: Tau) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    second, third = random_tau(tiny_base, 0.1, seed=1), random_tau(tiny_base, 0.1, seed=2)
    path = Path([Term(tau, 0.5, "lines"), Term(second, 0.25)], fixed=[Term(third, -1.0)])
    visual = copy.deepcopy(tiny_base.visual)
    for point in evaluate_curve(tiny_base, path, {"colours": (task.head, task.validation)}, [0.0, 0.6]):
        by_hand = [Term(third, -1.0), Term(tau, 0.5 * point.alpha, "lines"), Term(second, 0.25 * point.alpha)]
        mix_into(visual, tiny_base.visual.state_dict(), by_hand)
        assert point.scores["colours"] == evaluate(visual, tiny_base, task.head, task.validation)
        assert (point.profile, point.measured) == ("lines", True)


def test_another_profile_changes_the_moving_terms_and_not_the_fixed_ones(tau: Tau) -> None:
    path = Path([Term(tau, 0.5), Term(tau, 1.0)], fixed=[Term(tau, 0.3)])
    terms = path.with_profile("lines").terms(0.5)
    assert [(term.coefficient, term.profile) for term in terms] == [(0.3, "flat"), (0.25, "lines"), (0.5, "lines")]
    assert [term.profile for term in path.moving] == ["flat", "flat"]


def test_a_path_that_moves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError):
        Path([])


def test_an_alpha_that_is_no_number_and_a_strange_task_vector_are_refused(tiny_base: BaseModel, tau: Tau) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    tasks = {"colours": (task.head, task.validation)}
    with pytest.raises(ConfigError):
        evaluate_curve(tiny_base, tau, tasks, [float("nan")])
    with pytest.raises(WeightsMismatchError):
        evaluate_curve(tiny_base, {"strange": torch.ones(2)}, tasks, [1.0])


def test_given_baseline_features_stand_for_alpha_zero(tiny_base: BaseModel, tau: Tau) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    tasks = {"colours": (task.head, task.validation)}
    honest = encode(tiny_base.visual, task.validation.images, tiny_base.preprocess)
    whole = evaluate_curve(tiny_base, tau, tasks, [0.0, 1.0])
    assert evaluate_curve(tiny_base, tau, tasks, [0.0, 1.0], baseline={"colours": honest}) == whole
    forged = task.head[task.validation.labels]  # every image exactly where its class is
    curve = evaluate_curve(tiny_base, tau, tasks, [0.0, 1.0], baseline={"colours": forged})
    assert curve[0].scores["colours"].accuracy == 1
    assert curve[1] == whole[1]


def test_a_killed_search_goes_on_where_it_was(tiny_base: BaseModel, tau: Tau) -> None:
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


def test_interpolated_points_and_those_of_another_profile_are_not_taken_for_known(
    tiny_base: BaseModel, tau: Tau
) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    tasks = {"colours": (task.head, task.validation)}
    (truth,) = evaluate_curve(tiny_base, tau, tasks, [1.0])
    known = [CurvePoint(1.0, {}, measured=False), CurvePoint(1.0, {}, profile="lines")]
    assert evaluate_curve(tiny_base, tau, tasks, [1.0], known=known) == [truth]
