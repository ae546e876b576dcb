"""Rejects requests that would exceed a storage limit, before their bodies are read."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.callers import Caller
from app.access.policies import Policy, Stores
from app.http.dependencies import instance_of
from app.http.problems import known_problem
from app.storage.service import Storage
from registry.errors import StorageFullError, StorageQuotaError

_LOOK_BYTES = 32 << 20
"""The disk is checked again after so many bytes of a body, because others fill it too."""


class StorageGuard:
    """Checks disk and quota before a request that stores something, and the disk while its body arrives.

    `app.access.control` runs before it and finds out what the route stores.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        policy: Policy | None = scope["state"].get("policy") if scope["type"] == "http" else None
        if policy is None or policy.guard.stores is Stores.NOTHING:
            return await self._app(scope, receive, send)
        storage = instance_of(scope["app"], Storage)
        stated = Headers(scope=scope).get("content-length", "")
        num_bytes = int(stated) if stated.isdecimal() and len(stated) < 20 else 0
        try:
            await run_in_threadpool(_require, storage, policy.guard.stores, scope["state"]["caller"], num_bytes)
        except (StorageFullError, StorageQuotaError) as error:
            return await known_problem(scope["state"]["request_id"], error)(scope, receive, send)
        num_unseen = 0

        async def receive_watched() -> Message:
            nonlocal num_unseen
            message = await receive()
            num_unseen += len(message.get("body", b""))
            if num_unseen > _LOOK_BYTES:
                num_unseen = 0
                await run_in_threadpool(storage.require_room)
            return message

        await self._app(scope, receive_watched, send)


def _require(storage: Storage, stores: Stores, caller: Caller, num_bytes: int) -> None:
    storage.require_room(num_bytes)
    if stores is Stores.COUNTED:
        try:
            storage.require_quota(caller.owner, num_bytes)
        except SQLAlchemyError:  # the route reports the fault of the database
            return
