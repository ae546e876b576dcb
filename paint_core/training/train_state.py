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

_METADATA_KEY = "paintbox_train_state"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, eq=False)
class TrainState:
    """The state of a fine-tuning run.

    Attributes:
        step: steps done.
        tensors: `theta/NAME`, `exp_avg/NAME` and `exp_avg_sq/NAME`, on the CPU.
    """

    step: int
    tensors: Mapping[str, Tensor]

    def to_bytes(self) -> bytes:
        """The state as a safetensors file."""
        header = {_METADATA_KEY: json.dumps({"step": self.step})}
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
            step = int(json.loads(header["__metadata__"][_METADATA_KEY])["step"])
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise WeightsMismatchError("not a training state: discard it and start the run again") from error
        return cls(step, tensors)


def capture(visual: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> TrainState:
    """The state of a run as fresh CPU tensors."""
    tensors = {f"theta/{name}": _copy(tensor) for name, tensor in visual.state_dict().items()}
    for name, parameter in visual.named_parameters():
        # A parameter that no gradient reaches has no moments.
        for moment in _MOMENTS:
            if moment in optimizer.state.get(parameter, {}):
                tensors[f"{moment}/{name}"] = _copy(optimizer.state[parameter][moment])
    return TrainState(step, tensors)


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
