import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.alpha import (
    NODES,
    AlphaOptions,
    AlphaSearch,
    CurvePoint,
    EvaluationTask,
    Goal,
    Path,
    PathEvaluator,
    choose_alpha,
    evaluate_curve,
    grid,
    search_alpha,
)
from paint_core.alpha.interpolation import barycentric_weights
from paint_core.alpha.strategies import _is_apart, interpolate, measure_nodes
from paint_core.config.finetune import FinetuneConfig
from paint_core.config.precision import has_bf16
from paint_core.data import LabelledImages, Task
from paint_core.errors import ConfigError, NoAcceptableAlphaError
from paint_core.evaluation import encode, predictions
from paint_core.models import BaseModel
from paint_core.training.finetuning import finetune
from paint_core.weights import TaskVector, Term, task_vector
from tests.paint_core import tiny
from tests.paint_core.alpha.test_curve import random_tau

GRID, INTERPOLATED = AlphaOptions(), AlphaOptions(strategy="interpolated")


@pytest.fixture(scope="module")
def task(tiny_base: BaseModel) -> Task:
    return tiny.colour_task(tiny_base, "colours", seed=1)


@pytest.fixture(scope="module")
def tau(tiny_base: BaseModel, task: Task) -> TaskVector:
    """A trained update: a random one has no best alpha."""
    assert task.train is not None
    config = FinetuneConfig(iterations=20, batch_size=16, learning_rate=1e-3, warmup_steps=2)
    return task_vector(tiny_base.visual.state_dict(), finetune(tiny_base, task.head, task.train, config))


@pytest.fixture(scope="module")
def validation(tiny_base: BaseModel, task: Task) -> dict[str, EvaluationTask]:
    """The task to learn, and one that theta_0 masters, because its classes are features of theta_0."""
    images = tiny.coloured(tiny_base, 60, seed=20).images
    features = F.normalize(encode(tiny_base.visual, images, tiny_base.preprocess), dim=-1)
    head = features[torch.randperm(60, generator=torch.Generator().manual_seed(1))[:8]]
    mastered = LabelledImages(images, predictions(features, head), tuple("abcdefgh"))
    return {"colours": (task.head, task.validation), "mastered": (head, mastered)}


@pytest.fixture(scope="module")
def search(tiny_base: BaseModel, tau: TaskVector, validation: dict[str, EvaluationTask]) -> Callable[..., AlphaSearch]:
    def run(options: AlphaOptions, **others: Any) -> AlphaSearch:
        return search_alpha(tiny_base, Path.of(tau), validation, ["colours"], ["mastered"], options, **others)

    once = cache(run)  # several tests compare with the same search
    return lambda options, **others: run(options, **others) if others else once(options)


def test_the_grid_search_is_the_measured_curve_and_the_rule_on_it(
    tiny_base: BaseModel,
    tau: TaskVector,
    validation: dict[str, EvaluationTask],
    search: Callable[..., AlphaSearch],
) -> None:
    found = search(GRID)
    assert list(found.curve) == evaluate_curve(tiny_base, tau, validation, grid(), paired=True)
    assert found.choice == choose_alpha(found.curve, ["colours"], ["mastered"])
    assert 0 < found.choice.alpha < 1, "the fixture should have a best alpha inside"
    assert (found.profile, found.num_forwards) == ("flat", 20)


def test_a_grid_leaves_the_interpolant_of_its_own_points(search: Callable[..., AlphaSearch]) -> None:
    whole, quick = search(GRID), search(INTERPOLATED)
    ours, theirs = whole.interpolants["flat"], quick.interpolants["flat"]
    assert ours.nodes == NODES
    assert set(ours.nodes) <= set(theirs.nodes)
    for name in ours.labels:
        torch.testing.assert_close(ours.at(0.55, name), theirs.at(0.55, name), atol=0, rtol=0)
    measured = {point.alpha: {name: score.correct for name, score in point.scores.items()} for point in whole.curve}
    predicted = {
        point.alpha: {name: score.correct for name, score in point.scores.items()} for point in ours.curve(grid())
    }
    assert all(predicted[node] == measured[node] for node in ours.nodes)
    misses = [abs(measured[alpha][name] - predicted[alpha][name]) for alpha in measured for name in ours.labels]
    assert sum(misses) <= 0.01 * 60 * len(misses)
    assert search(replace(GRID, step=0.5)).interpolants["flat"].nodes == (0.0, 0.5, 1.0)


