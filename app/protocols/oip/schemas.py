"""What the Open Inference Protocol puts on the wire, as its specification names it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

MODEL_NAME = "paintbox"
"""The one model; its versions are those of the registry."""

Parameter = StrictBool | StrictInt | StrictFloat | StrictStr
Parameters = Annotated[dict[str, Parameter], Field(max_length=100)]
Size = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True)  # clients of other servers send members of their own


class InputTensor(_Sent):
    """A tensor of a request. Its data are here, or in binary after the JSON."""

    name: str
    shape: tuple[Size, ...]
    datatype: str = Field(examples=["BYTES"])
    parameters: Parameters = Field(default={}, description="`binary_data_size`: bytes that it has after the JSON")
    data: list[Any] | None = Field(default=None, description="Texts; images as base64")


class RequestedOutput(_Sent):
    """A tensor that the answer is to have."""

    name: str
    parameters: Parameters = Field(
        default={}, description="`binary_data`: after the JSON, not in it; `classification`: so many of the best labels"
    )


class InferRequest(_Sent):
    """Body of an infer request, or its beginning where binary tensors follow."""

    id: Annotated[str, Field(max_length=1000)] | None = Field(default=None, description="Comes back in the answer")
    parameters: Parameters = Field(
        default={}, description="`label_set`, `dataset`, `hypothesis_template`, `multi_label`, `timeout` (microseconds)"
    )
    inputs: tuple[InputTensor, ...] = Field(description="`images` and, without a label set, `labels`; or `templates`")
    outputs: tuple[RequestedOutput, ...] | None = Field(
        default=None, description="Of `scores`, `cosines`, `labels` and `embedding`; left out: the first two"
    )


class OutputTensor(BaseModel):
    """A tensor of an answer."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] | None = Field(default=None, description="`binary_data_size`, in place of `data`")
    data: list[float | str] | None = None


class InferResponse(BaseModel):
    """Answer of an infer request, or its beginning where binary tensors follow."""

    model_name: str
    model_version: str = Field(description="The version that answered, for every image")
    id: str | None = None
    outputs: list[OutputTensor]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool = True


class ServerReady(BaseModel):
    """Infer requests are answered."""

    ready: bool = True


class ModelReady(BaseModel):
    """Infer requests of this model, or of this version, are answered."""

    name: str = MODEL_NAME
    ready: bool = True


class ServerMetadata(BaseModel):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor that requests or answers may have; -1 stands for any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
