"""The routes that Label Studio asks."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from paintbox_client import Client, ClientError, ServiceUnreachableError
from paintbox_label_studio.annotations import CHANGED, DELETED, Annotations
from paintbox_label_studio.images import Images
from paintbox_label_studio.labelling import read_questions
from paintbox_label_studio.predictions import name_version, predict
from paintbox_label_studio.settings import Settings

_MAX_BODY_BYTES = 16 << 20
_log = logging.getLogger("paintbox_label_studio")
Json = dict[str, Any]


async def _read_body(request: Request) -> Json:
    """Return the JSON object of a request, of at most 16 MiB."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > _MAX_BODY_BYTES:
            raise HTTPException(413, "The body is too large.")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "The body is not a JSON object.")
    return body


Body = Annotated[Json, Depends(_read_body)]


def create_app(settings: Settings, client: Client, transport: httpx2.BaseTransport | None = None) -> FastAPI:
    """Return the application.

    Args:
        settings: How to reach Label Studio, and what to answer.
        client: Of the Paintbox service; it stays the caller's.
        transport: An HTTP transport to Label Studio; None: the network.
    """
    images = Images(settings, transport)
    annotations = Annotations(client, settings, images)

    @asynccontextmanager
    async def close_images(_app: FastAPI) -> AsyncIterator[None]:
        yield
        images.close()

    guard = [] if settings.password is None else [Depends(_password_check(*settings.password))]
    app = FastAPI(
        title="Paintbox for Label Studio", openapi_url=None, docs_url=None, redoc_url=None, lifespan=close_images
    )

    @app.exception_handler(ClientError)
    def refuse(_request: Request, error: ClientError) -> JSONResponse:
        status = 503 if isinstance(error, ServiceUnreachableError) else 422
        _log.warning("%s", error)
        return JSONResponse({"error": str(error), "detail": error.detail, "next": error.next}, status)

    @app.get("/")
    @app.get("/health")
    def health() -> Json:
        """Whether the service can be asked."""
        return {"status": "UP", "model_class": "Paintbox", "model_version": _version_of(client, settings)}

    @app.post("/setup", dependencies=guard)
    def setup(body: Body) -> Json:
        """Check the labelling configuration of a project, and name the version that answers."""
        read_questions(str(body.get("schema") or ""))
        return {"model_version": _version_of(client, settings)}

    @app.post("/predict", dependencies=guard)
    def predict_tasks(body: Body) -> Json:
        """Answer tasks."""
        questions = read_questions(str(body.get("label_config") or ""))
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise HTTPException(400, "tasks is not a list of objects.")
        return {
            "results": predict(client, settings, images, questions, tasks),
            "model_version": _version_of(client, settings),
        }

    @app.post("/webhook", status_code=201, dependencies=guard)
    async def webhook(body: Body, background: BackgroundTasks) -> Json:
        """Take an event; Label Studio waits a second for the answer, so it is handled afterwards."""
        if body.get("action") not in (*CHANGED, *DELETED):
            return {"status": "ignored"}
        background.add_task(_handle, annotations, body)
        return {"status": "ok"}

    return app


def _handle(annotations: Annotations, event: Json) -> None:
    try:
        outcome = annotations.handle(event)
    except ClientError as error:
        _log.error("%s was lost: %s", event.get("action"), error)
    else:
        _log.info("%s: %s", event.get("action"), outcome)


def _version_of(client: Client, settings: Settings) -> str:
    return name_version(client.find_version(settings.version))


def _password_check(user: str, password: str) -> Any:
    """Return a dependency that asks for a user and a password, as Label Studio sends them."""
    wanted = f"{user}:{password}".encode()

    def check(request: Request) -> None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            sent = base64.b64decode(given, validate=True)
        except binascii.Error:
            sent = b""
        if kind.lower() != "basic" or not secrets.compare_digest(sent, wanted):
            raise HTTPException(401, "User and password are required.", {"WWW-Authenticate": "Basic"})

    return check
