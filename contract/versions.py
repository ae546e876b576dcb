"""Versions: reserved aliases, tags, and requests that create versions without training."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contract.alpha_options import Drops, Points, RuleName
from contract.bodies import BaseRef, Body, Id, Matches, VersionNumber
from contract.names import Name
from contract.routing import RoutingMode

ACTIVE_ALIAS = "active"
CANARY_ALIAS = "canary"
SHADOW_ALIAS = "shadow"
GUARDED_ALIASES = (ACTIVE_ALIAS, CANARY_ALIAS)
"""Aliases whose versions answer requests that name no version: their moves are checked against limits."""

LOADED_ALIASES = (*GUARDED_ALIASES, SHADOW_ALIAS)
"""Aliases whose versions every API process keeps in memory."""


class ApprovalState(StrEnum):
    """The state of a requested move of an alias."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


Tag = Annotated[
    str,
    Matches(
        r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$",
        "is not a tag: these have letters, digits and . _ : / -, at most 64, and begin with a letter or digit",
    ),
]
"""A search tag of a version."""

Profile = Literal["flat", "lines", "lines_paper"]
"""How a coefficient varies with depth."""

TermKind = Literal["tower", "head"]
"""What a term changes: the weights of the image tower, or the answers for its names."""

Tags = Annotated[frozenset[Tag], Field(fail_fast=True, max_length=16)]
Sha256 = Annotated[str, Matches("^[0-9a-f]{64}$", "is not a hash: these have 64 characters of 0-9 and a-f")]


class TermRequest(Body):
    """Something to add: one task vector, or all that a patch or another version adds to its base."""

    task_vector_sha256: Sha256 | None = Field(default=None, description="A task vector or head term, by its SHA-256")
    patch: Id | None = Field(default=None, description="Id of a patch: all terms of its version")
    version: VersionNumber | None = Field(default=None, description="Id of a version: all its terms")
    coefficient: float = Field(
        default=1.0, ge=-10, le=10, description="Factor of the task vector, or of all the patch's or version's terms"
    )
    profile: Profile | None = Field(
        default=None, description="How a task vector's coefficient varies with depth. Default: `flat`"
    )

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if sum(each is not None for each in (self.task_vector_sha256, self.patch, self.version)) != 1:
            raise ValueError("exactly one of task_vector_sha256, patch and version is required")
        if self.profile is not None and self.task_vector_sha256 is None:
            raise ValueError("profile requires task_vector_sha256: patches and versions have their own profiles")
        return self


class VersionRequest(Body):
    """Body of `POST /v1/versions`: `terms` to add to the base, or a version to remove something from."""

    name: Name = Field(description="Display name: 1 to 200 characters on one line; not unique")
    tags: Tags = Field(default=frozenset(), description="Tags of the version, at most 16")
    base: BaseRef | None = Field(default=None, description="If given, all terms must be of this base")
    terms: tuple[TermRequest, ...] | None = Field(
        fail_fast=True,
        default=None,
        min_length=1,
        max_length=64,
        description="What to add to the base; give either this, or `from_version` and `remove`",
    )
    from_version: VersionNumber | None = Field(default=None, description="Id of the version to remove something from")
    remove: tuple[Id, ...] | None = Field(
        fail_fast=True,
        default=None,
        min_length=1,
        max_length=64,
        description="What to remove: ids of patches, or SHA-256 of task vectors",
    )
    routing: RoutingMode = Field(
        default="none",
        description="`by_labels`: lists of labels without patched names are answered by the base, and mixed lists by "
        "both",
    )

    @model_validator(mode="after")
    def _adds_or_removes(self) -> Self:
        if (self.terms is None) == (self.from_version is None):
            raise ValueError("exactly one of terms and from_version is required")
        if (self.from_version is None) != (self.remove is None):
            raise ValueError("from_version and remove must be used together")
        return self


class ReselectRequest(Body):
    """Body of `POST /v1/patches/{id}/reselect`: a rule to choose alpha by, or the alpha itself."""

    name: Name | None = Field(default=None, description="Name of the version. Default: the patch's name and the alpha")
    rule: RuleName | None = Field(
        default=None, description="Rule to choose alpha by, on the stored validation curves; give this or `alpha`"
    )
    max_supported_drop: Drops | None = Field(
        default=None,
        description="With `rule: floor` or `certified`: percentage points, 0 to 100, that a supported task may lose, "
        "for all of them or by data set id",
    )
    max_mean_drop: Points | None = Field(
        default=None,
        description="With `rule: certified`: percentage points that the mean accuracy of the supported tasks may lose. "
        "Default, if `max_supported_drop` is absent too: 1 for the mean and 3 for each task",
    )
    confidence: float | None = Field(
        default=None, ge=0.6, le=0.995, description="With `rule: certified`: confidence of the limits. Default: 0.95"
    )
    alpha: float | None = Field(
        default=None, ge=0, le=3, description="The alpha: 0 to 1, or up to 3 along a path that goes beyond 1"
    )
    profile: Profile | None = Field(
        default=None,
        description="How alpha varies with depth. Default: the patch's own for an alpha, the best of those that "
        "were measured for a rule",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.rule is None) == (self.alpha is None):
            raise ValueError("exactly one of rule and alpha is required")
        if self.rule == "floor" and self.max_supported_drop in (None, {}):
            raise ValueError("rule floor needs max_supported_drop, the maximum drop of a supported task in points")
        if self.rule not in ("floor", "certified") and self.max_supported_drop is not None:
            raise ValueError("max_supported_drop requires rule floor or certified")
        if self.rule != "certified" and (self.max_mean_drop, self.confidence) != (None, None):
            raise ValueError("max_mean_drop and confidence require rule certified")
        return self
