"""Common parts of request bodies: unknown fields are rejected, and everything is bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from contract.names import Name, check_text

MAX_VERSION_ID = 2**31 - 1
MAX_REASON = 1000
_MOST_UNKNOWN = 20
VERSION_ID_PATTERN, ALIAS_PATTERN = "[1-9][0-9]{0,9}", "[a-z][a-z0-9._-]{0,63}"
_LINE_BREAKS = re.compile("[ \t\r\n]+")
_VERSION_ID = re.compile(VERSION_ID_PATTERN, re.ASCII)


class Body(BaseModel):
    """An object that clients send as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, data: Any) -> Any:
        """Refuse thousands of unknown members at once: each would be an error of its own."""
        if isinstance(data, dict) and len(data) > len(cls.model_fields) + _MOST_UNKNOWN:
            raise ValueError(f"has {len(data)} fields; only {len(cls.model_fields)} are allowed")
        return data


class Renaming(Body):
    """A new name."""

    name: Name = Field(description="Display name; not unique")


@dataclass(frozen=True)
class Matches:
    """Text that matches a pattern, anchored as the schema has it; `words` end the sentence about other text."""

    pattern: str
    words: str

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        assert self.pattern.startswith("^")
        assert self.pattern.endswith("$")
        return re.compile(self.pattern[1:-1], re.ASCII)

    def check(self, text: str) -> str:
        """Return the text; ValueError if it has another form."""
        if self._compiled.fullmatch(text) is None:
            raise ValueError(self.words)
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the string."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the pattern to the schema."""
        return handler(schema) | {"pattern": self.pattern}


def parse_version_id(value: Any) -> int:
    """Return the id of a version from a path or a query.

    Raises:
        ValueError: It is not a number, or one in another spelling, such as `+3` or `03`.
    """
    if isinstance(value, str) and _VERSION_ID.fullmatch(value):
        value = int(value)
    if type(value) is int and 1 <= value <= MAX_VERSION_ID:
        return value
    raise ValueError("is not a version id: send an integer such as 3")


def _visible(text: str, limit: int) -> str:
    check_text(text, limit)
    return text


def _clean_reason(text: str) -> str:
    reason = _LINE_BREAKS.sub(" ", text).strip(" ")
    if reason:
        check_text(reason, MAX_REASON)
    return reason


Id = Annotated[str, Matches("^[A-Za-z0-9_-]{1,64}$", "is not an id: these have letters, digits, - and _, at most 64")]
"""Id of a data set, patch, job, key or label set."""

UploadId = Annotated[
    str,
    Matches("^[0-9a-f]{32}$", "is not the id of an upload: these have 32 characters of 0-9 and a-f"),
    Field(description="Id of the upload, from the header `Location` of its creation"),
]

AliasName = Annotated[
    str,
    Matches(
        f"^{ALIAS_PATTERN}$",
        "is not the name of an alias: these have a-z, 0-9 and . _ -, at most 64, and begin with a letter",
    ),
    Field(description="Name of the alias, such as `active` or `canary`"),
]
VersionId = Annotated[
    int, Field(ge=1, le=MAX_VERSION_ID, description="Id of the version"), BeforeValidator(parse_version_id)
]

VersionNumber = Annotated[int, Field(strict=True, ge=1, le=MAX_VERSION_ID)]
"""Id of a version in JSON."""

Reason = Annotated[
    str,
    StringConstraints(max_length=MAX_REASON),
    AfterValidator(_clean_reason),
    Field(description="Reason, recorded in the history"),
]
"""A reason on one line; may be empty."""

BaseRef = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(partial(_visible, limit=500))]
"""Reference of a base model."""

WebhookUrl = Annotated[
    str, StringConstraints(min_length=1, max_length=2000), AfterValidator(partial(_visible, limit=2000))
]
"""URL for the message about a finished job."""

FilePath = Annotated[str, StringConstraints(max_length=1000), AfterValidator(partial(_visible, limit=1000))]
"""Path of a file in an archive."""
