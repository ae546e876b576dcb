"""The base models of the installation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field
from torch import nn

from app.http.dependencies import DatabaseDep, built
from app.http.resources import Resource
from app.models.bases import BasesDep
from paint_core.models import BaseModel as LoadedBase
from registry.tables import BaseModelRow
from registry.versions import Versions


class BaseDefaults(BaseModel):
    """Default settings of fine-tuning; the rest are in `POST /v1/patches/check`."""

    iterations: int = Field(description="Number of optimizer steps")
    batch_size: int = Field(description="Images per optimizer step")
    learning_rate: float = Field(description="Peak learning rate")


class Base(Resource):
    """A base model, from which versions are made."""

    ref: str = Field(description="Reference of the model, as in `PAINTBOX_BASES`")
    fingerprint: str = Field(description="Fingerprint of its weights, 64 hexadecimal digits")
    image_size: int = Field(description="Side of the images that it reads, in pixels")
    embed_dim: int = Field(description="Number of dimensions of its embeddings")
    version: int | None = Field(description="Id of the version that is the unpatched base; null: there is none")
    num_versions: int = Field(description="Number of its versions that are not in the trash")
    is_loaded: bool = Field(description="Whether this process has loaded it and can serve its versions")
    tower: str | None = Field(description="Class of its image tower; null: not loaded")
    image_parameters: int | None = Field(description="Number of parameters of its image tower; null: not loaded")
    parameters: int | None = Field(description="Number of parameters of the whole model; null: not loaded")
    defaults: BaseDefaults | None = Field(description="Default settings of fine-tuning; null: not loaded")
    created_at: datetime = Field(description="When it was registered")


class BaseList(BaseModel):
    """The base models, in the order in which they were registered."""

    items: list[Base] = Field(description="The base models")


@dataclass(frozen=True)
class BaseCatalogue:
    """Describes the base models that were ever registered."""

    database: DatabaseDep
    bases: BasesDep

    def list(self) -> BaseList:
        """Return all base models."""
        with self.database.read() as session:
            versions = Versions(session)
            return BaseList(items=[self._describe(versions, row) for row in versions.bases()])

    def _describe(self, versions: Versions, row: BaseModelRow) -> Base:
        bare = versions.base_version(row.fingerprint)
        loaded = self.bases.get(row.fingerprint)
        facts = {"tower": None, "image_parameters": None, "parameters": None, "defaults": None}
        return Base.from_row(
            row,
            version=None if bare is None else bare.id,
            num_versions=len(versions.ids_of_bases([row.fingerprint])),
            is_loaded=loaded is not None,
            **(facts if loaded is None else _facts_of(loaded)),
        )


BaseCatalogueDep = Annotated[BaseCatalogue, built(BaseCatalogue)]


def _facts_of(base: LoadedBase) -> dict[str, object]:
    config = base.finetune_defaults
    names = BaseDefaults.model_fields
    return {
        "tower": type(base.visual).__name__,
        "image_parameters": _count(base.visual),
        "parameters": _count(base.model),
        "defaults": BaseDefaults(**{name: getattr(config, name) for name in names}),
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
