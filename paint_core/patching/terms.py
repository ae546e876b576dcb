"""The terms of a patch, by the names of their task vectors.

`theta = theta_base + sum_i coefficient_i * profile_i * tau_i` is a sum, so terms can later be added, left out or scaled
without any training (task arithmetic, Ilharco et al., ICLR 2023, arXiv 2212.04089).
"""

import math
from dataclasses import dataclass

from paint_core.errors import ConfigError

HEAD_PROFILE = "head"
"""The profile of a head term: it changes answers, no weights, so it has no depth."""


@dataclass(frozen=True)
class NamedTerm:
    """One term of a version, by the name of its task vector.

    Attributes:
        coefficient: finite; it may leave [0, 1].
        profile: how it varies with depth, `flat` or `lines`; `head` for a head term.
        builds_on: keys that were already mixed in when the task vector was measured (sequential patching).
    """

    key: str
    coefficient: float
    profile: str = "flat"
    builds_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not math.isfinite(self.coefficient):
            raise ConfigError(f"the coefficient of {self.key!r} is {self.coefficient}: choose a finite number")
