"""How users refer to resources: an id, its beginning, or a name. Lists are filtered by it, and clients choose.

Routes take ids only, so that one thing has one address, one owner check and one cache entry. Whoever types `digits`
asks the list which data sets that may mean.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute


def names(
    reference: str, identifier: InstrumentedAttribute[str], name: InstrumentedAttribute[Any] | None, prefix: str
) -> ColumnElement[bool]:
    """Whether a row's id or name begins with a reference.

    Args:
        prefix: Prefix of every id, such as `ds_`, which a reference may omit.
    """
    beginnings = [identifier.startswith(each, autoescape=True) for each in (reference, f"{prefix}{reference}")]
    if name is not None:
        beginnings.append(name.startswith(reference, autoescape=True))
    return or_(*beginnings)
