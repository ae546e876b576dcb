"""Rule `certified`: choices whose true drop is within the limits as often as is said."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from paint_core.alpha import AlphaOptions, CurvePoint, choose_alpha
from paint_core.alpha.certificate import Limits
from paint_core.alpha.rules import Goal
from paint_core.errors import ConfigError, NoAcceptableAlphaError
from paint_core.evaluation import Score

ALPHAS = tuple(step / 10 for step in range(11))
REPEATS = 2000


def score(lost: int, gained: int, total: int, before: int | None = None) -> Score:
    before = total // 2 + lost if before is None else before
    return Score(before - lost + gained, total, 0.0, 0.0, total, lost, gained)


def point(alpha: float, patching: int, **supported: tuple[int, int, int]) -> CurvePoint:
    scores = {name: score(*counts, before=200) for name, counts in supported.items()}
    return CurvePoint(alpha, {"new": Score(patching, 100, 0.0, 0.0, 100), **scores})


def simulated_curves(sizes: Sequence[int], flip_rate: float, drop_at_one: float) -> list[list[CurvePoint]]:
    """Curves of tasks whose true drop grows with the square of alpha and whose images flip one by one."""
    generator = np.random.default_rng(0)
    curves = []
    for _ in range(REPEATS):
        # An image flips at an alpha of its own and stays so: neighbouring points are as dependent as on real curves.
        kinds = [generator.uniform(size=size) for size in sizes]
        onsets = [generator.uniform(size=size) for size in sizes]
        curves.append([_simulated_point(alpha, kinds, onsets, flip_rate, drop_at_one) for alpha in ALPHAS])
    return curves


def _simulated_point(
    alpha: float, kinds: list[np.ndarray], onsets: list[np.ndarray], flip_rate: float, drop_at_one: float
) -> CurvePoint:
    lost_share, gained_share = (flip_rate + drop_at_one) / 2, (flip_rate - drop_at_one) / 2
    scores = {"new": Score(int(100 * alpha), 100, 0.0, 0.0, 100)}
    for number, (kind, onset) in enumerate(zip(kinds, onsets, strict=True)):
        lost = int(((kind < lost_share) & (onset < alpha**2)).sum())
        gained = int(((kind > 1 - gained_share) & (onset < alpha**2)).sum())
        scores[f"old {number}"] = score(lost, gained, len(kind))
    return CurvePoint(alpha, scores)


@pytest.mark.parametrize(
    ("sizes", "flip_rate", "drop_at_one", "limit"),
    [
        ([240], 0.1, 0.06, 0.03),
        ([240, 240, 240, 240], 0.08, 0.03, 0.01),
        ([60, 400], 0.3, 0.15, 0.05),
        ([100] * 8, 0.05, 0.02, 0.01),
    ],
)
def test_of_two_thousand_choices_no_more_break_the_limit_than_the_confidence_allows(
    sizes: list[int], flip_rate: float, drop_at_one: float, limit: float
) -> None:
    broken = certified = 0
    for curve in simulated_curves(sizes, flip_rate, drop_at_one):
        limits = Limits.build([f"old {number}" for number in range(len(sizes))], 100 * limit, None, 0.95)
        passed = limits.certified(curve)
        certified += bool(passed)
        broken += bool(passed) and drop_at_one * passed[-1].alpha ** 2 > limit
    assert broken <= stats.binom.ppf(1 - 1e-4, REPEATS, 0.05)
    assert certified > 0.1 * REPEATS  # a rule that certifies nothing would pass, too


def test_a_drop_in_one_task_breaks_its_own_limit_no_more_often_either() -> None:
    broken = 0
    for curve in simulated_curves([240], 0.1, 0.05):
        passed = Limits.build(["old 0"], None, 2.0, 0.95).certified(curve)
        broken += bool(passed) and 0.05 * passed[-1].alpha ** 2 > 0.02
    assert broken <= stats.binom.ppf(1 - 1e-4, REPEATS, 0.05)


CURVE = [
    point(0.0, 10, a=(0, 0, 1000), b=(0, 0, 1000)),
    point(0.2, 30, a=(2, 2, 1000), b=(1, 2, 1000)),
    point(0.4, 60, a=(4, 3, 1000), b=(3, 3, 1000)),
    point(0.6, 80, a=(20, 12, 1000), b=(5, 5, 1000)),
    point(0.8, 90, a=(60, 20, 1000), b=(9, 9, 1000)),
    point(1.0, 95, a=(4, 3, 1000), b=(3, 3, 1000)),
]


def test_the_largest_alpha_before_the_first_that_fails_is_chosen_whatever_lies_beyond() -> None:
    choice = choose_alpha(CURVE, ["new"], ["a", "b"], "certified", 3.0, None, 1.0)
    assert choice.alpha == 0.6
    assert choice.certificate is not None
    assert choice.certificate.stance == "certified"
    assert [bound.task for bound in choice.certificate.bounds] == [None, "a", "b"]
    assert all(bound.is_certified and bound.high_points <= bound.limit_points for bound in choice.certificate.bounds)
    assert "95 % confidence" in choice.reason
    assert choose_alpha(CURVE, ["new"], ["a", "b"], "certified", 1.0, None, None).alpha == 0.4


def test_the_best_certified_point_is_chosen_and_among_equals_the_smallest() -> None:
    curve = [*CURVE[:2], point(0.4, 25, a=(2, 2, 1000), b=(1, 2, 1000)), point(0.6, 30, a=(2, 2, 1000), b=(1, 2, 1000))]
    assert choose_alpha(curve, ["new"], ["a", "b"], "certified", 3.0, None, 1.0).alpha == 0.2


def test_too_few_images_certify_nothing_and_the_choice_says_how_many_would() -> None:
    curve = [
        point(0.0, 10, a=(0, 0, 100)),
        point(0.5, 60, a=(3, 3, 100)),
        point(1.0, 90, a=(30, 1, 100)),
    ]
    choice = choose_alpha(curve, ["new"], ["a"], "certified", None, None, 1.0)
    assert (choice.alpha, choice.certificate and choice.certificate.stance) == (0.5, "no_evidence_of_drop")
    assert choice.certificate is not None
    assert choice.certificate.images_needed == 3710
    assert "about 3710 are needed" in choice.reason


def test_an_alpha_beyond_one_that_is_not_certified_needs_the_images_of_that_one() -> None:
    """Alphas are asked in their order, up to the first that is not certified: the next one may hold every limit."""
    curve = [
        point(0.0, 10, a=(0, 0, 1000)),
        point(0.2, 40, a=(8, 0, 1000)),
        point(0.4, 90, a=(2, 2, 1000)),
    ]
    choice = choose_alpha(curve, ["new"], ["a"], "certified", None, None, 1.0)
    assert (choice.alpha, choice.certificate and choice.certificate.stance) == (0.4, "no_evidence_of_drop")
    assert choice.certificate is not None
    assert all(bound.is_certified for bound in choice.certificate.bounds)
    of_that_one = choose_alpha(curve[:2], ["new"], ["a"], "certified", None, None, 1.0)
    assert of_that_one.certificate is not None
    assert choice.certificate.images_needed == of_that_one.certificate.images_needed is not None


def test_an_alpha_that_helps_the_supported_tasks_alone_is_certified_if_its_limits_are() -> None:
    """No alpha improves the patching task: the best mean is chosen, and says what is certified of it."""
    curve = [point(0.0, 90, a=(0, 0, 1000)), point(0.5, 90, a=(0, 30, 1000)), point(1.0, 89, a=(0, 60, 1000))]
    choice = choose_alpha(curve, ["new"], ["a"], "certified", None, None, 1.0)
    assert (choice.alpha, choice.certificate and choice.certificate.stance) == (1.0, "certified")
    assert choice.reason.startswith("the best mean accuracy over supported and patching tasks, which is certified")


def test_no_number_of_images_certifies_a_limit_of_0_without_a_gain() -> None:
    curve = [point(0.0, 10, a=(0, 0, 100)), point(0.5, 60, a=(3, 3, 100))]
    choice = choose_alpha(curve, ["new"], ["a"], "certified", None, None, 0.0)
    assert (choice.alpha, choice.certificate and choice.certificate.images_needed) == (0.5, None)
    assert "only a gain certifies" in choice.reason
    gained = [curve[0], point(0.5, 60, a=(3, 30, 100))]
    assert "certified: with 95 %" in choose_alpha(gained, ["new"], ["a"], "certified", None, None, 0.0).reason


def test_where_every_alpha_is_shown_to_drop_too_far_nothing_is_chosen() -> None:
    curve = [point(0.0, 10, a=(0, 0, 100)), point(0.5, 60, a=(30, 1, 100))]
    with pytest.raises(NoAcceptableAlphaError, match=r"every alpha .* alpha 0.5.*drops by 29.00 points"):
        choose_alpha(curve, ["new"], ["a"], "certified", None, None, 1.0)


def test_alpha_0_is_chosen_without_a_certificate_where_nothing_improves() -> None:
    choice = choose_alpha(
        [CURVE[0], point(0.5, 9, a=(0, 0, 1000), b=(0, 0, 1000))], ["new"], ["a", "b"], "certified", 3.0
    )
    assert (choice.alpha, choice.certificate) == (0.0, None)


def test_a_point_that_was_not_measured_stops_the_walk_and_is_not_chosen() -> None:
    guessed = [CurvePoint(each.alpha, each.scores, measured=each.alpha != 0.6) for each in CURVE]
    goal = Goal(["new"], ["a", "b"], "certified", 3.0, None, 1.0)
    assert goal.wanted(guessed).alpha == 0.6
    assert goal.choose(guessed, only_measured=True).alpha == 0.4
    assert [goal.standing(each, CURVE) for each in CURVE] == [
        "allowed", "certified", "certified", "certified", "refused", "certified",
    ]  # fmt: skip


def test_limits_are_taken_as_they_are_written() -> None:
    limits = Limits.build(["a", "b"], 0.3, {"a": 0.3, "b": 100}, 0.95)
    assert (limits.mean, dict(limits.tasks)) == (Fraction(3, 1000), {"a": Fraction(3, 1000)})
    options = AlphaOptions(rule="certified")
    assert (options.max_mean_drop, options.max_supported_drop, options.confidence) == (1.0, 3.0, 0.95)
    assert AlphaOptions(rule="certified", max_supported_drop=2.0).max_mean_drop is None


def test_several_paths_share_the_error_that_is_allowed() -> None:
    options = AlphaOptions(rule="certified", path="best", confidence=0.9)
    assert Goal.of(options, ["new"], ["a"], num_paths=2).confidence == pytest.approx(0.95)
    assert Goal.of(options, ["new"], ["a"]).confidence == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "combined", "max_mean_drop": 1.0}, "no use for max_mean_drop"),
        ({"rule": "floor", "max_supported_drop": 1.0, "max_mean_drop": 1.0}, "no use for max_mean_drop"),
        ({"rule": "certified", "confidence": 1.0}, "between 0.5 and 0.999"),
        ({"rule": "certified", "max_mean_drop": -1.0}, "max_mean_drop is -1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AlphaOptions(**options)  # type: ignore[arg-type]


def test_a_curve_that_counts_no_pairs_is_refused_with_what_to_do() -> None:
    bare = [
        CurvePoint(each.alpha, {name: Score(s.correct, s.total, 0, 0, 0) for name, s in each.scores.items()})
        for each in CURVE
    ]
    with pytest.raises(ConfigError, match="search again"):
        choose_alpha(bare, ["new"], ["a", "b"], "certified", 3.0)
    with pytest.raises(ConfigError, match="needs supported tasks"):
        choose_alpha(CURVE, ["new"], [], "certified", None, None, 1.0)
