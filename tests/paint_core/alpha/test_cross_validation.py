from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.alpha import CurvePoint
from paint_core.alpha.cross_validation import (
    fold_tasks,
    labelled_images,
    mean_scores,
    stratified_folds,
    sum_curves,
    sum_scores,
)
from paint_core.errors import ConfigError
from paint_core.evaluation import Score
from paint_core.evaluation.statistics import wilson_interval
from paint_core.models import BaseModel
from tests.paint_core import tiny

LABELS = st.lists(st.integers(0, 4), min_size=10, max_size=60).map(torch.tensor)


@given(LABELS, st.integers(2, 10), st.integers(0, 3))
def test_folds_hold_every_image_once_and_every_class_evenly(labels: torch.Tensor, folds: int, seed: int) -> None:
    parts = stratified_folds(labels, folds, seed)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for label in range(5):
        counts = [int((labels[part] == label).sum()) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_folds_are_drawn_from_the_seed() -> None:
    labels = torch.zeros(30, dtype=torch.int64)
    first, again, other = (torch.cat(stratified_folds(labels, 3, seed)).tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("folds", [1, 11])
def test_folds_that_cannot_be_are_refused(folds: int) -> None:
    with pytest.raises(ConfigError, match=r"choose 2\.\.10"):
        stratified_folds(torch.zeros(10, dtype=torch.int64), folds)


def test_in_each_fold_training_and_validation_share_nothing_and_are_everything(tiny_base: BaseModel) -> None:
    task = tiny.colour_task(tiny_base, "colours", seed=1)
    whole = {image.numpy().tobytes() for image in labelled_images(task).images}
    assert len(whole) == 48 + 24
    held_out = []
    for fold in fold_tasks(task, 3):
        assert fold.train is not None
        train, validation = (
            {image.numpy().tobytes() for image in split.images} for split in (fold.train, fold.validation)
        )
        assert train.isdisjoint(validation)
        assert train | validation == whole
        assert fold.test is task.test
        held_out.append(validation)
    assert set.union(*held_out) == whole
    assert sum(map(len, held_out)) == len(whole)


def score(correct: int, total: int, loss: float) -> Score:
    return Score(correct, total, loss, ece=0.1, correct_top5=total)


def test_summed_scores_are_those_of_all_images_together() -> None:
    whole = sum_scores([score(1, 2, 3.0), score(5, 6, 1.0)])
    assert (whole.correct, whole.total, whole.correct_top5) == (6, 8, 8)
    assert whole.loss == pytest.approx((2 * 3.0 + 6 * 1.0) / 8)
    assert whole.ece == pytest.approx(0.1)


def test_the_mean_of_scores_on_the_same_images_counts_each_image_once_and_stays_exact() -> None:
    mean = mean_scores([score(17, 24, 3.0), score(18, 24, 1.0), score(18, 24, 2.0)])
    assert (mean.correct, mean.total, mean.correct_top5, mean.loss) == (Fraction(53, 3), 24, 24, 2.0)
    assert mean.accuracy == pytest.approx(53 / 72)
    assert mean.interval() == pytest.approx(wilson_interval(Fraction(53, 3), 24))
    assert mean_scores([score(18, 24, 1.0)] * 5).interval() == pytest.approx((0.551, 0.880), abs=5e-4)
    with pytest.raises(ConfigError, match="the same images"):
        mean_scores([score(1, 2, 0.0), score(1, 3, 0.0)])


def test_summed_curves_stand_where_all_have_points_and_are_measured_where_all_are() -> None:
    first = [CurvePoint(alpha, {"new": score(1, 4, 0.0)}) for alpha in (1.0, 0.0, 0.5)]
    second = [CurvePoint(alpha, {"new": score(2, 4, 0.0)}, measured=alpha != 0.5) for alpha in (0.0, 0.5, 0.7)]
    curve = sum_curves([first, second])
    assert [(point.alpha, point.measured) for point in curve] == [(0.0, True), (0.5, False)]
    assert all((point.scores["new"].correct, point.scores["new"].total) == (3, 8) for point in curve)


def test_the_profile_of_a_summed_curve_is_that_of_its_parts() -> None:
    curve = [CurvePoint(0.5, {"new": score(1, 4, 0.0)}, profile="lines")]
    assert sum_curves([curve, curve])[0].profile == "lines"
