"""Labels that are sent again and again: read once, as long as they are the same text.

To parse, check and hash a thousand labels takes the event loop as long as half of all else that it does for a request.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.datasets.schemas import parse_list
from app.http.errors import LabelsRefusedError
from app.labels.checks import check_given
from contract.labels import Labels

_MAX_TEXT, _MOST_TEXTS = 128 << 10, 32
_LABELS: TypeAdapter[tuple[str, ...]] = TypeAdapter(Labels)


class KnownLabels(tuple[str, ...]):
    """Labels that have been checked; the same object for the same text, so that its hash is taken once."""

    def __hash__(self) -> int:
        """Return the hash of a tuple."""
        known: int | None = self.__dict__.get("known_hash")
        if known is None:
            known = self.__dict__["known_hash"] = super().__hash__()
        return known


def read_labels(values: list[str]) -> Any:
    """Return the labels of a form's or a query's field.

    Args:
        values: The field's; a JSON list, or one label each.

    Returns:
        `KnownLabels`, or what is still to be validated.
    """
    if len(values) == 1 and len(values[0]) <= _MAX_TEXT and values[0].lstrip().startswith("["):
        with suppress(ValidationError, LabelsRefusedError):  # whoever validates it will say what is wrong
            return _read(values[0])
    return parse_list(values)


def keep_known(value: Any, validate: Any) -> Any:
    """Validate labels, unless they are known: for `pydantic.WrapValidator`."""
    return value if isinstance(value, KnownLabels) else validate(value)


@lru_cache(maxsize=_MOST_TEXTS)
def _read(text: str) -> KnownLabels:
    labels = KnownLabels(_LABELS.validate_json(text))
    check_given(labels)
    return labels
