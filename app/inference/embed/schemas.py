"""What an embed request asks and what it is answered, in every form."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from app.inference.image_requests import MOST_IMAGES, Base64Image, InferenceOptions
from contract.labels import MOST_LABELS

Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class EmbedOptions(InferenceOptions):
    """What an embed request may say beside its images or texts."""

    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="A list of numbers, or their bytes as little-endian float32 in base64"
    )


class EmbedBody(EmbedOptions):
    """JSON body of `POST /v1/embed`."""

    images: tuple[Base64Image, ...] | None = Field(
        fail_fast=True, default=None, max_length=MOST_IMAGES, description="Images to embed; alternatively use `texts`"
    )
    texts: tuple[Text, ...] | None = Field(
        fail_fast=True, default=None, max_length=MOST_LABELS, description="Texts to embed, without a template"
    )

    @model_validator(mode="after")
    def _holds_one_kind(self) -> Self:
        if (self.images is None) == (self.texts is None):
            raise ValueError("exactly one of images and texts is required")
        return self


class Embedding(BaseModel):
    """One image's or text's embedding."""

    index: int = Field(description="Position of the image or text in the request, from 0")
    embedding: list[float] | str = Field(description="Of unit length: numbers, or base64 if that was asked for")


class Embeddings(BaseModel):
    """Answer of `POST /v1/embed`."""

    version: int = Field(description="Id of the version that served all images or texts")
    alias: str | None = Field(description="Alias by which the version was chosen; null: requested by id")
    precision: Literal["fp32", "bf16", "int8"] = Field(
        description="Arithmetic of the tower; texts are embedded in `fp32`"
    )
    dim: int = Field(description="Dimension of the embeddings")
    embeddings: list[Embedding] = Field(description="One entry for each image or text, in the order of the request")
    timing_ms: dict[str, float] = Field(description="Duration of each stage, in milliseconds, by name")
