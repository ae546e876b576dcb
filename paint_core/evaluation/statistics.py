"""How sure an accuracy is, and how sure a difference between two models on the same images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from paint_core.errors import DatasetError

_Z_95 = NormalDist().inv_cdf(0.975)
_ANGLES = np.linspace(0, np.pi / 2, 361)
_COSINES, _SINES = np.cos(_ANGLES), np.sin(_ANGLES)


@dataclass(frozen=True)
class Difference:
    """The accuracy of model b minus that of model a on the same images, in percentage points.

    Attributes:
        points: the difference; positive if b is better.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that the models are equally good; below 0.05 if and only if the interval
            excludes 0.
    """

    points: float
    low: float
    high: float
    p_value: float


def wilson_interval(correct: int | Fraction, total: int) -> tuple[float, float]:
    """The score interval of a share at 95 % (Wilson, JASA 1927).

    Args:
        correct: 0..total; may be a fraction, the mean of several models on the same images.
        total: >= 1.

    Raises:
        DatasetError: the counts contradict each other.
    """
    if not 0 <= correct <= total or total == 0:
        raise DatasetError(f"{correct} of {total} is not a valid share: correct the counts")
    share, square = float(correct / total), _Z_95 * _Z_95
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = _Z_95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    # At the ends the bound is exact; rounding must not move it inside.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return low, high


def mcnemar(correct_a: Tensor, correct_b: Tensor) -> Difference:
    """The difference between two models with McNemar's exact test (McNemar, Psychometrika 1947).

    Args:
        correct_a: bool [N], N >= 1: whether model a is right on each image.
        correct_b: bool [N], of model b on the same images in the same order.

    Raises:
        DatasetError: no images, or different numbers of them.
    """
    if correct_a.shape != correct_b.shape or correct_a.ndim != 1 or len(correct_a) == 0:
        raise DatasetError(
            f"results of shapes {list(correct_a.shape)} and {list(correct_b.shape)} are not paired: "
            "evaluate both models on the same images, at least one"
        )
    gained, lost = int((correct_b & ~correct_a).sum()), int((correct_a & ~correct_b).sum())
    return paired_difference(gained, lost, len(correct_a))


def paired_difference(gained: int, lost: int, total: int) -> Difference:
    """The difference between two models on the same images, by the number of images on which they differ.

    The p-value is that of the exact binomial test of the images that one model gained over the other. The interval
    belongs to the same test: it joins the test's own interval (Clopper and Pearson, Biometrika 1934) for the share of
    gains among the images that differ with Wilson's for the share of images that differ, by the method of variance
    estimates recovery (MOVER; Zou and Donner, Statistics in Medicine 2008). So 0 lies outside it if and only if the
    p-value is below 0.05.

    Args:
        gained: images that only model b has right.
        lost: images that only model a has right.
        total: images, >= 1.

    Raises:
        DatasetError: the counts contradict each other.
    """
    differing = gained + lost
    if min(gained, lost) < 0 or differing > total or total == 0:
        raise DatasetError(f"{gained} gained and {lost} lost of {total} is impossible: correct the counts")
    from scipy import stats  # takes half a second, and only reports need it

    p_value = float(stats.binomtest(gained, differing).pvalue) if differing else 1.0
    low, high = _paired_interval(gained, lost, total)
    return Difference(100 * (gained - lost) / total, 100 * low, 100 * high, p_value)


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected for their number (Benjamini and Hochberg, JRSS B 1995).

    If everything below 0.05 is called a change, at most one in twenty of those is expected to be wrong.
    """
    from scipy import stats

    return [float(value) for value in stats.false_discovery_control(p_values)] if p_values else []


def _paired_interval(gained: int, lost: int, total: int) -> tuple[float, float]:
    """The interval of (gained - lost) / total = direction * share, over the ellipse between their own intervals."""
    share = (gained + lost) / total
    share_low, share_high = wilson_interval(gained + lost, total)
    direction, direction_low, direction_high = _direction(gained, lost)
    low = _products(direction, direction_low, share, (share_low, share_high)).min()
    high = _products(direction, direction_high, share, (share_low, share_high)).max()
    return float(low), float(high)


def _direction(gained: int, lost: int) -> tuple[float, float, float]:
    """Gains minus losses as a share of both, in [-1, 1], with its Clopper-Pearson interval at 95 %."""
    if gained + lost == 0:
        return 0.0, -1.0, 1.0
    low = special.betaincinv(gained, lost + 1, 0.025) if gained else 0.0
    high = special.betaincinv(gained + 1, lost, 0.975) if lost else 1.0
    return (gained - lost) / (gained + lost), 2 * float(low) - 1, 2 * float(high) - 1


def _products(
    direction: float, direction_end: float, share: float, share_ends: tuple[float, float]
) -> NDArray[np.float64]:
    """The products on the edge of the ellipse around (direction, share) that reaches these ends."""
    directions = direction + (direction_end - direction) * _COSINES
    return np.concatenate([directions * (share + (end - share) * _SINES) for end in share_ends])
