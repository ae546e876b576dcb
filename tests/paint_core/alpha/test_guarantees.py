"""The sentence about what a rule guarantees: nothing more than it does."""

from collections.abc import Mapping

import pytest

from paint_core.alpha import AlphaOptions
from paint_core.alpha.certificate import Certificate
from paint_core.alpha.guarantees import guarantee

COMBINED, FLOOR = AlphaOptions(), AlphaOptions(rule="floor", max_supported_drop=2.0)
CERTIFIED = AlphaOptions(rule="certified", path="best")


def limited(mean: float | None, each: float | Mapping[str, float] | None) -> AlphaOptions:
    return AlphaOptions(rule="certified", max_mean_drop=mean, max_supported_drop=each, confidence=0.9)


@pytest.mark.parametrize(
    ("options", "certificate", "supported", "said"),
    [
        (COMBINED, None, [], "Nothing is guaranteed: no task is supported"),
        (COMBINED, None, ["food"], "Rule combined guarantees nothing"),
        (FLOOR, None, ["food"], "Rule floor keeps the limits of the supported tasks on these validation images"),
        (
            CERTIFIED,
            Certificate("no_evidence_of_drop", 0.975, (), 870),
            ["food"],
            "Nothing is certified: the validation images show no drop beyond a limit, but are too few to exclude one; "
            "about 870 would certify the limits.",
        ),
        (
            CERTIFIED,
            Certificate("certified", 0.975, ()),
            ["food"],
            "With 95 % confidence, on images like the validation images, the supported tasks lose at most 1 point on "
            "average and at most 3 points each.",
        ),
        (limited(0.5, None), Certificate("certified", 0.9, ()), ["food"], "With 90 % confidence"),
        (
            limited(None, {"food": 2.0}),
            Certificate("certified", 0.9, ()),
            ["food"],
            "its own limit",
        ),
    ],
)
def test_a_choice_says_what_its_rule_guarantees(
    options: AlphaOptions, certificate: Certificate | None, supported: list[str], said: str
) -> None:
    assert said in guarantee(options, certificate, supported)


@pytest.mark.parametrize("options", [COMBINED, CERTIFIED])
def test_what_adds_nothing_loses_nothing(options: AlphaOptions) -> None:
    told = guarantee(options, None, ["food"], adds_something=False)
    assert told == "Nothing was added, so nothing was lost."


def test_a_floor_over_folds_is_about_their_models() -> None:
    assert "the models of the folds" in guarantee(FLOOR, None, ["food"], has_folds=True)
