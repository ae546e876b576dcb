"""The origin of a version."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from contract.environment import AlphaSettings, Environment, FinetuneSettings
from contract.patch_request import PatchOptions
from contract.recorded import Recorded, ShapedLike
from contract.storage import VectorStorage
from contract.versions import ReselectRequest, VersionRequest


class LineageBase(Recorded):
    """The base model of a version."""

    ref: str = Field(description="Reference of the base model")
    fingerprint: str = Field(description="Fingerprint of its weights")


class Lineage(Recorded):
    """The origin of a version. The version of an unpatched base has only its base and environment."""

    base: LineageBase | None = Field(default=None, description="The base model")
    made_by: Literal["compose", "remove", "reselect"] | None = Field(
        default=None,
        description="`compose` or `remove`: by `POST /v1/versions`; `reselect`: another alpha of a patch; absent: by a "
        "patch's job, or the bare base",
    )
    patch: str | None = Field(default=None, description="Id of the patch whose alpha was chosen again")
    task_vectors: dict[str, str] = Field(
        default={}, description="SHA-256 of each task vector that the patch made, by key"
    )
    storage: dict[str, VectorStorage] = Field(
        default={}, description="How each task vector of a patch's version is stored, by key; absent: in 32 bits"
    )
    task_vector_sha256: str | None = Field(
        default=None, description="SHA-256 of the one task vector, in versions of the first release"
    )
    datasets: dict[str, str | None] = Field(
        default={}, description="SHA-256 of the content of each data set that took part, by id"
    )
    anchors: dict[str, str | None] = Field(
        default={}, description="SHA-256 of the content of each anchor pool, by data set id"
    )
    request: Annotated[dict[str, Any], ShapedLike(PatchOptions | VersionRequest | ReselectRequest)] | None = Field(
        default=None, description="The request that asked for the version, with its defaults at that time"
    )
    finetune: FinetuneSettings | None = Field(default=None, description="The complete settings of fine-tuning")
    alpha: float | AlphaSettings | None = Field(
        default=None, description="The settings of the search for alpha; with `reselect` the alpha itself"
    )
    profile: str | None = Field(
        default=None, description="With `reselect`: how alpha varies with depth, `flat`, `lines` or `lines_paper`"
    )
    reason: str | None = Field(default=None, description="With `reselect`: why this alpha")
    environment: Environment | None = Field(default=None, description="Code, libraries and hardware it was made with")
