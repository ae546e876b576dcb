import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paint_core.alpha import CurvePoint, Goal, choose_alpha, combined
from paint_core.errors import ConfigError, NoAcceptableAlphaError
from paint_core.evaluation import Score


def score(correct: int, total: int = 100) -> Score:
    return Score(correct, total, loss=0.0, ece=0.0, correct_top5=correct)


def point(alpha: float, **correct: int) -> CurvePoint:
    return CurvePoint(alpha, {name: score(count) for name, count in correct.items()})


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
        combined(point(0.5, new=90), [], [])
    with pytest.raises(ConfigError):
        choose_alpha([], ["new"], [])


def test_the_best_combined_accuracy_wins() -> None:
    curve = [point(0.0, new=10, old=80), point(0.5, new=80, old=70), point(1.0, new=90, old=20)]
    choice = choose_alpha(curve, ["new"], ["old"])
    assert choice.alpha == 0.5
    assert choice.combined == pytest.approx(0.75)
    assert "75.00 %" in choice.reason


def test_a_choice_at_the_end_of_the_curve_says_that_a_better_one_may_lie_beyond() -> None:
    rising = [point(0.0, new=10, old=80), point(0.5, new=50, old=80), point(1.0, new=90, old=80)]
    for rule, drop in (("combined", None), ("floor", 5.0)):
        last = choose_alpha(rising, ["new"], ["old"], rule, drop)  # type: ignore[arg-type]
        assert (last.alpha, last.is_last) == (1.0, True)
        assert "the last alpha evaluated, so a better one may lie beyond 1" in last.reason
        inner = choose_alpha([*rising, point(1.5, new=20, old=80)], ["new"], ["old"], rule, drop)  # type: ignore[arg-type]
        assert (inner.alpha, inner.is_last) == (1.0, False)
        assert "beyond" not in inner.reason
    assert not choose_alpha([point(0.0, new=10)], ["new"], []).is_last


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


def test_equal_means_of_thirds_and_sevenths_are_equal() -> None:
    # 1/3 + 2/3 and 2/7 + 5/7 differ in floats when they are summed in this order with others.
    early = CurvePoint(0.2, {"a": score(1, 3), "b": score(5, 7), "c": score(1, 10)})
    late = CurvePoint(0.9, {"a": score(1, 10), "b": score(1, 3), "c": score(5, 7)})
    assert choose_alpha([late, early], ["a", "b", "c"], []).alpha == 0.2


FLOOR_CURVE = [
    point(0.0, new=10, a=80, b=60),
    point(0.2, new=40, a=79, b=60),
    point(0.4, new=60, a=78, b=59),
    point(0.6, new=80, a=75, b=61),
    point(1.0, new=99, a=40, b=20),
]


@pytest.mark.parametrize(("drop", "alpha"), [(0.99, None), (1.0, 0.2), (1.99, 0.2), (2.0, 0.4), (5.0, 0.6), (40, 1.0)])
def test_the_floor_takes_the_best_patching_accuracy_within_it_and_its_boundary_belongs_to_it(
    drop: float, alpha: float | None
) -> None:
    if alpha is None:
        with pytest.raises(NoAcceptableAlphaError):
            choose_alpha(FLOOR_CURVE, ["new"], ["a", "b"], "floor", drop)
    else:
        assert choose_alpha(FLOOR_CURVE, ["new"], ["a", "b"], "floor", drop).alpha == alpha


@given(st.integers(1, 999), st.integers(0, 999))
def test_a_drop_of_exactly_the_limit_is_allowed_and_one_image_more_is_not(start: int, lost: int) -> None:
    lost = min(start, lost)
    curve = [
        CurvePoint(0.0, {"new": score(0), "old": score(start, 1000)}),
        CurvePoint(1.0, {"new": score(1), "old": score(start - lost, 1000)}),
    ]
    limit = lost / 10  # points; 0.3 has no exact float
    assert choose_alpha(curve, ["new"], ["old"], "floor", limit).alpha == 1.0
    if lost:
        with pytest.raises(NoAcceptableAlphaError):
            choose_alpha(curve, ["new"], ["old"], "floor", (lost - 1) / 10)


