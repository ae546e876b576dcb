import dataclasses
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paint_core.alpha import CurvePoint
from paint_core.errors import ConfigError
from paint_core.evaluation import Score
from paint_core.evaluation.statistics import mcnemar, wilson_interval
from paint_core.models import BaseModel
from paint_core.patching.analysis import (
    class_changes,
    distance_to_optimal,
    distance_to_specialised,
    measure_update,
    task_change,
)
from paint_core.weights import Term

LABELS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40).map(lambda rows: torch.tensor(rows).T)
NAMES = ("a", "b", "c", "d")


def score(correct: int, total: int = 100) -> Score:
    return Score(correct, total, 0.0, ece=0.0, correct_top5=total)


def point(alpha: float, **correct: int) -> CurvePoint:
    return CurvePoint(alpha, {name: score(count) for name, count in correct.items()})


@given(LABELS)
def test_the_table_of_classes_adds_up_to_the_task(rows: torch.Tensor) -> None:
    labels, before, after = rows
    change = task_change(labels, before, after, NAMES)
    assert change.difference == mcnemar(before == labels, after == labels)
    assert sum(row.total for row in change.classes) == len(labels)
    assert sum(row.before for row in change.classes) == int((before == labels).sum())
    assert sum(row.after for row in change.classes) == int((after == labels).sum())
    assert sorted(row.classname for row in change.classes) == [NAMES[label] for label in sorted(set(labels.tolist()))]
    corrected = [row.adjusted_p_value for row in change.classes]
    assert corrected == sorted(corrected)
    assert all(row.adjusted_p_value >= row.difference.p_value for row in change.classes)
    for row in change.classes:
        own = labels == NAMES.index(row.classname)
        assert row.difference == mcnemar((before == labels)[own], (after == labels)[own])


def test_a_row_tells_what_one_class_gained_and_how_sure_it_is() -> None:
    labels = torch.tensor([0] * 10 + [2] * 10)
    before = torch.tensor([1] * 8 + [0] * 2 + [2] * 10)
    after = torch.tensor([0] * 10 + [1] * 3 + [2] * 7)
    first, third = class_changes(labels, before, after, NAMES)  # the surer change first
    assert (first.adjusted_p_value, third.adjusted_p_value) == pytest.approx((2 * 2 / 2**8, 0.25))
    assert (first.classname, first.total, first.before, first.after) == ("a", 10, 2, 10)
    assert (first.before_interval, first.after_interval) == (wilson_interval(2, 10), wilson_interval(10, 10))
    assert first.difference.points == pytest.approx(80)
    assert first.difference.p_value == pytest.approx(2 / 2**8)
    assert (third.classname, third.before, third.after) == ("c", 10, 7)
    assert third.difference.points == pytest.approx(-30)


def test_of_a_hundred_classes_that_only_flicker_hardly_any_report_calls_one_changed() -> None:
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(100).repeat_interleave(10)
    num_alarms = 0
    for _ in range(10):
        answers = [torch.where(torch.rand(1000, generator=source) < 0.15, (labels + 1) % 100, labels) for _ in range(2)]
        table = class_changes(labels, *answers, [str(name) for name in range(100)])
        num_alarms += table[0].adjusted_p_value < 0.05
    assert num_alarms <= 1


def test_the_surest_change_comes_first() -> None:
    labels = torch.arange(3).repeat_interleave(20)
    after = labels.clone()
    after[40:] = 0  # the last class is lost
    table = class_changes(labels, labels, after, NAMES[:3])
    assert [row.classname for row in table] == ["c", "a", "b"]
    assert table[0].adjusted_p_value == pytest.approx(3 * 2 / 2**20)


def test_a_table_of_a_thousand_classes_and_fifty_thousand_images_takes_seconds() -> None:
    labels = torch.arange(1000).repeat(50)
    source = torch.Generator().manual_seed(0)
    after = torch.where(torch.rand(50_000, generator=source) < 0.2, (labels + 1) % 1000, labels)
    start = time.process_time()
    change = task_change(labels, labels, after, [str(name) for name in range(1000)])
    assert time.process_time() - start < 10
    assert len(change.classes) == 1000


def test_predicted_points_have_no_part_in_the_distance_to_optimal() -> None:
    curve = [point(0.0, new=10, old=80), point(0.5, new=70, old=60)]
    predicted = dataclasses.replace(point(1.0, new=100, old=100), measured=False)
    assert distance_to_optimal([*curve, predicted], ["new"], ["old"]) == distance_to_optimal(curve, ["new"], ["old"])
    with pytest.raises(ConfigError, match="only predicted"):
        distance_to_optimal([predicted], ["new"], ["old"])


def test_the_distance_to_optimal_is_what_one_common_alpha_costs() -> None:
    curve = [point(0.0, new=10, old=80), point(0.5, new=70, old=60), point(1.0, new=90, old=20)]
    assert distance_to_optimal(curve, ["new"], ["old"]) == pytest.approx((90 + 80) / 2 - (70 + 60) / 2)
    assert distance_to_optimal(curve, ["new"], []) == 0


@given(st.lists(st.tuples(*[st.integers(0, 100)] * 3), min_size=1, max_size=8))
def test_the_distance_to_optimal_is_never_negative(rows: list[tuple[int, int, int]]) -> None:
    curve = [point(index / 8, new=a, old=b, other=c) for index, (a, b, c) in enumerate(rows)]
    assert distance_to_optimal(curve, ["new"], ["old", "other"]) >= -1e-9


def test_the_distance_to_specialised_models_is_the_mean_gap_over_their_tasks() -> None:
    patched = {"a": score(80), "b": score(90), "old": score(10)}
    assert distance_to_specialised(patched, {"a": score(90), "b": score(88)}) == pytest.approx((10 - 2) / 2)


def test_a_distance_to_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="specialised"):
        distance_to_specialised({}, {})
    with pytest.raises(ConfigError, match="empty"):
        distance_to_optimal([], ["new"], [])


def test_an_update_is_measured_in_total_and_per_block(tiny_base: BaseModel) -> None:
    theta_0 = tiny_base.visual.state_dict()
    tau = {name: torch.zeros_like(tensor) for name, tensor in theta_0.items()}
    tau["proj"] = theta_0["proj"].clone()
    update = measure_update(theta_0, [Term(tau, 0.5), Term(tau, 0.5)])
    assert list(update.blocks) == ["stem", "block 1", "final"]
    assert update.blocks["block 1"].relative_norm == 0
    assert update.blocks["block 1"].cosine == pytest.approx(1)
    own, whole = (sum(float(theta_0[n].double().square().sum()) for n in names) for names in (["proj"], theta_0))
    assert update.relative_norm == pytest.approx((own / whole) ** 0.5)
    assert 0 < update.blocks["final"].relative_norm < 1
    assert update.cosine < 1
