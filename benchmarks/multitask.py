"""Ways to patch several tasks at once: who is best, and does the paper's order show?

One starter, four patching tasks (digits, Fashion-MNIST, counting pictograms, looks of pictograms) and four supported
ones. Every row is chosen on validation splits and reported on test splits: mean accuracy over the supported tasks, over
the patching tasks, and the mean of the two. Joint training gets the steps of all the others together, so every way
costs the same training. Sequential rows are means over three orders.

Fine-tuning runs are kept in `.benchmarks/`: stopped and started again, it goes on where it was.

    python benchmarks/multitask.py [--quick] [--json FILE]
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from _cache import CACHE, write_whole
from _report import Figure, parser, report
from _tasks import patching, supported
from _towers import identity, load
from _updates import RECIPE, update

from paint_core.alpha import AlphaOptions, CurvePoint
from paint_core.datasets import Task
from paint_core.evaluation import Score, evaluate
from paint_core.finetune import FinetuneConfig, finetune
from paint_core.journal import Resume
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, PatchResult, run_patch
from paint_core.patching.plan import Merge
from paint_core.weights import TaskVector, Term, load_task_vector, mix, save_task_vector, task_vector

TOWER = "starter"
ORDERS = 3
ALPHA = AlphaOptions(strategy="interpolated")
MERGES: tuple[Merge, ...] = ("task_arithmetic", "ties", "tsv", "iso")
QUICK_TASKS = ("counting", "looks")


@dataclass(frozen=True)
class Row:
    """One way, judged on test splits.

    Attributes:
        name: of the way.
        supported: mean accuracy over the supported tasks, in %.
        patching: mean accuracy over the patching tasks, in %.
        note: alphas or coefficients.
    """

    name: str
    supported: float
    patching: float
    note: str = ""

    @property
    def combined(self) -> float:
        """The mean of the two means, in %."""
        return (self.supported + self.patching) / 2


@dataclass(frozen=True, eq=False)
class Setting:
    """What all rows share."""

    base: BaseModel
    tasks: tuple[Task, ...]
    held: tuple[Task, ...]
    config: FinetuneConfig
    evaluations: int

    def folder(self, name: str) -> Path:
        """Where the task vectors of a row are kept; another setting has another folder."""
        key = f"{identity(TOWER)} {self.config} {[task.name for task in self.tasks]}"
        return CACHE / "multitask" / hashlib.sha256(key.encode()).hexdigest()[:12] / name

    def row(self, name: str, scores: dict[str, Score] | None, result: PatchResult | None = None) -> Row:
        """The row of some test scores, or of a patch."""
        if result is not None:
            coefficients = ", ".join(f"{term.key.removeprefix('task:')} {term.coefficient:.3g}" for term in result.terms)
            return self.row(name, dict(result.patched))._replace_note(coefficients)
        raise NotImplementedError
