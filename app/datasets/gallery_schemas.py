"""API schemas of the images of a data set."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.http.paging import Listed
from contract.datasets import Split


class DatasetImage(BaseModel):
    """An image of a data set."""

    split: Split = Field(description="Split of the image")
    row: int = Field(
        description="Its position in the split, from 0; never changes. Predictions and changes along alpha name images "
        "by the same number"
    )
    file: str = Field(description="Path of the image in the upload")
    label: str | None = Field(description="Its class; null: the image of a pool")
    thumbnail: str = Field(description="Path of its thumbnail; add `?size=` for another size than 128")


class DatasetImageList(Listed):
    """Images in the order of the splits train, validation, test and of their rows."""

    total: int = Field(description="Number of images that pass the filters, on all pages")
    items: list[DatasetImage] = Field(description="The images")
