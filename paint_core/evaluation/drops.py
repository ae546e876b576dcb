"""How far a model may have dropped against another on the same images: exact bounds, and how many images they need.

An image is lost if the reference model classifies it correctly and the other one does not, gained the other way round.
The drop is the share of lost images minus the share of gained ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import special

from paint_core.errors import DatasetError

_FLIP_RATE_ERROR = 0.001
_FLIP_RATES = 24
_SIGMAS = 8
_BISECTIONS = 16


@dataclass(frozen=True)
class PairedCounts:
    """On how many images of a split two models differ.

    Attributes:
        lost: images that only the reference model has right.
        gained: images that only the other model has right.
        total: images of the split, >= 1.
    """

    lost: int
    gained: int
    total: int

    def __post_init__(self) -> None:
        if min(self.lost, self.gained) < 0 or self.lost + self.gained > self.total or self.total == 0:
            raise DatasetError(
                f"{self.lost} lost and {self.gained} gained of {self.total} is impossible: correct the counts"
            )

    @property
    def drop(self) -> Fraction:
        """The observed drop, a share; negative if the other model is better."""
        return Fraction(self.lost - self.gained, self.total)

    @property
    def flip_rate(self) -> float:
        """The share of images on which the models differ."""
        return (self.lost + self.gained) / self.total


@lru_cache(maxsize=8192)
def drop_p_value(counts: PairedCounts, limit: float) -> float:
    """The p-value of the hypothesis that the true drop is at least `limit`; small means that it is below.

    An exact unconditional test of non-inferiority of paired proportions. Its statistic is the drop minus the limit over
    its standard error (Nam, Biometrics 1997); the statistic's exact distribution is maximised over the unknown flip
    rate, at 24 points of its 99.9 % Clopper-Pearson interval, and the interval's own error of 0.001 is added (Berger
    and Boos, JASA 1994). It holds for any number of images that are drawn independently of each other and that had no
    part in training either model. Where images of several tasks are counted together, their flip rates may differ:
    that only narrows the distribution.

    Args:
        counts: of one split.
        limit: a share in (-1, 1).

    Returns:
        A number in (0, 1].
    """
    total = counts.total
    rates = _flip_rates(counts, limit)
    spread = _SIGMAS * math.sqrt(total * rates[-1]) + _SIGMAS
    first, last = max(0, math.floor(total * rates[0] - spread)), min(total, math.ceil(total * rates[-1] + spread))
    flips = np.arange(first, last + 1, dtype=np.float64)
    observed = np.float64(counts.lost + counts.gained)
    z = (counts.lost - counts.gained - total * limit) / np.sqrt(_variance(observed, total, limit))
    # The most images that may be lost among so many that differ, for the statistic to be at most z.
    lost = np.floor((flips + total * limit + z * np.sqrt(_variance(flips, total, limit))) / 2 + 1e-9)
    lost_share = np.clip((rates + limit) / (2 * np.maximum(rates, 1e-12)), 0.0, 1.0)
    with np.errstate(all="ignore"):  # the ends are set below
        at_most = special.betainc(flips - lost, lost + 1, 1 - lost_share[:, None])
    at_most = np.where(lost < 0, 0.0, np.where(lost >= flips, 1.0, at_most))
    p_values = (_binomial(flips, total, rates[:, None]) * at_most).sum(axis=1)
    return min(1.0, float(p_values.max()) + _FLIP_RATE_ERROR)


def largest_drop(counts: PairedCounts, confidence: float = 0.95) -> float:
    """The upper bound of the true drop: the limit from which on `drop_p_value` rejects.

    Counts are whole numbers, so p-values rise and fall a little from one to the next: within about one image of the
    bound, some smaller limits are rejected and some larger ones are not. A certificate uses the p-value of its limit,
    not this bound.

    Args:
        counts: of one split.
        confidence: of this bound alone, in (0.5, 0.999).

    Returns:
        A share in [-1, 1], computed to within 0.01 percentage points.
    """
    low, high = float(counts.drop), 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if drop_p_value(counts, middle) <= 1 - confidence else (middle, high)
    return high


def smallest_drop(counts: PairedCounts, confidence: float = 0.95) -> float:
    """The lower bound of the true drop; arguments as for `largest_drop`."""
    return -largest_drop(PairedCounts(counts.gained, counts.lost, counts.total), confidence)


def mean_counts(tasks: Sequence[PairedCounts]) -> PairedCounts:
    """The counts that stand for the mean of several tasks' drops, in which each task weighs the same.

    With equally many images a task these are the sums. Else they are the mean shares of an effective number of images:
    that of which the mean's variance would be the same (Korn and Graubard, Survey Methodology 1998), rounded against
    the model that is judged.

    Args:
        tasks: at least one.

    Returns:
        Counts for `drop_p_value` and the bounds.
    """
    count = len(tasks)
    lost, gained = (sum(Fraction(getattr(task, name), task.total) for task in tasks) / count for name in _SIDES)
    effective = count**2 / sum(Fraction(1, task.total) for task in tasks)
    variance = sum((Fraction(task.lost + task.gained, task.total) - task.drop**2) / task.total for task in tasks)
    if variance:
        effective = min(effective, count**2 * (lost + gained - (lost - gained) ** 2) / variance)
    total = max(1, math.floor(effective))
    return PairedCounts(min(total, math.ceil(total * lost)), math.floor(total * gained), total)


def images_to_certify(flip_rate: float, limit: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """How many images show that a model that does not drop at all drops by less than a limit.

    By the normal approximation (Nam, Biometrics 1997), and at least as many as it takes without any flip.

    Args:
        flip_rate: the share of images on which the models differ, in [0, 1].
        limit: a share in (0, 1).
        confidence: of the bound, in (0.5, 1).
        power: the probability that they suffice, in [0.5, 1).

    Returns:
        Of a task, or of all supported tasks together where their mean is to be certified.
    """
    quantiles = sum(NormalDist().inv_cdf(share) for share in (confidence, power))
    return math.ceil(max(flip_rate * (quantiles / limit) ** 2, math.log(1 - confidence) / math.log(1 - limit)))


_SIDES = ("lost", "gained")


def _flip_rates(counts: PairedCounts, limit: float) -> NDArray[np.float64]:
    """Flip rates over their interval, rising, none too small for such a drop."""
    flips, rest, error = counts.lost + counts.gained, counts.total - counts.lost - counts.gained, _FLIP_RATE_ERROR / 2
    low = float(special.betaincinv(flips, rest + 1, error)) if flips else 0.0
    high = float(special.betaincinv(flips + 1, rest, 1 - error)) if rest else 1.0
    return np.linspace(max(low, abs(limit)), max(high, abs(limit)), _FLIP_RATES)


def _variance(flips: NDArray[np.float64] | np.float64, total: int, limit: float) -> NDArray[np.float64]:
    """Of lost minus gained images where the drop is the limit: at least what the limit itself asks for."""
    return np.maximum(np.maximum(flips, max(total * abs(limit), 1.0)) - total * limit**2, 1e-9)


def _binomial(successes: NDArray[np.float64], total: int, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities of the binomial distribution, broadcast."""
    ways = special.gammaln(total + 1) - special.gammaln(successes + 1) - special.gammaln(total - successes + 1)
    log_probabilities: NDArray[np.float64] = (
        ways + special.xlogy(successes, share) + special.xlog1py(total - successes, -share)
    )
    return np.exp(log_probabilities)
