"""What a classify request asks and what it is answered, in every form."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, WrapValidator, model_validator

from app.inference.image_requests import MOST_IMAGES, Base64Image, InferenceOptions
from app.inference.label_sets.known import keep_known
from contract.bodies import Id
from contract.labels import Labels, Template, Templates
from contract.routing import RouteName


class ClassifyOptions(InferenceOptions):
    """What a classify request may say beside its images. The labels come from one of three places."""

    candidate_labels: Annotated[Labels | None, WrapValidator(keep_known)] = Field(
        default=None, description="Candidate labels"
    )
    label_set: Id | None = Field(default=None, description="Id of a label set, in place of labels")
    dataset: Id | None = Field(default=None, description="Id of a ready data set whose classes are the labels")
    templates: Templates | None = Field(
        default=None, description="Prompt templates with `{}`. Default: those of the label set"
    )
    hypothesis_template: Template | None = Field(default=None, description="One prompt with `{}`, for `templates`")
    top_k: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="Maximum number of predictions per image. Default: all"
    )
    threshold: float | None = Field(default=None, ge=0, le=1, description="Minimum score of a prediction")
    multi_label: bool = Field(
        default=False, description="Score each label independently (sigmoid) instead of against the others (softmax)"
    )

    keep: bool = Field(
        default=True,
        description="Whether the service may keep the images to be labelled, if the operator has turned sampling on",
    )

    @property
    def prompts(self) -> tuple[str, ...]:
        """Templates that the request names; empty: it leaves them to others."""
        return (self.hypothesis_template,) if self.hypothesis_template is not None else self.templates or ()

    @model_validator(mode="after")
    def _names_labels_once(self) -> Self:
        if [self.candidate_labels, self.label_set, self.dataset].count(None) != 2:
            raise ValueError("exactly one of candidate_labels, label_set and dataset is required")
        if self.templates is not None and self.hypothesis_template is not None:
            raise ValueError("templates and hypothesis_template are mutually exclusive")
        return self


class ClassifyBody(ClassifyOptions):
    """JSON body of `POST /v1/classify`."""

    images: tuple[Base64Image, ...] = Field(fail_fast=True, max_length=MOST_IMAGES, description="Images as base64")


class Prediction(BaseModel):
    """How well a label fits an image."""

    label: str = Field(description="The label")
    score: float = Field(
        description="Of cosine times the model's own scale, plus its bias: softmax over the labels, or sigmoid"
    )
    cosine: float = Field(description="Cosine between image and label, independent of the other labels")


class ImageResult(BaseModel):
    """One image's predictions, best first."""

    index: int = Field(description="Position of the image in the request, from 0")
    predictions: list[Prediction] = Field(description="The labels, best first")


class Classification(BaseModel):
    """Answer of `POST /v1/classify`."""

    version: int = Field(description="Id of the version that served all images")
    alias: str | None = Field(description="Alias by which the version was chosen; null: requested by id")
    precision: Literal["fp32", "bf16", "int8"] = Field(description="Arithmetic of the image tower")
    templates: list[str] = Field(description="Prompt templates that were used")
    route: RouteName | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Of a version that routes by labels: which weights answered; left out: it does not route",
    )
    results: list[ImageResult] = Field(description="One entry for each image, in the order of the request")
    timing_ms: dict[str, float] = Field(description="Duration of each stage, in milliseconds, by name")
    warnings: list[str] = Field(
        default=[],
        exclude_if=lambda value: not value,
        description="Such as of one label alone, or labels that differ only in case; left out: none",
    )
