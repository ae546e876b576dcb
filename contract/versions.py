"""Versions: the names of the aliases that mean something, and tags."""

from __future__ import annotations

from typing import Annotated

from contract.bodies import Matches

ACTIVE_ALIAS = "active"
CANARY_ALIAS = "canary"
SHADOW_ALIAS = "shadow"

Tag = Annotated[
    str,
    Matches(
        r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$",
        "is not a tag: these have letters, digits and . _ : / -, at most 64, and begin with a letter or digit",
    ),
]
"""A word that people find a version by."""
