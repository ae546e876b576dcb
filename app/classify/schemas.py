"""What a classify request asks and what it is answered, in both content types."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from app.datasets.schemas import Templates
from app.labelsets.schemas import Label


def _decode_base64(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("an image is a base64 string")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64 ({error})") from error


Base64Image = Annotated[
    bytes,
    BeforeValidator(_decode_base64),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "description": "An image file"}),
]


class ClassifyOptions(BaseModel):
    """What a classify request may say beside its images. Labels come from `candidate_labels` or from `dataset`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate_labels: tuple[Label, ...] | None = Field(default=None, description="What the images may show")
    templates: Templates | None = Field(default=None, description="Prompts with `{}`; left out: the label set's own")
    dataset: str | None = Field(default=None, description="Id of a ready data set whose classes are the labels")
    top_k: int | None = Field(default=None, ge=1, description="Most predictions per image; left out: all")

    @model_validator(mode="after")
    def _names_labels_once(self) -> Self:
        if (self.candidate_labels is None) == (self.dataset is None):
            raise ValueError("give either candidate_labels or dataset")
        return self


class ClassifyBody(ClassifyOptions):
    """JSON body of `POST /v1/classify`."""

    images: tuple[Base64Image, ...]


class Prediction(BaseModel):
    """How well a label fits an image."""

    label: str
    score: float = Field(description="Softmax over the labels of cosine times the model's own scale")
    cosine: float = Field(description="Cosine between image and label, independent of the other labels")


class ImageResult(BaseModel):
    """One image's predictions, best first."""

    index: int
    predictions: list[Prediction]


class Classification(BaseModel):
    """Answer of `POST /v1/classify`."""

    version: int = Field(description="The version that answered, for every image")
    alias: str = Field(description="By the name of which alias it answered: `active`, or `canary`")
    templates: list[str]
    results: list[ImageResult]
    timing_ms: dict[str, float]


_STRINGS = {"type": "array", "items": {"type": "string"}}

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {
                    "images": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                    },
                    "candidate_labels": {**_STRINGS, "description": "Repeated, or one JSON list"},
                    "templates": {**_STRINGS, "description": "Repeated, or one JSON list"},
                    "dataset": {"type": "string"},
                    "top_k": {"type": "integer", "minimum": 1},
                },
            }
        },
        "application/json": {"schema": {"$ref": "#/components/schemas/ClassifyBody"}},
    },
}
"""The two content types, for the OpenAPI document; FastAPI cannot tell them from one signature."""
