"""API schemas of keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.http.paging import Listed
from app.http.resources import Resource
from contract.access import Scope
from contract.bodies import Body, Matches

KeyName = Annotated[
    str,
    Matches(
        r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$",
        "is not the name of a key: these have letters, digits, spaces and . _ @ -, at most 64, and begin with a letter "
        "or digit",
    ),
]
_MOST_DAYS = 3650


class KeyRequest(Body):
    """Body of `POST /v1/keys`."""

    name: KeyName = Field(
        description="Who it is for. What a key makes belongs to its name: keys of one name share it, so that a new one "
        "can replace an old one",
        examples=["nightly-training"],
    )
    scopes: frozenset[Scope] = Field(
        fail_fast=True,
        min_length=1,
        max_length=len(Scope),
        description="Scopes of the key; `admin` includes the others",
    )
    expires_in_days: int | None = Field(
        default=None, ge=1, le=_MOST_DAYS, description="Days until the key expires. Default: never"
    )


class Key(Resource):
    """A key's metadata, without its secret."""

    id: str = Field(description="Id of the key")
    name: str = Field(description="Name of the key, which owns the resources created with it")
    scopes: list[Scope] = Field(description="Scopes of the key")
    created_by: str = Field(description="Name of the key that created it")
    created_at: datetime = Field(description="When it was created")
    expires_at: datetime | None = Field(description="When it expires; null: never")
    revoked_at: datetime | None = Field(description="When it was revoked; null: not revoked")


class NewKey(Key):
    """A newly created key."""

    token: str = Field(description="Send it as `Authorization: Bearer TOKEN`. It is only returned now and not stored")


class KeyList(Listed):
    """List API keys, newest first, including revoked and expired ones."""

    items: list[Key] = Field(description="The keys")
