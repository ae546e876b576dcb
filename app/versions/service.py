"""Asking for versions, naming them, and the trash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from app.versions.composer import Composer
from app.versions.drafting import draft_version
from app.versions.schemas import Version, VersionLabels, VersionList, VersionTerm
from app.versions.upkeep_schemas import Collected
from contract.versions import ACTIVE_ALIAS, VersionRequest
from registry.aliases import Aliases
from registry.blobs import BlobStore
from registry.database import Database
from registry.filters import ANY, ListFilters
from registry.patches import Patches
from registry.retention import collect_garbage
from registry.tables import VersionRow
from registry.versions import Versions


def list_versions(
    database: Database,
    limit: int,
    cursor: str | None,
    tags: Sequence[str] = (),
    trashed: bool = False,
    reference: str | None = None,
    *,
    alias: str | None = None,
    dataset: str | None = None,
    parent: int | None = None,
    filters: ListFilters = ANY,
) -> VersionList:
    """Return a page of versions, newest first; those in the trash only on request.

    Args:
        database: Where they are stored.
        limit: Maximum number of versions.
        cursor: Of the page before; None: the first page.
        tags: All of these.
        trashed: Those in the trash, in place of the others.
        reference: Beginning of the name.
        alias: One that names them now.
        dataset: Id of a data set that their patch uses.
        parent: A version that they were made from.
        filters: Further filters.
    """
    with database.read() as session:
        page = Versions(session).newest(
            limit,
            cursor,
            tags=tags,
            trashed=trashed,
            reference=reference,
            alias=alias,
            dataset=dataset,
            parent=parent,
            filters=filters,
        )
        return VersionList(items=_describe_all(session, page), next_cursor=page.next_cursor)


def get_version(database: Database, version_id: int) -> Version:
    """Return the version, which may be in the trash."""
    with database.read() as session:
        return describe(session, Versions(session).get(version_id))


def trace_version(database: Database, version_id: int, most: int) -> Mapping[int, Sequence[int]]:
    """Return the parents of a version, of its ancestors and of what was made from it, by version; about `most`."""
    with database.read() as session:
        versions = Versions(session)
        found = versions.ancestry(version_id, most)
        children = [row.id for row in versions.newest(most, parent=version_id)]
        return {**found, **versions.parents_of(children)}


def make_version(database: Database, composer: Composer, request: VersionRequest, owner: str | None = None) -> Version:
    """Return a new version, mixed from existing task vectors."""
    with database.read() as session:
        draft = draft_version(session, request)
    made = composer.make(draft, owner)
    return get_version(database, made.version_id)


def relabel_version(database: Database, version_id: int, labels: VersionLabels) -> Version:
    """Return the version with another name, other tags or another precision."""
    with database.write() as session:
        return describe(session, Versions(session).relabel(version_id, **labels.model_dump(exclude_none=True)))


def trash_version(database: Database, version_id: int) -> Version:
    """Return the version, now in the trash; refused if an alias names it or it is the bare base."""
    with database.write() as session:
        return describe(session, Versions(session).trash(version_id))


def restore_version(database: Database, version_id: int) -> Version:
    """Return the version, no longer in the trash."""
    with database.write() as session:
        return describe(session, Versions(session).restore(version_id))


def empty_trash(database: Database, blobs: BlobStore, retention_seconds: float, dry_run: bool) -> Collected:
    """Return what was purged, or would be."""
    garbage = collect_garbage(database, blobs, retention_seconds, dry_run=dry_run)
    return Collected.of(garbage, dry_run)


def describe(session: Session, row: VersionRow) -> Version:
    """Return the resource of a row."""
    return _describe_all(session, [row])[0]


def _describe_all(session: Session, rows: Sequence[VersionRow]) -> list[Version]:
    versions, ids = Versions(session), [row.id for row in rows]
    terms, tags, parents = versions.terms_of(ids), versions.tags_of(ids), versions.parents_of(ids)
    aliases = Aliases(session).names_of(ids)
    patches = Patches(session).names_of([row.patch_id for row in rows if row.patch_id is not None])
    return [
        Version.of(
            row,
            versions.base(row.base_fingerprint),
            terms=[VersionTerm.of(term) for term in terms[row.id]],
            tags=tags[row.id],
            parents=parents[row.id],
            patch_name=patches.get(row.patch_id or ""),
            aliases=aliases[row.id],
            is_active=ACTIVE_ALIAS in aliases[row.id],
        )
        for row in rows
    ]
