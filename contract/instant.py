"""Bodies of the requests that continue an instant patch."""

from __future__ import annotations

from pydantic import Field

from contract.bodies import Body, Id
from contract.names import Name
from contract.patch_request import MAX_TASKS


class ExtendRequest(Body):
    """Body of `POST /v1/patches/{id}/extend`: data sets whose images an instant patch takes in, too."""

    name: Name | None = Field(
        default=None, description="Name of the new patch. Default: that of the patch it continues"
    )
    tasks: tuple[Id, ...] = Field(
        fail_fast=True,
        min_length=1,
        max_length=MAX_TASKS,
        description="Ids of data sets with more images of the patched classes, or with other classes",
    )


class ForgetRequest(Body):
    """Body of `POST /v1/patches/{id}/forget`: classes that an instant patch gives up."""

    name: Name | None = Field(
        default=None, description="Name of the new patch. Default: that of the patch it continues"
    )
    classes: tuple[Name, ...] = Field(
        fail_fast=True,
        min_length=1,
        max_length=1000,
        description="Class names whose images are left out; they are answered as by the base again",
    )
