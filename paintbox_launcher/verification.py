"""Verification of a restored installation without a running service: what `paintbox verify --all` checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from paint_core.errors import PaintCoreError
from paint_core.models import BaseModel, load_base
from pipeline.devices import choose_device
from pipeline.verification import check_version, is_unchanged, read_version
from registry.blob_stores import open_blobs
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import BlobCorruptError, BlobMissingError, BlobStoreUnreachableError
from registry.integrity import check_database, find_named_blobs
from registry.settings import StorageSettings
from registry.versions import Versions


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        what: `database`, `blob`, `base` or `version`.
        ok: None: it could not be checked.
    """

    what: str
    name: str
    ok: bool | None
    detail: str


def verify_installation(settings: StorageSettings, database: Database) -> Iterator[Finding]:
    """Yield findings on the database, every blob that it needs, and every version.

    Blobs in a folder are read and hashed; in a bucket, only their presence is checked, unless a version needs them.
    """
    for name, problem in check_database(database):
        yield Finding("database", name, problem is None, problem or "can be read")
    blobs = open_blobs(settings)
    with database.read() as session:
        named = find_named_blobs(session)
    for sha256, user in named.items():
        yield _check_blob(blobs, sha256, user, reads=not settings.is_bucket)
    yield from _verify_versions(settings, database, blobs)


def _check_blob(blobs: BlobStore, sha256: str, user: str, *, reads: bool) -> Finding:
    try:
        if reads:
            blobs.fetch(sha256)
        elif blobs.stat(sha256) is None:
            raise BlobMissingError(sha256)
    except BlobCorruptError as error:
        return Finding("blob", sha256, False, f"{user}: its hash is {error.actual}")
    except BlobMissingError:
        return Finding("blob", sha256, False, f"{user}: it is missing")
    except BlobStoreUnreachableError as error:
        return Finding("blob", sha256, None, error.detail)
    return Finding("blob", sha256, True, user)


def _verify_versions(settings: StorageSettings, database: Database, blobs: BlobStore) -> Iterator[Finding]:
    with database.read() as session:
        versions = Versions(session)
        stored = [read_version(session, version_id) for version_id in versions.all_ids()]
    bases: dict[str, BaseModel | None] = {}
    for each in stored:
        fingerprint = each.row.base_fingerprint
        if fingerprint not in bases:
            base, finding = _load(each.base_ref, fingerprint, settings)
            bases[fingerprint] = base
            yield finding
        base = bases[fingerprint]
        if base is None:
            yield Finding("version", str(each.row.id), None, f"not mixed: its base {each.base_ref} could not be loaded")
            continue
        try:
            checks = check_version(each, base, blobs)
        except BlobStoreUnreachableError as error:
            yield Finding("version", str(each.row.id), None, error.detail)
            continue
        wrong = "; ".join(f"{check.what}: {check.detail}" for check in checks if check.matches is not True)
        ok = is_unchanged(checks)
        yield Finding("version", str(each.row.id), ok, "weights and probe are unchanged" if ok else wrong)


def _load(ref: str, fingerprint: str, settings: StorageSettings) -> tuple[BaseModel | None, Finding]:
    """Return a registered base and what was found; None: it cannot be loaded, or has other weights."""
    try:
        base = load_base(ref, device=choose_device(settings.device))
    except (PaintCoreError, OSError) as error:
        return None, Finding("base", ref, None, f"cannot be loaded: {error}")
    if base.fingerprint != fingerprint:
        detail = f"its weights have changed: {fingerprint[:12]}… when registered, {base.fingerprint[:12]}… now"
        return None, Finding("base", ref, False, detail)
    return base, Finding("base", ref, True, "its weights are those that were registered")
