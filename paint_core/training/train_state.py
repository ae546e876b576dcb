"""A fine-tuning run at rest: weights, AdamW's two moments and the step, in one safetensors file.

No generator state is kept, because everything random in a run is a function of (seed, step).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from paint_core.errors import WeightsMismatchError
from paint_core.training.early_stopping import Best

_METADATA_KEY = "paintbox_train_state"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, eq=False)
class TrainState:
    """The state of a fine-tuning run.

    Attributes:
        step: steps done.
        tensors: `theta/NAME`, `exp_avg/NAME` and `exp_avg_sq/NAME`, and with early stopping `best/NAME`, on the CPU.
        best: with early stopping: the step of the best weights, and the validation images that they have right.
    """

    step: int
    tensors: Mapping[str, Tensor]
    best: tuple[int, int] | None = None

    def to_bytes(self) -> bytes:
        """The state as a safetensors file."""
        told = {"step": self.step} | ({} if self.best is None else {"best": self.best})
        header = {_METADATA_KEY: json.dumps(told)}
        return bytes(safetensors.torch.save({name: self.tensors[name] for name in sorted(self.tensors)}, header))

    @classmethod
    def from_bytes(cls, data: bytes) -> "TrainState":
        """The state that `to_bytes` wrote.

        Raises:
            WeightsMismatchError: the bytes are not such a file.
        """
        try:
            tensors = safetensors.torch.load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            told = json.loads(header["__metadata__"][_METADATA_KEY])
            step, best = int(told["step"]), told.get("best")
            best = None if best is None else (int(best[0]), int(best[1]))
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise WeightsMismatchError("not a training state: discard it and start the run again") from error
        return cls(step, tensors, best)


def capture(visual: nn.Module, optimizer: torch.optim.Optimizer, step: int, best: Best | None = None) -> TrainState:
    """The state of a run as fresh CPU tensors; `best` with early stopping."""
    tensors = {f"theta/{name}": _copy(tensor) for name, tensor in visual.state_dict().items()}
    for name, parameter in visual.named_parameters():
        # A parameter that no gradient reaches has no moments.
        for moment in _MOMENTS:
            if moment in optimizer.state.get(parameter, {}):
                tensors[f"{moment}/{name}"] = _copy(optimizer.state[parameter][moment])
    if best is None:
        return TrainState(step, tensors)
    tensors |= {f"best/{name}": tensor for name, tensor in best.theta.items()}
    return TrainState(step, tensors, (best.step, best.correct))


def best_of(state: TrainState) -> Best | None:
    """The best weights that a state holds; None: it was captured without early stopping, or before the first look."""
    if state.best is None:
        return None
    theta = {name.removeprefix("best/"): t for name, t in state.tensors.items() if name.startswith("best/")}
    return Best(*state.best, theta)


def restore(visual: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState) -> int:
    """The number of steps done, after overwriting tower and optimizer with the state.

    Raises:
        WeightsMismatchError: the state belongs to another model.
    """
    theta = {name.removeprefix("theta/"): t for name, t in state.tensors.items() if name.startswith("theta/")}
    try:
        visual.load_state_dict(theta, strict=True)
    except RuntimeError as error:
        raise WeightsMismatchError(
            f"the training state belongs to another model ({str(error)[:300]}): start again"
        ) from error
    for name, parameter in visual.named_parameters():
        own = {m: state.tensors[f"{m}/{name}"] for m in _MOMENTS if f"{m}/{name}" in state.tensors}
        if own:
            # The moments take the parameter's memory layout, as AdamW's own do.
            laid_out = {moment: torch.empty_like(parameter).detach().copy_(tensor) for moment, tensor in own.items()}
            step = torch.tensor(float(state.step), device=parameter.device)
            optimizer.state[parameter] = {"step": step, **laid_out}
    return state.step


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
