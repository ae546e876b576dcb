"""Rules that maximise another metric than the accuracy."""

from dataclasses import replace

import pytest

from paint_core.alpha import CurvePoint, choose_alpha, combined
from paint_core.alpha.cross_validation import mean_scores, sum_scores
from paint_core.errors import ConfigError
from paint_core.evaluation import Metric, Score


def point(alpha: float, new: tuple[int, float, float], old: tuple[int, float, float]) -> CurvePoint:
    scores = {
        name: Score(correct, 100, 0.0, 0.0, 100, 0, 0, balanced_accuracy=balanced, macro_f1=f1)
        for name, (correct, balanced, f1) in (("new", new), ("old", old))
    }
    return CurvePoint(alpha, scores)


CURVE = [
    point(0.0, (10, 0.1, 0.1), (90, 0.9, 0.9)),
    point(0.5, (90, 0.5, 0.7), (89, 0.9, 0.9)),
    point(0.8, (80, 0.8, 0.6), (88, 0.9, 0.9)),
    point(1.0, (70, 0.6, 0.8), (87, 0.8, 0.9)),
]


@pytest.mark.parametrize(("metric", "alpha", "noun"), [
    ("accuracy", 0.5, "accuracy"), ("balanced_accuracy", 0.8, "balanced accuracy"), ("macro_f1", 1.0, "macro-F1"),
])  # fmt: skip
def test_every_rule_maximises_the_metric(metric: Metric, alpha: float, noun: str) -> None:
    for rule, drop in (("combined", None), ("floor", 5.0), ("certified", 20.0)):
        choice = choose_alpha(CURVE, ["new"], ["old"], rule, drop, metric=metric)  # type: ignore[arg-type]
        assert choice.alpha == alpha, rule
        assert noun in choice.reason
    chosen = next(each for each in CURVE if each.alpha == alpha)
    values = [getattr(chosen.scores[name], metric) for name in ("new", "old")]
    assert combined(chosen, ["new"], ["old"], metric) == pytest.approx(sum(values) / 2)


def test_limits_are_of_accuracy_whatever_the_metric() -> None:
    for metric in ("balanced_accuracy", "macro_f1"):
        assert choose_alpha(CURVE, ["new"], ["old"], "floor", 1.5, metric=metric).alpha == 0.5  # type: ignore[arg-type]


def test_a_score_without_the_metric_is_refused_with_what_to_do() -> None:
    old = [replace(each, scores={name: replace(score, macro_f1=None) for name, score in each.scores.items()})
           for each in CURVE]  # fmt: skip
    with pytest.raises(ConfigError, match="use metric 'accuracy'"):
        choose_alpha(old, ["new"], ["old"], metric="macro_f1")
    assert choose_alpha(old, ["new"], ["old"], metric="balanced_accuracy").alpha == 0.8


def test_folds_are_averaged_by_their_images() -> None:
    parts = [Score(1, 10, 0, 0, 10, balanced_accuracy=0.1, macro_f1=0.3),
             Score(1, 30, 0, 0, 30, balanced_accuracy=0.5, macro_f1=0.3)]  # fmt: skip
    assert sum_scores(parts).balanced_accuracy == pytest.approx(0.4)
    assert sum_scores(parts).macro_f1 == pytest.approx(0.3)
    same = [replace(each, total=10) for each in parts]
    assert mean_scores(same).balanced_accuracy == pytest.approx(0.3)
    assert sum_scores([parts[0], replace(parts[1], macro_f1=None)]).macro_f1 is None
