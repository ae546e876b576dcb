"""API schemas of versions and aliases."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field, StrictBool, model_validator

from app.access.owner import Owner
from app.http.paging import Listed
from app.http.resources import Resource
from contract.bodies import Body, Reason, VersionNumber
from contract.evaluation import Evaluation
from contract.lineage import Lineage
from contract.names import Name
from contract.precision import PrecisionCheck, ServingChoice
from contract.routing import NameAccuracy, RoutingMode
from contract.scores import TaskRole
from contract.versions import Tags, TermKind
from registry.tables import AliasHistoryRow, AliasRow, BaseModelRow, VersionRow
from registry.versions import TermSpec


class BaseBrief(Resource):
    """A base model as other resources name it."""

    ref: str = Field(description="Reference of the base model")
    fingerprint: str = Field(description="Fingerprint of its weights, 64 hexadecimal digits")


class VersionTerm(BaseModel):
    """One term of a mix: `coefficient` x `profile` x task vector, or `coefficient` x head term."""

    task_vector_sha256: str = Field(description="SHA-256 of the task vector or head term, 64 hexadecimal digits")
    coefficient: float = Field(description="Factor of the term")
    profile: str = Field(
        description="How the coefficient varies with depth: `flat`, `lines` or `lines_paper`; `head`: a head term, "
        "which changes no weights"
    )
    kind: TermKind = Field(
        description="`tower`: a task vector, added to the weights; `head`: a head term, which corrects the answers for "
        "its names"
    )

    @classmethod
    def of(cls, spec: TermSpec) -> Self:
        """Return the resource of a stored term."""
        return cls(**vars(spec), kind="head" if spec.is_head else "tower")


class VersionHeadline(BaseModel):
    """The accuracy of a version in two numbers."""

    split: str = Field(description="Which images judged: `test` or `validation`")
    patching_accuracy: float | None = Field(
        description="Mean accuracy on the tasks to improve, 0 to 1; null: there are none"
    )
    supported_accuracy: float | None = Field(
        description="Mean accuracy on the supported tasks, 0 to 1; null: there are none"
    )

    @classmethod
    def of(cls, evaluation: Evaluation) -> Self:
        """Return the headline of an evaluation."""

        def mean(role: TaskRole) -> float | None:
            scores = [task.patched for task in evaluation.tasks if task.role == role]
            return sum(score.correct / score.total for score in scores) / len(scores) if scores else None

        return cls(split=evaluation.split, patching_accuracy=mean("patching"), supported_accuracy=mean("supported"))


class Version(Resource):
    """An immutable mix of a base and task vectors; without terms it is the bare base.

    Its name, tags and serving precision may change.
    """

    id: int = Field(description="Number of the version, 1 and up")
    name: str = Field(description="Display name; not unique")
    tags: list[str] = Field(description="Tags of the version")
    base: BaseBrief = Field(description="The base model")
    terms: list[VersionTerm] = Field(description="Terms that are added to the base; empty: the unpatched base")
    parents: list[int] = Field(description="Ids of the versions that it was created from")
    lineage: Lineage = Field(description="Origin of the version")
    weights_fingerprint: str | None = Field(
        description="Fingerprint of the mixed image tower; null: created by an older release"
    )
    evaluation: Evaluation | None = Field(
        description="What was measured of it and on which split; null: it has not been evaluated"
    )
    headline: VersionHeadline | None = Field(
        description="The same in two numbers, for lists; null: it has not been evaluated"
    )
    routing: RoutingMode = Field(
        description="`none`: its weights answer every list of labels; `by_labels`: lists without patched names are "
        "answered by the base, and mixed lists by both"
    )
    patched_names: dict[str, NameAccuracy] | None = Field(
        description="The names that it was patched on, with accuracies on validation images; null: none, or created by "
        "an older release"
    )
    precision_checks: list[PrecisionCheck] | None = Field(
        description="How lower precisions change its answers, compared when it was registered; null: not compared. "
        "A patched version is served only in precisions of which a check accepts it"
    )
    serving_precision: ServingChoice = Field(
        description="What it is to be served in, where its checks allow it; `installation`: as the service is set up"
    )
    patch_id: str | None = Field(description="Id of its patch; null: the unpatched base or a composed version")
    patch_name: str | None = Field(description="Name of its patch; null: as for `patch_id`")
    aliases: list[str] = Field(description="Aliases that name it now, sorted")
    is_active: bool = Field(description="Whether the alias `active` names it")
    owner: Owner
    created_at: datetime = Field(description="When it was registered")
    deleted_at: datetime | None = Field(description="When it was moved to the trash; null: not in the trash")

    @classmethod
    def of(cls, row: VersionRow, base: BaseModelRow, **related: Any) -> Self:
        """Return the resource of a row, its base, and the fields that are not in the row."""
        lineage = Lineage.of_stored(row.lineage)
        evaluation = None if row.evaluation is None else Evaluation.of_stored(row.evaluation)
        related["serving_precision"] = row.serving_precision or "installation"
        related["headline"] = None if evaluation is None else VersionHeadline.of(evaluation)
        return cls.from_row(row, base=BaseBrief.from_row(base), lineage=lineage, evaluation=evaluation, **related)


class VersionLabels(Body):
    """Body of `PATCH /v1/versions/{id}`; omitted fields stay unchanged."""

    name: Name | None = Field(default=None, description="The new name: 1 to 200 characters on one line")
    tags: Tags | None = Field(default=None, description="The new tags, which replace the old ones")
    serving_precision: ServingChoice | None = Field(
        default=None,
        description="What the version is to be served in, where its checks allow it; `installation`: as the service is "
        "configured. It applies within seconds",
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.name is None and self.tags is None and self.serving_precision is None:
            raise ValueError("at least one of name, tags and serving_precision is required")
        return self


class VersionList(Listed):
    """Versions, newest first."""

    items: list[Version] = Field(description="The versions")


class Alias(Resource):
    """A movable name of a version."""

    name: str = Field(description="The alias")
    version: int = Field(description="Id of the version that it names")
    updated_at: datetime = Field(description="When it was last moved")

    @classmethod
    def of(cls, row: AliasRow) -> Self:
        """Return the resource of a row."""
        return cls.from_row(row, version=row.version_id)


class RolledBackAlias(Alias):
    """An alias after a rollback."""

    from_version: int = Field(description="Id of the version that it named before the rollback")
    to_version: int = Field(description="Id of the version that the rollback restored")


class AliasList(BaseModel):
    """Every alias, by name."""

    items: list[Alias] = Field(description="The aliases")


class AliasMove(Body):
    """Body of `PUT /v1/aliases/{alias}`."""

    version: VersionNumber = Field(description="Id of the new version of the alias")
    reason: Reason = ""
    force: StrictBool = Field(
        default=False, description="Ignore the limit on the drop of supported tasks; requires a reason"
    )

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.force and not self.reason.strip():
            raise ValueError("force requires a reason, which is recorded in the history")
        return self


class Rollback(Body):
    """Body of `POST /v1/aliases/{alias}/rollback`."""

    reason: Reason = ""


class AliasChange(Resource):
    """One move of an alias."""

    id: int = Field(description="Number of the move: the revision of the alias")
    from_version: int | None = Field(description="Id of the version that it named before; null: it was created")
    to_version: int | None = Field(description="Null: the alias was deleted")
    actor: str = Field(description="Who moved it: the name of a key, `paintbox`, or a patch")
    reason: str = Field(description="Reason given in the request")
    forced: bool = Field(description="Whether the limit on the drop of supported tasks was ignored")
    at: datetime = Field(description="When it was moved")

    @classmethod
    def of(cls, row: AliasHistoryRow) -> Self:
        """Return the resource of a row."""
        return cls.from_row(row, from_version=row.from_version_id, to_version=row.to_version_id)


class AliasHistory(Listed):
    """An alias's moves, newest first."""

    items: list[AliasChange] = Field(description="The moves")
