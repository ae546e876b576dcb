"""Which labels and templates a head is built from, and which are refused."""

from __future__ import annotations

from collections import Counter

from app.errors import LabelsRefusedError
from app.settings import AppSettings


def check_labels(classnames: tuple[str, ...]) -> None:
    """Refuse labels that no head can be built from.

    Args:
        classnames: What images may show.

    Raises:
        LabelsRefusedError: There are none, or one is there twice.
    """
    if not classnames:
        raise LabelsRefusedError("no_labels", "There are no labels.", "Send one or more as `candidate_labels`.")
    if len(set(classnames)) < len(classnames):
        twice = Counter(classnames).most_common(1)[0][0]
        raise LabelsRefusedError("duplicate_label", f"The label {twice!r} is there twice.", "Send each label once.")


def check_size(num_labels: int, num_templates: int, settings: AppSettings) -> None:
    """Refuse more labels or prompts than a request may have.

    Args:
        num_labels: How many labels.
        num_templates: How many prompts each of them gives.
        settings: Hold the limits.

    Raises:
        LabelsRefusedError: They are too many.
    """
    if num_labels > settings.max_labels or num_labels * num_templates > settings.max_prompts:
        raise LabelsRefusedError(
            "too_many_labels",
            f"{num_labels} labels with {num_templates} templates each are too many.",
            f"Send at most {settings.max_labels} labels and {settings.max_prompts} prompts.",
        )
