"""From the body of `POST /v1/versions` to its terms and their origin."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from app.versions.composer import Draft
from contract.lineage import Lineage, LineageBase
from contract.versions import TermRequest, VersionRequest
from registry.composition import add_up, scale, without
from registry.errors import ConflictError, RequestRefusedError
from registry.patches import Patches
from registry.versions import HEAD_PROFILE, TermSpec, Versions


@dataclass(frozen=True)
class _Part:
    """What one entry of a request stands for; `what` names it in messages, `version_id` is None for a task vector."""

    what: str
    base_fingerprint: str
    terms: tuple[TermSpec, ...]
    version_id: int | None = None


def draft_version(session: Session, request: VersionRequest) -> Draft:
    """Return the version that a request asks for; equal task vectors with equal profiles are one term."""
    if request.terms is not None:
        parts = [_resolve(session, term) for term in request.terms]
        terms = [term for part in parts for term in part.terms]
    else:
        assert request.from_version is not None
        parts = [_version_part(session, request.from_version)]
        terms = list(_remove(session, parts[0], request.remove or ()))
    fingerprint = _common_base(session, parts, request.base)
    base = Versions(session).base(fingerprint)
    lineage = Lineage(
        base=LineageBase(ref=base.ref, fingerprint=fingerprint),
        made_by="compose" if request.terms is not None else "remove",
        request=request.model_dump(mode="json", exclude_none=True, exclude={"tags"}),
    )
    return Draft(
        name=request.name,
        base_fingerprint=fingerprint,
        terms=add_up(terms),
        lineage=lineage,
        parents=frozenset(part.version_id for part in parts if part.version_id is not None),
        tags=request.tags,
        routing=request.routing,
    )


def _resolve(session: Session, asked: TermRequest) -> _Part:
    versions = Versions(session)
    if asked.task_vector_sha256 is not None:
        row = versions.task_vector(asked.task_vector_sha256)
        profile = HEAD_PROFILE if row.kind == "head" else "flat"
        if row.kind == "head" and asked.profile is not None:
            raise RequestRefusedError(
                "profile_of_head_term",
                f"Term {row.sha256[:12]}… is a head term, which has no profile by depth.",
                "Leave `profile` out.",
            )
        term = TermSpec(row.sha256, asked.coefficient, asked.profile or profile)
        return _Part(f"task vector {row.sha256[:12]}…", row.base_fingerprint, (term,))
    if asked.patch is not None:
        part = _patch_part(session, asked.patch)
    else:
        assert asked.version is not None
        part = _version_part(session, asked.version)
    return replace(part, terms=scale(part.terms, asked.coefficient))


def _patch_part(session: Session, patch_id: str) -> _Part:
    patch = Patches(session).get(patch_id)
    if patch.version_id is None:
        raise ConflictError(f"Patch {patch_id} has no version yet.", f"Wait until job {patch.job_id} has succeeded.")
    return replace(_version_part(session, patch.version_id), what=f"patch {patch_id}")


def _version_part(session: Session, version_id: int) -> _Part:
    versions = Versions(session)
    row = versions.get_not_trashed(version_id)
    return _Part(f"version {row.id}", row.base_fingerprint, tuple(versions.terms(row.id)), row.id)


def _remove(session: Session, part: _Part, names: tuple[str, ...]) -> tuple[TermSpec, ...]:
    present = {term.task_vector_sha256 for term in part.terms}
    gone: set[str] = set()
    for name in names:
        vectors = {name} if name in present else _vectors_of(session, name)
        if not vectors & present:
            raise RequestRefusedError(
                "not_in_version", f"{name} adds nothing to {part.what}.", "See the terms of the version."
            )
        gone |= vectors
    return without(part.terms, gone)


def _vectors_of(session: Session, name: str) -> set[str]:
    """Return the task vectors of a patch, or the one with this hash."""
    if name.startswith("pt_"):
        return {term.task_vector_sha256 for term in _patch_part(session, name).terms}
    return {Versions(session).task_vector(name).sha256}


def _common_base(session: Session, parts: list[_Part], ref: str | None) -> str:
    versions = Versions(session)
    wanted, by_whom = parts[0].base_fingerprint, parts[0].what
    if ref is not None:
        wanted, by_whom = versions.base_by_ref(ref).fingerprint, "the request"
    for part in parts:
        if part.base_fingerprint != wanted:
            here, there = versions.base(wanted).ref, versions.base(part.base_fingerprint).ref
            raise RequestRefusedError(
                "bases_differ",
                f"{by_whom[0].upper()}{by_whom[1:]} has base {here!r}, but {part.what} has base {there!r}.",
                "Combine only terms of one base; a task vector is only valid for its own base.",
            )
    return wanted
