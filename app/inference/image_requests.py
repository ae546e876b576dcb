"""Requests with images, in the three forms that routes read: JSON with base64, files of a form, one raw image.

The options of a route are one model: members of the JSON object, fields of the form, or the query of a raw image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import HTTPException, Request
from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from app.datasets.schemas import parse_list
from app.http.errors import ImageRefusedError, ImagesRefusedError, UnsupportedMediaTypeError
from app.http.invalid import invalid, refusal_of
from app.inference.base64_images import decode_base64_image
from app.inference.label_sets.known import read_labels
from app.settings import AppSettings
from contract.bodies import ALIAS_PATTERN, MAX_VERSION_ID, VERSION_ID_PATTERN, parse_version_id
from contract.names import shorten

VERSION_HEADER = "Paintbox-Version"
PRECISION_HEADER = "Paintbox-Precision"
REQUEST_KEY_HEADER, MAX_REQUEST_KEY = "X-Request-Key", 200
REQUEST_KEY = {
    "name": REQUEST_KEY_HEADER,
    "in": "header",
    "required": False,
    "description": "Requests with the same key are served by the same version, `active` or `canary`",
    "schema": {"type": "string", "maxLength": MAX_REQUEST_KEY},
}
"""The header in the OpenAPI document."""

_JSON, _MULTIPART, _BYTES, _ANY_IMAGE = "application/json", "multipart/form-data", "application/octet-stream", "image/*"
_READ = {"candidate_labels": read_labels, "templates": parse_list}
_PAYLOADS = frozenset({"images", "texts"})
_IMAGE_FIELDS = frozenset({"images", "images[]", "image", "image[]", "file", "files", "file[]", "files[]"})
"""Names under which clients send the files of a form: `images` is ours, the others are the usual ones."""
_MAX_FIELDS, _MAX_FIELD_BYTES = 10_000, 1 << 20
_MAX_TIMEOUT_MS = 600_000
MOST_IMAGES = 100_000
"""Limit on images that applies before that of the settings."""

MAX_VALUES = 200_000
"""Limit on members and items of a JSON body: parsing a million takes a tenth of a second, which delays all requests."""

_ALIAS = re.compile(ALIAS_PATTERN, re.ASCII)
_Model = TypeVar("_Model", bound=BaseModel)


def _read_version(value: Any) -> int | str:
    if isinstance(value, str) and _ALIAS.fullmatch(value):
        return value
    try:
        return parse_version_id(value)
    except ValueError:
        raise ValueError("is neither a version id nor the name of an alias") from None


def _decode_base64(value: Any) -> Any:
    """Return the bytes of an image; those of a form or of a raw body are bytes already, which JSON never has."""
    return value if isinstance(value, bytes) else decode_base64_image(value)


VersionName = Annotated[
    int | str,
    PlainValidator(_read_version),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_VERSION_ID},
                {"type": "string", "pattern": f"^({VERSION_ID_PATTERN}|{ALIAS_PATTERN})$"},
            ]
        }
    ),
]
Base64Image = Annotated[
    bytes,
    BeforeValidator(_decode_base64),
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "description": "An image file in base64; a `data:` URL, line breaks and missing padding are accepted",
        }
    ),
]


class InferenceOptions(BaseModel):
    """Options of every request to a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: VersionName | None = Field(default=None, description="Version id or alias; default: `active`")
    timeout_ms: int | None = Field(
        default=None,
        ge=1,
        le=_MAX_TIMEOUT_MS,
        description="Deadline in milliseconds; when it passes, the response is 504",
    )

    def deadline(self, started: float) -> float | None:
        """Return the deadline of a request that arrived at `started`, on the same clock; None: it has none."""
        return None if self.timeout_ms is None else started + self.timeout_ms / 1000


