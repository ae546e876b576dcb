"""Which labels and templates a head is built from, and which are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from unicodedata import normalize

from app.http.errors import LabelsRefusedError
from app.settings import AppSettings
from contract.names import shorten

_TWICE = "Send each label once."
_MAX_QUOTED = 100


def check_labels(classnames: tuple[str, ...]) -> None:
    """Raise `LabelsRefusedError` if there are no labels, or one occurs twice."""
    if not classnames:
        raise LabelsRefusedError("no_labels", "No labels were given.", "Send at least one label as `candidate_labels`.")
    if len(set(classnames)) < len(classnames):
        twice = Counter(classnames).most_common(1)[0][0]
        raise LabelsRefusedError("duplicate_label", f"Duplicate label: {twice!r}.", _TWICE)


def check_given(classnames: tuple[str, ...]) -> None:
    """Reject labels of a request from which no head can be built, or which differ only in spelling.

    Raises:
        LabelsRefusedError: There are none, or two differ only in white space or in how accents are encoded.
    """
    check_labels(classnames)
    joined = "\n".join(classnames)
    if joined.isascii() and "  " not in joined:
        return
    pair = _find_pair(classnames, [" ".join(normalize("NFC", label).split()) for label in classnames])
    if pair is not None:
        raise LabelsRefusedError(
            "duplicate_label", f"The labels {pair[0]!r} and {pair[1]!r} are spellings of the same label.", _TWICE
        )


@lru_cache(maxsize=64)
def warn_of(classnames: tuple[str, ...], *, multi_label: bool = False) -> tuple[str, ...]:
    """Return warnings about labels: a single label always wins, or two labels are the same to most text towers.

    With `multi_label`, each label is scored independently.
    """
    if len(classnames) == 1:
        return _warn_of_one(classnames[0], multi_label=multi_label)
    pair = _find_pair(classnames, [label.lower() for label in classnames])
    if pair is None:
        return ()
    return (f"The labels {pair[0]!r} and {pair[1]!r} differ only in case: most models give each half of their score.",)


def _warn_of_one(label: str, *, multi_label: bool) -> tuple[str, ...]:
    shown = shorten(label, _MAX_QUOTED)
    warnings = []
    if "," in label:
        warnings.append(
            f"The label {shown!r} contains a comma. For several labels, repeat candidate_labels or send a JSON list."
        )
    if not multi_label:
        warnings.append("The score of a single label is always 1: send several labels, or use the cosine.")
    return tuple(warnings)


def _find_pair(labels: Sequence[str], keys: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two labels of the same key."""
    if len(set(keys)) == len(keys):
        return None
    seen: dict[str, str] = {}
    for label, key in zip(labels, keys, strict=True):
        if key in seen:
            return seen[key], label
        seen[key] = label
    return None


def check_size(num_labels: int, num_templates: int, settings: AppSettings) -> None:
    """Raise `LabelsRefusedError` for more labels, or more prompts (labels times templates), than the settings allow."""
    if num_labels > settings.max_labels or num_labels * num_templates > settings.max_prompts:
        raise LabelsRefusedError(
            "too_many_labels",
            f"Too many prompts: {num_labels} labels with {num_templates} templates.",
            f"Send at most {settings.max_labels} labels and {settings.max_prompts} prompts.",
        )
