"""What the engine asks of a model: a base, and a runner for its image tower. `app.models` builds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from paint_core.models import BaseModel

MAX_BATCH_IMAGES = 64

Result = Callable[[], NDArray[np.float32]]
"""Waits for a batch and returns its unit features [B, D]. Call it once."""


class Runner(Protocol):
    """Runs one image tower: on a CPU for several threads at once, on a GPU for the thread that owns it."""

    depth: int
    """Batches that may be in flight at once; get the result of the oldest before staging more."""
    image_seconds: float
    """Processor time per image, about; 0 if the tower does not run on the CPU."""
    can_share: bool
    """Whether a forward pass may take several CPU cores (`app.runtime.cores`)."""

    def stage(self, num_images: int) -> Tensor:
        """Return memory for a batch, uint8 [num_images, S, S, 3], to be filled and passed to `submit`."""

    def submit(self, staged: Tensor) -> Result:
        """Start the forward pass of the batch that was staged last."""


class Model(Protocol):
    """A version that can answer. The engine compares models by identity."""

    @property
    def version_id(self) -> int:
        """The version, for logs and errors."""

    @property
    def base(self) -> BaseModel:
        """The base; its text tower is shared by all its versions."""

    @property
    def runner(self) -> Runner:
        """What runs the image tower."""
