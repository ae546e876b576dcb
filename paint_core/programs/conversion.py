"""From a tower to its program, by torch's ONNX exporter. It takes seconds, once for each architecture."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.images.preprocess import Preprocess
from paint_core.programs.program import FEATURES, IMAGES, Forward, Program
from paint_core.programs.quantised import quantise_graph, set_external
from paint_core.programs.tracing import EXAMPLES, strip, trace

_TRIED_IMAGES = (1, 2, 5)
_NUDGE = 1.01
_CLOSE = 1e-3
"""Of the largest feature: how far the program's features may be from the tower's own."""
_PREFIX = "visual."


class _Tower(nn.Module):
    """A tower from pixels to unit features."""

    def __init__(self, visual: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.visual = visual
        self._preprocess = preprocess

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.visual(self._preprocess.normalise(images)).float(), dim=-1)


def convert(visual: nn.Module, preprocess: Preprocess) -> Program:
    """Return the program of a tower, tried with other weights and batch sizes than it was exported with.

    Args:
        visual: in float32 on the CPU.
        preprocess: of its base.

    Raises:
        ValueError: the program's features are not the tower's.
        Exception: whatever torch's exporter raises for a tower that it cannot export.
    """
    tower = _Tower(copy.deepcopy(visual).eval(), preprocess)
    graph = trace(tower, _noise(EXAMPLES, preprocess.size), IMAGES, FEATURES)
    names = _take_out_weights(graph, set(dict(visual.named_parameters()) | dict(visual.named_buffers())))
    int8_graph, quantised = quantise_graph(graph, names)
    program = Program(graph.SerializeToString(), names, int8_graph.SerializeToString(), quantised)
    _try(program, tower, preprocess.size)
    return program


def _take_out_weights(model: Any, names: set[str]) -> tuple[str, ...]:
    """Remove the weights and what only describes the graph; return whose weights were removed, in order."""
    taken = []
    inputs = {name for node in model.graph.node for name in node.input}
    for initializer in model.graph.initializer:
        name = initializer.name.removeprefix(_PREFIX)
        if name not in names or initializer.name not in inputs:
            continue
        taken.append(name)
        num_bytes = len(initializer.raw_data)
        for kept in ("raw_data", "float_data", "int64_data", "int32_data"):
            initializer.ClearField(kept)
        set_external(initializer, name, num_bytes)
    for node in model.graph.node:
        node.input[:] = [_short(name, names) for name in node.input]
    strip(model)
    return tuple(taken)


def _short(name: str, names: set[str]) -> str:
    short = name.removeprefix(_PREFIX)
    return short if short in names else name


def _try(program: Program, tower: _Tower, side: int) -> None:
    with torch.no_grad():
        for tensor in (*tower.visual.parameters(), *tower.visual.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(_NUDGE)
    forward: Forward = program.forward(tower.visual)
    for num_images in _TRIED_IMAGES:
        images = _noise(num_images, side)
        with torch.inference_mode():
            expected, got = tower(images), forward(images)
        if got.shape != expected.shape or not bool(((got - expected).abs() <= _CLOSE * expected.abs().max()).all()):
            raise ValueError("its features are not the tower's")


def _noise(num_images: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_images)
    return torch.randint(0, 256, (num_images, side, side, 3), dtype=torch.uint8, generator=generator)
