"""How to patch: method and settings, and which of them go together."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from paint_core.alpha import MAX_MERGED_ALPHA, AlphaOptions
from paint_core.config.finetune import FinetuneConfig
from paint_core.data import Task
from paint_core.data.sampling import SAMPLINGS, Sampling
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.patching.trials import MAX_TRIALS, shared_error
from paint_core.weights import Bits

Method = Literal["single", "joint", "sequential", "parallel", "instant", "auto"]
Merge = Literal["average", "task_arithmetic", "ties", "tsv", "iso", "ace", "esm", "regmean"]
Coefficients = Literal["scalar", "per_task"]
StoredBits = Literal["auto"] | Bits
Keep = Literal["features", "statistics"]

_METHODS = get_args(Method)
_MERGES = get_args(Merge)
_SEPARATE = ("average", "task_arithmetic")
RESCALED = ("ties", "tsv", "iso", "ace", "esm", "regmean")
"""Merges that change the length of the task vector: the best alpha may be well above 1."""

_MAX_FOLDS = 10


@dataclass(frozen=True)
class PatchPlan:
    """How to patch (PAINT, arXiv 2208.05592, section 2).

    Attributes:
        method: `single`; or for several tasks `joint` (their data merged), `sequential` (one after the other, each on
            top of the patches before it) or `parallel` (each from the base, then added); or `instant`, for one or more
            tasks: a head term in closed form, which `run_instant` fits; or `auto`, for one or more: the better of
            `instant` and fine-tuning, or both, which `run_auto` tries.
        finetune: how to fine-tune; the same for every task.
        alpha: how to choose alpha; with a merge of `RESCALED` its flat path goes to `MAX_MERGED_ALPHA`.
        sampling: for `joint`: tasks in a batch by their sizes, or each equally often.
        merge: for `parallel`: how to combine the task vectors into the direction that alpha scales.
        coefficients: for `parallel`: one `scalar` alpha, or one coefficient `per_task` by black-box search.
        coefficient_evaluations: for `per_task`: how many coefficient vectors to try, >= 1.
        folds: for `single` and `joint`: k of the cross-validation that chooses alpha, 2..10; None uses the validation
            split.
        bits: of each number of the stored task vectors: 32, 16, 8, 4, or `auto` (see `storing` and `stored_bits`).
        keep: for `instant` and `auto`: whether the head term keeps the features of its images, or only statistics of
            each class.
        tune: for `single` and `joint`: number of trials of learning rate and iterations, 2..16 (see `tuning`); None
            takes those of `finetune`.
    """

    method: Method = "single"
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    alpha: AlphaOptions = field(default_factory=AlphaOptions)
    sampling: Sampling = "proportional"
    merge: Merge = "average"
    coefficients: Coefficients = "scalar"
    coefficient_evaluations: int = 60
    folds: int | None = None
    bits: StoredBits = 32
    keep: Keep = "features"
    tune: int | None = None

    def __post_init__(self) -> None:
        self._require_known_names()
        if self.sampling != "proportional" and self.method != "joint":
            raise ConfigError(f"sampling {self.sampling!r} mixes tasks in a batch: use it with method 'joint'")
        if self.merge != "average" and self.method != "parallel":
            raise ConfigError(f"merge {self.merge!r} needs several task vectors: use it with method 'parallel'")
        if self.merge in RESCALED and self.alpha.max_flat_alpha == 1:
            object.__setattr__(self, "alpha", replace(self.alpha, max_flat_alpha=MAX_MERGED_ALPHA))
        if self.keep != "features" and self.method not in ("instant", "auto"):
            raise ConfigError(f"keep {self.keep!r} is about head terms: use it with method 'instant' or 'auto'")
        if self.folds is not None:
            self._require_folds_fit(self.folds)
        if self.tune is not None:
            self._require_trials_fit(self.tune)
        if self.coefficients == "per_task":
            self._require_per_task_fits()

    @property
    def stored_bits(self) -> StoredBits:
        """`bits`; with folds `auto` means 16: the task vector that is stored has no validation images of its own."""
        return 16 if self.bits == "auto" and self.folds is not None else self.bits

    def require_tasks(self, tasks: Sequence[Task], supported: Sequence[Task], transfer: Sequence[Task] = ()) -> None:
        """Checks that the plan can be carried out with these tasks.

        Raises:
            ConfigError: too few or too many tasks, duplicate names, or a limit on an unknown task.
            EmptySplitError: a task has no training split.
        """
        if self.method == "single" and len(tasks) != 1:
            raise ConfigError(f"method 'single' patches one task, not {len(tasks)}: use joint, sequential or parallel")
        if self.method not in ("single", "instant", "auto") and len(tasks) < 2:
            raise ConfigError(f"method {self.method!r} needs at least two tasks, not {len(tasks)}: use 'single'")
        names = [task.name for task in (*tasks, *supported, *transfer)]
        if len(set(names)) < len(names):
            raise ConfigError(f"two tasks have the same name in {names}: use different names")
        for task in tasks:
            if task.train is None:
                raise EmptySplitError(f"the task {task.name!r} has no training split: give one")
        self._require_limits_fit([task.name for task in supported])

    def _require_known_names(self) -> None:
        for what, value, known in (
            ("method", self.method, _METHODS),
            ("sampling", self.sampling, SAMPLINGS),
            ("merge", self.merge, _MERGES),
            ("coefficients", self.coefficients, ("scalar", "per_task")),
            ("keep", self.keep, get_args(Keep)),
        ):
            if value not in known:
                raise ConfigError(f"{what} is {value!r}: use one of {', '.join(map(repr, known))}")
        if self.bits not in ("auto", 32, 16, 8, 4):
            raise ConfigError(f"bits is {self.bits!r}: use 'auto', 32, 16, 8 or 4")
        if self.coefficient_evaluations < 1:
            raise ConfigError(f"coefficient_evaluations is {self.coefficient_evaluations}: allow at least 1")

    def _require_folds_fit(self, folds: int) -> None:
        if self.method not in ("single", "joint"):
            raise ConfigError(f"folds would train every task of method {self.method!r} k times: use single or joint")
        if self.finetune.patience is not None:
            raise ConfigError("early stopping needs validation images, and with folds all are trained on: omit either")
        if not 2 <= folds <= _MAX_FOLDS:
            raise ConfigError(f"folds is {folds}: choose 2..{_MAX_FOLDS}, or None for the validation split")
        if self.alpha.rule == "certified":
            raise ConfigError(
                "folds judge models that are not the patch, so rule 'certified' has nothing to certify: use 'combined' "
                "or 'floor', or no folds"
            )

    def _require_trials_fit(self, trials: int) -> None:
        if self.method not in ("single", "joint"):
            raise ConfigError(f"tune is for methods that fine-tune once, not for {self.method!r}: use single or joint")
        if self.folds is not None:
            raise ConfigError("tune with folds would train n times k models: leave one of them out")
        if not 2 <= trials <= MAX_TRIALS:
            raise ConfigError(f"tune is {trials}: choose 2..{MAX_TRIALS} trials, or None")
        shared_error(self.alpha, trials)

    def _require_per_task_fits(self) -> None:
        if self.method != "parallel":
            raise ConfigError(f"one coefficient per task needs method 'parallel', not {self.method!r}: change either")
        if self.merge not in _SEPARATE:
            raise ConfigError(f"merge {self.merge!r} leaves one task vector, so there is one coefficient: use 'scalar'")
        if self.alpha.path != "flat":
            raise ConfigError(f"the search for coefficients needs path 'flat', not {self.alpha.path!r}")
        if self.alpha.rule == "certified":
            raise ConfigError(
                "the search for coefficients does not test in a fixed order: use rule 'combined' or 'floor'"
            )

    def _require_limits_fit(self, supported: Sequence[str]) -> None:
        if self.alpha.rule != "combined" and not supported:
            raise ConfigError(f"rule {self.alpha.rule!r} needs supported tasks: give at least one, or use 'combined'")
        limits = self.alpha.max_supported_drop
        unknown = [] if limits is None or isinstance(limits, float | int) else sorted(set(limits) - set(supported))
        if unknown:
            raise ConfigError(f"max_supported_drop contains {unknown[0]!r}, which is not a supported task: correct it")
