"""A version as a list of terms: composing, undoing and reversing patches without any training.

`theta = theta_base + sum_i coefficient_i * profile_i * tau_i` is a sum, so its terms may be added, taken away and
reversed in any order (task arithmetic, Ilharco et al., ICLR 2023, arXiv 2212.04089). Nothing here touches weights.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from paint_core.errors import ConfigError, WeightsMismatchError


@dataclass(frozen=True)
class NamedTerm:
    """One summand of a version, by the name of its task vector.

    Attributes:
        key: the task vector's.
        coefficient: finite; it may leave [0, 1].
        profile: how it varies with depth, `flat` or `lines`.
        builds_on: keys that were already mixed in when the task vector was measured (sequential patching).
    """

    key: str
    coefficient: float
    profile: str = "flat"
    builds_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not math.isfinite(self.coefficient):
            raise ConfigError(f"the coefficient of {self.key!r} is {self.coefficient}: choose a finite number")


@dataclass(frozen=True)
class Mix:
    """A base and what is added to it.

    Attributes:
        base: fingerprint of the base that every task vector belongs to.
        terms: summands; none is the base itself.
    """

    base: str
    terms: tuple[NamedTerm, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The task vectors' names, each once, in the order of the terms."""
        return tuple(dict.fromkeys(term.key for term in self.terms))


@dataclass(frozen=True)
class Removal:
    """What is left after undoing patches.

    Attributes:
        mix: the remaining terms.
        notes: one sentence per remaining patch that was measured on top of a removed one.
    """

    mix: Mix
    notes: tuple[str, ...]


def compose(mixes: Sequence[Mix]) -> Mix:
    """The sum of mixes of one base; terms of the same task vector and profile become one.

    Args:
        mixes: at least one.

    Returns:
        The terms in the order of their first mix; one whose coefficients cancel is left out.

    Raises:
        ConfigError: no mixes.
        WeightsMismatchError: two bases; names them.
    """
    if not mixes:
        raise ConfigError("there is nothing to compose: give at least one mix")
    bases = list(dict.fromkeys(mix.base for mix in mixes))
    if len(bases) > 1:
        raise WeightsMismatchError(
            f"mixes of different bases cannot be composed: {', '.join(bases[:3])}; patch the same base for all of them"
        )
    summed: dict[tuple[str, str], NamedTerm] = {}
    for term in (term for mix in mixes for term in mix.terms):
        known = summed.get((term.key, term.profile))
        summed[term.key, term.profile] = _add(known, term) if known else term
    return Mix(bases[0], tuple(term for term in summed.values() if term.coefficient != 0))


def remove(mix: Mix, keys: Collection[str]) -> Removal:
    """The mix without some of its patches.

    A patch that was measured on top of a removed one may be undone under: the terms are a sum. It then starts from
    weights that it was not trained on, which a note says.

    Args:
        mix: where they are.
        keys: task vectors to take out, whatever their profiles; none changes nothing.

    Returns:
        The rest, which may be the base itself.

    Raises:
        ConfigError: a key is not in the mix; names it.
    """
    unknown = sorted(set(keys) - set(mix.keys))
    if unknown:
        raise ConfigError(f"the mix has no term {', '.join(map(repr, unknown))}: choose among {', '.join(mix.keys)}")
    rest = tuple(term for term in mix.terms if term.key not in keys)
    notes = {
        f"{term.key!r} was measured on top of {', '.join(map(repr, missing))}, which is removed: evaluate the rest"
        for term in rest
        if (missing := [key for key in term.builds_on if key in keys])
    }
    return Removal(replace(mix, terms=rest), tuple(sorted(notes)))


def scale(mix: Mix, factor: float) -> Mix:
    """The mix with every coefficient multiplied.

    Args:
        mix: which.
        factor: finite.

    Returns:
        A new mix; factor 0 leaves the base.

    Raises:
        ConfigError: a product is not finite.
    """
    scaled = (replace(term, coefficient=term.coefficient * factor) for term in mix.terms)
    return replace(mix, terms=tuple(term for term in scaled if term.coefficient != 0))


def negate(mix: Mix) -> Mix:
    """The mix that undoes this one: forgetting what its patches taught (arXiv 2212.04089, section 3).

    Args:
        mix: which.

    Returns:
        The same terms with opposite coefficients.
    """
    return scale(mix, -1.0)


def _add(known: NamedTerm, term: NamedTerm) -> NamedTerm:
    builds_on = tuple(dict.fromkeys((*known.builds_on, *term.builds_on)))
    return replace(known, coefficient=known.coefficient + term.coefficient, builds_on=builds_on)
