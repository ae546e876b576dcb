"""The owner field of resources."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Owner = Annotated[str | None, Field(description="Name of the key that created it; null: created without a key")]
