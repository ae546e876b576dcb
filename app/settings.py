"""Settings of the API process."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
from pathlib import Path
from typing import Literal, Self

import httpx2
from limits import parse_many
from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from registry.errors import ConfigurationError
from registry.settings import StorageSettings

_MIN_KEY_LENGTH = 16
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", re.ASCII)
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII)

SECRET_PREFIX = "whsec_"
_LEAST_SECRET_BYTES, _MOST_SECRET_BYTES = 24, 64
_DEFAULT_PORTS = {"https": 443, "http": 80}


def num_cores() -> int:
    """Return how many cores this process may use, which containers and `taskset` may restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class AppSettings(StorageSettings):
    """Settings of the API process, each read from `PAINTBOX_` plus its name in capitals."""

    model_config = SettingsConfigDict(populate_by_name=True)

    host: str = "127.0.0.1"
    """Address that the API listens on. Any address except loopback requires an API key."""

    port: int = Field(default=8321, ge=0, le=65_535)
    """Port that the API listens on."""

    processes: int = Field(default=1, ge=1, le=64, validate_default=True)
    """Number of API processes that share the port on a CPU; `paintbox up` starts all of them. Several processes serve
    many concurrent clients faster, but each needs its own memory: see
    docs/operations.md#several-processes-on-one-port."""

    api_key: SecretStr | None = Field(default=None, validate_default=True)
    """A permanent admin key. With it, every `/v1`, `/v2` and `/hf` request needs a key: see docs/operations.md#keys."""

    max_upload_bytes: int = Field(default=10 << 30, gt=0)
    """Maximum size of an archive."""

    max_uploads: int = Field(default=100, gt=0)
    """Maximum number of unfinished resumable uploads of one owner; ten times as many in total. Above it, requests get
    429 `too_many_uploads`."""

    upload_dir: Path = Field(default=Path(), validate_default=True)
    """Folder of resumable uploads, by default `uploads/` in the data directory. Several API processes need a shared
    one."""

    max_image_bytes: int = Field(default=20_000_000, gt=0)
    """Maximum size of an image in a classify request."""

    max_served_pixels: int = Field(default=25_000_000, gt=0)
    """Maximum size of an image in a classify or embed request, width times height."""

    max_images_per_request: int = Field(default=64, gt=0)
    """Maximum number of images in a classify or embed request."""

    max_request_bytes: int = Field(default=128 << 20, gt=0)
    """Maximum body size of a request with images; the body is held in memory."""

    max_json_bytes: int = Field(default=2 << 20, gt=0)
    """Maximum body size of any other request except archives."""

    max_labels: int = Field(default=5000, gt=0)
    """Maximum number of candidate labels in a classify request."""

    max_prompts: int = Field(default=20_000, gt=0)
    """Maximum number of prompts (labels × templates) in a classify request, and of texts in an embed request."""

    max_queue_images: int = Field(default=512, gt=0, validate_default=True)
    """Maximum number of images waiting for the device. Above it, requests get 429 `queue_full`, except from callers
    below an equal share."""

    max_held_bytes: int | None = Field(default=None, gt=0)
    """Total size of request bodies in memory, excluding archives, by default six times `PAINTBOX_MAX_REQUEST_BYTES`.
    Above it, the request that holds the most bytes gets 429 `bodies_full`."""

    max_connections: int | None = Field(default=None, ge=1)
    """Maximum number of connections, by default derived from the open file limit, at most 4,096: see
    docs/operations.md#connections."""

    keep_alive_seconds: float = Field(default=75.0, ge=1, le=3600)
    """How long a connection may be idle between two requests; must exceed the idle timeout of a proxy."""

    root_path: str = ""
    """Path prefix under which a proxy publishes the service, such as `/paint`: see docs/proxy.md."""

    allowed_origins: tuple[str, ...] = ()
    """Origins whose web pages may use the service, a JSON list such as `["https://app.example.com"]`; `["*"]` allows
    all, once a key exists: see docs/how-to/browser.md."""

    max_queue_megapixels: int = Field(default=2_000, gt=0)
    """Maximum decoding cost of waiting images, in megapixels of a PNG; a JPEG counts a 25th for each scan. Above it,
    requests get 429 `queue_full`."""

    rate_limit: str = "6000/minute"
    """Request limit per key, such as `100/second;50000/hour`; empty: no limit."""

    max_unfinished_jobs: int = Field(default=100, gt=0)
    """Maximum number of queued or running jobs of one owner. Above it, requests get 429 `job_quota`."""

    max_open_feedback: int = Field(default=100_000, gt=0)
    """Maximum number of open corrections of one owner. Above it, requests get 409 `too_much_feedback`."""

    max_event_streams: int = Field(default=100, gt=0)
    """Maximum number of open event streams. Above it, requests get 429 `too_many_streams`."""

    max_event_streams_per_owner: int = Field(default=20, gt=0)
    """The same for one owner; not applied without keys."""

    session_hours: float = Field(default=12.0, gt=0, le=24 * 365)
    """How long a browser stays logged in: see docs/operations.md#keys."""

    max_exports: int = Field(default=8, gt=0)
    """Maximum number of concurrent exports, each a file of the size of a model under `scratch/`; one owner may have a
    quarter of them. Above it, requests get 429 `too_many_exports`."""

    version_cache_bytes: int = Field(default=2 << 30, ge=0)
    """Memory for versions that were requested by number or were `active` before, so that switching back takes
    milliseconds; versions of `active`, `canary` and `shadow` are not counted."""

    serving_precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Arithmetic of the image towers that answer: `fp32`; `bf16` or `int8`, where the processor (for bf16 also a GPU)
    has instructions for it and the version keeps its answers there, else fp32; `auto`: the fastest of these.
    `GET /v1/system` shows the choice. A version can have its own: `paintbox tag VERSION --precision fp32`."""

    decode_threads: int = Field(default_factory=lambda data: max(1, num_cores() // data.get("processes", 1)), gt=0)
    """Threads that decode images, by default one per CPU, divided among `PAINTBOX_PROCESSES`; on a CPU they also run
    the forward pass."""

    max_batch_images: int | None = Field(default=None, ge=1, le=64)
    """Maximum number of images in a forward pass, by default 32 on a CPU and 64 on a GPU."""

    batch_wait_ms: float | None = Field(default=None, ge=0, le=1000)
    """On a GPU, milliseconds that decoded images wait for others that are still being decoded, by default 0. No effect
    on a CPU, where each core decodes its own batch."""

    head_cache_bytes: int = Field(default=256 << 20, ge=0)
    """Memory for encoded label sets."""

    drain_seconds: float = Field(default=0.5, ge=0, le=600)
    """How long a stopping process still accepts connections, while `/readyz` reports `draining`."""

    reaper_interval_seconds: float = Field(default=2.0, gt=0)
    """How often the API looks for unclaimed jobs."""

    redispatch_after_seconds: float = Field(
        default=10.0,
        ge=0,
        validation_alias=AliasChoices("PAINTBOX_REDISPATCH_AFTER_SECONDS", "PAINTBOX_QUIET_SECONDS"),
    )
    """How long the API waits after dispatching a job before it dispatches it again."""

    alias_interval_seconds: float = Field(default=1.0, gt=0)
    """How often an API process checks the aliases."""

    replica_interval_seconds: float = Field(default=5.0, gt=0)
    """How often an API process writes its heartbeat to the database."""

    canary_share: float = Field(default=0.1, ge=0, le=1)
    """Share of classify requests that are served by the version of the alias `canary`, if it exists."""

    shadow_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the requests served by `active` that also run on the version of the alias `shadow`, if it exists."""

    sampling_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the classify requests whose images may be kept to be labelled; 0: nothing is ever kept. See
    docs/corrections.md#sampling-of-traffic."""

    sampling_max_margin: float = Field(default=0.1, ge=0, le=1)
    """Images are kept if the score of the best label is above that of the second best by less than this."""

    sampling_retention_days: float = Field(default=30.0, gt=0, le=3650)
    """Days after which a kept image that nobody has labelled is deleted."""

    sampling_max_bytes: int = Field(default=1 << 30, ge=0)
    """Total size of such images; above it, nothing more is kept."""

    trash_retention_seconds: float = Field(default=30 * 86_400.0, ge=0)
    """How long a deleted version can be restored before it is purged."""

    trash_interval_seconds: float = Field(default=3600.0, gt=0)
    """How often the API purges the trash."""

    webhook_hosts: tuple[str, ...] = ()
    """Hosts that webhooks may be sent to, a JSON list such as `["hooks.example.com", "http://10.0.0.5:8080"]`; https
    unless http is given. See docs/operations.md#webhooks."""

    webhook_secret: SecretStr | None = Field(default=None, validate_default=True)
    """Key that signs webhooks: `whsec_` and 24 to 64 bytes in base64."""

    webhook_interval_seconds: float = Field(default=1.0, gt=0)
    """How often the API looks for pending webhooks."""

    @classmethod
    def load(cls, **values: object) -> Self:
        """Return the settings as `StorageSettings.load` does; the webhook's URL must be allowed, too."""
        settings = super().load(**values)
        if settings.webhook_url is not None:
            url = parse_url(settings.webhook_url)
            if url is None or origin_of(url) not in map(parse_origin, settings.webhook_hosts):
                raise ConfigurationError(
                    "PAINTBOX_WEBHOOK_URL: it must be a URL at one of PAINTBOX_WEBHOOK_HOSTS.",
                    "Correct it and restart.",
                )
        return settings

    @field_validator("upload_dir")
    @classmethod
    def _is_in_the_data_directory(cls, value: Path, info: ValidationInfo) -> Path:
        return value if value != Path() else Path(info.data.get("data_dir", Path())) / "uploads"

    @field_validator("api_key")
    @classmethod
    def _guards_what_others_can_reach(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        key = value.get_secret_value() if value else ""
        if key and (len(key) < _MIN_KEY_LENGTH or not key.isascii()):
            raise ValueError(
                f"a key needs at least {_MIN_KEY_LENGTH} ASCII characters; generate one with `openssl rand -hex 32`"
            )
        host = info.data.get("host", "127.0.0.1")
        if not key and not is_loopback(host):
            raise ValueError(
                f"host {host!r} is reachable from other machines, so a key is required (`openssl rand -hex 32`)"
            )
        return value if key else None

    @field_validator("processes")
    @classmethod
    def _have_ports(cls, value: int, info: ValidationInfo) -> int:
        port = info.data.get("port", 0)
        if value > 1 and not 0 < port <= 65_535 - value:
            raise ValueError("several processes need a fixed port with as many free ports after it")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _can_be_counted(cls, value: str) -> str:
        try:
            amounts = [item.amount for item in parse_many(value)] if value else [1]
        except ValueError:
            amounts = []
        if not amounts or min(amounts) < 1:
            raise ValueError("use the form 600/minute, or leave it empty for no limit")
        return value

    @field_validator("root_path")
    @classmethod
    def _is_a_prefix(cls, value: str) -> str:
        value = value.rstrip("/")
        if not _ROOT_PATH.fullmatch(value):
            raise ValueError("use the form /paint: a slash before each part; letters, digits and . _ ~ - are allowed")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _are_web_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [origin for origin in value if origin != "*" and not _ORIGIN.fullmatch(origin)]
        if wrong:
            raise ValueError(
                f"{wrong[0][:100]!r} is not an origin: use the form https://app.example.com, without a path, or *"
            )
        return value

    @field_validator("webhook_hosts")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            parse_origin(entry)
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _signs_what_is_sent(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        text = value.get_secret_value() if value else ""
        if text or info.data.get("webhook_hosts"):
            parse_secret(text)
        return value if text else None

    @field_validator("max_held_bytes")
    @classmethod
    def _holds_a_body(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value * 3 // 4 < info.data.get("max_request_bytes", 0):
            raise ValueError("three quarters of it must be at least max_request_bytes")
        return value

    @field_validator("max_queue_images")
    @classmethod
    def _holds_a_request(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("max_images_per_request", 0):
            raise ValueError("the queue must hold at least one request of max_images_per_request images")
        return value


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_secret(text: str) -> bytes:
    """Return the 24 to 64 bytes of a secret, which is `whsec_` and base64.

    Raises:
        ValueError: It is not of that form.
    """
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(SECRET_PREFIX) or not _LEAST_SECRET_BYTES <= len(key) <= _MOST_SECRET_BYTES:
        raise ValueError("must be `whsec_` and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)")
    return key


def parse_origin(text: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an entry of the allow-list.

    Args:
        text: `hooks.example.com` or `hooks.example.com:8443` for https; with the prefix `http://`, plain http.

    Raises:
        ValueError: It is not of that form.
    """
    url = parse_url(text if "://" in text else f"https://{text}")
    if url is None or url.raw_path not in (b"", b"/") or text.endswith(("/", "?", "#")):
        raise ValueError(
            f"{text!r} is not a host: use the form hooks.example.com, hooks.example.com:8443 or http://10.0.0.5:8080"
        )
    return origin_of(url)


def parse_url(text: str) -> httpx2.URL | None:
    """Return a URL of a service: http or https, with a host, without user or fragment; None: not of that form."""
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        return None
    names_a_host = bool(url.raw_host) and b"%" not in url.raw_host  # which a space becomes
    is_plain = not url.userinfo and not url.fragment
    return url if url.scheme in _DEFAULT_PORTS and names_a_host and is_plain else None


def origin_of(url: httpx2.URL) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL."""
    return url.scheme, url.raw_host.decode("ascii"), url.port or _DEFAULT_PORTS[url.scheme]
