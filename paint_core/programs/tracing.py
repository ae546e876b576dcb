"""From a module to its ONNX graph, by torch's exporter, for any number of rows."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

EXAMPLES = 3
"""Rows of an example: neither 1 nor a power of 2, so that no size of it is taken for a constant by accident."""
_MOST_ROWS = 1024


@torch.no_grad()
def trace(module: nn.Module, example: Tensor, given: str, made: str) -> Any:
    """The graph of a module with one input and one output, whose first dimensions are of any size.

    Args:
        module: in eval mode on the CPU.
        example: an input of `EXAMPLES` rows.
        given: name of the input in the graph.
        made: name of the output in the graph.

    Returns:
        An `onnx.ModelProto` with the module's tensors in it.

    Raises:
        Exception: whatever torch's exporter raises for a module that it cannot export.
    """
    sizes = ({0: torch.export.Dim(given, min=1, max=_MOST_ROWS)},)
    with _quiet():
        exported = torch.export.export(module, (example,), dynamic_shapes=sizes, strict=False)
        # Not optimised: the runtime folds constants itself, once it has the weights of a version.
        program = torch.onnx.export(
            exported, input_names=[given], output_names=[made], dynamo=True, optimize=False, verbose=False
        )
    assert program is not None
    return program.model_proto


def strip(model: Any) -> None:
    """Remove what only describes a graph, such as where in which file a node comes from, and tensors nobody reads."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    inputs = {name for node in model.graph.node for name in node.input}
    inputs |= {output.name for output in model.graph.output}
    for each in [each for each in model.graph.initializer if each.name not in inputs]:
        model.graph.initializer.remove(each)
    for each in model.graph.initializer:
        each.doc_string = ""
        del each.metadata_props[:]
    for each in (*model.graph.input, *model.graph.output):
        del each.metadata_props[:]
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn about versions of operators and of each other."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