def test_the_worst_task_counts_not_the_mean() -> None:
    curve = [point(0.0, new=0, a=50, b=50), point(0.5, new=50, a=60, b=47)]
    with pytest.raises(NoAcceptableAlphaError, match=r"'b' drops by 3\.00 points"):
        choose_alpha(curve, ["new"], ["a", "b"], "floor", 2)


def test_every_supported_task_may_have_its_own_limit() -> None:
    assert choose_alpha(FLOOR_CURVE, ["new"], ["a", "b"], "floor", {"a": 5, "b": 0}).alpha == 0.6
    assert choose_alpha(FLOOR_CURVE, ["new"], ["a", "b"], "floor", {"a": 1, "b": 5}).alpha == 0.2
    with pytest.raises(ConfigError, match="max_supported_drop has"):
        choose_alpha(FLOOR_CURVE, ["new"], ["a", "b"], "floor", {"a": 1})
    with pytest.raises(ConfigError, match="max_supported_drop has"):
        choose_alpha(FLOOR_CURVE, ["new"], ["a"], "floor", {"a": 1, "typo": 1})


def test_drops_are_measured_from_the_reference_if_there_is_one() -> None:
    reference = {"a": score(84), "b": score(60)}
    assert choose_alpha(FLOOR_CURVE, ["new"], ["a", "b"], "floor", 6, reference).alpha == 0.4
    assert choose_alpha(FLOOR_CURVE[1:], ["new"], ["a", "b"], "floor", 6, reference).alpha == 0.4
    with pytest.raises(ConfigError, match="alpha 0"):
        choose_alpha(FLOOR_CURVE[1:], ["new"], ["a", "b"], "floor", 6)


def test_a_floor_without_supported_tasks_protects_nothing_and_is_refused() -> None:
    with pytest.raises(ConfigError, match="combined"):
        choose_alpha(FLOOR_CURVE, ["new"], [], "floor", 2)


def test_alpha_zero_is_no_patch_unless_a_real_one_was_possible_and_worse() -> None:
    curve = [point(0.0, new=10, old=80), point(0.5, new=9, old=81)]
    choice = choose_alpha(curve, ["new"], ["old"], "floor", 2)
    assert choice.alpha == 0.0
    assert choice.reason.startswith("no acceptable patch: no alpha within")
    combined_choice = choose_alpha([point(0.0, new=10, old=80), point(0.5, new=11, old=70)], ["new"], ["old"])
    assert combined_choice.alpha == 0.0
    assert combined_choice.reason.startswith("no acceptable patch: no larger alpha has a better mean accuracy")


def test_the_refusal_carries_the_curve_and_says_how_near_the_nearest_was() -> None:
    with pytest.raises(NoAcceptableAlphaError) as caught:
        choose_alpha(FLOOR_CURVE[:1] + FLOOR_CURVE[3:], ["new"], ["a", "b"], "floor", 1)
    assert list(caught.value.curve) == FLOOR_CURVE[:1] + FLOOR_CURVE[3:]
    for said in ("alpha 0.6", "'a'", "5.00 points", "1.00 are allowed", "max_supported_drop"):
        assert said in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.curve, str(again)) == (caught.value.curve, str(caught.value))


def test_a_goal_looks_next_at_its_choice_or_at_the_nearest_miss() -> None:
    goal = Goal(["new"], ["a", "b"], "floor", 2.0)
    assert goal.wanted(FLOOR_CURVE).alpha == 0.4
    assert Goal(["new"], ["a", "b"], "floor", 0.5).wanted(FLOOR_CURVE).alpha == 0.2
    assert goal.value(FLOOR_CURVE[2]) == Fraction(60, 100)
    standing = [goal.standing(each, FLOOR_CURVE) for each in FLOOR_CURVE]
    assert standing == ["allowed", "allowed", "allowed", "refused", "refused"]
