"""Paths from theta_0 to patched weights: which terms alpha moves, and which stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from paint_core.errors import ConfigError
from paint_core.weights import Term


@dataclass(frozen=True, eq=False, repr=False)
class Path:
    """The weights `theta_base + sum of fixed + alpha * sum of moving`, as lists of terms.

    A single patch scales one term; a sequential one scales the newest and keeps the earlier ones fixed; a parallel one
    scales all of them together (PAINT, arXiv 2208.05592, section 2).

    Attributes:
        moving: terms whose coefficients are multiplied by alpha; at least one.
        fixed: terms that are added at every alpha, including 0.
    """

    moving: Sequence[Term]
    fixed: Sequence[Term] = ()

    def __post_init__(self) -> None:
        if not self.moving:
            raise ConfigError("a path needs at least one moving term: add one")

    def __repr__(self) -> str:
        return f"Path(moving={list(self.moving)}, fixed={list(self.fixed)})"

    @classmethod
    def of(cls, task_vector: Mapping[str, Tensor]) -> Path:
        """The flat path theta_base + alpha * tau of one task vector."""
        return cls((Term(task_vector, 1.0),))

    @property
    def profile(self) -> str:
        """The profile of the (first) moving term."""
        return self.moving[0].profile

    def terms(self, alpha: float) -> tuple[Term, ...]:
        """The terms at an alpha, the fixed ones first; 1 gives the moving terms' own coefficients."""
        return (*self.fixed, *(replace(term, coefficient=alpha * term.coefficient) for term in self.moving))

    def with_profile(self, profile: str) -> Path:
        """The path with another profile of the moving terms. With a profile by depth, alpha 1 is not theta_1."""
        return Path(tuple(replace(term, profile=profile) for term in self.moving), tuple(self.fixed))
