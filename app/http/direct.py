"""Routes that parse their requests themselves, for endpoints with hundreds of requests per second.

FastAPI analyses the parameters of the function for each request and matches the routes of each router twice. That takes
as long as everything else in a classify request except the model. A direct route is in the OpenAPI document and among
the policies like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import request_response


class DirectRoute(APIRoute):
    """A route whose function takes the request and returns a response; so do its dependencies."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = request_response(self.get_route_handler())

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        guards = [each.dependency for each in self.dependencies if each.dependency is not None]

        async def handle(request: Request) -> Response:
            for guard in guards:
                await guard(request)
            response: Response = await self.endpoint(request)
            return response

        return handle


def add_routers(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Add the routes of routers as they are.

    `include_router` analyses each function a second time, which takes a second for all of them, and matches a request
    to a router first. Routers therefore have their own prefixes and tags; nothing is added to them here.
    """
    for router in routers:
        app.router.routes.extend(router.routes)
