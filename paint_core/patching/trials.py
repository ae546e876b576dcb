"""Trials of fine-tuning settings: which are tried in which order, and what became of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from paint_core.alpha import AlphaOptions
from paint_core.config.finetune import FinetuneConfig
from paint_core.errors import ConfigError

MAX_TRIALS = 16

GRID: tuple[tuple[float, Fraction], ...] = tuple(
    (rate, Fraction(length))
    for rate, length in (
        (1.0, "1"),
        (2.0, "1"),
        (0.5, "1"),
        (1.0, "2"),
        (2.0, "2"),
        (4.0, "1"),
        (0.5, "2"),
        (1.0, "1/2"),
        (2.0, "1/2"),
        (4.0, "2"),
        (0.25, "1"),
        (4.0, "1/2"),
        (0.25, "2"),
        (0.5, "1/2"),
        (1.0, "4"),
        (0.25, "1/2"),
    )
)
"""Factors of the plan's learning rate and iterations, in the order in which they are tried: the plan's own settings,
then the nearest others."""


@dataclass(frozen=True)
class Trial:
    """One fine-tuning of a search over settings, judged on validation splits.

    Attributes:
        number: 1 and up, in the order of `GRID`.
        config: its settings.
        alpha: the alpha that the plan's rule chose; None: the trial failed.
        patching: the patching tasks' mean validation accuracy there, in [0, 1]; None: the trial failed.
        supported: the supported tasks'; None: there are none, or the trial failed.
        failure: why there is no alpha, as a sentence; empty: there is one.
        is_chosen: whether it is the patch.
    """

    number: int
    config: FinetuneConfig
    alpha: float | None = None
    patching: float | None = None
    supported: float | None = None
    failure: str = ""
    is_chosen: bool = False

    @property
    def key(self) -> str:
        """The name of its task vector, and of its search."""
        return f"trial {self.number}"


def trial_configs(config: FinetuneConfig, count: int) -> tuple[FinetuneConfig, ...]:
    """The first `count` settings of the grid, the given ones first; fewer where the iterations leave no more.

    The share of warm-up steps stays.
    """
    found: dict[tuple[float, int], FinetuneConfig] = {}
    for rate, length in GRID:
        iterations = max(1, int(length * config.iterations))
        warmup = config.warmup_steps * iterations // config.iterations
        tried = replace(config, learning_rate=rate * config.learning_rate, iterations=iterations, warmup_steps=warmup)
        found.setdefault((rate, iterations), tried)
    return tuple(found.values())[:count]


def shared_error(options: AlphaOptions, count: int) -> AlphaOptions:
    """The options for each of several searches whose best is taken, so that `certified` keeps its confidence.

    Raises:
        ConfigError: the confidence of each would be more than can be computed.
    """
    if options.rule != "certified":
        return options
    confidence = 1 - (1 - options.confidence) / count
    if not 1 - (1 - confidence) / len(options.profiles) < 0.999:
        raise ConfigError(
            f"{count} trials that share a confidence of {options.confidence:g} need more than 0.999 each: choose fewer "
            "trials or a lower confidence"
        )
    return replace(options, confidence=confidence)


def chosen_config(trials: Sequence[Trial]) -> FinetuneConfig | None:
    """The settings of the chosen trial; None if there were no trials."""
    return next((trial.config for trial in trials if trial.is_chosen), None)
