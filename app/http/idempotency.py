"""The header `Idempotency-Key`: a request that is repeated after a lost response is carried out once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from contract.bodies import Matches

REPLAYED = {"Idempotent-Replayed": "true"}
"""Marks the response to a repeated request."""

_Printable = Matches("^[!-~]([ -~]{0,253}[!-~])?$", "must have 1 to 255 printable ASCII characters")
IdempotencyKey = Annotated[
    Annotated[str, _Printable] | None,
    Header(description="Unique value chosen by the client, such as a UUID; kept for a week"),
]
"""Keys of different owners are independent."""
