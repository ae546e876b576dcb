"""What the Open Inference Protocol puts on the wire, as its specification names it."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

MODEL_NAME = "paintbox"
"""The one model; its versions are those of the registry."""

_MAX_INT, _MAX_TEXT, _MAX_TENSORS = 2**64 - 1, 1000, 16


def _read_parameter(value: Any) -> bool | int | float | str:
    if type(value) is int and abs(value) <= _MAX_INT:
        return value
    if type(value) is bool or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is str and len(value) <= _MAX_TEXT:
        return value
    raise ValueError(f"must be a boolean, a number, or a string of at most {_MAX_TEXT} characters")


Parameter = Annotated[
    bool | int | float | str,
    PlainValidator(_read_parameter),
    WithJsonSchema({"anyOf": [{"type": kind} for kind in ("boolean", "integer", "number", "string")]}),
]
Parameters = Annotated[dict[str, Parameter], Field(max_length=100)]
Size = Annotated[int, Field(ge=0, le=2**31 - 1)]
TensorName = Annotated[str, Field(max_length=200)]


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True)  # clients of other servers send members of their own


class InputTensor(_Sent):
    """A tensor of a request. Its data are here, or in binary after the JSON."""

    name: TensorName = Field(description="Name of the tensor, as the model's metadata list it")
    shape: tuple[Size, ...] = Field(fail_fast=True, max_length=8, description="Size along each dimension")
    datatype: str = Field(max_length=20, examples=["BYTES"], description="Data type, such as `BYTES`")
    parameters: Parameters = Field(default={}, description="`binary_data_size`: bytes that it has after the JSON")
    data: list[Any] | None = Field(default=None, description="Texts; images as base64")


class RequestedOutput(_Sent):
    """A tensor that the answer is to have."""

    name: TensorName = Field(description="Name of the tensor, as the model's metadata list it")
    parameters: Parameters = Field(
        default={}, description="`binary_data`: after the JSON, not in it; `classification`: so many of the best labels"
    )


class InferRequest(_Sent):
    """Body of an infer request, or its beginning where binary tensors follow."""

    id: Annotated[str, Field(max_length=1000)] | None = Field(default=None, description="Comes back in the answer")
    parameters: Parameters = Field(
        default={}, description="`label_set`, `dataset`, `hypothesis_template`, `multi_label`, `timeout` (microseconds)"
    )
    inputs: tuple[InputTensor, ...] = Field(
        fail_fast=True,
        max_length=_MAX_TENSORS,
        description="`images` and, without a label set, `labels`; or `templates`",
    )
    outputs: tuple[RequestedOutput, ...] | None = Field(
        fail_fast=True,
        default=None,
        max_length=_MAX_TENSORS,
        description="Of `scores`, `cosines`, `labels` and `embedding`; left out: the first two",
    )


class OutputTensor(BaseModel):
    """A tensor of an answer."""

    name: str = Field(description="Name of the tensor")
    shape: list[int] = Field(description="Size along each dimension")
    datatype: str = Field(description="Data type: `FP32` or `BYTES`")
    parameters: dict[str, int] | None = Field(default=None, description="`binary_data_size`, in place of `data`")
    data: list[float | str] | None = Field(
        default=None, description="The values, row by row; null: they follow after the JSON"
    )


class InferResponse(BaseModel):
    """Answer of an infer request, or its beginning where binary tensors follow."""

    model_name: str = Field(description="The model")
    model_version: str = Field(description="Id of the version that served all images")
    id: str | None = Field(default=None, description="The request's `id`, if it had one")
    outputs: list[OutputTensor] = Field(description="The tensors that were asked for")


class ServerLive(BaseModel):
    """Check that the process responds."""

    live: bool = Field(default=True, description="Always true")


class ServerReady(BaseModel):
    """Infer requests are answered."""

    ready: bool = Field(default=True, description="Always true; a server that is not ready answers 503")


class ModelReady(BaseModel):
    """Infer requests of this model, or of this version, are answered."""

    name: str = Field(default=MODEL_NAME, description="The model")
    ready: bool = Field(default=True, description="Always true; a model that is not ready answers 503")


class ServerMetadata(BaseModel):
    """What this server is."""

    name: str = Field(description="The server")
    version: str = Field(description="Version of Paintbox")
    extensions: list[str] = Field(description="Extensions of the protocol that it speaks")


class TensorMetadata(BaseModel):
    """A tensor that requests or answers may have; -1 stands for any number."""

    name: str = Field(description="Name of the tensor")
    datatype: str = Field(description="Data type, such as `BYTES`")
    shape: list[int] = Field(description="Size along each dimension; -1: any")


class ModelMetadata(BaseModel):
    """What the model takes and gives."""

    name: str = Field(description="The model")
    versions: list[str] = Field(description="Ids of the versions that can be asked for")
    platform: str = Field(description="What the model runs on")
    inputs: list[TensorMetadata] = Field(description="Tensors that a request may have")
    outputs: list[TensorMetadata] = Field(description="Tensors that an answer may have")
