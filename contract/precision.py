"""How the answers of a version in a lower precision compare with those in float32."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contract.recorded import Recorded

LowerPrecision = Literal["bf16", "int8"]

ServingChoice = Literal["installation", "auto", "fp32", "bf16", "int8"]
"""What a version is to be served in; `installation`: as the service is configured."""


class PrecisionCheck(Recorded):
    """A comparison on the version's own validation images, when it was registered."""

    precision: LowerPrecision = Field(description="The precision that was compared with float32")
    accepted: bool = Field(
        description="Whether the version may be served in it: on every task at least 99.5 % equal first labels, "
        "at most 0.1 percentage points less accuracy and, for `bf16`, a cosine of at least 0.999 for every image"
    )
    reason: str | None = Field(description="Which of these it does not meet, and by how much; null: none")
    num_images: int = Field(description="Number of validation images")
    cosine: float = Field(description="Lowest cosine of an image's features in both precisions")
    agreement: float = Field(
        description="Share of images with the same first label, of the task with the lowest, 0 to 1"
    )
    drop_points: float = Field(
        description="Accuracy in float32 minus that in this precision, in percentage points, of the task with the "
        "largest; negative: a gain"
    )
