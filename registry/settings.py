"""Settings that every process of an installation shares: the database, the blob store and the broker.

Built once at a process's edge from `PAINTBOX_*` variables and passed down; nothing else reads the environment.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from registry.errors import ConfigurationError
from registry.private_files import close_to_others

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_BROKERS = ("redis://", "rediss://")
_QUOTED = re.compile('"([a-z_]+)"')


class StorageSettings(BaseSettings):
    """Where state lives. Everything defaults to files under one data directory."""

    model_config = SettingsConfigDict(
        env_prefix="PAINTBOX_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("paintbox", appauthor=False)), validate_default=True
    )
    """Data directory of this installation, by default `paintbox` in the user's data folder (`~/.local/share` on Linux):
    see docs/operations.md#the-data-directory."""

    database_url: str = ""
    """SQLAlchemy URL such as `postgresql+psycopg://user:password@host:5432/name`; by default SQLite in the data
    directory."""

    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """URL of Valkey or Redis, such as `redis://:password@host:6379/0`; `rediss://` for TLS. `paintbox up` sets its
    own."""

    blob_url: str = ""
    """`file:///absolute/path`, which must be accessible to the API and all workers, or `s3://bucket/prefix` (needs the
    extra `s3`); by default `blobs/` in the data directory."""

    blob_cache_gigabytes: float = Field(default=20.0, gt=0, le=1e6)
    """With a bucket: size of the local cache under `blob-cache/` on each machine, in units of 1e9 bytes; entries used
    within the last hour are kept beyond that."""

    min_free_bytes: int | None = Field(default=None, ge=0)
    """Space to keep free on each disk, by default 1 GiB, or 5 % of a smaller disk. Below it, requests that store data
    get 507 `storage_full`: see docs/operations.md#disk-space."""

    max_stored_bytes: int = Field(default=100 << 30, gt=0)
    """Storage quota of one owner, not applied without keys; above it, requests get 413 `storage_quota`. The API and
    workers need the same value."""

    bases: tuple[str, ...] = Field(default=("starter",), min_length=1)
    """Base models that patches may start from, a JSON list; the first is the default. See
    docs/how-to/base-models.md."""

    device: str = "auto"
    """`auto` uses CUDA if there is a device, else the CPU; `cpu`, `cuda`, or one of several devices, such as
    `cuda:1`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    max_supported_drop: float | None = Field(default=None, ge=0, le=100)
    """Maximum drop of a supported task, in percentage points, in a version that becomes `active` or `canary`, if its
    patch set no limit; by default none. See docs/operations.md#versions-guard-trash-verification-export."""

    webhook_url: str | None = Field(default=None, max_length=2000)
    """Where messages about moved aliases and refused moves are sent, at one of `PAINTBOX_WEBHOOK_HOSTS`."""

    approvals: bool = False
    """Whether `active` and `canary` move only after another admin has approved it: see
    docs/operations.md#versions-guard-trash-verification-export."""

    tracing: bool = False
    """Whether spans are sent to an OpenTelemetry collector (needs the extra `otel`): see docs/operations.md#traces."""

    @field_validator("data_dir")
    @classmethod
    def _has_a_home(cls, value: Path) -> Path:
        try:
            return value.expanduser()
        except RuntimeError as error:
            raise ValueError("this user has no home directory; set a folder") from error

    @field_validator("webhook_url")
    @classmethod
    def _is_given(cls, url: str | None) -> str | None:
        return url or None

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise PydanticCustomError("device", "It must be auto, cpu, cuda or cuda:N")
        return device

    @field_validator("broker_url")
    @classmethod
    def _check_broker(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(_BROKERS):
            raise PydanticCustomError("broker_url", "It must begin with redis:// or rediss:// (Redis or Valkey)")
        return url

    @classmethod
    def load(cls, **values: object) -> Self:
        """Return the settings, from `values` first and the environment second.

        Raises:
            ConfigurationError: A value is invalid; the message names the variable.
        """
        try:
            return cls(**values)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            message = first["msg"].removeprefix("Value error, ")
            raise _wrong(str(first["loc"][0]) if first["loc"] else "", message) from error
        except SettingsError as error:  # a list that is not JSON; the message alone holds the field's name
            field = _QUOTED.search(str(error))
            raise _wrong(field[1] if field else "", 'It must be a JSON list, such as ["starter"]') from error

    @property
    def resolved_database_url(self) -> str:
        """The database URL, with the embedded default filled in."""
        path = quote(str(self.data_dir / "paintbox.db"))  # such as one with a question mark
        return self.database_url or f"sqlite:///{path}"

    @property
    def is_bucket(self) -> bool:
        """Whether blobs are kept in a bucket."""
        return self.blob_url.startswith("s3://")

    @property
    def blob_dir(self) -> Path:
        """The blob folder, or the local cache of a bucket.

        Raises:
            ConfigurationError: `blob_url` has a scheme that this release does not read.
        """
        if not self.blob_url:
            return self.data_dir / "blobs"
        if self.is_bucket:
            return self.data_dir / "blob-cache"
        scheme, separator, path = self.blob_url.partition("://")
        if scheme != "file" or not separator or not path.startswith("/"):
            raise ConfigurationError(
                f"PAINTBOX_BLOB_URL: {self.blob_url!r} is not supported.",
                "Use file:///absolute/path (a shared disk) or s3://bucket/prefix.",
            )
        return Path(path)

    @property
    def log_dir(self) -> Path:
        """Folder of the processes' and jobs' logs."""
        return self.data_dir / "logs"

    @property
    def scratch_dir(self) -> Path:
        """Folder of temporary files; safe to empty while nothing runs."""
        return self.data_dir / "scratch"

    @property
    def program_dir(self) -> Path:
        """Where towers are kept as programs of ONNX Runtime."""
        return self.data_dir / "cache" / "programs"

    @property
    def feature_cache_dir(self) -> Path:
        """Folder of the features of unpatched bases; safe to empty at any time."""
        return self.data_dir / "cache" / "features"

    @property
    def keys_file(self) -> Path:
        """Records that API keys exist, so that a lost database does not make the API public."""
        return self.data_dir / "keys.required"

    def make_directories(self) -> None:
        """Create the data directory's folders, readable by their owner only; existing ones are made so.

        Raises:
            ConfigurationError: A folder cannot be created, or others can read one and its mode cannot be changed.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.blob_dir, self.log_dir, self.scratch_dir):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            close_to_others(self.data_dir)
        except OSError as error:
            raise ConfigurationError(f"PAINTBOX_DATA_DIR: {error}.", "Use a writable folder.") from error


def _wrong(field: str, reason: str) -> ConfigurationError:
    name = field.upper().removeprefix("PAINTBOX_")  # a field with a former name is reported by its alias
    return ConfigurationError(f"PAINTBOX_{name or '*'}: {reason}.", "Correct it and restart.")
