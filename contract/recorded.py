"""Models of stored JSON: later releases read what earlier ones wrote, and return it unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class Recorded(BaseModel):
    """An object that is stored as JSON.

    A field with a default may be absent, if an older release wrote the object; `to_json` leaves it out again. Fields of
    newer releases are kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def of_stored(cls, fields: dict[str, Any]) -> Self:
        """Return the object that this JSON, as it was stored, describes."""
        return cls.model_validate(fields)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: every field that was set, and no other."""
        return self.model_dump(mode="json", exclude_unset=True)


@dataclass(frozen=True)
class ShapedLike:
    """Metadata of JSON that is returned as it was stored; the schema describes it by the model it was made from."""

    model: Any

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the model's schema."""
        return handler(core_schema.chain_schema([TypeAdapter(self.model).core_schema]))  # alone, it would lose its name
