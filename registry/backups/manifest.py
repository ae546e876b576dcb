"""The manifest of a snapshot: what belongs to it, and the hashes by which a restore verifies it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from registry.errors import ConfigurationError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
DatabaseKind = Literal["sqlite", "postgresql"]


class StoredDatabase(BaseModel):
    """The copy of the database.

    Attributes:
        kind: An SQLite file, or a dump of PostgreSQL in the custom format of `pg_dump`.
        revision: Revision of the schema, as Alembic names it.
        rows: Number of rows by table.
    """

    model_config = ConfigDict(frozen=True)

    kind: DatabaseKind
    revision: str
    sha256: Sha256
    num_bytes: int = Field(ge=0)
    rows: dict[str, int]


class Manifest(BaseModel):
    """What a snapshot consists of.

    Attributes:
        created_at: When the backup began.
        paintbox: Release that made it.
        blobs: Size in bytes by hash.
        missing: Blobs that the database needs and that could not be copied: what refers to each.
        bucket: URL of the bucket that holds the blobs; None: they are in the backup.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    created_at: datetime
    paintbox: str
    database: StoredDatabase
    blobs: dict[Sha256, int]
    missing: dict[Sha256, str] = Field(default_factory=dict)
    bucket: str | None = None

    @property
    def num_bytes(self) -> int:
        """Size of the database's copy and of all blobs."""
        return self.database.num_bytes + sum(self.blobs.values())

    @property
    def name(self) -> str:
        """Name of the snapshot, which sorts by time: `20261201T023359.123456Z`."""
        return f"{self.created_at:%Y%m%dT%H%M%S.%f}Z"


def read_manifest(text: str | bytes, where: str) -> Manifest:
    """Return the manifest.

    Raises:
        ConfigurationError: It is damaged, or of a format that this release does not read.
    """
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(each) for each in first["loc"])
        raise ConfigurationError(
            f"{where} is not a manifest that this release reads: {place}: {first['msg']}.",
            "Use another snapshot, or the release that made it.",
        ) from error
