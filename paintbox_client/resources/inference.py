"""Responses about images and texts, and label sets."""

from __future__ import annotations

from paintbox_client.frames import EmbeddingTable, PredictionTable
from paintbox_client.records import Record


class Prediction(Record):
    """How well a label fits an image."""

    label: str
    score: float
    cosine: float


class ImageResult(Record):
    """One image's predictions, best first."""

    index: int
    predictions: list[Prediction]


class Classification(PredictionTable):
    """Response of `POST /v1/classify`."""

    version: int
    alias: str | None
    precision: str
    templates: list[str]
    route: str | None
    results: list[ImageResult]
    timing_ms: dict[str, float]
    warnings: list[str]


class Embedding(Record):
    """One image's or text's embedding."""

    index: int
    embedding: list[float] | str


class Embeddings(EmbeddingTable):
    """Response of `POST /v1/embed`."""

    version: int
    alias: str | None
    precision: str
    dim: int
    embeddings: list[Embedding]
    timing_ms: dict[str, float]


class LabelSetBrief(Record):
    """A label set, without its labels."""

    id: str
    name: str | None
    num_labels: int
    templates: list[str]
    owner: str | None
    created_at: str


class LabelSet(LabelSetBrief):
    """Labels and templates that classify requests name by id. It never changes."""

    labels: list[str]
