import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.alpha import FeatureCurve, Path, PathEvaluator, barycentric_weights, evaluate_curve, grid
from paint_core.alpha.interpolation import BEND
from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.models import BaseModel
from tests.paint_core import tiny
from tests.paint_core.alpha.test_curve import random_tau

nodes_strategy = st.lists(st.integers(0, 40), min_size=2, max_size=7, unique=True).map(
    lambda numbers: tuple(number / 40 for number in sorted(numbers))
)


def feature_curve(
    nodes: tuple[float, ...], features: torch.Tensor, labels: torch.Tensor, bend: float = BEND
) -> FeatureCurve:
    return FeatureCurve(
        nodes=nodes,
        features={"task": features},
        labels={"task": labels},
        heads={"task": torch.eye(features.shape[-1])},
        classnames={"task": tuple(f"class {index}" for index in range(features.shape[-1]))},
        logit_scale=10.0,
        bend=bend,
    )


@given(nodes_strategy, st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([0.0, BEND, 2.0]))
def test_features_polynomial_in_the_bent_scale_are_interpolated_exactly(
    nodes: tuple[float, ...], seed: int, share: float, bend: float
) -> None:
    coefficients = torch.randn(len(nodes), 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def polynomial(alpha: float) -> torch.Tensor:  # of degree K - 1
        place = math.log1p(bend * alpha) / bend if bend else alpha
        return torch.stack([term * place**power for power, term in enumerate(coefficients)]).sum(dim=0)

    features = torch.stack([polynomial(node) for node in nodes])
    curve = feature_curve(nodes, features, torch.zeros(5, dtype=torch.int64), bend)
    alpha = min(nodes[0] + share * (nodes[-1] - nodes[0]), nodes[-1])
    torch.testing.assert_close(curve.at(alpha, "task"), polynomial(alpha), rtol=1e-6, atol=1e-6)


@given(nodes_strategy, st.floats(0, 1))
def test_the_weights_of_the_nodes_sum_to_one(nodes: tuple[float, ...], share: float) -> None:
    alpha = min(nodes[0] + share * (nodes[-1] - nodes[0]), nodes[-1])
    weights = barycentric_weights(nodes, alpha, BEND)
    assert sum(weights) == pytest.approx(1)
    if alpha in nodes:
        assert [node for node, weight in zip(nodes, weights, strict=True) if weight] == [alpha]


def test_outside_the_nodes_nothing_is_predicted() -> None:
    curve = feature_curve((0.0, 0.5, 1.0), torch.ones(3, 2, 2), torch.zeros(2, dtype=torch.int64))
    for alpha in (-0.01, 1.01, float("nan")):
        with pytest.raises(ConfigError, match=r"0\.\.1"):
            curve.scores(alpha)


@pytest.fixture(scope="module")
def measured(tiny_base: BaseModel) -> PathEvaluator:
    names = ("colours", "others")
    tasks = {name: tiny.colour_task(tiny_base, name, seed=place) for place, name in enumerate(names)}
    path = Path.of(random_tau(tiny_base, 0.03, seed=0))
    return PathEvaluator(tiny_base, path, {name: (task.head, task.validation) for name, task in tasks.items()})


def through(evaluator: PathEvaluator, nodes: tuple[float, ...]) -> FeatureCurve:
    at_nodes = {node: evaluator.features(node) for node in nodes}
    return FeatureCurve.build(evaluator.base, at_nodes, evaluator.tasks)


def test_at_the_nodes_the_curve_is_the_truth(measured: PathEvaluator) -> None:
    nodes = (0.0, 0.3, 0.8, 1.0)
    points = through(measured, nodes).curve(nodes)
    assert points == [measured.point(node) for node in nodes]
    assert all(point.measured for point in points)


def test_between_the_nodes_of_a_real_path_the_features_are_close(measured: PathEvaluator) -> None:
    curve = through(measured, (0.0, 0.1, 0.35, 0.65, 0.9, 1.0))
    rough = through(measured, (0.0, 1.0))
    for alpha in (0.05, 0.2, 0.5, 0.8):
        truth = measured.features(alpha)["colours"]
        error, rough_error = ((each.at(alpha, "colours") - truth).norm() / truth.norm() for each in (curve, rough))
        assert error < 2e-3
        assert error < rough_error / 10
        assert not curve.curve([alpha])[0].measured


def test_the_order_in_which_nodes_come_does_not_matter(measured: PathEvaluator) -> None:
    at_nodes = {node: measured.features(node) for node in (0.0, 0.4, 0.7, 1.0)}
    built = FeatureCurve.build(measured.base, dict(reversed(at_nodes.items())), measured.tasks)
    few = FeatureCurve.build(measured.base, {node: at_nodes[node] for node in (0.4, 1.0)}, measured.tasks)
    grown = few.with_node(0.0, at_nodes[0.0]).with_node(0.7, at_nodes[0.7])
    assert few.nodes == (0.4, 1.0)
    assert grown.nodes == built.nodes == (0.0, 0.4, 0.7, 1.0)
    for name in measured.tasks:
        assert torch.equal(grown.features[name], built.features[name])
    with pytest.raises(ConfigError, match="already"):
        grown.with_node(0.7, at_nodes[0.7])


def test_one_node_makes_no_curve(measured: PathEvaluator) -> None:
    with pytest.raises(ConfigError):
        through(measured, (0.5,))


def test_other_label_sets_are_judged_without_the_model(tiny_base: BaseModel, measured: PathEvaluator) -> None:
    curve = through(measured, (0.0, 0.5, 1.0))
    head, images = measured.tasks["colours"]
    merged = torch.stack([head[0], head[1:].mean(dim=0)])  # two classes: red or not
    labels = (images.labels > 0).long()
    scores = curve.scores(0.5, {"colours": merged}, {"colours": labels})
    assert list(scores) == ["colours"]
    own = type(images)(images.images, labels, ("red", "other"))
    (truth,) = evaluate_curve(tiny_base, random_tau(tiny_base, 0.03, seed=0), {"colours": (merged, own)}, [0.5])
    assert scores == truth.scores


def test_a_stored_curve_answers_as_the_one_it_was_made_of(measured: PathEvaluator) -> None:
    curve = through(measured, (0.0, 0.35, 0.65, 1.0))
    data = curve.to_bytes()
    again = FeatureCurve.from_bytes(data)
    assert data == curve.to_bytes()
    assert (again.nodes, again.profile, again.classnames) == (curve.nodes, curve.profile, curve.classnames)
    assert (again.logit_scale, again.logit_bias) == (curve.logit_scale, curve.logit_bias)
    for point, stored in zip(curve.curve(grid()), again.curve(grid()), strict=True):
        for name, score in point.scores.items():
            assert stored.scores[name].correct == score.correct
            assert stored.scores[name].loss == pytest.approx(score.loss, abs=1e-2)


def test_a_curve_that_was_stored_before_the_scale_was_bent_stays_as_it_was(measured: PathEvaluator) -> None:
    data = dataclasses.replace(through(measured, (0.0, 0.5, 1.0)), bend=0.0).to_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    header = data[8:size].replace(b'\\"bend\\": 0.0, ', b"")
    old = len(header).to_bytes(8, "little") + header + data[size:]
    assert len(old) < len(data)
    assert FeatureCurve.from_bytes(old).bend == 0.0


def test_features_are_stored_in_half_the_bytes_unless_that_changes_an_answer() -> None:
    labels = torch.zeros(64, dtype=torch.int64)
    clear = torch.tensor([2.0, 1.0]).expand(2, 64, 2).clone()
    # The second logit is ahead by less than float16 can tell.
    close = torch.tensor([1.0, 1.0001]).expand(2, 64, 2).clone()
    huge = 1e6 * clear
    halves = [len(feature_curve((0.0, 1.0), each, labels).to_bytes()) for each in (clear, close, huge)]
    assert halves[0] < halves[1] == halves[2]
    again = FeatureCurve.from_bytes(feature_curve((0.0, 1.0), close, labels).to_bytes())
    assert again.scores(0.5)["task"].correct == 0


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:40], lambda data: data[:-8]])
def test_what_is_no_stored_curve_is_refused(measured: PathEvaluator, damage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(WeightsMismatchError, match="search alpha again"):
        FeatureCurve.from_bytes(damage(through(measured, (0.0, 1.0)).to_bytes()))


def test_every_alpha_between_the_nodes_is_checked_before_features_are_stored_in_half_the_bytes() -> None:
    # Right at alpha 0 and wrong at 1 in either precision; halfway it is wrong, but rounded to float16 it is right.
    ends = torch.tensor([[[1.0, 0.0]], [[-0.9001, 0.09995]]])
    curve = dataclasses.replace(feature_curve((0.0, 1.0), ends, torch.zeros(1, dtype=torch.int64)), bend=0.0)
    rounded = dataclasses.replace(curve, features={"task": ends.half().float()})
    right = [[each.scores(alpha)["task"].correct for alpha in (0.0, 0.5, 1.0)] for each in (curve, rounded)]
    assert right == [[1, 0, 0], [1, 1, 0]]
    assert FeatureCurve.from_bytes(curve.to_bytes()).scores(0.5)["task"].correct == 0
