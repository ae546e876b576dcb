"""Asking for versions and aliases, and moving `active`."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.services import Services
from app.versions.drafting import draft_version
from app.versions.schemas import Alias, AliasChange, AliasHistory, AliasMove, Version, VersionList, VersionRequest
from registry.contract import ACTIVE_ALIAS
from registry.errors import NotFoundError
from registry.tables import VersionRow
from registry.versions import Aliases, Versions


def list_versions(services: Services, limit: int, cursor: str | None) -> VersionList:
    """Return a page of versions, newest first."""
    with services.database.read() as session:
        versions = Versions(session)
        page = versions.newest(limit, cursor)
        terms, active_id = versions.terms_of([row.id for row in page]), Aliases(session).active_version_id()
        items = [Version.of(row, versions.base(row.base_fingerprint), terms[row.id], active_id) for row in page]
        return VersionList(items=items, next_cursor=page.next_cursor)


def get_version(services: Services, version_id: int) -> Version:
    """Return the version."""
    with services.database.read() as session:
        return describe(session, Versions(session).get(version_id))


def make_version(services: Services, request: VersionRequest) -> Version:
    """Return a new version, mixed out of task vectors that are there already."""
    with services.database.read() as session:
        draft = draft_version(session, request)
    made = services.composer.make(draft)
    return get_version(services, made.version_id)


def get_alias(services: Services, name: str) -> Alias:
    """Return the alias."""
    with services.database.read() as session:
        return Alias.of(Aliases(session).get(name))


def list_history(services: Services, name: str, limit: int, cursor: str | None) -> AliasHistory:
    """Return a page of the alias's moves, newest first."""
    with services.database.read() as session:
        aliases = Aliases(session)
        aliases.get(name)
        page = aliases.history(name, limit, cursor)
        return AliasHistory(items=[AliasChange.of(row) for row in page], next_cursor=page.next_cursor)


def move_alias(services: Services, name: str, move: AliasMove) -> Alias:
    """Return the alias once the version that it now names answers requests."""
    if name != ACTIVE_ALIAS:
        raise NotFoundError("alias", name, f"The only alias is {ACTIVE_ALIAS!r}.")
    services.activator.activate(move.version, actor="api", reason=move.reason)
    return get_alias(services, name)


def describe(session: Session, row: VersionRow) -> Version:
    """Return the resource of a row."""
    versions = Versions(session)
    active_id = Aliases(session).active_version_id()
    return Version.of(row, versions.base(row.base_fingerprint), versions.terms(row.id), active_id)
