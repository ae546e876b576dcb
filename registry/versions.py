"""Base models, task vectors and versions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import delete, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from contract.evaluation import Evaluation
from contract.lineage import Lineage
from contract.precision import PrecisionCheck, ServingChoice
from contract.routing import NameAccuracy, RoutingMode
from contract.versions import TermKind
from registry.database import utc_now
from registry.errors import ConflictError, NotFoundError, VersionInUseError
from registry.filters import ANY, ListFilters, uses_dataset
from registry.paging import Page, read_page
from registry.repository import Repository
from registry.tables import (
    AliasRow,
    BaseModelRow,
    PatchRow,
    TaskVectorRow,
    VersionParentRow,
    VersionRow,
    VersionTagRow,
    VersionTermRow,
)

HEAD_PROFILE = "head"
"""The profile of a head term, which corrects answers and leaves the weights as they are."""


@dataclass(frozen=True)
class TermSpec:
    """One term of a version: `coefficient` x `profile` x the task vector with this hash, or x a head term."""

    task_vector_sha256: str
    coefficient: float
    profile: str = "flat"

    @property
    def is_head(self) -> bool:
        """Whether it is a head term."""
        return self.profile == HEAD_PROFILE


class Versions(Repository):
    """Versions and what they are made of, within one transaction."""

    def __init__(self, session: Session, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(session, now)
        self._bases: dict[str, BaseModelRow] = {}

    def ensure_base(self, *, ref: str, fingerprint: str, embed_dim: int, image_size: int) -> BaseModelRow:
        """Return the base with this fingerprint, added if it is new."""
        row = self._session.get(BaseModelRow, fingerprint)
        if row is None:
            row = BaseModelRow(fingerprint=fingerprint, ref=ref, embed_dim=embed_dim, image_size=image_size)
            row.created_at = self._now()
            self._session.add(row)
            self._session.flush()
        return row

    def base_by_ref(self, ref: str) -> BaseModelRow:
        """Return the base that was registered under this reference.

        Raises:
            NotFoundError: There is none.
        """
        row = self._session.scalar(select(BaseModelRow).where(BaseModelRow.ref == ref))
        if row is None:
            raise NotFoundError("base", ref, "Add it to PAINTBOX_BASES and restart the API.")
        return row

    def bases(self) -> Sequence[BaseModelRow]:
        """Return all bases, oldest first."""
        return self._session.scalars(select(BaseModelRow).order_by(BaseModelRow.created_at, BaseModelRow.ref)).all()

    def base(self, fingerprint: str) -> BaseModelRow:
        """Return the base with this fingerprint, which a version or patch names; it is read once."""
        if fingerprint not in self._bases:
            row = self._session.get(BaseModelRow, fingerprint)
            assert row is not None  # a foreign key holds it
            self._bases[fingerprint] = row  # the session itself does not keep it
        return self._bases[fingerprint]

    def add_task_vector(
        self,
        *,
        sha256: str,
        base_fingerprint: str,
        num_bytes: int,
        relative_norm: float,
        job_id: str,
        kind: TermKind = "tower",
    ) -> None:
        """Record a stored task vector or head term, once: two jobs that train the same may end at the same moment."""
        if self._session.get(TaskVectorRow, sha256) is not None:
            return
        row = TaskVectorRow(
            sha256=sha256,
            base_fingerprint=base_fingerprint,
            num_bytes=num_bytes,
            relative_norm=relative_norm,
            job_id=job_id,
            kind=kind,
            created_at=self._now(),
        )
        with suppress(IntegrityError), self._session.begin_nested():
            self._session.add(row)
            self._session.flush()

    def task_vector(self, sha256: str) -> TaskVectorRow:
        """Return the task vector's row, or raise `NotFoundError`."""
        advice = "See the terms of a version or the report of a patch for valid hashes."
        return self._get(TaskVectorRow, sha256, "task vector", advice)

    def register(
        self,
        *,
        name: str,
        base_fingerprint: str,
        terms: Sequence[TermSpec],
        probe: list[Any],
        lineage: Lineage,
        job_id: str | None = None,
        patch_id: str | None = None,
        owner: str | None = None,
        parents: Collection[int] = (),
        weights_fingerprint: str | None = None,
        evaluation: Evaluation | None = None,
        routing: RoutingMode = "none",
        patched_names: Mapping[str, NameAccuracy] | None = None,
        precision_checks: Sequence[PrecisionCheck] = (),
    ) -> VersionRow:
        """Return a new version. A second one for the same job violates a unique constraint.

        Args:
            terms: What is added to the base.
            probe: Features of the probe images.
            patch_id: The patch of which it is a mix, if any.
            parents: Versions that it was made from; those of the jobs that trained its task vectors are added.
            evaluation: Its accuracies; None if it has not been evaluated.
            routing: Which weights answer which labels.
            patched_names: The names that its terms were trained on; None: those of the versions that trained them.
            precision_checks: What lower precisions change of its answers.
        """
        names = self.names_of(terms) if patched_names is None else patched_names
        row = VersionRow(
            name=name,
            base_fingerprint=base_fingerprint,
            patch_id=patch_id,
            job_id=job_id,
            probe=probe,
            lineage=lineage.to_json(),
            owner=owner,
            weights_fingerprint=weights_fingerprint,
            evaluation=None if evaluation is None else evaluation.to_json(),
            routing=routing,
            patched_names={name: each.to_json() for name, each in names.items()} or None,
            precision_checks=[each.to_json() for each in precision_checks] or None,
            created_at=self._now(),
        )
        self._session.add(row)
        self._session.flush()
        for position, term in enumerate(terms):
            self._session.add(VersionTermRow(version_id=row.id, position=position, **vars(term)))
        for parent_id in {*parents, *self._trained({term.task_vector_sha256 for term in terms})} - {row.id}:
            self._session.add(VersionParentRow(version_id=row.id, parent_id=parent_id))
        self._session.flush()
        return row

    def names_of(self, terms: Sequence[TermSpec]) -> dict[str, NameAccuracy]:
        """Return the names that task vectors were trained on, as the versions of these jobs recorded them."""
        trained = self._trained({term.task_vector_sha256 for term in terms})
        rows = self._session.scalars(select(VersionRow.patched_names).where(VersionRow.id.in_(trained)))
        return {name: NameAccuracy.of_stored(each) for row in rows for name, each in (row or {}).items()}

    def _trained(self, sha256s: Collection[str]) -> Sequence[int]:
        """Return the versions of the jobs that made these task vectors."""
        jobs = select(TaskVectorRow.job_id).where(TaskVectorRow.sha256.in_(sha256s))
        return self._session.scalars(select(VersionRow.id).where(VersionRow.job_id.in_(jobs))).all()

    def hold_for_mix(self, terms: Sequence[TermSpec], parents: Collection[int], patch_id: str | None = None) -> None:
        """Lock the sources of a mix, so that they exist until the transaction ends.

        Raises:
            NotFoundError: A task vector, a version or the patch has been deleted.
        """
        if patch_id is not None:
            query = select(PatchRow.id).where(PatchRow.id == patch_id)
            if self._session.scalar(query.with_for_update(read=True, key_share=True)) is None:
                raise NotFoundError("patch", patch_id)
        for sha256 in sorted({term.task_vector_sha256 for term in terms}):
            vector = select(TaskVectorRow.sha256).where(TaskVectorRow.sha256 == sha256)
            if self._session.scalar(vector.with_for_update(read=True, key_share=True)) is None:
                self.task_vector(sha256)
        for parent_id in sorted(parents):
            self.get_not_trashed(parent_id, lock=True)

    def get_not_trashed(self, version_id: int, *, lock: bool = False) -> VersionRow:
        """Return a version that is not in the trash.

        Args:
            lock: Whether to keep it out of the trash until the transaction ends.
        """
        row = self._locked(version_id) if lock else self.get(version_id)
        _require_not_trashed(version_id, row.deleted_at)
        return row

    def serving_precision(self, version_id: int) -> str | None:
        """Return the precision chosen for a version that exists and is not in the trash; None: the installation's."""
        columns = select(VersionRow.deleted_at, VersionRow.serving_precision).where(VersionRow.id == version_id)
        found = self._session.execute(columns).one_or_none()
        if found is None:
            raise NotFoundError("version", version_id)
        _require_not_trashed(version_id, found.deleted_at)
        return cast("str | None", found.serving_precision)

    def _locked(self, version_id: int) -> VersionRow:
        return self._get(VersionRow, version_id, "version", locked=True)

    def get(self, version_id: int) -> VersionRow:
        """Return the version, or raise `NotFoundError`."""
        return self._get(VersionRow, version_id, "version")

    def terms(self, version_id: int) -> list[TermSpec]:
        """Return the version's terms in order."""
        return self.terms_of([version_id])[version_id]

    def terms_of(self, version_ids: Sequence[int]) -> dict[int, list[TermSpec]]:
        """Return the terms of these versions, by version, in order, read at once."""
        columns = (
            VersionTermRow.version_id,
            VersionTermRow.task_vector_sha256,
            VersionTermRow.coefficient,
            VersionTermRow.profile,
        )
        query = select(*columns).where(VersionTermRow.version_id.in_(version_ids))
        found: dict[int, list[TermSpec]] = {version_id: [] for version_id in version_ids}
        for version_id, sha256, coefficient, profile in self._session.execute(
            query.order_by(columns[0], VersionTermRow.position)
        ):
            found[version_id].append(TermSpec(sha256, coefficient, profile))
        return found

    def newest(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        tags: Collection[str] = (),
        trashed: bool = False,
        reference: str | None = None,
        alias: str | None = None,
        dataset: str | None = None,
        parent: int | None = None,
        filters: ListFilters = ANY,
    ) -> Page[VersionRow]:
        """Return a page of versions, newest first. Probes are loaded on access only.

        Args:
            alias: An alias that names them now; None: any.
            dataset: Id of a data set that their patch uses; None: any.
            parent: A version that they were made from; None: any.
        """
        is_there = VersionRow.deleted_at.is_not(None) if trashed else VersionRow.deleted_at.is_(None)
        query = select(VersionRow).options(defer(VersionRow.probe)).where(is_there)
        for tag in tags:
            query = query.where(exists().where(VersionTagRow.version_id == VersionRow.id, VersionTagRow.tag == tag))
        if reference is not None:
            query = query.where(VersionRow.name.startswith(reference, autoescape=True))
        if alias is not None:
            query = query.where(VersionRow.id.in_(select(AliasRow.version_id).where(AliasRow.name == alias)))
        if dataset is not None:
            query = query.where(VersionRow.patch_id.in_(select(PatchRow.id).where(uses_dataset(dataset))))
        if parent is not None:
            made = select(VersionParentRow.version_id).where(VersionParentRow.parent_id == parent)
            query = query.where(VersionRow.id.in_(made))
        query = filters.apply(query, VersionRow)
        return read_page(self._session, query, (VersionRow.id,), limit, cursor)

    def ids_of_bases(self, fingerprints: Collection[str]) -> Sequence[int]:
        """Return the ids of all versions of these bases that are not in the trash, oldest first."""
        kept = VersionRow.deleted_at.is_(None) & VersionRow.base_fingerprint.in_(fingerprints)
        return self._session.scalars(select(VersionRow.id).where(kept).order_by(VersionRow.id)).all()

    def all_ids(self) -> Sequence[int]:
        """Return the ids of all versions, those in the trash too, oldest first."""
        return self._session.scalars(select(VersionRow.id).order_by(VersionRow.id)).all()

    def tags_of(self, version_ids: Sequence[int]) -> dict[int, list[str]]:
        """Return the tags of these versions, by version, sorted."""
        query = select(VersionTagRow).where(VersionTagRow.version_id.in_(version_ids)).order_by(VersionTagRow.tag)
        found: dict[int, list[str]] = {version_id: [] for version_id in version_ids}
        for row in self._session.scalars(query):
            found[row.version_id].append(row.tag)
        return found

    def parents_of(self, version_ids: Sequence[int]) -> dict[int, list[int]]:
        """Return the versions that these were made from, by version, oldest first."""
        query = select(VersionParentRow).where(VersionParentRow.version_id.in_(version_ids))
        found: dict[int, list[int]] = {version_id: [] for version_id in version_ids}
        for row in self._session.scalars(query.order_by(VersionParentRow.parent_id)):
            found[row.version_id].append(row.parent_id)
        return found

    def ancestry(self, version_id: int, most: int) -> dict[int, list[int]]:
        """Return the parents of a version and of its ancestors, by version; nearest ancestors first, about `most`."""
        found: dict[int, list[int]] = {}
        next_ids = [version_id]
        while next_ids and len(found) < most:
            found |= self.parents_of(next_ids)
            next_ids = sorted({parent for each in next_ids for parent in found[each]} - found.keys(), reverse=True)
            next_ids = next_ids[: most - len(found)]
        return found

    def relabel(
        self,
        version_id: int,
        *,
        name: str | None = None,
        tags: Collection[str] | None = None,
        serving_precision: ServingChoice | None = None,
    ) -> VersionRow:
        """Return the version with another name, tags or precision; None leaves them. Its terms never change."""
        row = self._locked(version_id)
        if name is not None:
            row.name = name
        if tags is not None:
            self._session.execute(delete(VersionTagRow).where(VersionTagRow.version_id == version_id))
            self._session.add_all(VersionTagRow(version_id=version_id, tag=tag) for tag in set(tags))
        if serving_precision is not None:
            row.serving_precision = None if serving_precision == "installation" else serving_precision
        self._session.flush()
        return row

    def trash(self, version_id: int) -> VersionRow:
        """Move the version to the trash and return it; it can be restored until it is purged.

        Raises:
            VersionInUseError: It has an alias, or is the unpatched base.
        """
        row = self._locked(version_id)
        named = self._session.scalars(select(AliasRow.name).where(AliasRow.version_id == version_id)).all()
        if named:
            names = ", ".join(repr(name) for name in sorted(named))
            raise VersionInUseError(
                f"Version {version_id} has the aliases {names}.", "Move or delete these aliases first."
            )
        bare = self.base_version(row.base_fingerprint)
        if bare is not None and bare.id == version_id:
            raise VersionInUseError(
                f"Version {version_id} is the unpatched base.", "It cannot be deleted; it uses no space."
            )
        if row.deleted_at is None:
            row.deleted_at = self._now()
        return row

    def restore(self, version_id: int) -> VersionRow:
        """Return the version, no longer in the trash; errors as for `get`."""
        row = self._locked(version_id)
        row.deleted_at = None
        return row

    def of_patch(self, patch_id: str) -> Sequence[VersionRow]:
        """Return the versions that the patch and its reselections made, oldest first, without those in the trash."""
        query = select(VersionRow).where(VersionRow.patch_id == patch_id, VersionRow.deleted_at.is_(None))
        return self._session.scalars(query.order_by(VersionRow.id)).all()

    def equals_base(self, version_id: int) -> bool:
        """Return whether the version's weights are those of its base."""
        row = self.get(version_id)
        base = self.base_version(row.base_fingerprint)
        if base is None or row.weights_fingerprint is None:
            return base is not None and row.id == base.id
        return row.weights_fingerprint == base.weights_fingerprint

    def base_version(self, fingerprint: str) -> VersionRow | None:
        """Return the version that is the unpatched base, if it is registered: the first one without terms."""
        term = exists().where(VersionTermRow.version_id == VersionRow.id)
        query = select(VersionRow).where(VersionRow.base_fingerprint == fingerprint, ~term)
        return self._session.scalar(query.order_by(VersionRow.id).limit(1))


def _require_not_trashed(version_id: int, deleted_at: datetime | None) -> None:
    if deleted_at is not None:
        raise ConflictError(
            f"Version {version_id} is in the trash.", f"Restore it first: POST /v1/versions/{version_id}/restore."
        )
