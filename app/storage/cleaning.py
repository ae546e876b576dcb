"""What an API process tidies up every hour: the trash, expired uploads, leftovers, old messages."""

from __future__ import annotations

import structlog

from app.http.services import Services
from registry.deliveries import Deliveries
from registry.leftovers import sweep
from registry.retention import collect_garbage

DELIVERY_SECONDS = 30 * 86_400.0
"""Messages about finished jobs that were delivered or given up are kept for so long."""

_log = structlog.get_logger(__name__)


def clean_up(services: Services) -> None:
    """Free what nothing needs any more."""
    settings = services.settings
    services.uploads.remove_expired()
    num_removed = sweep(settings, services.database)
    with services.database.write() as session:
        num_messages = Deliveries(session).purge(DELIVERY_SECONDS)
    garbage = collect_garbage(services.database, services.blobs, settings.trash_retention_seconds)
    if num_removed or num_messages or garbage.num_bytes:
        _log.info("cleaned up", leftovers=num_removed, messages=num_messages, freed_bytes=garbage.num_bytes)
