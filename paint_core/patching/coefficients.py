"""Black-box search of one coefficient per task vector (PAINT, arXiv 2208.05592, section 2, parallel patching).

The paper searches with Nevergrad and reports 0.3 to 0.4 points over one common scalar. Here it is CMA-ES (Hansen and
Ostermeier 2001; Hansen, arXiv 1604.00772), which is the same kind of search, started from the scalar's result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paint_core.errors import ConfigError

Coefficients = tuple[float, ...]

_LOW, _HIGH = 0.0, 1.5
_SMALLEST_SPREAD = 0.05


@dataclass(frozen=True)
class CoefficientSearch:
    """The outcome of a search.

    Attributes:
        coefficients: the best ones found; those of the start if nothing was better.
        value: of the objective at these.
        start: where the search began.
        start_value: of the objective at the start; never above `value`.
        num_evaluations: of the objective, without the start's.
    """

    coefficients: Coefficients
    value: float
    start: Coefficients
    start_value: float
    num_evaluations: int


def search_coefficients(
    objective: Callable[[Coefficients], float],
    start: Sequence[float],
    start_value: float,
    *,
    max_evaluations: int = 60,
    seed: int = 0,
) -> CoefficientSearch:
    """The best coefficients found by a bounded CMA-ES in [0, 1.5]^k; among equals the earliest, the start first.

    A function of its arguments: the search uses its own random generator, not a global one.

    Args:
        objective: what to maximise; evaluated for at most `max_evaluations` vectors, always in the same order.
        start: k >= 2 coefficients in [0, 1.5], the initial mean.
        start_value: the objective there.
        max_evaluations: >= 1.
        seed: >= 0.
    """
    _require_searchable(start, max_evaluations)
    best, best_value, num_done = tuple(map(float, start)), start_value, 0
    strategy = _strategy(best, seed)
    # Its own stopping rules are not asked: they take a plateau, which accuracies often are, for convergence.
    while num_done < max_evaluations:
        population: list[NDArray[np.float64]] = strategy.ask()
        values: list[float] = []
        for candidate in population[: max_evaluations - num_done]:
            coefficients = tuple(float(value) for value in candidate)
            values.append(objective(coefficients))
            if values[-1] > best_value:
                best, best_value = coefficients, values[-1]
        num_done += len(values)
        if len(values) == len(population):  # a generation cut short by the budget teaches nothing any more
            strategy.tell(population, [-value for value in values])
    return CoefficientSearch(best, best_value, tuple(map(float, start)), start_value, num_done)


def _strategy(start: Coefficients, seed: int) -> Any:
    import cma  # type: ignore[import-untyped]  # takes a second, and few patches need it

    source = np.random.default_rng(seed)
    options = {
        "bounds": [_LOW, _HIGH],
        "randn": lambda *shape: source.standard_normal(shape),
        "seed": np.nan,  # leaves numpy's global generator alone
        "verbose": -10,
        "verb_log": 0,
        "signals_filename": "",
    }
    # The scalar's coefficients indicate the scale of good ones.
    spread = max(_SMALLEST_SPREAD, 0.5 * sum(start) / len(start))
    return cma.CMAEvolutionStrategy(list(start), spread, options)


def _require_searchable(start: Sequence[float], max_evaluations: int) -> None:
    if len(start) < 2:
        raise ConfigError(f"a search of {len(start)} coefficients is not needed: use one scalar")
    if not all(_LOW <= value <= _HIGH for value in start):
        raise ConfigError(f"the search starts at {list(start)}: start within [{_LOW}, {_HIGH}]")
    if max_evaluations < 1:
        raise ConfigError(f"max_evaluations is {max_evaluations}: allow at least 1")
