"""The route that classifies images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, BackgroundTasks, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app.access.callers import CallerDep
from app.access.policies import needs
from app.classify import service
from app.classify.schemas import REQUEST_BODY, Classification, ClassifyBody, ClassifyOptions
from app.datasets.schemas import parse_list
from app.disconnects import cancelled_when_gone
from app.errors import UnsupportedMediaTypeError
from app.problems import problem_responses
from app.services import ServicesDep
from registry.contract import Scope

VERSION_HEADER = "Paintbox-Version"
_JSON, _MULTIPART = "application/json", "multipart/form-data"
_LISTS = ("candidate_labels", "templates")
_MAX_FIELDS = 10_000
_Model = TypeVar("_Model", bound=BaseModel)

router = APIRouter(tags=["classify"])


@router.post(
    "/v1/classify",
    responses=problem_responses(400, 404, 409, 413, 415, 429, 503),
    openapi_extra={"requestBody": REQUEST_BODY},
    dependencies=[needs(Scope.CLASSIFY)],
)
async def classify(
    services: ServicesDep,
    caller: CallerDep,
    request: Request,
    response: Response,
    background: BackgroundTasks,
    request_key: Annotated[str | None, Header(alias="X-Request-Key", max_length=200)] = None,
) -> Classification:
    """Tell which of the labels each image shows, best first. No training: any labels will do.

    Takes image files (multipart) or base64 (JSON). The header `Paintbox-Version` names the version that answered. While
    there is an alias `canary`, its version answers a share of the requests: always those of the same `X-Request-Key`,
    or, without that, of the same API key or client address.
    """
    images, options = await _read(request)
    client = request.client.host if request.client else ""
    async with cancelled_when_gone(request):
        answer, answered = await service.classify(services, images, options, request_key or caller.key_id or client)
    response.headers[VERSION_HEADER] = str(answer.version)
    if answered is not None:
        background.add_task(services.shadow.offer, answered)
    return answer


async def _read(request: Request) -> tuple[Sequence[bytes], ClassifyOptions]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == _JSON:
        body = await run_in_threadpool(_validate, ClassifyBody.model_validate_json, await request.body())
        return body.images, body
    if media_type == _MULTIPART:
        async with request.form(max_files=_MAX_FIELDS, max_fields=_MAX_FIELDS) as form:
            images = [await value.read() for value in form.getlist("images") if isinstance(value, UploadFile)]
            return images, _validate(ClassifyOptions.model_validate, _form_options(form))
    raise UnsupportedMediaTypeError(media_type, (_MULTIPART, _JSON))


def _form_options(form: FormData) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in form:
        values = [value for value in form.getlist(name) if isinstance(value, str)]
        if name in _LISTS:
            options[name] = parse_list(values)
        elif name != "images":
            options[name] = values[-1] if values else None
    return options


def _validate(validate: Any, data: Any) -> Any:
    try:
        return validate(data)
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in items]) from error
