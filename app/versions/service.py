"""Asking for versions and aliases, and moving `active`."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.services import Services
from app.versions.drafting import draft_version
from app.versions.schemas import Alias, AliasChange, AliasHistory, AliasList, Version, VersionList, VersionRequest
from registry.aliases import Aliases
from registry.contract import ACTIVE_ALIAS
from registry.errors import ConflictError
from registry.tables import VersionRow
from registry.versions import Versions

_ACTOR = "api"


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


def list_aliases(services: Services) -> AliasList:
    """Return every alias, by name."""
    with services.database.read() as session:
        return AliasList(items=[Alias.of(row) for row in Aliases(session).all()])


def get_alias(services: Services, name: str) -> tuple[Alias, int]:
    """Return the alias and its revision."""
    with services.database.read() as session:
        aliases = Aliases(session)
        return Alias.of(aliases.get(name)), aliases.revision(name)


def list_history(services: Services, name: str, limit: int, cursor: str | None) -> AliasHistory:
    """Return a page of the alias's moves, newest first."""
    with services.database.read() as session:
        aliases = Aliases(session)
        aliases.get(name)
        page = aliases.history(name, limit, cursor)
        return AliasHistory(items=[AliasChange.of(row) for row in page], next_cursor=page.next_cursor)


def move_alias(
    services: Services, name: str, version_id: int, reason: str, expected: Collection[int] | None
) -> tuple[Alias, int]:
    """Return the alias and its revision; `active` once the version that it now names answers requests.

    Args:
        services: The application's services.
        name: Of an alias; one that there is not is made.
        version_id: The version.
        reason: For the history.
        expected: Revisions of which the alias must have one; None: any, or none at all.

    Returns:
        The alias, and the number of its last move.

    Raises:
        NotFoundError: There is no such version.
        AliasMovedError: The alias has another revision.
        ConflictError: Somebody else makes the same new alias at this moment.
    """
    if name == ACTIVE_ALIAS:
        services.activator.activate(version_id, actor=_ACTOR, reason=reason, expected=expected)
    else:
        try:
            with services.database.write() as session:
                Versions(session).get(version_id)
                Aliases(session).move(name, version_id, actor=_ACTOR, reason=reason, expected=expected)
        except IntegrityError as error:  # two made the same new alias at the same moment
            raise ConflictError(f"Alias {name!r} is being made by somebody else.", "Look at it, then go on.") from error
    return get_alias(services, name)


def roll_back(services: Services, name: str, reason: str, expected: Collection[int] | None) -> tuple[Alias, int]:
    """Return the alias and its revision, moved to the version that it named before its last move.

    Arguments and errors as for `move_alias`; and `ConflictError` where it has named one version only.
    """
    with services.database.read() as session:
        aliases = Aliases(session)
        previous, revision = aliases.before(name), aliases.revision(name)
        aliases.require_revision(name, expected)
    # What "before" means must not change while the version is loaded.
    return move_alias(services, name, previous, reason or "rollback", [revision])


def describe(session: Session, row: VersionRow) -> Version:
    """Return the resource of a row."""
    versions = Versions(session)
    active_id = Aliases(session).active_version_id()
    return Version.of(row, versions.base(row.base_fingerprint), versions.terms(row.id), active_id)
