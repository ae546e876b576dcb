"""BYTES tensors: elements of any length, as strings in JSON or, in binary, each after its length."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from app.http.errors import InferRefusedError
from app.inference.protocols.oip.schemas import InputTensor

BYTES = "BYTES"
BINARY_SIZE = "binary_data_size"
_LENGTH = struct.Struct("<I")


def take_binary(tensors: Sequence[InputTensor], binary: memoryview) -> Iterator[memoryview | None]:
    """Yield the part of the body that each tensor has after the JSON, in their order.

    Args:
        tensors: Of one request.
        binary: What the body has after the JSON.

    Yields:
        memoryview | None: None: the tensor's data are in the JSON.

    Raises:
        InferRefusedError: The sizes that they state do not add up to what there is.
    """
    for tensor in tensors:
        size = tensor.parameters.get(BINARY_SIZE)
        if size is None:
            yield None
            continue
        if type(size) is not int or not 0 <= size <= len(binary):
            raise InferRefusedError(
                f"Input {tensor.name!r} has {BINARY_SIZE} {size!r}, but {len(binary)} bytes remain.",
                "Send the JSON, its length as Inference-Header-Content-Length, then the tensors in order.",
            )
        yield binary[:size]
        binary = binary[size:]
    if binary:
        raise InferRefusedError(
            f"{len(binary)} bytes after the last input are not part of any input.",
            f"Set {BINARY_SIZE} to the size of each binary tensor.",
        )


def read_elements(tensor: InputTensor, binary: memoryview | None) -> list[bytes]:
    """Return the elements of a one-dimensional BYTES tensor.

    Args:
        tensor: Of a request.
        binary: Its part of the body; None: its data are in the JSON.

    Returns:
        As many as its shape says; texts are UTF-8.

    Raises:
        InferRefusedError: It is another kind of tensor, or its data do not fit its shape.
    """
    if tensor.datatype != BYTES or len(tensor.shape) != 1:
        raise InferRefusedError(
            f"Input {tensor.name!r} has type {tensor.datatype} and shape {list(tensor.shape)}.",
            f"Send it as {BYTES} with one dimension.",
        )
    elements = _encode(tensor) if binary is None else list(_split(tensor, binary))
    if len(elements) != tensor.shape[0]:
        raise InferRefusedError(
            f"Input {tensor.name!r} has {len(elements)} elements, but its shape is {list(tensor.shape)}.",
            "Make the number of elements match the shape.",
        )
    return elements


def join_elements(elements: Iterable[bytes]) -> bytes:
    """Return the elements in binary form."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def _encode(tensor: InputTensor) -> list[bytes]:
    if tensor.data is None or not all(isinstance(element, str) for element in tensor.data):
        raise InferRefusedError(
            f"Input {tensor.name!r} has no `data` of strings.", f"Send strings, or binary data with {BINARY_SIZE}."
        )
    return [element.encode() for element in tensor.data]


def _split(tensor: InputTensor, binary: memoryview) -> Iterator[bytes]:
    start = 0
    while start < len(binary):
        begin = start + _LENGTH.size
        end = begin + _LENGTH.unpack(binary[start:begin])[0] if begin <= len(binary) else begin
        if end > len(binary):
            raise InferRefusedError(
                f"The binary data of input {tensor.name!r} ends within an element.",
                "Prefix each element with its length as four bytes, little-endian.",
            )
        yield bytes(binary[begin:end])
        start = end
