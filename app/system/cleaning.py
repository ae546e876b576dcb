"""Hourly cleaning: the trash, expired uploads and samples, leftovers, old messages."""

from __future__ import annotations

import structlog

from app.datasets.uploads.service import Uploads
from app.settings import AppSettings
from registry.blobs import BlobStore
from registry.database import Database
from registry.deliveries import Deliveries
from registry.feedback import erase_expired
from registry.leftovers import sweep
from registry.retention import collect_garbage

DELIVERY_SECONDS = 30 * 86_400.0
"""Retention of webhook messages that were delivered or given up."""

_log = structlog.get_logger(__name__)


def clean_up(settings: AppSettings, database: Database, blobs: BlobStore, uploads: Uploads) -> None:
    """Free what is no longer needed."""
    uploads.remove_expired()
    num_removed = sweep(settings, database)
    erased = erase_expired(database, blobs)
    with database.write() as session:
        num_messages = Deliveries(session).purge(DELIVERY_SECONDS)
    garbage = collect_garbage(database, blobs, settings.trash_retention_seconds)
    if num_removed or num_messages or garbage.num_bytes or erased.num_rows:
        _log.info(
            "cleaned up",
            leftovers=num_removed,
            messages=num_messages,
            samples=erased.num_rows,
            freed_bytes=garbage.num_bytes,
        )