async def read_request(request: Request, model: type[_Model]) -> _Model:
    """Read a request of any of the three forms into the model of its JSON body; images are bytes.

    Options in the query string are refused where the body holds them, since they would be ignored.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in (_JSON, _MULTIPART) and request.scope["query_string"]:
        name = next(iter(request.query_params), "?")
        raise invalid("must be in the body: with JSON or a form, the query string is ignored", "query", name)
    if media_type == _JSON:
        return await run_in_threadpool(validate_json, model, await request.body())
    if media_type == _MULTIPART:
        images, fields = await _read_form(request, model.model_fields)
        return _validate(model, model.model_validate, _collect(fields, "body") | {"images": images}, "body")
    if media_type == _BYTES or media_type.startswith("image/"):
        options = _collect(request.query_params.multi_items(), "query")
        return _validate(model, model.model_validate, options | {"images": [await request.body()]}, "query")
    raise UnsupportedMediaTypeError(media_type, (_MULTIPART, _JSON, _ANY_IMAGE))


def validate_json(model: type[_Model], body: bytes) -> _Model:
    """Validate a JSON body. Except for long strings this takes a few hundredths of a second at most."""
    refuse_many_values(body)
    return _validate(model, model.model_validate_json, body, "body")


def refuse_many_values(body: bytes) -> None:
    """Refuse JSON with more values than any request needs, before it is parsed: a value costs more than its bytes.

    Values are counted by the commas between them.
    """
    if body.count(b",") > MAX_VALUES:
        raise invalid(f"has more than {MAX_VALUES} values (commas are counted)", "body")


def read_request_key(request: Request) -> str | None:
    """Return the value of the header `X-Request-Key`; None: there is none, or it is empty."""
    key = request.headers.get(REQUEST_KEY_HEADER)
    if key is not None and len(key) > MAX_REQUEST_KEY:
        raise invalid(f"must have at most {MAX_REQUEST_KEY} characters", "header", REQUEST_KEY_HEADER)
    return key or None


def check_images(images: Sequence[bytes], settings: AppSettings) -> None:
    """Raise `ImagesRefusedError` if there are no or too many images, `ImageRefusedError` if one is too large."""
    if not images:
        raise ImagesRefusedError("no_images", "No image was sent.", "Send at least one image as `images`.")
    if len(images) > settings.max_images_per_request:
        raise ImagesRefusedError(
            "too_many_images",
            f"Too many images: {len(images)}; the limit is {settings.max_images_per_request} per request.",
            "Split them into several requests.",
        )
    for index, image in enumerate(images):
        if len(image) > settings.max_image_bytes:
            raise ImageRefusedError(
                "image_too_large", index, f"is larger than {settings.max_image_bytes} bytes", "Send a smaller image."
            )


def describe(model: type[BaseModel], *headers: dict[str, Any]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads this model and headers, in each of the three forms.

    The schema of the model itself is put into the document by `app.web.openapi`.
    """
    image = {"type": "string", "contentMediaType": _BYTES}
    properties = model.model_json_schema()["properties"]
    options = {name: _without_null(schema) for name, schema in properties.items() if name not in _PAYLOADS}
    form = {"images": {"type": "array", "minItems": 1, "items": image}, **options}
    content: dict[str, Any] = {
        _MULTIPART: {"schema": {"type": "object", "required": ["images"], "properties": form}},
        _JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}},
        _ANY_IMAGE: {"schema": image},
        _BYTES: {"schema": image},
    }
    return {
        "parameters": [*(_in_query(name, schema) for name, schema in options.items()), *headers],
        "requestBody": {"required": True, "content": content},
    }


async def _read_form(request: Request, known: Collection[str] = ()) -> tuple[list[bytes], list[tuple[str, str]]]:
    """Return the images and the other fields of a form; `known` are the fields that are no images."""
    _, parameters = parse_options_header(request.headers["content-type"])
    images: list[bytes] = []
    fields: list[tuple[str, str]] = []
    try:
        with PushMultipartParser(parameters.get("boundary", ""), max_segment_count=_MAX_FIELDS) as parser:
            segment: MultipartSegment | None = None
            parts: list[bytes] = []
            async for chunk in request.stream():
                for event in parser.parse(chunk) if chunk else ():
                    if isinstance(event, MultipartSegment):
                        segment, parts = event, []
                        _refuse_unknown_file(event, known)
                    elif event:
                        parts.append(event)
                    elif segment is not None:
                        _keep(segment, b"".join(parts), images, fields)
    except (MultipartError, LookupError, UnicodeError) as error:
        raise HTTPException(400, f"The form cannot be read: {str(error)[:200]}.") from error
    return images, fields


def _refuse_unknown_file(segment: MultipartSegment, known: Collection[str]) -> None:
    """Refuse a file that would be ignored, before its bytes arrive."""
    name = segment.name or ""
    if segment.filename is not None and name not in _IMAGE_FIELDS and name not in known:
        message = "is a file in an unknown field: send images in the field `images`"
        raise invalid(message, "body", shorten(name, 50) or "(no name)")


def _keep(segment: MultipartSegment, content: bytes, images: list[bytes], fields: list[tuple[str, str]]) -> None:
    name = segment.name or ""
    if name in _IMAGE_FIELDS:
        images.append(content)
    elif len(content) > _MAX_FIELD_BYTES:
        raise MultipartError(f"field {shorten(name, 50)!r} is larger than {_MAX_FIELD_BYTES} bytes")
    else:
        fields.append((name, content.decode(segment.charset or "utf-8")))


def _collect(items: Iterable[tuple[str, str]], place: str) -> dict[str, Any]:
    """Return the options of form fields or a query string. A list is repeated or one JSON list; others occur once."""
    values: dict[str, list[str]] = {}
    for name, value in items:
        values.setdefault(name, []).append(value)
    twice = next((name for name, given in values.items() if len(given) > 1 and name not in _READ), None)
    if twice is not None:
        raise invalid("is given more than once", place, twice)
    return {name: _READ[name](given) if name in _READ else given[0] for name, given in values.items()}


def _validate(model: type[_Model], validate: Callable[[Any], _Model], data: Any, place: str) -> _Model:
    try:
        return validate(data)
    except ValidationError as error:
        raise refusal_of(error, place, known=model.model_fields) from error


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an option that is left out rather than null."""
    described = {key: value for key, value in schema.items() if key in ("description", "default") and value is not None}
    if "anyOf" not in schema or {"type": "null"} not in schema["anyOf"]:
        return {key: value for key, value in schema.items() if key != "title"}
    kinds = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
    return (kinds[0] if len(kinds) == 1 else {"anyOf": kinds}) | described


def _in_query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in schema.items() if key != "description"}
    told = f"Only with a raw image as the body. {schema.get('description', '')}".strip()
    return {"name": name, "in": "query", "required": False, "description": told, "schema": plain}
