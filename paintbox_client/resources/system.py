"""The service itself, and its keys."""

from __future__ import annotations

from paintbox_client.records import Record


class HealthCheck(Record):
    """One thing that the service needs."""

    ok: bool
    required: bool
    detail: str


class Ready(Record):
    """Whether classify requests are answered; `degraded`: an optional dependency is unavailable."""

    status: str
    checks: dict[str, HealthCheck]


class Replica(Record):
    """An API process, as it last reported itself."""

    id: str
    host: str
    is_this: bool
    is_alive: bool
    started_at: str
    last_seen_at: str
    serving_version: int | None
    canary_version: int | None
    shadow_version: int | None


class BaseDefaults(Record):
    """Default settings of fine-tuning."""

    iterations: int
    batch_size: int
    learning_rate: float


class Base(Record):
    """A base model, from which versions are made."""

    ref: str
    fingerprint: str
    image_size: int
    embed_dim: int
    version: int | None
    num_versions: int
    is_loaded: bool
    tower: str | None
    image_parameters: int | None
    parameters: int | None
    defaults: BaseDefaults | None
    created_at: str


class SecondaryVersion(Record):
    """The version that the alias `canary` or `shadow` names."""

    version: int | None
    serving_version: int | None
    share: float
    trouble: str | None


class Comparison(Record):
    """Agreement of shadow and active version on the first label, in this process, since both were loaded."""

    active_version: int
    shadow_version: int
    agreement: float | None
    agreed_images: int
    differed_images: int
    dropped_images: int


class StorageRoom(Record):
    """The disk of the data that has the least to spare."""

    free_bytes: int
    min_free_bytes: int
    max_stored_bytes: int


class System(Record):
    """The process and the installation."""

    version: str
    python: str
    torch: str
    open_clip: str
    device: str
    bases: list[str]
    active_version: int | None
    serving_version: int | None
    serving_precision: str | None
    precision_reason: str | None
    queued_images: int
    queued_texts: int
    canary: SecondaryVersion
    shadow: SecondaryVersion
    comparison: Comparison | None
    storage: StorageRoom
    replica: str
    replicas: list[Replica]
    database_fault: str | None


class Finding(Record):
    """One item of a verification of everything; the response has one per line, the last one is a summary."""

    what: str
    name: str
    ok: bool | None
    detail: str


class Key(Record):
    """A key's metadata, without its secret."""

    id: str
    name: str
    scopes: list[str]
    created_by: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class Session(Record):
    """The sender of a request; the last two fields are those of a browser's session."""

    key_id: str | None
    owner: str | None
    scopes: list[str]
    expires_at: str | None
    csrf_token: str | None


class NewKey(Key):
    """A newly created key."""

    token: str