def test_interpolation_chooses_what_the_grid_chooses_from_six_forwards_at_most(
    search: Callable[..., AlphaSearch],
) -> None:
    whole, quick = search(GRID), search(replace(INTERPOLATED, step=0.05))
    assert quick.choice.alpha == whole.choice.alpha
    assert quick.choice.combined == whole.choice.combined
    assert quick.num_forwards <= 6
    assert [point.alpha for point in quick.curve] == [point.alpha for point in whole.curve]
    truth = {point.alpha: point for point in whole.curve}
    assert all(point == truth[point.alpha] for point in quick.curve if point.measured)
    assert 6 <= sum(point.measured for point in quick.curve) <= 7
    assert set(quick.interpolants["flat"].nodes) == {point.alpha for point in quick.curve if point.measured}


def test_an_interpolated_curve_has_101_points_and_its_choice_is_no_worse_than_the_grids(
    search: Callable[..., AlphaSearch],
) -> None:
    whole, quick = search(GRID), search(INTERPOLATED)
    assert [point.alpha for point in quick.curve] == [index / 100 for index in range(101)]
    assert quick.choice.combined >= whole.choice.combined
    assert quick.num_forwards <= 6


def test_in_bf16_all_points_of_a_search_are(search: Callable[..., AlphaSearch]) -> None:
    whole, half = search(GRID), search(replace(GRID, precision="bf16"))
    differs = half.curve[0].scores["colours"].loss != whole.curve[0].scores["colours"].loss
    assert differs == has_bf16(torch.device("cpu"))  # elsewhere it would be slower, so fp32 is used
    for task in ("colours", "mastered"):
        losses = [[point.scores[task].loss for point in each.curve] for each in (whole, half)]
        assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_on_point_is_told_of_true_evaluations_only_and_known_ones_are_not_told_again(
    search: Callable[..., AlphaSearch],
) -> None:
    for options in (GRID, INTERPOLATED):
        seen: list[CurvePoint] = []
        first = search(options, on_point=seen.append)
        assert all(point.measured for point in seen)
        assert len({point.alpha for point in seen}) == len(seen)
        again: list[CurvePoint] = []
        second = search(options, known=seen[:4], on_point=again.append)
        assert [*seen[:4], *again] == seen
        assert (second.choice, second.curve) == (first.choice, first.curve)


def test_known_points_and_the_baseline_save_forwards(
    tiny_base: BaseModel, validation: dict[str, EvaluationTask], search: Callable[..., AlphaSearch]
) -> None:
    first = search(GRID)
    assert search(GRID, known=first.curve).num_forwards == len(NODES) - 1  # whose features the interpolant needs
    baseline = {
        name: encode(tiny_base.visual, images.images, tiny_base.preprocess) for name, (_, images) in validation.items()
    }
    assert search(INTERPOLATED, baseline=baseline).curve == search(INTERPOLATED).curve


def test_the_best_path_is_the_better_of_both_and_shares_the_start(search: Callable[..., AlphaSearch]) -> None:
    flat, lines = search(AlphaOptions(path="flat")), search(AlphaOptions(path="lines_paper"))
    seen: list[CurvePoint] = []
    best = search(AlphaOptions(path="best"), on_point=seen.append)
    assert best.curves == {"flat": flat.curve, "lines_paper": lines.curve}
    winner = lines if lines.choice.combined > flat.choice.combined else flat
    assert (best.profile, best.choice, best.curve) == (winner.profile, winner.choice, winner.curve)
    assert best.num_forwards == flat.num_forwards + lines.num_forwards == 20 + 30
    assert [point.profile for point in seen if point.alpha == 0] == ["flat"]
    assert {point.profile for point in seen} == {"flat", "lines_paper"}
    assert search(AlphaOptions(path="best"), known=seen).num_forwards == 2 * (len(NODES) - 1)


