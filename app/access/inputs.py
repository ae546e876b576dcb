"""What a route reads. Everything else is rejected, so that a misplaced option is not ignored silently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args, get_origin
from urllib.parse import parse_qsl

from fastapi import params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import RouteContext
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from app.http.invalid import invalid

_MAX_PARAMETERS = 1000


@dataclass(frozen=True)
class Inputs:
    """What a route reads of a request.

    Attributes:
        query: Names of its query parameters.
        repeatable: Those that may occur more than once.
        has_body: Whether it reads a body.
    """

    query: frozenset[str]
    repeatable: frozenset[str]
    has_body: bool

    @classmethod
    def of(cls, route: RouteContext) -> Inputs:
        """Return what a route reads, as in its OpenAPI description."""
        told: dict[str, Any] = getattr(route, "openapi_extra", None) or {}
        fields = [field for field in get_flat_params(route.dependant) if isinstance(field.field_info, params.Query)]
        options = {each["name"] for each in told.get("parameters", ()) if each["in"] == "query"}
        return cls(
            query=frozenset({field.alias for field in fields} | options),
            repeatable=frozenset({field.alias for field in fields if _is_list(field.field_info.annotation)} | options),
            has_body=route.body_field is not None or "requestBody" in told,
        )

    def check_query(self, query_string: bytes) -> None:
        """Raise `RequestValidationError` for parameters that are unknown or repeated."""
        try:
            given = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            raise invalid(f"has more than {_MAX_PARAMETERS} parameters", "query") from None
        seen: set[str] = set()
        for name, _ in given:
            if name not in self.query:
                known = f"the parameters are {', '.join(sorted(self.query))}" if self.query else "there are none"
                raise invalid(f"is not a query parameter of this route: {known}", "query", name)
            if name in seen and name not in self.repeatable:
                raise invalid("is given more than once", "query", name)
            seen.add(name)

    async def check_body(self, headers: Headers, receive: Receive) -> Receive:
        """Return the channel to read the body from.

        Raises:
            RequestValidationError: There is a body, although the route does not read one.
        """
        if self.has_body:
            return receive
        message: Message | None = None
        if "transfer-encoding" in headers:  # some proxies announce a body that does not exist
            message = await receive()
            while message.get("more_body") and not message.get("body"):
                message = await receive()
        if (message and message.get("body")) or headers.get("content-length", "0") != "0":
            raise invalid("is not accepted by this route: send no body", "body")
        return receive if message is None else _with_first(message, receive)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_is_list(each) for each in get_args(annotation))


def _with_first(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def receive_all() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_all
