"""The int8 graph of a tower: its large matrix products in integers.

The weights are symmetric with one scale per output channel; the other factor is quantised as it comes, to uint8 with
one scale and one zero point for the whole batch (ONNX Runtime's `DynamicQuantizeMatMul`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import helper

from paint_core.programs.program import quantised_name, scale_name

_LEAST_WEIGHTS = 1 << 14
"""Of a matrix; converting the input of a smaller one takes longer than what it saves."""
_DOMAIN = "com.microsoft"


def quantise_graph(model: Any, names: Sequence[str]) -> tuple[Any, Mapping[str, bool]]:
    """Return a copy of a graph with its large matrices in int8.

    Args:
        model: with `names` as tensors that are given when the graph is opened.
        names: of these tensors.

    Returns:
        The graph, and the names of the matrices, each with whether it is [out, in].
    """
    quantised = copy.deepcopy(model)
    graph = quantised.graph
    shapes = {each.name: tuple(each.dims) for each in graph.initializer if each.name in set(names)}
    transposed = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose" and _is_plain(node, shapes)
    }
    found: dict[str, bool] = {}
    for node in graph.node:
        matrix = _matrix_of(node, shapes, transposed)
        if matrix is not None and math.prod(shapes[matrix[0]]) >= _LEAST_WEIGHTS:
            found.setdefault(*matrix)
            if found[matrix[0]] == matrix[1]:  # a matrix that is used both ways stays as it is where it is used second
                _replace(node, matrix[0])
    _declare(graph, shapes, found)
    if found:
        quantised.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return quantised, found


def set_external(initializer: Any, name: str, num_bytes: int) -> None:
    """Declare a tensor of a graph as one whose values are given when the graph is opened."""
    initializer.name = name
    initializer.data_location = onnx.TensorProto.EXTERNAL
    del initializer.external_data[:]
    for key, value in (("location", "given"), ("offset", "0"), ("length", str(num_bytes))):
        entry = initializer.external_data.add()
        entry.key, entry.value = key, value


def _is_plain(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a node transposes a given matrix."""
    orders = [list(each.ints) for each in node.attribute if each.name == "perm"]
    return len(shapes.get(node.input[0], ())) == 2 and orders in ([], [[1, 0]])


def _matrix_of(
    node: Any, shapes: Mapping[str, tuple[int, ...]], transposed: Mapping[str, str]
) -> tuple[str, bool] | None:
    """Return the matrix that a node multiplies with, and whether it is [out, in]; None: it does something else."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    is_gemm = node.op_type == "Gemm"
    if not is_gemm and node.op_type != "MatMul":
        return None
    if is_gemm and (
        attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1
    ):
        return None
    name, is_transposed = node.input[1], bool(attributes.get("transB", 0))
    if name in transposed:
        name, is_transposed = transposed[name], not is_transposed
    return (name, is_transposed) if len(shapes.get(name, ())) == 2 else None


def _replace(node: Any, name: str) -> None:
    bias = list(node.input[2:3])
    node.input[:] = [node.input[0], quantised_name(name), scale_name(name), *(["", *bias] if bias else [])]
    node.op_type, node.domain = "DynamicQuantizeMatMul", _DOMAIN
    del node.attribute[:]


def _declare(graph: Any, shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, bool]) -> None:
    """Declare the quantised matrices and their scales, and remove what nothing reads any more."""
    while unread := [node for node in graph.node if not _is_read(node.output, graph)]:
        for node in unread:
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for each in [each for each in graph.initializer if each.name in found and each.name not in read]:
        graph.initializer.remove(each)
    for name, is_transposed in found.items():
        rows, columns = shapes[name][::-1] if is_transposed else shapes[name]
        for given, kind, dims, size in (
            (quantised_name(name), onnx.TensorProto.INT8, (rows, columns), 1),
            (scale_name(name), onnx.TensorProto.FLOAT, (columns,), 4),
        ):
            tensor = onnx.TensorProto(data_type=kind, dims=dims)
            set_external(tensor, given, size * math.prod(dims))
            graph.initializer.append(tensor)


def _is_read(names: Sequence[str], graph: Any) -> bool:
    wanted = set(names)
    return any(wanted & set(node.input) for node in graph.node) or any(each.name in wanted for each in graph.output)