def test_between_equal_paths_the_flat_one_is_kept(tiny_base: BaseModel, task: Task) -> None:
    nothing = {name: torch.zeros_like(tensor) for name, tensor in tiny_base.visual.state_dict().items()}
    validation = {"colours": (task.head, task.validation)}
    options = AlphaOptions(path="best", step=0.5)
    found = search_alpha(tiny_base, Path.of(nothing), validation, ["colours"], [], options)
    assert (found.profile, found.choice.alpha) == ("flat", 0.0)


@pytest.mark.parametrize("strategy", ["grid", "interpolated"])
def test_a_floor_holds_in_truth(search: Callable[..., AlphaSearch], strategy: Any) -> None:
    free = search(AlphaOptions(rule="floor", max_supported_drop=100.0, strategy=strategy))
    bound = search(AlphaOptions(rule="floor", max_supported_drop=60.0, strategy=strategy))
    start = bound.curve[0].scores["mastered"]
    chosen = next(point for point in bound.curve if point.alpha == bound.choice.alpha)
    assert chosen.measured
    assert 100 * (start.correct - chosen.scores["mastered"].correct) <= 60 * start.total
    assert 0 < bound.choice.alpha < free.choice.alpha


@pytest.mark.parametrize("strategy", ["grid", "interpolated"])
def test_no_acceptable_alpha_on_any_path_carries_the_curves_of_all(
    search: Callable[..., AlphaSearch], strategy: Any
) -> None:
    options = AlphaOptions(rule="floor", max_supported_drop=0.0, path="best", strategy=strategy, step=0.5)
    with pytest.raises(NoAcceptableAlphaError, match=r"flat: .* lines_paper: ") as caught:
        search(options)
    assert [(point.profile, point.alpha) for point in caught.value.curve] == [
        *(("flat", alpha) for alpha in grid(0.5)),
        *(("lines_paper", alpha) for alpha in grid(0.5, 1.5)),
    ]


def test_where_every_alpha_breaks_the_certified_limits_the_curves_are_kept_and_nothing_is_added(
    search: Callable[..., AlphaSearch],
) -> None:
    options = AlphaOptions(rule="certified", max_mean_drop=0.0, path="best", step=0.5)
    found = search(options)
    assert (found.choice.alpha, found.choice.certificate, found.profile) == (0.0, None, "flat")
    assert found.choice.reason.startswith("no acceptable patch: flat: every alpha drops by more than a limit")
    assert set(found.curves) == set(found.interpolants) == {"flat", "lines_paper"}


def test_a_path_without_an_acceptable_alpha_leaves_the_choice_to_the_other(search: Callable[..., AlphaSearch]) -> None:
    flat, lines = (
        [point.scores["mastered"] for point in search(AlphaOptions(path=path, step=0.1)).curve]
        for path in ("flat", "lines_paper")
    )
    assert lines[1].correct > flat[1].correct, "the fixture should be hurt less by lines"
    drop = 100 * (60 - lines[1].correct) / 60 + 0.01
    options = AlphaOptions(rule="floor", max_supported_drop=drop, path="best", step=0.1)
    found = search(options)
    assert found.profile == "lines_paper"
    assert set(found.curves) == {"flat", "lines_paper"}


def test_a_name_without_images_or_an_impossible_floor_is_refused_before_anything_is_evaluated(
    tiny_base: BaseModel, tau: TaskVector, validation: dict[str, EvaluationTask]
) -> None:
    def refuse(point: CurvePoint) -> None:
        raise AssertionError(point)

    path = Path([Term(tau, 1.0)])
    floor = AlphaOptions(rule="floor", max_supported_drop={"other": 1.0})
    for patching, supported, options in (
        (["colours"], ["missing"], GRID),
        ([], ["mastered"], GRID),
        (["colours"], ["mastered"], floor),
        (["colours"], [], AlphaOptions(rule="floor", max_supported_drop=1.0)),
    ):
        with pytest.raises(ConfigError):
            search_alpha(tiny_base, path, validation, patching, supported, options, on_point=refuse)


