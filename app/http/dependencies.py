"""How endpoints get the objects of the process: by annotated dependencies, each of which names a type.

`app.main` opens everything once and provides it. An endpoint declares `database: DatabaseDep`; other subpackages
declare such annotations for their own types.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Annotated, Any, TypeVar, cast, get_type_hints

from fastapi import Depends, FastAPI, Request

from app.settings import AppSettings
from registry.blobs import BlobStore
from registry.database import Database

_T = TypeVar("_T")


def provide(app: FastAPI, services: object) -> None:
    """Provide the fields of the dataclass `services` to endpoints, each by the type that annotates it."""
    app.state.provided = {kind: getattr(services, name) for name, kind in get_type_hints(type(services)).items()}
    app.state.services = services


def provided(kind: object) -> Any:
    """Return the dependency on the process's instance of a type, for an `Annotated` of that type."""

    async def get(request: Request) -> Any:  # async, because FastAPI runs plain functions in another thread
        return request.app.state.provided[kind]

    return Depends(get)


def built(kind: Callable[..., object]) -> Any:
    """Return the dependency that builds a dataclass for each request; dependencies annotate its fields."""

    async def build(**fields: Any) -> Any:
        return kind(**fields)

    build.__signature__ = signature(kind, eval_str=True)  # type: ignore[attr-defined]
    return Depends(build)


def instance_of(app: FastAPI, kind: type[_T]) -> _T:
    """Return the process's instance of a type, where no dependency can be declared."""
    return cast(_T, app.state.provided[kind])


SettingsDep = Annotated[AppSettings, provided(AppSettings)]
DatabaseDep = Annotated[Database, provided(Database)]
BlobsDep = Annotated[BlobStore, provided(BlobStore)]
