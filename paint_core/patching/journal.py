"""What an interrupted patch already has: the seam through which a caller makes a run resumable.

The library asks its journal before it computes and tells it what it has computed; where things are kept is the
journal's affair. Keys are stable: the same plan asks for the same keys in the same order.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from paint_core.alpha import CurvePoint
from paint_core.training.train_state import TrainState
from paint_core.weights import Bits, TaskVector


@dataclass(frozen=True, eq=False)
class Resume:
    """How to resume a fine-tuning run; the fields are arguments of `finetune`.

    Attributes:
        state: of an earlier attempt; None starts at the beginning.
        checkpoint_every: steps between checkpoints, or a rule; None makes none.
        on_checkpoint: receives each checkpoint.
    """

    state: TrainState | None = None
    checkpoint_every: int | Callable[[int], bool] | None = None
    on_checkpoint: Callable[[TrainState], None] | None = None


class Journal(Protocol):
    """The record of a run. One journal belongs to one plan, one base and one set of tasks."""

    def task_vector(self, key: str, make: Callable[[Resume], TaskVector]) -> TaskVector:
        """The recorded task vector, or the one that `make` computes, which is then recorded.

        Args:
            key: `task:NAME`, `joint`, `fold 2`, `all`, `trial 2` or `merged:METHOD`.
            make: computes it; called at most once. The result is bit-identical to what it returned, now or earlier.
        """
        ...

    def store(self, key: str, tau: TaskVector, bits: Bits) -> None:
        """Records the form in which a task vector is part of the patch.

        Args:
            key: of the task vector.
            tau: unrounded; what is read back is `rounded(tau, bits)`.
            bits: 16, 8 or 4.
        """
        ...

    def points(self, key: str) -> list[CurvePoint]:
        """The recorded points of a search, in the order in which they were added.

        Args:
            key: `select:NAME`, or `select:NAME:8 bits` along task vectors as they are stored.
        """
        ...

    def add_point(self, key: str, point: CurvePoint) -> None:
        """Records a point of a search."""
        ...

    def stage(self, name: str) -> AbstractContextManager[object]:
        """A context for the duration of a stage of the run.

        Args:
            name: `finetune`, `select` or `evaluate`; a stage of several tasks occurs several times.
        """
        ...


class NoJournal:
    """A journal that keeps nothing: a run that is interrupted starts over."""

    def task_vector(self, key: str, make: Callable[[Resume], TaskVector]) -> TaskVector:
        """What `make` computes."""
        return make(Resume())

    def store(self, key: str, tau: TaskVector, bits: Bits) -> None:
        """Keeps nothing."""

    def points(self, key: str) -> list[CurvePoint]:
        """No points."""
        return []

    def add_point(self, key: str, point: CurvePoint) -> None:
        """Forgets the point."""

    def stage(self, name: str) -> AbstractContextManager[object]:
        """A context that does nothing."""
        return nullcontext()
