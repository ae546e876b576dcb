"""Ending a fine-tuning when it has stopped improving on validation images, and keeping the best weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.data import LabelledImages
from paint_core.evaluation import correct_answers, encode
from paint_core.models import BaseModel


class Best(NamedTuple):
    """The best weights so far.

    Attributes:
        step: steps done, 1 and up; of equals the first.
        correct: validation images that they have right.
        theta: copies of the tower's parameters and buffers, on the CPU.
    """

    step: int
    correct: int
    theta: Mapping[str, Tensor]


@dataclass(eq=False)
class EarlyStopping:
    """Looks at the validation accuracy every `check_every` steps.

    The split is small beside a training split, and it also chooses alpha: its accuracy at the chosen step is slightly
    optimistic, as that at the chosen alpha is.

    Attributes:
        base: whose preprocessing to use.
        head: [C, D].
        images: the validation split; its labels index the head's rows.
        config: with `patience`.
        best: None before the first look.
    """

    base: BaseModel
    head: Tensor
    images: LabelledImages
    config: FinetuneConfig
    best: Best | None = None
    _last_look: int = 0

    def is_due(self, step: int) -> bool:
        """Whether to look after this step."""
        return step % self.config.check_every == 0 or step == self.config.iterations

    def look(self, visual: nn.Module, step: int) -> float:
        """The validation accuracy in [0, 1] after some steps, whose weights are kept if it is the best."""
        device = next(visual.parameters()).device
        features = encode(visual, self.images.images, self.base.preprocess, device=device)
        correct = int(correct_answers(features, self.head.to(device), self.images.labels).sum())
        self._last_look = step
        if self.best is None or correct > self.best.correct:
            state = visual.state_dict()
            theta = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
            self.best = Best(step, correct, theta)
        return correct / len(self.images)

    def resume(self, best: Best | None, step: int) -> None:
        """Go on from a training state that was captured after so many steps."""
        self.best = best
        self._last_look = step - step % self.config.check_every

    @property
    def is_over(self) -> bool:
        """Whether `patience` looks in a row have found nothing better."""
        assert self.config.patience is not None
        waited = 0 if self.best is None else self._last_look - self.best.step
        return waited >= self.config.patience * self.config.check_every


@torch.no_grad()
def put_back(visual: nn.Module, theta: Mapping[str, Tensor]) -> None:
    """Overwrites the tower's weights."""
    visual.load_state_dict(dict(theta), strict=True)
