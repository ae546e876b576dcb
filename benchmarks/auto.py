"""Method auto against the anchored patch, which is one of the ways that it tries: is the choice worth its time?

Each task is patched with drawn anchors (weight 60) over several seeds; alpha is chosen by the combined rule on
validation splits. `gain` is what auto has above the anchored patch, in points of half the sum of the patching accuracy
and the supported mean: on validation splits, by which it is kept, and on test splits, which chose nothing.

`--photos` is a folder with train/, val/ and test/ of class folders, such as `recipes/starter/adapt.py` makes of the
clothing data set (CC0). Fine-tuning runs are kept in `.benchmarks/`.

    python benchmarks/auto.py [--quick] [--seeds N] [--tasks digits fashion] [--photos FOLDER] [--json FILE]
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from _cache import CACHE, write_whole
from _report import Figure, parser, report
from _tasks import PATCHING, patching, supported

from contract.finetune_options import AnchorOptions
from paint_core.alpha import AlphaOptions
from paint_core.data import Task, decode_all
from paint_core.data.drawn import draw_images
from paint_core.evaluation.feature_cache import FolderFeatureCache
from paint_core.models import BaseModel, build_head, load_base
from paint_core.patching import AutoResult, Method, PatchPlan, PatchResult, run_auto, run_patch
from paint_core.patching.auto import Candidate
from paint_core.patching.journal import NoJournal, Resume
from paint_core.weights import TaskVector, load_task_vector, save_task_vector

NUM_DRAWN = 1000
WEIGHT = AnchorOptions.model_fields["weight"].default


class KeptVectors(NoJournal):
    """Keeps the task vectors of one run."""

    def __init__(self, name: str, base: BaseModel) -> None:
        self._name, self._base = name, base

    def task_vector(self, key: str, make: Callable[[Resume], TaskVector]) -> TaskVector:
        """Return the kept task vector, or the one that is made now."""
        path = CACHE / "auto" / f"{self._name}-{key.replace(':', '-')}.safetensors"
        if not path.exists():
            print(f"training {path.stem}", flush=True)
            write_whole(path, save_task_vector(make(Resume()), {}))
        return load_task_vector(path, self._base)


@dataclass(frozen=True)
class Bench:
    """The base and what must not get worse."""

    base: BaseModel
    held: Mapping[str, Task]

    def auto(self, task: Task, seed: int) -> AutoResult:
        """Return what auto makes of a task."""
        return run_auto(
            self.base, [task], list(self.held.values()), self._plan("auto", seed), **self._shared(task, seed)
        )

    def anchored(self, task: Task, seed: int) -> PatchResult:
        """Return the anchored patch of a task, from the same fine-tuning run."""
        plan = self._plan("single", seed)
        return run_patch(self.base, [task], list(self.held.values()), plan, **self._shared(task, seed))

    def worth(self, task: Task, patch: PatchResult) -> float:
        """Return half the sum of the patching accuracy and the supported mean on test splits, in percent."""
        kept = statistics.mean(patch.patched[name].accuracy for name in self.held)
        return 50 * (patch.patched[task.name].accuracy + kept)

    def _plan(self, method: Method, seed: int) -> PatchPlan:
        finetune = replace(self.base.finetune_defaults, seed=seed, anchor_weight=WEIGHT)
        return PatchPlan(method, finetune, AlphaOptions(rule="combined", strategy="interpolated"), bits=16)

    def _shared(self, task: Task, seed: int) -> dict[str, Any]:
        return {
            "anchors": draw_images(NUM_DRAWN, self.base.image_size),
            "journal": KeptVectors(f"{task.name}-{self.base.fingerprint[:8]}-{seed}", self.base),
            "feature_cache": FolderFeatureCache(CACHE / "instant", 1 << 30),
        }


def read_photos(base: BaseModel, folder: Path) -> Task:
    """Return a task of class folders."""
    names = tuple(sorted(each.name for each in (folder / "train").iterdir() if each.is_dir()))
    splits = {}
    for split, ours in (("train", "train"), ("val", "validation"), ("test", "test")):
        files = [
            (path.read_bytes(), label)
            for label, name in enumerate(names)
            for path in sorted((folder / split / name).glob("*"))
        ]
        splits[ours] = decode_all(files, base.preprocess, names)
    head = build_head(base, names, base.default_templates)
    return Task("photos", head, splits["train"], splits["validation"], splits["test"])


def measure(bench: Bench, task: Task, seeds: int) -> list[Figure]:
    """Return the figures of a task."""
    by_rule, on_test = [], []
    for seed in range(seeds):
        result, anchored = bench.auto(task, seed), bench.anchored(task, seed)
        alone = Fraction(anchored.stages[-1].search.choice.combined)
        by_rule.append(round(100 * float(result.kept.value - alone), 9))
        on_test.append(bench.worth(task, result.patch) - bench.worth(task, anchored))
        tried = ", ".join(f"{_name(each)} {100 * float(each.value):.2f}" for each in result.candidates)
        found = ", ".join(
            f"{way} {100 * patch.patched[task.name].accuracy:.1f} % worth {bench.worth(task, patch):.2f}"
            for way, patch in (("auto", result.patch), ("anchored", anchored))
        )
        print(f"{task.name} seed {seed}: {_name(result.kept)}; validation: {tried}; test: {found}", flush=True)
    return [
        Figure(f"{task.name}_least_gain_by_rule", min(by_rule), "points", 0.0),
        Figure(f"{task.name}_gain_by_rule", statistics.mean(by_rule), "points"),
        Figure(f"{task.name}_gain_on_test", statistics.mean(on_test), "points"),
    ]


def _name(candidate: Candidate) -> str:
    below = f" on {candidate.weights_alpha:.2g}" if candidate.way == "stacked" else ""
    return f"{candidate.way} {candidate.alpha:.2g}{below}"


def main() -> None:
    """Measure each task."""
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--tasks", nargs="*", default=("digits", "fashion"), choices=PATCHING)
    arguments.add_argument("--photos", type=Path, metavar="FOLDER")
    options = arguments.parse_args()
    base = load_base("starter")
    bench = Bench(base, supported(base, 60 if options.quick else None))
    tasks = list(patching(base, names=options.tasks).values())
    if options.photos:
        tasks.append(read_photos(base, options.photos))
    seeds = 1 if options.quick else options.seeds
    report([figure for task in tasks for figure in measure(bench, task, seeds)], options.json)


if __name__ == "__main__":
    main()
