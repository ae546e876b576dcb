"""Everything that endpoints work with, put together once in `app.main` and hung on the application's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.access.keyring import Keyring
from app.access.limits import RateLimits
from app.datasets.uploads.service import Uploads
from app.inference.label_sets.cache import StoredLabels
from app.jobs.dispatcher import Doorbell
from app.jobs.streaming import EventStreams
from app.metrics.registry import Metrics
from app.models.activation import Activator
from app.models.cache import VersionCache
from app.models.followers import Companions
from app.serving.engine import Engine
from app.serving.shadow import Shadow
from app.settings import AppSettings
from app.storage.service import Storage
from app.system.replica import Replica
from app.versions.composer import Composer
from app.versions.exports import Exports
from paint_core.models import BaseModel
from registry.blobs import BlobStore
from registry.database import Database


@dataclass(frozen=True)
class Services:
    """What endpoints work with.

    Attributes:
        settings: The process's settings.
        database: Where the truth is.
        blobs: Where the bytes are.
        doorbell: Tells workers of jobs.
        bases: Loaded base models by fingerprint.
        engine: Serves the active version.
        versions: Finds a version in memory, or loads it.
        activator: Moves the alias and swaps the served version.
        composer: Makes versions out of stored task vectors.
        exports: Which versions are being exported or verified.
        streams: Tell clients of jobs as things happen.
        keyring: Tells who sends a key.
        rate_limits: Count the requests of each key.
        metrics: What Prometheus reads.
        replica: This process among the others.
        companions: Keep the versions of `canary` and `shadow` loaded.
        shadow: Asks the second of them.
        uploads: Arrive in parts.
        storage: Tells whether there is room for more.
        labels: Of label sets and data sets, kept in memory.
    """

    settings: AppSettings
    database: Database
    blobs: BlobStore
    doorbell: Doorbell
    bases: Mapping[str, BaseModel]
    engine: Engine
    versions: VersionCache
    activator: Activator
    composer: Composer
    exports: Exports
    streams: EventStreams
    keyring: Keyring
    rate_limits: RateLimits
    metrics: Metrics
    replica: Replica
    companions: Companions
    shadow: Shadow
    uploads: Uploads
    storage: Storage
    labels: StoredLabels


async def get_services(request: Request) -> Services:
    """Return the application's services; not a plain function, for which FastAPI would change threads."""
    return services_of(request)


def services_of(request: Request) -> Services:
    """Return the application's services."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesDep = Annotated[Services, Depends(get_services)]
