"""Responses that show rows of the database."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel


class Resource(BaseModel):
    """A response that shows a row, field by field."""

    @classmethod
    def from_row(cls, row: object, **computed: Any) -> Self:
        """Return the resource of a row: the `computed` fields, and the row's attributes for all others."""
        names = cls.model_fields.keys() - computed.keys()
        return cls(**{name: getattr(row, name) for name in names}, **computed)
