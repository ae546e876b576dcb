"""Parameters of pages, as forms send them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BeforeValidator

from contract.names import Name

EmptyIsNone = BeforeValidator(lambda value: value or None)
"""Forms send fields that are not filled in as empty texts."""

Cursor = Annotated[str | None, Query(max_length=200)]
Reference = Annotated[Name | None, EmptyIsNone, Query()]