class MadeUpPath(PathEvaluator):
    """A path on which the angle of every image's feature is a given function of alpha; the tower is not asked."""

    def __init__(self, base: BaseModel, angle: Callable[[float], float], thresholds: Mapping[str, float]) -> None:
        side = base.image_size
        labels = torch.zeros(100, dtype=torch.int64)
        images = LabelledImages(torch.zeros(100, side, side, 3, dtype=torch.uint8), labels, ("right", "left"))
        # An image of a task is right while its own angle, spread over a tenth, is below the task's threshold.
        heads = {name: _border(at) for name, at in thresholds.items()}
        super().__init__(
            base, Path.of(random_tau(base, 0.0, 0)), {name: (head, images) for name, head in heads.items()}
        )
        self.angle, self.asked = angle, list[float]()

    def features(self, alpha: float) -> Mapping[str, Tensor]:
        self.asked.append(alpha)
        angles = self.angle(alpha) + torch.linspace(-0.05, 0.05, 100)
        return dict.fromkeys(self.tasks, torch.stack([angles.cos(), angles.sin()], dim=1))


def _border(at: float) -> Tensor:
    """Two classes, the first below the angle and the second above."""
    angles = torch.tensor([at - 0.3, at + 0.3])
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def smooth(alpha: float) -> float:
    return 0.5 - 0.5 * alpha


def bump(alpha: float) -> float:
    """As smooth as that at the default nodes; between them, near 0.75, it leaps where no polynomial expects it."""
    return smooth(alpha) + 0.4 * math.exp(-(((alpha - 0.75) / 0.03) ** 2))


def test_a_smooth_path_is_predicted_well_and_verified_once(tiny_base: BaseModel) -> None:
    evaluator = MadeUpPath(tiny_base, smooth, {"new": 0.27})
    interpolant = measure_nodes(evaluator, INTERPOLATED.node_alphas("flat"))
    num_asked = len(evaluator.asked)
    curve, final = interpolate(evaluator, interpolant, grid(), Goal(["new"], []), tolerance_points=0.5)
    assert set(evaluator.asked[num_asked:]) == {0.6}  # the first at which every image is right
    assert final.nodes == (0.0, 0.15, 0.35, 0.55, 0.6, 0.85, 1.0)
    truth = [evaluator.point(alpha) for alpha in grid()]
    assert [point.scores["new"].correct for point in curve] == [point.scores["new"].correct for point in truth]
    assert tuple(point.alpha for point in curve if point.measured) == final.nodes


def test_where_truth_and_prediction_disagree_the_choice_is_made_again(tiny_base: BaseModel) -> None:
    goal = Goal(["new"], [])
    evaluator = MadeUpPath(tiny_base, bump, {"new": 0.18})
    interpolant = measure_nodes(evaluator, INTERPOLATED.node_alphas("flat"))
    promised = goal.choose(interpolant.curve(grid()))
    curve, final = interpolate(evaluator, interpolant, grid(), goal, tolerance_points=0.5)
    assert promised.alpha == 0.75
    assert promised.alpha in final.nodes
    truth = goal.choose([evaluator.point(alpha) for alpha in grid()])
    assert goal.choose([point for point in curve if point.measured]).combined == truth.combined
    assert truth.alpha > promised.alpha


def test_a_tolerance_wide_enough_believes_the_prediction(tiny_base: BaseModel) -> None:
    evaluator = MadeUpPath(tiny_base, bump, {"new": 0.18})
    interpolant = measure_nodes(evaluator, INTERPOLATED.node_alphas("flat"))
    _, final = interpolate(evaluator, interpolant, grid(), Goal(["new"], []), tolerance_points=100)
    assert set(final.nodes) - set(interpolant.nodes) == {0.75}


def test_a_floor_that_fails_in_truth_is_no_agreement_however_wide_the_tolerance(tiny_base: BaseModel) -> None:
    # Both tasks read the same angle: in the leap the supported one is lost as well.
    goal = Goal(["new"], ["old"], "floor", 0.0)
    evaluator = MadeUpPath(tiny_base, bump, {"new": 0.18, "old": 0.56})
    interpolant = measure_nodes(evaluator, INTERPOLATED.node_alphas("flat"))
    assert goal.choose(interpolant.curve(grid())).alpha == 0.75
    assert evaluator.point(0.75).scores["old"].correct < evaluator.point(0.0).scores["old"].correct == 100
    curve, final = interpolate(evaluator, interpolant, grid(), goal, tolerance_points=100)
    assert 0.75 in final.nodes
    chosen = goal.choose([point for point in curve if point.measured])
    assert chosen.alpha not in (0.0, 0.75)
    assert evaluator.point(chosen.alpha).scores["old"].correct == 100


