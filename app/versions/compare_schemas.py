"""API schemas of the comparison of two versions."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.versions.schemas import VersionTerm
from contract.routing import RoutingMode
from contract.scores import AccuracyChange, SplitScore


class ComparedVersion(BaseModel):
    """One of the two versions."""

    id: int = Field(description="Number of the version")
    name: str = Field(description="Its name")
    base: str = Field(description="Reference of its base model")
    weights_fingerprint: str | None = Field(description="Fingerprint of its image tower; null: by an older release")
    routing: RoutingMode = Field(description="Which weights answer a list of labels, as for versions")
    aliases: list[str] = Field(description="The aliases that name it")
    terms: list[VersionTerm] = Field(description="The terms that the other version does not have")


class ComparedTask(BaseModel):
    """What both versions answered to the same images of a data set, under its own labels."""

    dataset: str = Field(description="Id of the data set")
    name: str | None = Field(description="Its name; null: it was deleted")
    split: str = Field(description="The images that were evaluated: `train`, `validation` or `test`")
    before: SplitScore = Field(description="Score of the first version")
    after: SplitScore = Field(description="Score of the second version")
    changed: int | None = Field(description="Number of images with another answer; null: the answers are not stored")
    lost: int | None = Field(description="Number of images that only the first version classifies correctly")
    gained: int | None = Field(description="Number of images that only the second version classifies correctly")
    change: AccuracyChange | None = Field(description="Change of the accuracy; null: the answers are not stored")


class UncomparedTask(BaseModel):
    """A data set that only one of the versions was evaluated on."""

    dataset: str = Field(description="Id of the data set")
    name: str | None = Field(description="Its name; null: it was deleted")
    split: str = Field(description="The images that were evaluated")
    missing: int = Field(description="Number of the version that was not evaluated on them")


class ComparedVersions(BaseModel):
    """What distinguishes two versions."""

    before: ComparedVersion = Field(description="The first version")
    after: ComparedVersion = Field(description="The second version")
    same_weights: bool | None = Field(description="Whether both image towers are equal; null: not known")
    tasks: list[ComparedTask] = Field(
        description="Data sets that both versions have been evaluated on, newest evaluation first"
    )
    uncompared: list[UncomparedTask] = Field(
        description="Data sets that only one of them has been evaluated on; see `POST /v1/evaluations` for the other"
    )
