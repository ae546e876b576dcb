"""Building a model out of a configuration and a safetensors file, without a second copy of the weights.

The weights are the file itself wherever it allows that: float32 tensors are mapped, read when they are first used and
shared by every process that loads the same file. A process that writes to one gets a copy of the pages (the mapping is
private), but none should. What is stored in another format, such as the starter's float16, is converted, so it takes
memory of its own.

A mapping is of the file that was opened, not of its name. A new file renamed over the old one changes nothing for those
who have the old one open. A file that is written over or cut off changes what they compute, or kills them: weights
files are never changed in place, as nothing of a registry of immutable versions is.
"""

import copy
import json
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import safetensors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paint_core.errors import ModelRefError, PaintCoreError, WeightsMismatchError
from paint_core.models.checkpoints import Checkpoint
from paint_core.models.model_config import one_line

_INITIALISERS = frozenset(
    {"normal_", "uniform_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_", "copy_"}
    | {"kaiming_uniform_", "constant_"}  # of torch.nn.init, which hands these to a mode as a whole
)
_FACTORIES = frozenset({"empty", "zeros", "ones", "rand", "randn", "full"})
_SPARE_NUMBERS = 1 << 25  # for buffers, such as masks, which no file holds


def build_model(checkpoint: Checkpoint) -> nn.Module:
    """The model with the checkpoint's weights.

    Returns:
        open_clip's model: float32, on the CPU, eval mode, no gradients; float32 weights are mapped from the file.

    Raises:
        ModelRefError: open_clip cannot build this model.
        WeightsMismatchError: the weights do not fit the configuration.
    """
    try:
        model = _without_weights(checkpoint)
    except PaintCoreError:
        raise
    except Exception as error:  # of any class: a configuration may ask three libraries for nearly anything
        raise ModelRefError(f"open_clip cannot build this model ({one_line(error)}): correct `model_cfg`") from error
    try:
        open_clip.load_checkpoint(_Adopting(model, checkpoint.ignored), str(checkpoint.weights))
    except Exception as error:
        raise WeightsMismatchError(
            f"{checkpoint.weights.name} does not fit the model's configuration ({one_line(error)}): "
            "use weights that were exported with this configuration"
        ) from error
    _require_stored_shapes(model, checkpoint.weights)
    note_fixed(model)
    return model.float().eval().requires_grad_(False)


def note_fixed(model: nn.Module) -> None:
    """Stores in the image tower which of its parameters open_clip never trains, before all of them are frozen."""
    visual = model.visual
    assert isinstance(visual, nn.Module)
    fixed = frozenset(name for name, parameter in visual.named_parameters() if not parameter.requires_grad)
    visual.fixed_parameters = fixed  # type: ignore[assignment]


def is_mappable(weights: Path) -> bool:
    """Whether a safetensors file can be used where it lies: every tensor in it is float32."""
    with safetensors.safe_open(str(weights), framework="pt") as stored:
        return all(stored.get_slice(name).get_dtype() == "F32" for name in stored.keys())  # noqa: SIM118


def _without_weights(checkpoint: Checkpoint) -> nn.Module:
    """The model from a folder that holds nothing but the chosen file; its parameters hold no values yet."""
    budget = _SPARE_NUMBERS + 4 * _num_stored(checkpoint.weights)
    with (
        tempfile.TemporaryDirectory(prefix="paint-core-") as folder,
        _Uninitialised(budget),
        _no_word_of_missing_weights(),
    ):
        config = json.dumps(_local_config(checkpoint, Path(folder)))
        (Path(folder) / "open_clip_config.json").write_text(config, encoding="utf-8")
        (Path(folder) / "open_clip_model.safetensors").symlink_to(checkpoint.weights.resolve())
        model: nn.Module = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    return model


def _local_config(checkpoint: Checkpoint, folder: Path) -> dict[str, Any]:
    """The configuration, its text model named by a folder: by its name, transformers would look on the network."""
    config = copy.deepcopy(dict(checkpoint.config))
    if checkpoint.text_config is not None:
        text = folder / "text"
        text.mkdir()
        (text / "config.json").write_text(json.dumps(checkpoint.text_config), encoding="utf-8")
        config["model_cfg"]["text_cfg"]["hf_model_name"] = str(text)
    return config


def _num_stored(weights: Path) -> int:
    """How many numbers the file holds, by its header."""
    with safetensors.safe_open(str(weights), framework="pt") as stored:
        return sum(math.prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118


class _Uninitialised(TorchFunctionMode):
    """Leaves parameters uninitialised while a model is built: all of them come from the file.

    Filling them with random numbers would take seconds for a large model, and memory that otherwise stays untouched.
    Buffers and everything else are created as usual. Allocations beyond the numbers in the file are refused.
    Applies to this thread only.
    """

    def __init__(self, budget: int) -> None:
        """Counts from nothing; more than `budget` allocated numbers raise `ModelRefError`."""
        super().__init__()
        self._left = budget

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        if isinstance(target, nn.Parameter) and getattr(func, "__name__", "") in _INITIALISERS:
            return target
        if getattr(func, "__name__", "") in _FACTORIES:
            self._left -= _num_asked(args, kwargs)
            if self._left < 0:
                raise ModelRefError("the configuration asks for a larger model than the weights are of: correct it")
        return func(*args, **kwargs)


def _num_asked(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many numbers the arguments of `torch.empty` and its kin ask for."""
    shape = kwargs.get("size", args)
    if len(shape) and isinstance(shape[0], list | tuple):
        shape = shape[0]
    return math.prod(side for side in shape if isinstance(side, int))


class _Adopting:
    """The model as open_clip loads weights into it: it adopts the file's tensors instead of copying them.

    open_clip still renames and reshapes the tensors of other projects.
    """

    def __init__(self, model: nn.Module, ignored: tuple[str, ...]) -> None:
        self._model = model
        self._ignored = ignored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> Any:
        """As the model's own, in which a tensor of another dtype is converted to the model's, too."""
        own = self._model.state_dict()
        kept = {name: each for name, each in state_dict.items() if not name.startswith(self._ignored)}
        typed = {name: each.to(own[name].dtype) if name in own else each for name, each in kept.items()}
        return self._model.load_state_dict(typed, strict=strict, assign=True)


@contextmanager
def _no_word_of_missing_weights() -> Iterator[None]:
    """Keep open_clip from warning that the model has no weights: they come next."""

    def is_worth_telling(record: logging.LogRecord) -> bool:
        return "Model initialized randomly" not in record.msg

    root = logging.getLogger()
    root.addFilter(is_worth_telling)
    try:
        yield
    finally:
        root.removeFilter(is_worth_telling)


def _require_stored_shapes(model: nn.Module, weights: Path) -> None:
    """Refuses what open_clip would silently resample: position embeddings of another size."""
    with safetensors.safe_open(str(weights), framework="pt") as stored:
        names = set(stored.keys())
        for name, tensor in model.state_dict().items():
            if name in names and tensor.ndim > 1 and list(tensor.shape) != stored.get_slice(name).get_shape():
                raise WeightsMismatchError(
                    f"{name} is stored as {stored.get_slice(name).get_shape()}, the model wants {list(tensor.shape)}: "
                    "use weights of the same input size"
                )
