"""Patches of a study: fine-tuning runs are kept, so that a study that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from contract.finetune_options import AnchorOptions
from paint_core.alpha import AlphaOptions, CurvePoint, WeightPath, search_alpha
from paint_core.alpha.options import Rule
from paint_core.config.finetune import FinetuneConfig
from paint_core.data import Task
from paint_core.evaluation import Score
from paint_core.evaluation.feature_cache import FolderFeatureCache
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, PatchResult, run_instant, run_patch
from paint_core.patching.journal import NoJournal, Resume
from paint_core.patching.plan import Merge, Method
from paint_core.weights import TaskVector, load_task_vector, save_task_vector
from recipes.studies.tasks import PATCHING, Tasks

_FEATURE_BYTES = 2 << 30
_QUICK_ITERATIONS = 5


class _KeptVectors(NoJournal):
    """A journal that keeps the task vectors of one patch.

    Args:
        folder: of the patch's files.
        shared: by key, folders of task vectors that other patches make alike.
        base: that they belong to.
    """

    def __init__(self, folder: Path, shared: Mapping[str, Path], base: BaseModel) -> None:
        self._folder, self._shared, self._base = folder, shared, base

    def task_vector(self, key: str, make: Callable[[Resume], TaskVector]) -> TaskVector:
        """Return the kept task vector, or the one that is made now."""
        path = self._shared.get(key, self._folder) / f"{key.replace(':', '-').replace('/', '-')}.safetensors"
        if not path.exists():
            print(f"training {path.parent.name} {path.stem}", flush=True)
            data = save_task_vector(make(Resume()), {})
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_bytes(data)
            partial.replace(path)
        return load_task_vector(path, self._base)


@dataclass(frozen=True)
class Study:
    """What all studies share.

    Attributes:
        base: the model that is patched.
        tasks: where tasks come from.
        work: where runs are kept.
        seeds: of fine-tuning and of draws.
        quick: whether rough figures will do.
    """

    base: BaseModel
    tasks: Tasks
    work: Path
    seeds: int
    quick: bool

    @cached_property
    def _held(self) -> dict[str, Task]:
        found = self.tasks.supported(self.base)
        return dict(list(found.items())[:1]) if self.quick else found

    def held(self, tasks: Iterable[Task]) -> dict[str, Task]:
        """Return the supported tasks by name, without the data sets that are patched; with `quick` the first one."""
        patched = {task.name.partition(",")[0] for task in tasks}  # "NAME, PART" is a part of a data set
        return {name: task for name, task in self._held.items() if name not in patched}

    @cached_property
    def pool(self) -> Tensor:
        """Unlabelled images whose features anchored patches keep."""
        return self.tasks.anchors(self.base)

    @cached_property
    def _pool_digest(self) -> str:
        return hashlib.sha256(self.pool.numpy().tobytes()).hexdigest()

    @cached_property
    def features(self) -> FolderFeatureCache:
        """Features of the base, for instant patches."""
        return FolderFeatureCache(self.work / "features", _FEATURE_BYTES)

    def names(self, wanted: Sequence[str] = PATCHING) -> list[str]:
        """Return the patching tasks that there is data for; with `quick` the first one."""
        known = self.tasks.known(wanted)
        return known[:1] if self.quick else known

    def task(self, name: str) -> Task:
        """Return a patching task."""
        return self.tasks.patching(self.base, name)

    def config(self, seed: int, *, anchored: bool = False) -> FinetuneConfig:
        """Return the base's own settings of fine-tuning, or with anchors those of the service."""
        config = replace(self.base.finetune_defaults, seed=seed)
        if anchored:
            config = replace(config, anchor_weight=AnchorOptions.model_fields["weight"].default)
        return replace(config, iterations=_QUICK_ITERATIONS, warmup_steps=1) if self.quick else config

    def patch(
        self,
        tasks: Sequence[Task],
        *,
        others: Sequence[Task] = (),
        seed: int = 0,
        method: Method = "single",
        anchored: bool = False,
        merge: Merge = "average",
        rule: Rule = "combined",
        folds: int | None = None,
        config: FinetuneConfig | None = None,
    ) -> PatchResult:
        """Return a patch of tasks beside the other supported ones, chosen on validation and judged on test splits.

        Args:
            tasks: with training splits.
            others: tasks that are only measured.
            seed: of fine-tuning.
            method: as for `PatchPlan`.
            anchored: whether the features of the pool are kept.
            merge: for `parallel`.
            rule: by which alpha is chosen.
            folds: of the images of the tasks, which choose alpha; None: their validation images do.
            config: in place of the usual settings.
        """
        config = config or self.config(seed, anchored=anchored)
        options = AlphaOptions(rule=rule, strategy="interpolated")
        plan = PatchPlan(method, config, options, merge=merge, folds=folds, bits=16)
        pool = self.pool if anchored else None
        runs = self.work / "runs"
        shared = {f"task:{task.name}": runs / self._key([task], "single", config, "average") for task in tasks}
        folder = runs / self._key(tasks, method, config, merge, folds)
        journal = _KeptVectors(folder, shared if method == "parallel" else {}, self.base)
        supported = list(self.held(tasks).values())
        return run_patch(self.base, tasks, supported, plan, transfer=others, anchors=pool, journal=journal)

    def test_curve(self, task: Task, patch: PatchResult) -> Sequence[CurvePoint]:
        """Return the test scores at 101 alphas of a patch of one task: to be shown, not to choose from."""
        held = self.held([task])
        splits = {each.name: (each.head, each.test) for each in (task, *held.values())}
        (vector,) = patch.vectors.values()
        options = AlphaOptions(strategy="interpolated")
        return search_alpha(self.base, WeightPath.of(vector), splits, [task.name], list(held), options).curve

    def instant(self, tasks: Sequence[Task]) -> PatchResult:
        """Return an instant patch of tasks."""
        plan = PatchPlan(method="instant")
        return run_instant(self.base, tasks, list(self.held(tasks).values()), plan, feature_cache=self.features).patch

    def _key(
        self, tasks: Sequence[Task], method: Method, config: FinetuneConfig, merge: Merge, folds: int | None = None
    ) -> str:
        """Return a name that changes with all that the task vectors depend on."""
        pixels = [(task.name, _digest(task)) for task in tasks]
        merged = merge if method == "parallel" else ""
        anchors = self._pool_digest if config.anchor_weight else ""
        described = f"{self.base.fingerprint} {pixels} {method} {config} {merged} {anchors}"
        if folds is not None:
            described += f" {folds} folds"
        names = "-".join(task.name for task in tasks)[:60]
        return f"{names}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"


def mean_accuracy(scores: Mapping[str, Score], names: Iterable[str]) -> float:
    """Return the mean accuracy over some tasks, in percent."""
    found = [100 * scores[name].accuracy for name in names]
    return sum(found) / len(found)


def _digest(task: Task) -> str:
    assert task.train is not None
    digest = hashlib.sha256(task.train.images.numpy().tobytes())
    digest.update(task.train.labels.numpy().tobytes())
    return digest.hexdigest()[:12]
