"""The form in which a task vector is stored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contract.recorded import Recorded


class VectorStorage(Recorded):
    """The form in which a task vector is stored, which is the form that versions use."""

    bits: Literal[32, 16, 8, 4] = Field(description="Bits of each number of its matrices")
    loss_points: float | None = Field(
        default=None,
        description="What fewer than 32 bits cost: the combined validation accuracy with 32 bits at the chosen alpha, "
        "minus that with the stored bits, in percentage points; negative: a gain; null: not compared, with 16 bits or "
        "folds",
    )
