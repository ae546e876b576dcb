"""How sure an accuracy is, and how sure a difference between two models on the same images."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor

from paint_core.errors import DatasetError

_Z_95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Difference:
    """The accuracy of model b minus that of model a on the same images, in percentage points.

    Attributes:
        points: the difference; positive if b is better.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that the models are equally good.
    """

    points: float
    low: float
    high: float
    p_value: float


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The score interval of a share at 95 % (Wilson, JASA 1927).

    Args:
        correct: 0..total.
        total: >= 1.

    Returns:
        Two numbers in [0, 1] with the share between them.

    Raises:
        DatasetError: the counts contradict each other.
    """
    if not 0 <= correct <= total or total == 0:
        raise DatasetError(f"{correct} of {total} is no share: count again")
    share, square = correct / total, _Z_95 * _Z_95
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = _Z_95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    # At the ends the bound is exact; rounding must not move it inside.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return low, high


def mcnemar(correct_a: Tensor, correct_b: Tensor) -> Difference:
    """The difference with McNemar's exact test (McNemar, Psychometrika 1947): a binomial test of the images they split.

    The interval is Wald's after half an image is added to each of the table's four cells (Agresti and Min, Statistics
    in Medicine 2005), so that it does not collapse when the models agree.

    Args:
        correct_a: bool [N], N >= 1: whether model a is right on each image.
        correct_b: bool [N], of model b on the same images in the same order.

    Returns:
        b minus a.

    Raises:
        DatasetError: no images, or different numbers of them.
    """
    _require_paired(correct_a, correct_b)
    total = len(correct_a)
    gained = int((correct_b & ~correct_a).sum())
    lost = int((correct_a & ~correct_b).sum())
    low, high = _paired_interval(gained, lost, total)
    return Difference(100 * (gained - lost) / total, 100 * low, 100 * high, _two_sided_binomial(gained, gained + lost))


def _paired_interval(gained: int, lost: int, total: int) -> tuple[float, float]:
    plus, minus, count = gained + 0.5, lost + 0.5, total + 2
    centre = (plus - minus) / count
    half = _Z_95 * math.sqrt((plus + minus) - (plus - minus) ** 2 / count) / count
    return max(-1.0, centre - half), min(1.0, centre + half)


def _two_sided_binomial(successes: int, trials: int) -> float:
    """Twice the smaller tail of Binomial(trials, 1/2), at most 1; exact in integers."""
    tail = sum(math.comb(trials, count) for count in range(min(successes, trials - successes) + 1))
    return min(1.0, float(2 * tail / 2**trials)) if trials < 1000 else min(1.0, _ratio(2 * tail, trials))


def _ratio(numerator: int, power: int) -> float:
    """The quotient numerator / 2**power where the denominator has no float."""
    shift = max(0, numerator.bit_length() - 64)
    return math.ldexp(float(numerator >> shift), shift - power)


def _require_paired(correct_a: Tensor, correct_b: Tensor) -> None:
    if correct_a.shape != correct_b.shape or correct_a.ndim != 1 or len(correct_a) == 0:
        raise DatasetError(
            f"results of shapes {list(correct_a.shape)} and {list(correct_b.shape)} are no pairs: "
            "judge both models on the same images, at least one"
        )
