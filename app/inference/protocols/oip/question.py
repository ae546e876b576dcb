"""From the body of an infer request to what the engine is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.http.errors import InferRefusedError
from app.http.invalid import describe_first
from app.inference.base64_images import decode_base64_image
from app.inference.classify.schemas import ClassifyOptions
from app.inference.image_requests import refuse_many_values
from app.inference.protocols.oip.schemas import InferRequest, RequestedOutput
from app.inference.protocols.oip.tensors import read_elements, take_binary
from contract.names import shorten

_IMAGES, _LABELS, _TEMPLATES = "images", "labels", "templates"
_INPUTS = (_IMAGES, _LABELS, _TEMPLATES)
_OPTIONS = frozenset({"label_set", "dataset", "hypothesis_template", "multi_label"})
_SOURCES = ("candidate_labels", "label_set", "dataset")
_TIMEOUT, _ALL_BINARY = "timeout", "binary_data_output"
_BINARY, _CLASSIFICATION = "binary_data", "classification"
_Model = TypeVar("_Model", bound=BaseModel)


class Output(StrEnum):
    """Tensors that an answer can have."""

    SCORES = "scores"
    COSINES = "cosines"
    LABELS = "labels"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class Wanted:
    """A tensor that the answer is to have.

    Attributes:
        output: Which.
        binary: Whether it comes after the JSON, not in it.
        num_best: Say so many of the best labels of each image in its place; 0: do not.
    """

    output: Output
    binary: bool
    num_best: int


@dataclass(frozen=True)
class Question:
    """What an infer request asks.

    Attributes:
        identifier: Comes back in the answer, if there is one.
        images: Encoded images.
        options: Labels and the rest.
        outputs: What the answer is to have, in this order.
    """

    identifier: str | None
    images: Sequence[bytes]
    options: ClassifyOptions
    outputs: tuple[Wanted, ...]


def read_question(body: bytes, header_length: int | None, version: int | str | None) -> Question:
    """Return what a request asks.

    Args:
        body: JSON, and binary tensors after it.
        header_length: Bytes of the JSON; None: all.
        version: That the path names, by id or by an alias.

    Returns:
        The question.

    Raises:
        InferRefusedError: The body is not what the protocol says, or names things that there are not.
    """
    view = memoryview(body)
    length = len(view) if header_length is None else header_length
    if length > len(view):
        raise InferRefusedError(
            f"Inference-Header-Content-Length is {length}, but the body has {len(view)} bytes.", "Send the whole body."
        )
    header = bytes(view[:length])
    refuse_many_values(header)
    request = _validate(InferRequest, header)
    tensors = _read_tensors(request, view[length:])
    if _IMAGES not in tensors:
        raise InferRefusedError(f"The input {_IMAGES!r} is missing.", "Send encoded image files: BYTES of shape [N].")
    options = _read_options(request, tensors, version)
    return Question(request.id, tensors[_IMAGES], options, _read_outputs(request))


def _read_tensors(request: InferRequest, binary: memoryview) -> dict[str, list[bytes]]:
    tensors: dict[str, list[bytes]] = {}
    for tensor, part in zip(request.inputs, take_binary(request.inputs, binary), strict=True):
        if tensor.name not in _INPUTS or tensor.name in tensors:
            again = "is given more than once" if tensor.name in tensors else "is not an input of this model"
            raise InferRefusedError(
                f"Input {tensor.name!r} {again}.", f"Send the inputs {', '.join(_INPUTS)}, each at most once."
            )
        elements = read_elements(tensor, part)
        tensors[tensor.name] = _decode(elements) if tensor.name == _IMAGES and part is None else elements
    return tensors


def _decode(elements: Sequence[bytes]) -> list[bytes]:
    try:
        return [decode_base64_image(element.decode("utf-8", "replace")) for element in elements]
    except ValueError as error:
        raise InferRefusedError(
            f"An image {error}.", "Send images as base64 in JSON, or as raw bytes in binary tensors."
        ) from error


def _read_options(
    request: InferRequest, tensors: Mapping[str, Sequence[bytes]], version: int | str | None
) -> ClassifyOptions:
    given: dict[str, Any] = dict(request.parameters)
    unknown = given.keys() - _OPTIONS - {_TIMEOUT, _ALL_BINARY}
    if unknown:
        known = ", ".join(sorted(_OPTIONS | {_TIMEOUT, _ALL_BINARY}))
        raise InferRefusedError(f"Unknown parameter {shorten(min(unknown))!r}.", f"The parameters are {known}.")
    given.pop(_ALL_BINARY, None)
    if _TIMEOUT in given:
        given["timeout_ms"] = _milliseconds(given.pop(_TIMEOUT))
    for name, option in ((_LABELS, "candidate_labels"), (_TEMPLATES, "templates")):
        if name in tensors:
            given[option] = _texts(name, tensors[name])
    if sum(source in given for source in _SOURCES) != 1:
        raise InferRefusedError(
            "Exactly one source of labels is required.",
            f"Send the input {_LABELS!r}, or the parameter 'label_set' or 'dataset'.",
        )
    return _validate(ClassifyOptions, {**given, "version": version})


def _milliseconds(microseconds: Any) -> Any:
    return math.ceil(microseconds / 1000) if type(microseconds) is int else microseconds


def _texts(name: str, elements: Sequence[bytes]) -> list[str]:
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError as error:
        raise InferRefusedError(f"Input {name!r} is not UTF-8 ({error.reason}).", "Send texts.") from error


def _read_outputs(request: InferRequest) -> tuple[Wanted, ...]:
    all_binary = request.parameters.get(_ALL_BINARY) is True
    if not request.outputs:
        return tuple(Wanted(output, all_binary, 0) for output in (Output.SCORES, Output.COSINES))
    return tuple(_read_output(each, all_binary) for each in request.outputs)


def _read_output(requested: RequestedOutput, all_binary: bool) -> Wanted:
    if requested.name not in list(Output):
        raise InferRefusedError(f"Unknown output {requested.name!r}.", f"The outputs are {', '.join(Output)}.")
    output, parameters = Output(requested.name), requested.parameters
    if "shared_memory_region" in parameters:
        raise InferRefusedError("Shared memory is not supported.", "Request the output as binary data.")
    num_best = parameters.get(_CLASSIFICATION, 0)
    if type(num_best) is not int or num_best < 0 or (num_best and output not in (Output.SCORES, Output.COSINES)):
        raise InferRefusedError(
            f"Output {output.value!r} cannot have {_CLASSIFICATION} {num_best!r}.",
            f"Use a number of labels; only {Output.SCORES} and {Output.COSINES} support it.",
        )
    return Wanted(output, parameters.get(_BINARY, all_binary) is True, num_best)


def _validate(model: type[_Model], data: bytes | dict[str, Any]) -> _Model:
    try:
        return model.model_validate_json(data) if isinstance(data, bytes) else model.model_validate(data)
    except ValidationError as error:
        reason = describe_first(error).replace("candidate_labels", _LABELS)
        raise InferRefusedError(f"Invalid request: {reason}.", "See the schema at /docs.") from error
