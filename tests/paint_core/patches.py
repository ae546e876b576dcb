"""Real patches of the tiny model: tasks, plans and a journal that keeps its records in memory."""

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from paint_core.alpha import AlphaOptions, CurvePoint
from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages, Task
from paint_core.evaluation import encode, predictions
from paint_core.models import BaseModel
from paint_core.patching.journal import Resume
from paint_core.training.train_state import TrainState
from paint_core.weights import Bits, TaskVector, load_task_vector, save_task_vector
from tests.paint_core import tiny

CONFIG = FinetuneConfig(iterations=20, batch_size=16, learning_rate=3e-3, warmup_steps=2)
COARSE = AlphaOptions(step=0.25)
ANIMALS = ("dog", "cat", "cow")
OLD = ("sun", "tree", "sea")


def two_tasks(base: BaseModel) -> tuple[Task, Task]:
    """Two tasks to improve that pull the same pictures towards different texts."""
    return tiny.colour_task(base, "colours", seed=1), tiny.colour_task(base, "animals", seed=21, classnames=ANIMALS)


def old_task(base: BaseModel) -> Task:
    """A supported task: what the base itself says of some pictures, so that whatever a patch changes is a loss."""
    task = tiny.colour_task(base, "old", seed=41, classnames=OLD)
    validation, test = (_as_the_base_says(base, task, split) for split in (task.validation, task.test))
    return dataclasses.replace(task, train=None, validation=validation, test=test)


def _as_the_base_says(base: BaseModel, task: Task, split: LabelledImages) -> LabelledImages:
    features = encode(base.visual, split.images, base.preprocess)
    return dataclasses.replace(split, labels=predictions(features, task.head))


def same_bits(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors are equal."""
    return left.keys() == right.keys() and all(bool((left[name] == right[name]).all()) for name in left)


def tower_with(base: BaseModel, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the base's image tower with other weights."""
    tower = copy.deepcopy(base.visual)
    tower.load_state_dict(dict(weights), strict=True)
    return tower


class MemoryJournal:
    """A journal that keeps everything and counts what it was asked to make."""

    def __init__(self) -> None:
        self.vectors: dict[str, TaskVector] = {}
        self.states: dict[str, TrainState] = {}
        self.stored: dict[str, TaskVector] = {}
        self.curves: dict[str, list[CurvePoint]] = {}
        self.made: Counter[str] = Counter()
        self.stages: list[str] = []

    def task_vector(self, key: str, make: Callable[[Resume], TaskVector]) -> TaskVector:
        """The kept vector, or a new one from the kept state."""
        if key not in self.vectors:

            def keep(state: TrainState) -> None:
                # As bytes, because that is how a state survives a process.
                self.states[key] = TrainState.from_bytes(state.to_bytes())

            self.vectors[key] = make(Resume(self.states.get(key), 1, keep))
            self.made[key] += 1
        return self.vectors[key]

    def store(self, key: str, tau: TaskVector, bits: Bits) -> None:
        """Keeps the vector as a file would."""
        self.stored[key] = load_task_vector(save_task_vector(tau, {}, bits), tau)

    def points(self, key: str) -> list[CurvePoint]:
        """The kept points."""
        return list(self.curves.get(key, []))

    def add_point(self, key: str, point: CurvePoint) -> None:
        """Keeps a point."""
        self.curves.setdefault(key, []).append(point)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Notes the stage."""
        self.stages.append(name)
        yield
