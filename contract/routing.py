"""Routing by labels: lists that hold no patched name are answered by the base."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contract.recorded import Recorded

RoutingMode = Literal["none", "by_labels"]
"""`none`: the version's weights answer every list; `by_labels`: they answer for the names that were patched."""

RouteName = Literal["base", "patched", "mixed"]
"""What answered a request of a version with `by_labels`."""


class NameAccuracy(Recorded):
    """How well a name that was patched is recognised, on validation images."""

    base: float = Field(description="Share of the name's validation images that the base classifies correctly, 0 to 1")
    patched: float = Field(description="The same with the patch")