def test_a_verified_alpha_next_to_a_node_is_measured_but_no_node_itself(tiny_base: BaseModel) -> None:
    evaluator = MadeUpPath(tiny_base, smooth, {"new": 0.24})
    alphas = grid(0.01)
    curve, final = interpolate(
        evaluator, measure_nodes(evaluator, (0.0, 0.35, 0.64, 1.0)), alphas, Goal(["new"], []), tolerance_points=0.5
    )
    assert final.nodes == (0.0, 0.35, 0.64, 1.0)
    assert [point.alpha for point in curve if point.measured] == [0.0, 0.35, 0.62, 0.64, 1.0]


def test_no_alpha_that_may_be_verified_makes_the_curve_multiply_rounding(tiny_base: BaseModel) -> None:
    """A feature's rounding is multiplied by the sum of the weights: by 2.4 at most before the search adds nodes."""
    nodes = INTERPOLATED.node_alphas("flat")
    for wanted in range(1, 100):
        # Every image is right from this alpha on, a hair before the alpha of the grid.
        evaluator = MadeUpPath(tiny_base, smooth, {"new": 0.5501 - wanted / 200})
        interpolant = measure_nodes(evaluator, nodes)
        near = [alpha for alpha in grid(0.01) if alpha == 0 or abs(alpha - wanted / 100) < 0.05]
        _, final = interpolate(evaluator, interpolant, near, Goal(["new"], []), tolerance_points=0.5)
        assert wanted / 100 in evaluator.asked
        assert max(sum(map(abs, barycentric_weights(final.nodes, alpha, final.bend))) for alpha in grid(0.01)) < 12


def test_one_image_is_no_disagreement(tiny_base: BaseModel) -> None:
    def stepping(alpha: float) -> float:
        return smooth(alpha) + 0.001 * (0.59 < alpha < 0.61)  # a hundredth of the images

    evaluator = MadeUpPath(tiny_base, stepping, {"new": 0.2505})
    interpolant = measure_nodes(evaluator, INTERPOLATED.node_alphas("flat"))
    predicted = {point.alpha: point.scores["new"].correct for point in interpolant.curve(grid())}
    assert predicted[0.6] - evaluator.point(0.6).scores["new"].correct == 1
    _, final = interpolate(evaluator, interpolant, grid(), Goal(["new"], []), tolerance_points=0.0)
    assert set(final.nodes) - set(interpolant.nodes) == {0.6}


def test_a_path_that_no_polynomial_follows_ends_as_the_grid(tiny_base: BaseModel) -> None:
    nodes = INTERPOLATED.node_alphas("flat")

    def treacherous(alpha: float) -> float:
        return 0.1 * (alpha - 0.5) ** 2 + (0.0 if alpha in nodes else 0.02 + 0.02 * math.sin(131 * alpha))

    goal = Goal(["new"], [])
    evaluator = MadeUpPath(tiny_base, treacherous, {"new": -0.01})
    curve, final = interpolate(evaluator, measure_nodes(evaluator, nodes), grid(), goal, tolerance_points=0.0)
    assert len(final.nodes) == 12
    assert curve == [evaluator.point(alpha) for alpha in grid()]
    assert all(point.measured for point in curve)


@pytest.mark.parametrize(("alpha", "is_apart"), [(0.04, False), (0.05, True), (0.96, False), (0.5, True), (1.14, True)])
def test_a_node_is_added_only_a_twentieth_of_the_path_from_the_next(alpha: float, is_apart: bool) -> None:
    assert _is_apart(alpha, (0.0, 1.0)) is is_apart
    assert _is_apart(3 * alpha, (0.0, 1.2, 3.0)) is is_apart
