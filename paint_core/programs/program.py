"""An image tower as a program: an ONNX graph for each arithmetic, and the names of the weights that it needs.

All towers of one architecture share a program, so swapping versions converts nothing. ONNX Runtime runs a forward pass
without Python's lock, and in float32 an image's bits do not depend on its batch or on the number of threads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

GRAPH, INT8_GRAPH, WEIGHTS = "fp32.onnx", "int8.onnx", "weights.json"
IMAGES, FEATURES = "images", "features"
_MOST_INT8 = 127

Forward = Callable[[Tensor], Tensor]
"""Pixels, uint8 [B, S, S, 3], to unit features, float32 [B, D]."""


@dataclass(frozen=True, eq=False)
class Program:
    """The graphs of a tower, from uint8 pixels [B, S, S, 3] to unit features, float32 [B, D].

    Attributes:
        graph: in float32.
        weights: names of the tower's tensors that `graph` reads.
        int8_graph: with matrices in int8, and their inputs in uint8 of one scale per batch.
        quantised: of these matrices: whether a name is that of a layer's weight [out, in], in place of [in, out].
    """

    graph: bytes = field(repr=False)
    weights: tuple[str, ...] = field(repr=False)
    int8_graph: bytes = field(repr=False)
    quantised: Mapping[str, bool] = field(repr=False)

    def forward(self, visual: nn.Module, precision: Literal["fp32", "int8"] = "fp32", num_threads: int = 1) -> Forward:
        """Return what runs the program with the weights of a tower, from any number of threads at once.

        Args:
            visual: the tower, in float32 on the CPU; it must not be changed while the forward function lives.
            precision: `int8` quantises the matrices: symmetric, one scale per output channel.
            num_threads: that compute one forward pass.

        Raises:
            RuntimeError: the graph does not fit the tower.
        """
        tensors = dict(visual.named_parameters()) | dict(visual.named_buffers())
        arrays = {name: tensors[name].detach().contiguous().numpy() for name in self.weights}
        graph = self.graph
        if precision == "int8":
            graph = self.int8_graph
            for name, is_transposed in self.quantised.items():
                del arrays[name]
                arrays[quantised_name(name)], arrays[scale_name(name)] = quantise(tensors[name], is_transposed)
        session = _open(graph, arrays, num_threads)

        def forward(images: Tensor, _kept: Mapping[str, NDArray[Any]] = arrays) -> Tensor:  # the session reads them
            (features,) = session.run([FEATURES], {IMAGES: images.numpy()})
            return torch.from_numpy(features)

        return forward

    def num_bytes(self, visual: nn.Module, precision: Literal["fp32", "int8"]) -> int:
        """The memory of a forward function beside the tower, about: the runtime packs matrices anew."""
        tensors = dict(visual.named_parameters()) | dict(visual.named_buffers())
        quantised = sum(tensors[name].numel() for name in self.quantised)
        whole = sum(tensors[name].nbytes for name in self.weights)
        return whole if precision == "fp32" else whole - 3 * quantised

    def save(self, folder: Path) -> None:
        """Write three files into a folder that exists."""
        (folder / GRAPH).write_bytes(self.graph)
        (folder / INT8_GRAPH).write_bytes(self.int8_graph)
        named = {"weights": self.weights, "quantised": self.quantised}
        (folder / WEIGHTS).write_text(json.dumps(named, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Program:
        """Read what `save` wrote; `OSError` if a file is missing."""
        named = json.loads((folder / WEIGHTS).read_text(encoding="utf-8"))
        graph, int8_graph = ((folder / name).read_bytes() for name in (GRAPH, INT8_GRAPH))
        return cls(graph, tuple(named["weights"]), int8_graph, named["quantised"])


def quantised_name(name: str) -> str:
    """The input of the int8 graph that holds a matrix in int8 [in, out]."""
    return f"{name}.int8"


def scale_name(name: str) -> str:
    """The input of the int8 graph that holds the scale of each output channel, float32 [out]."""
    return f"{name}.scale"


def quantise(matrix: Tensor, is_transposed: bool) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix in int8 [in, out], and the scales [out] that its columns have to be multiplied with."""
    columns = matrix.detach().T if is_transposed else matrix.detach()
    scales = (columns.abs().amax(dim=0) / _MOST_INT8).clamp_min(torch.finfo(torch.float32).tiny)
    rounded = (columns / scales).round_().to(torch.int8)
    return rounded.contiguous().numpy(), scales.contiguous().numpy()


def _open(graph: bytes, arrays: Mapping[str, NDArray[Any]], num_threads: int) -> Any:
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # warnings are about graphs, which no user can change
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave their cores
    values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    options.add_external_initializers(list(arrays), values)
    try:
        return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors derive from nothing narrower
        raise RuntimeError(f"ONNX Runtime cannot run the tower: {str(error)[:300]}") from error
