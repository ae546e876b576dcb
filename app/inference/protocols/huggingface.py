"""Hugging Face's task `zero-shot-image-classification`, as `huggingface_hub.InferenceClient` asks for it."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from app.access.policies import needs
from app.http.problems import problem_responses
from app.inference.classify.ranking import rank
from app.inference.classify.schemas import ClassifyOptions
from app.inference.classify.service import Classified
from app.inference.image_requests import PRECISION_HEADER, VERSION_HEADER, Base64Image, VersionName, validate_json
from app.inference.protocols.asking import AskerDep
from contract.access import Scope
from contract.labels import Labels, Template

router = APIRouter(prefix="/hf", tags=["protocols"])


class ZeroShotParameters(BaseModel):
    """What the images may show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate_labels: Labels = Field(description="The labels")
    hypothesis_template: Template | None = Field(
        default=None, description="One prompt template with `{}`; default: the templates of the model"
    )


class ZeroShotRequest(BaseModel):
    """Body of a zero-shot request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: Base64Image
    parameters: ZeroShotParameters = Field(description="What the image may show")


class LabelScore(BaseModel):
    """How well a label fits the image."""

    label: str = Field(description="The label")
    score: float = Field(description="Softmax over the labels of cosine times the logit scale of the model")


class ZeroShotAnswer(RootModel[list[LabelScore]]):
    """Every label, best first."""


@router.post(
    "/zero-shot-image-classification",
    response_model=ZeroShotAnswer,
    responses=problem_responses(400, 404, 409, 413, 429, 503, 504),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ZeroShotRequest.__name__}"}}},
        }
    },
    dependencies=[needs(Scope.CLASSIFY)],
)
async def classify_zero_shot(
    request: Request,
    asker: AskerDep,
    version: Annotated[VersionName | None, Query(description="Version id or alias; default: `active`")] = None,
) -> Response:
    """Score an image against candidate labels, in the format of Hugging Face's clients.

    Pass the URL of this route as `model` to `InferenceClient`. `POST /v1/classify` accepts several images and more
    options.
    """
    started = time.monotonic()
    body = await run_in_threadpool(validate_json, ZeroShotRequest, await request.body())
    options = ClassifyOptions(**body.parameters.model_dump(), version=version)
    classified = await asker.ask((body.inputs,), options, started)
    answer = await run_in_threadpool(_render, classified)
    model = classified.model
    headers = {VERSION_HEADER: str(model.version_id), PRECISION_HEADER: model.precision.precision}
    return Response(answer, headers=headers, media_type="application/json")


def _render(classified: Classified) -> bytes:
    judged = classified.judged
    (result,) = rank(classified.labels.classnames, judged.scores(multi_label=False), judged.cosines())
    return to_json([{"label": each["label"], "score": each["score"]} for each in result["predictions"]])
