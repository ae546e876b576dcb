"""One image tower that is mixed anew for each alpha, in its own memory."""

from __future__ import annotations

import copy

from torch import nn

from paint_core.models import BaseModel
from paint_core.weights import TaskVector, Term, mix_into


class WorkingModel:
    """A copy of a base's image tower that can be put at any point of the path from theta_0 to theta_1.

    Args:
        base: Not changed.
        tau: The task vector.
    """

    def __init__(self, base: BaseModel, tau: TaskVector) -> None:
        self._theta_0 = base.visual.state_dict()
        self._tau = {name: tensor.to(base.device) for name, tensor in tau.items()}
        self._visual = copy.deepcopy(base.visual)

    def at(self, alpha: float) -> nn.Module:
        """Return the image tower at alpha; it is the same module at every call."""
        mix_into(self._visual, self._theta_0, [Term(self._tau, alpha)])
        return self._visual
